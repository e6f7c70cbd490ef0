//! Where certificates come from when they do not come from files, and what clients are told about them.

use std::path::Path;

use config::{CertificateSource, Config, Mode, Terminate};

use crate::texts::{changed, spoiled};

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
