//! Where certificates come from when they do not come from files, what clients are told about them, and the rules for theirs.

use std::path::Path;

use config::{CertificateSource, Config, Mode, Terminate};

use crate::texts::{BASE, changed, spoiled};

#[test]
fn a_certificate_is_generated_alone_or_in_the_absence_of_files() {
    let config = changed("{ secretDir: /etc/tenants/acme }", "{ generate: true }");
    let terminate = acme(&config);
    assert!(terminate.generate && terminate.certificates.is_empty());
    assert_eq!(config.generated_dir("acme"), Path::new("/run/sni-router/generated/acme"));
    assert_eq!(config.advertised_dir("acme"), Path::new("/run/sni-router/ca/acme"));

    let config = changed(
        "        - { secretDir: /etc/tenants/acme }",
        "        - { generate: true }\n        - { secretDir: /a }\n      caBundle: /cas.crt\n      \
         externalEndpoints: [203.0.113.7, \"2001:db8::7\", k8s.example]",
    );
    let terminate = acme(&config);
    assert!(terminate.generate);
    assert_eq!(terminate.certificates, [CertificateSource::SecretDir("/a".into())]);
    assert_eq!(terminate.ca_bundle.as_deref(), Some(Path::new("/cas.crt")));
    let endpoints: Vec<String> = terminate.external_endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(endpoints, ["203.0.113.7", "2001:db8::7", "k8s.example"]);
}

#[test]
fn what_is_generated_can_be_kept_elsewhere() {
    let config = changed("user: 1000", "user: 1000\nstateDir: /var/lib/sni-router");
    assert_eq!(config.generated_dir("acme"), Path::new("/var/lib/sni-router/generated/acme"));
    assert_eq!(config.advertised_dir("acme"), Path::new("/run/sni-router/ca/acme"));
}

#[test]
fn generating_is_asked_for_once_and_without_files() {
    spoiled(
        "        - { secretDir: /etc/tenants/acme }",
        "        - { generate: false }\n        - { generate: true }\n        - { generate: true }",
        &[
            "16:23: tenants[1].tls.certificates[0].generate: is only ever true: remove it",
            "18:23: tenants[1].tls.certificates[2].generate: is given twice: a tenant has one CA of its own",
        ],
    );
    spoiled(
        "{ secretDir: /etc/tenants/acme }",
        "{ generate: true, secretDir: /a }",
        &[
            "16:23: tenants[1].tls.certificates[0].generate: has files beside it: list them as a certificate of its own, \
           which then comes first",
        ],
    );
    spoiled(
        "      certificates:",
        "      externalEndpoints: [\"203.0.113.7:443\"]\n      certificates:",
        &[
            "15:27: tenants[1].tls.externalEndpoints[0]: `203.0.113.7:443` is no IP address, and as a name it has a port: \
           write the name alone, ports belong to listeners",
        ],
    );
}

fn acme(config: &Config) -> &Terminate {
    match &config.tenant("acme").unwrap().mode {
        Mode::Terminate(terminate) => terminate,
        Mode::Passthrough => panic!("acme is terminated"),
    }
}

#[test]
fn rules_for_client_certificates_say_what_they_mean_or_are_errors() {
    let validation = |rest: &str| format!("tls:\n      clientValidation: {{ mode: Required, ca: [/ca.crt], {rest} }}");
    let config = changed(
        "tls:",
        &validation("maxIntermediates: 1, allow: [{ uri: 'spiffe://a/*', dns: '*.b.example', groups: ['x:y'] }]"),
    );
    let Mode::Terminate(terminate) = &config.tenant("acme").unwrap().mode else { panic!("mode") };
    let trust = terminate.client_validation.trust().unwrap();
    assert_eq!(trust.max_intermediates, Some(1));
    let [rule] = trust.allow.as_slice() else { panic!("{trust:?}") };
    assert!(rule.uri.as_ref().unwrap().matches("spiffe://a/b"));
    assert_eq!((rule.dns.as_ref().unwrap().to_string(), rule.groups.join(" ")), ("*.b.example".into(), "x:y".into()));
    for (rest, message) in [
        (
            "allow: [{ groups: [a] }]",
            "allow[0]: names nothing: write uri, dns, commonName, organizationalUnit or sha256",
        ),
        ("allow: [{ commonName: '' }]", "allow[0].commonName: is empty: write what the certificate must have"),
        ("allow: [{ sha256: ab }]", "allow[0].sha256: `ab` is no SHA-256 digest: write its 64 hexadecimal digits"),
        ("maxIntermediates: 7", "maxIntermediates: is 7, and must be from 0 to 6"),
    ] {
        let error = Config::from_yaml(&BASE.replace("tls:", &validation(rest))).unwrap_err();
        assert!(error.to_string().ends_with(&format!("clientValidation.{message}")), "{error}");
    }
}
