//! What ends beside the certificate that is served: issuers in its file, CAs of clients and backends, and revocation
//! lists. Each is told while it is in use, in the log, the metrics and the status.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tests::authority::{Authority, KeyKind};
use tests::fakes::PlainHttp;
use tests::patience::{PATIENCE, eventually};
use tests::router_process::RouterProcess;
use tests::scratch::Scratch;
use tests::setup::{Setup, Tenant, secret_dir, tenant_owner};
use tests::tls_client::TlsClient;

use crate::two_tenants::TERMINATE;

#[test]
fn an_issuer_that_ends_while_it_is_served_is_told_and_its_successor_taken() {
    let root = Authority::new("root").unwrap();
    let long = || root.intermediate("long", 400 * DAY).unwrap().server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let backend = PlainHttp::start("acme").unwrap();
    let tenant = Tenant::terminate("acme", &[TERMINATE], backend.address(), &long());
    let router = RouterProcess::start(Setup::new().tenant(tenant)).unwrap();
    let config = config::Config::load(router.config_file()).unwrap();
    let (secret, owner) = (secret_dir(router.folder(), "acme", 0), tenant_owner(&config, "acme").unwrap());
    // Its life begins when everything runs that is to see its end.
    let short = root.intermediate("short", Duration::from_secs(6)).unwrap();
    short.server(&[TERMINATE], KeyKind::Ecdsa).unwrap().write_secret_dir(&secret, owner).unwrap();
    let client = TlsClient::trusting(&root).unwrap();
    let of_issuer = ["CN=short", "an issuer in the certificate's file"];
    router.log().wait_for(PATIENCE, &["WARN", of_issuer[0], of_issuer[1], "expires soon", "days=0"]).unwrap();
    router.log().wait_for(PATIENCE, &["ERROR", of_issuer[0], of_issuer[1], "has expired"]).unwrap();
    let error = client.get(router.address(), TERMINATE, "/").map(drop).unwrap_err();
    assert!(format!("{error:#}").contains("expired"), "{error:#}");
    assert!(not_after(&router, "issuer", "CN=short") <= now());

    long().write_secret_dir(&secret, owner).unwrap();
    eventually(PATIENCE, "the next chain is served", || client.get(router.address(), TERMINATE, "/").ok()).unwrap();
    assert!(not_after(&router, "issuer", "CN=long") > now());
    assert_eq!(not_after(&router, "issuer", "CN=short"), 0.0, "it is not served any more");
}

#[test]
fn cas_and_revocation_lists_are_told_when_their_ends_come_near_and_when_they_have_come() {
    let servers = Authority::new("servers").unwrap();
    let (clients, backends) = (
        Authority::ending("clients", 20 * DAY + DAY / 2).unwrap(),
        Authority::ending("backends", 6 * DAY + DAY / 2).unwrap(),
    );
    let backend = PlainHttp::start("acme").unwrap();
    let scratch = Scratch::new().unwrap();
    let ca = scratch.write("clients.crt", clients.pem()).unwrap();
    let crl = scratch.write("clients.crl", &clients.crl_ending(Duration::from_secs(4)).unwrap()).unwrap();
    let bundle = scratch.write("backends.crt", backends.pem()).unwrap();
    let certificate = servers.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let validation =
        format!("clientValidation: {{ mode: Optional, ca: [{}], crl: [{}] }}", ca.display(), crl.display());
    let tenant = Tenant::terminate("acme", &[TERMINATE], backend.address(), &certificate)
        .tls_line(&validation)
        .backend_tls(&format!("serverName: backend.test, ca: [{}]", bundle.display()), None);
    let router = RouterProcess::start_in(scratch, Setup::new().tenant(tenant)).unwrap();
    let log = router.log();
    log.wait_for(PATIENCE, &["WARN", "a CA of clients expires soon", "clients.crt", "CN=clients", "days=20"]).unwrap();
    log.wait_for(PATIENCE, &["WARN", "a CA of backends expires soon", "backends.crt", "days=6"]).unwrap();
    let line = ["ERROR", "revocation list is outdated", "clients.crl", "CN=clients"];
    log.wait_for(PATIENCE, &line).unwrap();
    for (kind, subject, days) in [("client_ca", "CN=clients", 20.5), ("backend_ca", "CN=backends", 6.5)] {
        let left = (not_after(&router, kind, subject) - now()) / DAY.as_secs_f64();
        assert!((days - 0.1..=days).contains(&left), "{kind}: {left} days");
    }
    assert!(not_after(&router, "revocation_list", "CN=clients") <= now());
    let trust = router.admin_get("/v1/certificates").unwrap().json().unwrap()["trust"].clone();
    let kinds: Vec<_> = trust.as_array().unwrap().iter().map(|trust| trust["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["revocation_list", "backend_ca", "client_ca"], "the nearest end first");

    // With an outdated list nobody of its CA is let in; the next one is taken at once, and nothing is told of it.
    let manager = clients.client("manager").unwrap();
    let client = TlsClient::trusting(&servers).unwrap().with_identity(&manager);
    let verdicts = "sni_terminator_client_certificates_total";
    // Nobody of the backends' CA answers there, so no client gets further than its handshake.
    assert!(client.get(router.address(), TERMINATE, "/").is_err());
    router.wait_for_metric(verdicts, &[("tenant", "acme"), ("outcome", "refused")], 1.0).unwrap();
    replace(&crl, &clients.crl(&[]).unwrap());
    eventually(PATIENCE, "the next list is told", || {
        (not_after(&router, "revocation_list", "CN=clients") > now()).then_some(())
    })
    .unwrap();
    assert!(client.get(router.address(), TERMINATE, "/").is_err());
    router.wait_for_metric(verdicts, &[("tenant", "acme"), ("outcome", "ok")], 1.0).unwrap();
    assert_eq!(log.with(&line).len(), 1);
}

fn not_after(router: &RouterProcess, kind: &str, subject: &str) -> f64 {
    let labels = [("tenant", "acme"), ("kind", kind), ("subject", subject)];
    router.metrics().unwrap().sum("sni_terminator_trust_not_after_seconds", &labels)
}

/// A rename over the old file.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
