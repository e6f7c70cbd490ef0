//! Client certificates at a terminated tenant: none, optional, required.

use tests::authority::{Authority, KeyKind};
use tests::fakes::PlainHttp;
use tests::http::Response;
use tests::router_process::RouterProcess;
use tests::scratch::Scratch;
use tests::setup::{Setup, Tenant};
use tests::tls_client::TlsClient;

use crate::two_tenants::TERMINATE;

#[test]
fn required_admits_only_certificates_of_the_tenants_authorities() {
    let scene = Scene::start("Required");
    assert_eq!(scene.get(Some(&scene.clients)).unwrap().status, 200);
    let nobody = scene.get(None).unwrap_err();
    assert!(format!("{nobody:#}").contains("CertificateRequired"), "{nobody:#}");
    let stranger = scene.get(Some(&scene.strangers)).unwrap_err();
    assert!(format!("{stranger:#}").contains("UnknownCA"), "{stranger:#}");
    scene.assert_counted("ok", "", 1.0);
    scene.assert_counted("refused", "client_certificate_missing", 1.0);
    scene.assert_counted("refused", "client_certificate_unknown_ca", 1.0);
    assert_eq!(scene.backend.accepted(), 1);
}

#[test]
fn optional_admits_clients_without_a_certificate_but_none_with_a_wrong_one() {
    let scene = Scene::start("Optional");
    assert_eq!(scene.get(Some(&scene.clients)).unwrap().status, 200);
    assert_eq!(scene.get(None).unwrap().status, 200);
    let stranger = scene.get(Some(&scene.strangers)).unwrap_err();
    assert!(format!("{stranger:#}").contains("UnknownCA"), "{stranger:#}");
    scene.assert_counted("ok", "", 1.0);
    scene.assert_counted("refused", "client_certificate_unknown_ca", 1.0);
    assert_eq!(scene.backend.accepted(), 2);
}

/// One terminated tenant that trusts `clients` and not `strangers`.
struct Scene {
    servers: Authority,
    clients: Authority,
    strangers: Authority,
    backend: PlainHttp,
    router: RouterProcess,
}

impl Scene {
    fn start(mode: &str) -> Self {
        let servers = Authority::new("servers").unwrap();
        let clients = Authority::new("clients").unwrap();
        let backend = PlainHttp::start("acme").unwrap();
        let certificate = servers.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
        let scratch = Scratch::new().unwrap();
        let ca = scratch.write("clients.crt", clients.pem()).unwrap();
        let tenant = Tenant::terminate("acme", &[TERMINATE], backend.address(), &certificate)
            .tls_line(&format!("clientValidation: {{ mode: {mode}, ca: [{}] }}", ca.display()));
        let router = RouterProcess::start_in(scratch, Setup::new().tenant(tenant)).unwrap();
        Self { servers, clients, strangers: Authority::new("strangers").unwrap(), backend, router }
    }

    fn get(&self, issuer: Option<&Authority>) -> anyhow::Result<Response> {
        let client = TlsClient::trusting(&self.servers)?;
        let client = match issuer {
            Some(issuer) => client.with_identity(&issuer.client("somebody")?),
            None => client,
        };
        client.get(self.router.address(), TERMINATE, "/")
    }

    fn assert_counted(&self, outcome: &str, reason: &str, count: f64) {
        let labels = [("tenant", "acme"), ("outcome", outcome), ("reason", reason)];
        self.router.wait_for_metric("sni_terminator_client_certificates_total", &labels, count).unwrap();
    }
}
