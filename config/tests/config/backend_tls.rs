//! TLS towards backends: what has to be there, and what holds for all tenants.

use config::{BackendTls, CertificateSource, Config, Mode, TlsVersion};

use crate::texts::{changed, spoiled};

const MODE: &str = "mode: Terminate";

fn backend_tls(config: &Config) -> Option<&BackendTls> {
    match &config.tenant("acme").unwrap().mode {
        Mode::Terminate(terminate) => terminate.backend_tls.as_deref(),
        Mode::Passthrough => panic!("acme is not terminated"),
    }
}

#[test]
fn nothing_said_means_plaintext_and_little_said_means_the_defaults() {
    assert_eq!(backend_tls(&changed(MODE, MODE)), None);
    let config = changed(MODE, "mode: Terminate\n    backendTls: { ca: [/ca.crt] }");
    let tls = backend_tls(&config).unwrap();
    assert_eq!((tls.server_name.as_ref(), tls.client_certificate.as_ref()), (None, None));
    assert_eq!((tls.min_version, tls.pass_alpn, tls.pins.len()), (TlsVersion::V1_2, false, 0));
}

#[test]
fn everything_can_be_said() {
    let pin = "0f".repeat(32);
    let config = changed(
        MODE,
        &format!(
            "mode: Terminate\n    backendTls: {{ serverName: SVC.internal., ca: [/a, /b], pins: [\"{pin}\", \"{}\"], \
             clientCertificate: {{ certificate: /c, key: /k }}, minVersion: \"1.3\", passAlpn: true }}",
            pin.replace("0f", "1e")
        ),
    );
    let tls = backend_tls(&config).unwrap();
    assert_eq!(tls.server_name.as_ref().unwrap().as_str(), "svc.internal");
    assert_eq!((tls.ca.len(), tls.pins[0].0, tls.pins[1].0), (2, [0x0f; 32], [0x1e; 32]));
    let files = CertificateSource::Files { certificate: "/c".into(), key: "/k".into() };
    assert_eq!(tls.client_certificate, Some(files));
    assert_eq!((tls.min_version, tls.pass_alpn), (TlsVersion::V1_3, true));
}

#[test]
fn the_client_certificate_of_the_whole_file_is_used_where_a_tenant_has_none() {
    let with = |own: &str| {
        let tenant = format!("mode: Terminate\n    backendTls: {{ ca: [/ca.crt]{own} }}");
        let text = crate::texts::BASE
            .replace("user: 1000", "backendTls: { clientCertificate: { secretDir: /all } }")
            .replace(MODE, &tenant);
        let config = Config::from_yaml(&text).unwrap();
        backend_tls(&config).unwrap().client_certificate.clone()
    };
    assert_eq!(with(""), Some(CertificateSource::SecretDir("/all".into())));
    let own = with(", clientCertificate: { secretDir: /own }");
    assert_eq!(own, Some(CertificateSource::SecretDir("/own".into())));
    let default_alone = changed("user: 1000", "backendTls: { clientCertificate: { secretDir: /all } }");
    assert_eq!(backend_tls(&default_alone), None);
}

#[test]
fn what_verifies_nobody_and_what_has_no_or_two_sources_is_refused() {
    let in_tenant = |fields: &str, line: &str| {
        spoiled(MODE, &format!("mode: Terminate\n    backendTls: {fields}"), &[line]);
    };
    in_tenant(
        "{ serverName: svc.internal }",
        "14:17: tenants[1].backendTls: needs `ca` or `pins`: without them any certificate would do",
    );
    in_tenant(
        "{ ca: [/a], pins: [\"ab12\"] }",
        "14:36: tenants[1].backendTls.pins[0]: `ab12` is no SHA-256 digest: write its 64 hexadecimal digits",
    );
    in_tenant(
        "{ ca: [/a], clientCertificate: { secretDir: /a, key: /b } }",
        "14:48: tenants[1].backendTls.clientCertificate: has two sources: keep `secretDir`, or `certificate` and `key`",
    );
    in_tenant(
        "{ ca: [/a], clientCertificate: { key: /b } }",
        "14:48: tenants[1].backendTls.clientCertificate.certificate: is missing",
    );
    spoiled(
        "user: 1000",
        "backendTls: { clientCertificate: {} }",
        &["1:34: backendTls.clientCertificate: has no source: write `secretDir`, or `certificate` and `key`"],
    );
}
