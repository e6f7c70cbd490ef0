//! The files as they change.

use std::fs;
use std::path::Path;
use std::time::Duration;

use config::{Config, Mode};
use tempfile::TempDir;

use super::*;
use crate::test_pki::{Authority, KeyKind, Pair};

struct Scene {
    folder: TempDir,
    authority: Authority,
    sources: Sources,
    now: Instant,
}

fn pair(authority: &Authority) -> Pair {
    authority.server(&["a.example"], KeyKind::Ecdsa)
}

fn write(folder: &Path, pair: &Pair) {
    fs::write(folder.join("tls.crt"), &pair.chain_pem).unwrap();
    fs::write(folder.join("tls.key"), &pair.key_pem).unwrap();
}

impl Scene {
    fn new(validation: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("a");
        write(folder.path(), &pair(&authority));
        fs::write(folder.path().join("clients.crt"), authority.ca_pem()).unwrap();
        fs::write(folder.path().join("ca.crl"), authority.crl(&[], 2100)).unwrap();
        let dir = folder.path().display().to_string();
        let config = Config::from_yaml(&format!(
            "listeners: [{{name: tls, address: '127.0.0.1:8443'}}]\n\
             tenants:\n\
             - name: a\n  hostnames: [a.example]\n  mode: Terminate\n  backends: [{{address: '127.0.0.1:1'}}]\n  \
               tls: {{certificates: [{{secretDir: '{dir}'}}], {}}}\n",
            validation.replace("{dir}", &dir)
        ))
        .unwrap();
        let Mode::Terminate(terminate) = &config.tenants[0].mode else { panic!("mode") };
        let (sources, events) = Sources::load(terminate, &config.tenants[0].hostnames, None).unwrap();
        assert!(matches!(&events[..], [Event::Renewed { before: None, .. }]), "{events:?}");
        Self { folder, authority, sources, now: Instant::now() }
    }

    fn look(&mut self) -> Vec<Event> {
        self.sources.refresh(self.now)
    }

    fn look_after(&mut self, time: Duration) -> Vec<Event> {
        self.now += time;
        self.look()
    }

    fn serial(&self) -> String {
        self.sources.certificates[0].served.as_ref().unwrap().leaf.serial.clone()
    }
}

#[test]
fn a_new_pair_is_served_and_an_unchanged_one_is_nothing_new() {
    let mut scene = Scene::new("");
    let first = scene.serial();
    assert!(scene.look().is_empty());
    write(scene.folder.path(), &pair(&scene.authority));
    let events = scene.look();
    assert!(matches!(&events[..], [Event::Renewed { before: Some(before), .. }] if *before == first), "{events:?}");
    assert_ne!(scene.serial(), first);
    assert_eq!(scene.sources.tls().unwrap().certificates[0].leaf.serial, scene.serial());
}

#[test]
fn half_a_pair_keeps_the_last_good_one_and_is_told_once_when_it_lasts() {
    let mut scene = Scene::new("");
    let first = scene.serial();
    let next = pair(&scene.authority);
    fs::write(scene.folder.path().join("tls.crt"), &next.chain_pem).unwrap();
    assert!(scene.look().is_empty(), "it may just be being written");
    assert!(scene.sources.in_trouble());
    let events = scene.look_after(SETTLING);
    let [Event::Kept { problem, serving: Some((serial, _)), .. }] = &events[..] else { panic!("{events:?}") };
    assert!(problem.contains("does not belong to the certificate"), "{problem}");
    assert_eq!(*serial, first);
    assert!(scene.look_after(SETTLING).is_empty());
    fs::write(scene.folder.path().join("tls.key"), &next.key_pem).unwrap();
    assert!(matches!(&scene.look()[..], [Event::Renewed { .. }]));
    assert!(!scene.sources.in_trouble());
}

#[test]
fn deleted_files_are_served_on_and_their_return_is_told() {
    let mut scene = Scene::new("");
    let (certificate, key) = (scene.folder.path().join("tls.crt"), scene.folder.path().join("tls.key"));
    let content = (fs::read(&certificate).unwrap(), fs::read(&key).unwrap());
    fs::remove_file(&certificate).unwrap();
    fs::remove_file(&key).unwrap();
    scene.look();
    let events = scene.look_after(SETTLING);
    assert!(matches!(&events[..], [Event::Kept { serving: Some(_), .. }]), "{events:?}");
    fs::write(certificate, content.0).unwrap();
    fs::write(key, content.1).unwrap();
    assert!(matches!(&scene.look()[..], [Event::Recovered { .. }]));
}

