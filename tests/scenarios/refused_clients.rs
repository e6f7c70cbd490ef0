//! Clients that are not let in, with openssl as the client: each reason has its alert, its audit line and its count,
//! under both versions of TLS.

use tests::authority::{Authority, Identity, KeyKind};
use tests::client_tools::{Tool, require};
use tests::fakes::PlainHttp;
use tests::openssl::{SClient, Said};
use tests::patience::PATIENCE;
use tests::router_process::RouterProcess;
use tests::scratch::Scratch;
use tests::setup::{Setup, Tenant};

use crate::two_tenants::TERMINATE;

#[test]
fn each_reason_has_its_alert_its_audit_line_and_its_count() {
    let Some(openssl) = require(Tool::OpenSsl, "refused clients").unwrap() else { return };
    let (servers, clients, strangers) =
        (Authority::new("servers").unwrap(), Authority::new("clients").unwrap(), Authority::new("strangers").unwrap());
    let backend = PlainHttp::start("acme").unwrap();
    let scratch = Scratch::new().unwrap();
    let revoked = clients.client("manager").unwrap();
    let ca = scratch.write("clients.crt", clients.pem()).unwrap();
    let crl = scratch.write("clients.crl", &clients.crl(&[&revoked]).unwrap()).unwrap();
    let certificate = servers.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let validation = format!(
        "clientValidation: {{ mode: Required, ca: [{}], crl: [{}], allow: [{{ commonName: manager }}] }}",
        ca.display(),
        crl.display()
    );
    let tenant = Tenant::terminate("acme", &[TERMINATE], backend.address(), &certificate).tls_line(&validation);
    let router = RouterProcess::start_in(scratch, Setup::new().tenant(tenant)).unwrap();
    let connect = |identity: Option<&Identity>, version: &str| -> Said {
        let client = SClient::new(openssl.clone(), router.address(), TERMINATE).option(version);
        let client = match identity {
            Some(identity) => client.identity(&identity.write_files(router.folder(), "client").unwrap()),
            None => client,
        };
        client.run().unwrap()
    };

    let (stranger, expired, intern) = (
        strangers.client("manager").unwrap(),
        clients.expired_client("manager").unwrap(),
        clients.client("intern").unwrap(),
    );
    for (identity, alert, reason) in [
        (Some(&stranger), 48, "client_certificate_unknown_ca"),
        (Some(&expired), 45, "client_certificate_expired"),
        (Some(&revoked), 44, "client_certificate_revoked"),
        (None, 116, "client_certificate_missing"),
        (Some(&intern), 49, "client_certificate_not_allowed"),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            let said = connect(identity, version);
            assert_eq!((said.alert(), said.is_answered()), (Some(alert), false), "{reason} {version}: {}", said.0);
        }
        let serial = identity.map(|identity| identity.serial().unwrap()).unwrap_or_default();
        let sha256 = identity.map(Identity::sha256).unwrap_or_default();
        let line = ["audit", "client certificate refused", reason, &serial, &sha256];
        router.log().wait_for(PATIENCE, &line).unwrap();
        let labels = [("tenant", "acme"), ("outcome", "refused"), ("reason", reason)];
        router.wait_for_metric("sni_terminator_client_certificates_total", &labels, 2.0).unwrap();
    }
    let manager = clients.client("manager").unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let said = connect(Some(&manager), version);
        assert!(said.is_answered(), "{}", said.0);
    }
    assert_eq!(backend.accepted(), 2);
}
