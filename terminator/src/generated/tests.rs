//! Generating, keeping and renewing, with a folder and moments of the test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use config::HostnamePattern;
use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use tempfile::TempDir;

use super::*;

struct Scene {
    folder: TempDir,
    generator: Generator,
    provider: CryptoProvider,
}

impl Scene {
    fn new(endpoints: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let generator = generator(&folder, endpoints);
        Self { folder, generator, provider: aws_lc_rs::default_provider() }
    }

    fn provide(&self, day: i64) -> (Generated, Vec<Made>) {
        self.generator.provide(at(day), &self.provider).unwrap()
    }
}

fn generator(folder: &TempDir, endpoints: &[&str]) -> Generator {
    let endpoint = |name: &&str| match name.parse() {
        Ok(address) => Endpoint::Address(address),
        Err(_) => Endpoint::Name(HostnamePattern::parse(name).unwrap()),
    };
    Generator::new("acme", endpoints.iter().map(endpoint).collect(), folder.path().to_owned())
}

fn at(day: i64) -> Moment {
    Moment(1_800_000_000 + day * 24 * 60 * 60)
}

/// What a client does that trusts what is advertised and nothing else.
fn trusts(authorities: &str, served: &ServedCertificate, name: &str, now: Moment) -> bool {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(authority.unwrap()).unwrap();
    }
    let chain = &served.certified_key.cert;
    let leaf = ParsedCertificate::try_from(&chain[0]).unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.0).unwrap()));
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verify_server_cert_signed_by_trust_anchor(&leaf, &roots, &chain[1..], now, algorithms).is_ok()
        && verify_server_name(&leaf, &name).is_ok()
}

#[test]
fn what_is_generated_is_trusted_by_what_is_advertised_for_every_name_and_address() {
    let endpoints = ["api.acme.example", "*.acme.example", "192.0.2.1", "2001:db8::1"];
    let scene = Scene::new(&endpoints);
    let (generated, made) = scene.provide(0);
    assert!(matches!(&made[..], [Made::Authority { .. }, Made::Certificate { .. }]), "{made:?}");
    for name in ["api.acme.example", "www.acme.example", "192.0.2.1", "2001:db8::1"] {
        assert!(trusts(&generated.authorities, &generated.certificate, name, at(0)), "{name}");
    }
    assert!(!trusts(&generated.authorities, &generated.certificate, "other.example", at(0)));
    assert!(!trusts(&generated.authorities, &generated.certificate, "192.0.2.2", at(0)));
    assert!(!generated.authorities.contains("PRIVATE"));
}

#[test]
fn a_restart_changes_nothing_and_only_the_owner_may_read() {
    let scene = Scene::new(&["a.example"]);
    let (first, _) = scene.provide(0);
    let (again, made) = generator(&scene.folder, &["a.example"]).provide(at(1), &scene.provider).unwrap();
    assert_eq!(made, []);
    assert!(again.certificate.is_same_as(&first.certificate));
    assert_eq!(again.authorities, first.authorities);
    for file in ["authority.pem", "certificate.pem"] {
        let mode = fs::metadata(scene.folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn a_new_name_gets_a_new_certificate_of_the_same_authority() {
    let scene = Scene::new(&["a.example"]);
    let (first, _) = scene.provide(0);
    let (more, made) = generator(&scene.folder, &["a.example", "b.example"]).provide(at(1), &scene.provider).unwrap();
    assert!(matches!(&made[..], [Made::Certificate { .. }]), "{made:?}");
    assert_eq!(more.authorities, first.authorities);
    assert!(trusts(&first.authorities, &more.certificate, "b.example", at(1)));
}

#[test]
fn whoever_trusts_what_was_advertised_a_month_ago_trusts_what_is_served() {
    let scene = Scene::new(&["a.example"]);
    let mut advertised = Vec::new();
    let mut authorities = std::collections::BTreeSet::new();
    for day in (0..2 * 3650).step_by(15) {
        if scene.generator.is_due(at(day)) {
            assert!(!scene.provide(day).1.is_empty());
        }
        let (generated, made) = scene.provide(day);
        assert_eq!(made, []);
        let before: &String = advertised.iter().rev().nth(1).unwrap_or(&generated.authorities);
        for known in [before, &generated.authorities] {
            assert!(trusts(known, &generated.certificate, "a.example", at(day)), "day {day}");
        }
        authorities.insert(generated.authorities.clone());
        advertised.push(generated.authorities);
    }
    // The first, both, the second, both, the third.
    assert_eq!(authorities.len(), 5);
}

#[test]
fn cleaning_up_leaves_no_key_and_the_next_authority_is_another() {
    let scene = Scene::new(&["a.example"]);
    let (first, _) = scene.provide(0);
    assert!(scene.generator.clean_up().unwrap());
    assert_eq!(fs::read_dir(scene.folder.path()).unwrap().count(), 0);
    assert!(!scene.generator.clean_up().unwrap());
    assert!(scene.generator.kept_only(at(0), &scene.provider).is_none());
    assert_ne!(scene.provide(0).0.authorities, first.authorities);
}

#[test]
fn what_cannot_be_read_is_an_error_that_names_the_file_and_is_not_overwritten() {
    let scene = Scene::new(&["a.example"]);
    scene.provide(0);
    let authority = scene.folder.path().join("authority.pem");
    fs::write(&authority, "no certificate").unwrap();
    let error = scene.generator.provide(at(1), &scene.provider).unwrap_err().to_string();
    assert!(error.contains("authority.pem: no certificate in it"), "{error}");
    assert_eq!(fs::read(&authority).unwrap(), b"no certificate");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let scene = Scene::new(&["a.example"]);
    let generator = Generator::new("acme", Vec::new(), scene.folder.path().join("none"));
    let error = generator.provide(at(0), &scene.provider).unwrap_err().to_string();
    assert!(error.contains("none/authority.pem"), "{error}");
}
