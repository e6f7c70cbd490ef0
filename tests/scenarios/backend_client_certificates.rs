//! The certificate that backends are shown: one for all tenants, unless a tenant has its own.

use tests::authority::{Authority, KeyKind};
use tests::fakes::IdentityBackend;
use tests::router_process::RouterProcess;
use tests::scratch::Scratch;
use tests::setup::{Setup, Tenant};
use tests::tls_client::TlsClient;

#[test]
fn tenants_without_one_of_their_own_show_that_of_the_whole_file() {
    let authority = Authority::new("scenario CA").unwrap();
    let upstream = authority.server(&["upstream.test"], KeyKind::Ecdsa).unwrap();
    let backend = IdentityBackend::start("backend", &upstream, &authority).unwrap();
    let scratch = Scratch::new().unwrap();
    let ca = scratch.write("ca.crt", authority.pem()).unwrap();
    let (everybody, own) = (authority.client("everybody").unwrap(), authority.client("own").unwrap());
    // Every tenant's uid must be able to read it.
    let certificate = scratch.write("edge.crt", everybody.certificate_pem()).unwrap();
    let key = scratch.write("edge.key", everybody.key_pem()).unwrap();
    let fields = format!("serverName: upstream.test, ca: [{}]", ca.display());
    let served = authority.server(&["a.test", "b.test", "c.test"], KeyKind::Ecdsa).unwrap();
    let tenant = |name: &str, client| {
        let hostname = format!("{name}.test");
        Tenant::terminate(name, &[&hostname], backend.address(), &served).backend_tls(&fields, client)
    };
    let setup = Setup::new()
        .line(&format!(
            "backendTls: {{ clientCertificate: {{ certificate: {}, key: {} }} }}",
            certificate.display(),
            key.display()
        ))
        .tenant(tenant("a", None))
        .tenant(tenant("b", Some(&own)))
        .tenant(tenant("c", None));
    let router = RouterProcess::start_in(scratch, setup).unwrap();
    let client = TlsClient::trusting(&authority).unwrap();
    for (name, shown) in [("a.test", &everybody), ("b.test", &own), ("c.test", &everybody)] {
        let seen = client.get(router.address(), name, "/").unwrap().json().unwrap();
        assert_eq!(seen["sha256"], shown.sha256(), "{name}: {seen}");
    }
}
