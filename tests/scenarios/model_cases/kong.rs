//! Four layers of certificates: to the client, from the client, to the backend, and trust in the backend; with curl in
//! front, nginx behind, and each layer taken away in turn.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use config::Config;
use tests::authority::{Authority, Identity, KeyKind, PemFiles};
use tests::client_tools::{Tool, require};
use tests::patience::{PATIENCE, eventually};
use tests::peer::Peer;
use tests::ports::free_address;
use tests::real_client::{RealClient, Request};
use tests::router_process::RouterProcess;
use tests::scratch::Scratch;
use tests::setup::{Setup, Tenant, backend_client_dir, tenant_owner};

use crate::two_tenants::TERMINATE;

#[test]
fn each_of_the_four_layers_holds_by_itself() {
    let Some(nginx) = require(Tool::Nginx, "nginx behind backendTls").unwrap() else { return };
    if require(Tool::Curl, "curl in front").unwrap().is_none() {
        return;
    }
    let [servers, clients, edges, upstreams, strangers] =
        ["servers", "clients", "edges", "upstreams", "strangers"].map(|name| Authority::new(name).unwrap());
    let scratch = Scratch::new().unwrap();
    let write = |name: &str, authority: &Authority| scratch.write(name, authority.pem()).unwrap();
    let (server_ca, stranger_ca) = (write("servers.crt", &servers), write("strangers.crt", &strangers));
    let (client_ca, upstream_ca) = (write("clients.crt", &clients), write("upstreams.crt", &upstreams));
    let upstream = upstreams.server(&[UPSTREAM], KeyKind::Ecdsa).unwrap();
    let files = upstream.write_files(scratch.path(), "upstream").unwrap();
    let backend = free_address().unwrap();
    let text = nginx_that_tells(backend, scratch.path(), &files, &write("edges.crt", &edges));
    let _nginx = Peer::nginx(nginx, &scratch.write("nginx.conf", &text).unwrap(), backend).unwrap();

    let certificate = servers.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let tenant = Tenant::terminate("kong", &[TERMINATE], backend, &certificate)
        .tls_line(&format!("clientValidation: {{ mode: Required, ca: [{}] }}", client_ca.display()))
        .backend_tls(
            &format!("serverName: {UPSTREAM}, ca: [{}]", upstream_ca.display()),
            Some(&edges.client("edge").unwrap()),
        );
    let somebody = clients.client("somebody").unwrap().write_files(scratch.path(), "somebody").unwrap();
    let mallory = strangers.client("somebody").unwrap().write_files(scratch.path(), "mallory").unwrap();
    let router = RouterProcess::start_in(scratch, Setup::new().tenant(tenant)).unwrap();
    let ask = |authority: &PathBuf, identity: Option<&PemFiles>| {
        RealClient::Curl.get(&Request {
            router: router.address(),
            name: TERMINATE.to_owned(),
            authority: authority.clone(),
            identity: identity.cloned(),
        })
    };
    let get = || ask(&server_ca, Some(&somebody)).map(Option::unwrap_or_default);
    assert_eq!(get().unwrap(), format!("SUCCESS CN=edge {UPSTREAM} TLSv1.3"));

    // 1: the certificate to the client. 2: the client's certificate.
    let refused = |authority, identity| format!("{:#}", ask(authority, identity).unwrap_err());
    assert!(refused(&stranger_ca, Some(&somebody)).contains("certificate"));
    for identity in [None, Some(&mallory)] {
        let error = refused(&server_ca, identity);
        assert!(error.contains("alert"), "{error}");
    }

    // 3: the certificate to the backend. nginx speaks its mind in HTTP, so curl's --fail is how we hear of it.
    let shown = backend_client_dir(router.folder(), "kong");
    replace(&router, &shown, &strangers.client("edge").unwrap());
    eventually(PATIENCE, "nginx refuses the other certificate", || {
        get().err().filter(|error| format!("{error:#}").contains("400"))
    })
    .unwrap();
    replace(&router, &shown, &edges.client("successor").unwrap());
    eventually(PATIENCE, "nginx takes the new one", || get().ok().filter(|answer| answer.contains("CN=successor")))
        .unwrap();

    // 4: trust in the backend.
    std::fs::write(&upstream_ca, strangers.pem()).unwrap();
    eventually(PATIENCE, "the backend is not trusted", || get().err()).unwrap();
    router.log().wait_for(PATIENCE, &["audit", "backend refused", "unknown_ca", &upstream.sha256()]).unwrap();
    let labels = [("tenant", "kong"), ("outcome", "failed"), ("reason", "unknown_ca")];
    router.wait_for_metric("sni_terminator_backend_handshakes_total", &labels, 1.0).unwrap();
    std::fs::write(&upstream_ca, upstreams.pem()).unwrap();
    eventually(PATIENCE, "it is again", || get().ok()).unwrap();
}

fn replace(router: &RouterProcess, folder: &Path, identity: &Identity) {
    let config = Config::load(router.folder().join("config.yaml")).unwrap();
    identity.write_secret_dir(folder, tenant_owner(&config, "kong").unwrap()).unwrap();
}

/// Answers with what it makes of its client's certificate.
fn nginx_that_tells(address: SocketAddr, folder: &Path, own: &PemFiles, client_ca: &Path) -> String {
    format!(
        "pid {folder}/nginx.pid; error_log stderr crit; events {{}} http {{ access_log off; \
         client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; \
         uwsgi_temp_path {folder}; scgi_temp_path {folder}; server {{ listen {address} ssl; ssl_certificate {}; \
         ssl_certificate_key {}; ssl_verify_client on; ssl_client_certificate {}; ssl_protocols TLSv1.2 TLSv1.3; \
         return 200 \"$ssl_client_verify $ssl_client_s_dn $ssl_server_name $ssl_protocol\"; }} }}",
        own.certificate.display(),
        own.key.display(),
        client_ca.display(),
        folder = folder.display(),
    )
}

const UPSTREAM: &str = "upstream.internal.test";