#[test]
fn a_certificate_outside_its_dates_does_not_replace_a_valid_one() {
    let mut scene = Scene::new("");
    let first = scene.serial();
    for years in [(2020, 2021), (2090, 2091)] {
        write(scene.folder.path(), &scene.authority.dated_server(&["a.example"], years));
        scene.look();
        let events = scene.look_after(SETTLING);
        assert!(matches!(&events[..], [Event::Kept { .. }]), "{events:?}");
        assert_eq!(scene.serial(), first);
    }
    write(scene.folder.path(), &pair(&scene.authority));
    assert!(matches!(&scene.look()[..], [Event::Renewed { .. }]));
}

#[test]
fn doubts_about_a_certificate_are_told_when_it_is_served() {
    let mut scene = Scene::new("");
    write(scene.folder.path(), &scene.authority.server(&["other.example"], KeyKind::Ecdsa));
    let events = scene.look();
    let [Event::Renewed { .. }, Event::Doubtful { finding, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(*finding, Finding::NamesNotCovered(vec!["a.example".into()]));
}

#[test]
fn cas_and_revocation_lists_change_and_broken_ones_leave_the_last_in_force() {
    let validation = "clientValidation: {mode: Required, ca: ['{dir}/clients.crt'], crl: ['{dir}/ca.crl']}";
    let mut scene = Scene::new(validation);
    assert!(scene.look().is_empty());
    let revoked = scene.authority.client("mallory");
    fs::write(scene.folder.path().join("ca.crl"), scene.authority.crl(&[&revoked], 2100)).unwrap();
    let events = scene.look();
    assert!(matches!(&events[..], [Event::ClientsChanged { authorities: 1, revocation_lists: 1 }]), "{events:?}");
    fs::write(scene.folder.path().join("clients.crt"), "").unwrap();
    scene.look();
    let events = scene.look_after(SETTLING);
    assert!(matches!(&events[..], [Event::ClientsKept { problem }] if problem.contains("clients.crt")), "{events:?}");
    assert!(scene.sources.tls().is_ok());
    fs::write(scene.folder.path().join("clients.crt"), scene.authority.ca_pem()).unwrap();
    assert!(matches!(&scene.look()[..], [Event::ClientsRecovered]));
}

/// A tenant with `generate: true` and a folder in which a certificate may come to lie.
struct OwnScene {
    folder: TempDir,
    authority: Authority,
    sources: Sources,
    now: Instant,
}

impl OwnScene {
    fn place(folder: &TempDir) -> Place {
        for name in ["secret", "generated", "ca"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let path = |name| folder.path().join(name);
        Place { tenant: "a".into(), generated: path("generated"), advertised: path("ca/ca.crt") }
    }

    fn load(folder: &TempDir) -> Result<(Sources, Vec<Event>), TlsConfigError> {
        let config = Config::from_yaml(&format!(
            "listeners: [{{name: tls, address: '127.0.0.1:8443'}}]\n\
             tenants:\n\
             - name: a\n  hostnames: [a.example]\n  mode: Terminate\n  backends: [{{address: '127.0.0.1:1'}}]\n  \
               tls: {{certificates: [{{secretDir: '{}'}}, {{generate: true}}]}}\n",
            folder.path().join("secret").display()
        ))
        .unwrap();
        let Mode::Terminate(terminate) = &config.tenants[0].mode else { panic!("mode") };
        Sources::load(terminate, &config.tenants[0].hostnames, Some(&Self::place(folder)))
    }

    fn new(prepare: impl FnOnce(&Path, &Authority)) -> (Self, Vec<Event>) {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("a"));
        Self::place(&folder);
        prepare(&folder.path().join("secret"), &authority);
        let (sources, events) = Self::load(&folder).unwrap();
        (Self { folder, authority, sources, now: Instant::now() }, events)
    }

    fn look_after(&mut self, time: Duration) -> Vec<Event> {
        self.now += time;
        self.sources.refresh(self.now)
    }

    fn secret(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    fn generated_files(&self) -> usize {
        fs::read_dir(self.folder.path().join("generated")).unwrap().count()
    }

    fn advertised(&self) -> Option<String> {
        let bundle = self.sources.tls().unwrap().authorities.as_deref().map(str::to_owned);
        let file = fs::read_to_string(self.folder.path().join("ca/ca.crt")).ok();
        assert_eq!(bundle, file, "the file and the status say the same");
        bundle
    }

    fn serves_generated(&self) -> bool {
        let tls = self.sources.tls().unwrap();
        assert_eq!(tls.certificates.len(), 1);
        tls.certificates[0].name == "generated"
    }
}

fn same_authority(bundle: Option<String>, pem: &str) -> bool {
    let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
    bundle.is_some_and(|bundle| lines(&bundle) == lines(pem))
}

#[test]
fn an_external_certificate_takes_over_and_its_going_brings_a_new_generated_one() {
    let (mut scene, events) = OwnScene::new(|_, _| ());
    assert!(matches!(&events[0], Event::NotFound { problem, .. } if problem.starts_with("secret not found")));
    assert!(scene.serves_generated());
    assert_eq!(scene.generated_files(), 2);
    let first = scene.advertised().unwrap();
    assert!(scene.look_after(SETTLING).is_empty());

    fs::write(scene.secret().join("ca.crt"), scene.authority.ca_pem()).unwrap();
    write(&scene.secret(), &pair(&scene.authority));
    let events = scene.look_after(SETTLING);
    assert!(
        matches!(
            &events[..],
            [Event::Renewed { .. }, Event::ExternalInUse, Event::CleanedUp, Event::Advertised { authorities: 1, .. }]
        ),
        "{events:?}"
    );
    assert!(!scene.serves_generated());
    assert_eq!(scene.generated_files(), 0);
    assert!(same_authority(scene.advertised(), &scene.authority.ca_pem()));

    for file in ["tls.crt", "tls.key", "ca.crt"] {
        fs::remove_file(scene.secret().join(file)).unwrap();
    }
    assert!(scene.look_after(Duration::ZERO).is_empty(), "a folder may just be being swapped");
    assert!(scene.sources.in_trouble() && !scene.serves_generated());
    let events = scene.look_after(SETTLING);
    assert!(events.iter().any(|event| matches!(event, Event::NotFound { .. })), "{events:?}");
    assert!(scene.serves_generated() && !scene.sources.in_trouble());
    assert_ne!(scene.advertised().unwrap(), first);
}

#[test]
fn nothing_is_generated_while_an_external_certificate_is_there() {
    let (mut scene, events) = OwnScene::new(|secret, authority| write(secret, &pair(authority)));
    assert!(events.iter().any(|event| matches!(event, Event::ExternalInUse)), "{events:?}");
    assert!(!scene.serves_generated());
    fs::remove_file(scene.secret().join("tls.key")).unwrap();
    scene.look_after(Duration::ZERO);
    let events = scene.look_after(SETTLING);
    let [Event::Kept { problem, serving: Some(_), .. }] = &events[..] else { panic!("{events:?}") };
    assert!(problem.contains("tls.key is missing: there is only"), "{problem}");
    assert_eq!((scene.generated_files(), scene.advertised()), (0, None));
    assert!(!scene.serves_generated());
}

#[test]
fn a_broken_external_certificate_generates_nothing_and_what_was_generated_before_serves_on() {
    let (mut scene, _) = OwnScene::new(|_, _| ());
    let serial = scene.sources.tls().unwrap().certificates[0].leaf.serial.clone();
    let (one, other) = (pair(&scene.authority), pair(&scene.authority));
    fs::write(scene.secret().join("tls.crt"), one.chain_pem).unwrap();
    fs::write(scene.secret().join("tls.key"), other.key_pem).unwrap();
    scene.look_after(Duration::ZERO);
    let events = scene.look_after(SETTLING);
    let [Event::Kept { problem, serving: Some((serving, _)), .. }] = &events[..] else { panic!("{events:?}") };
    assert!(problem.contains("does not belong"), "{problem}");
    assert_eq!(*serving, serial);

    // The same after a restart.
    let (sources, _) = OwnScene::load(&scene.folder).unwrap();
    assert_eq!(sources.tls().unwrap().certificates[0].leaf.serial, serial);

    // Without anything from before there is nothing to serve, and nothing is made.
    for file in ["authority.pem", "certificate.pem"] {
        fs::remove_file(scene.folder.path().join("generated").join(file)).unwrap();
    }
    let error = OwnScene::load(&scene.folder).unwrap_err().to_string();
    assert!(error.contains("does not belong"), "{error}");
    assert_eq!(scene.generated_files(), 0);
}

#[test]
fn an_explicit_bundle_wins_over_the_ca_beside_the_certificate() {
    let scene = Scene::new("caBundle: '{dir}/bundle.crt'");
    assert!(scene.sources.tls().unwrap().authorities.is_none());
    let mut scene = scene;
    let (one, two) = (Authority::new("one"), Authority::new("two"));
    fs::write(scene.folder.path().join("bundle.crt"), format!("{}{}", one.ca_pem(), two.ca_pem())).unwrap();
    let events = scene.look();
    assert!(matches!(&events[..], [Event::Advertised { authorities: 2, file: None }]), "{events:?}");
    assert!(scene.sources.tls().unwrap().authorities.is_some());
}
