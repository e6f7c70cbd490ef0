//! The files as they change.

use std::fs;
use std::path::Path;
use std::time::Duration;

use config::{Config, Mode};
use tempfile::TempDir;

use super::*;
use crate::reload::trouble::SETTLING;
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
        fs::write(folder.path().join("ca.crt"), authority.ca_pem()).unwrap();
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
        let (sources, events) = Sources::load(terminate, &config.tenants[0].hostnames).unwrap();
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
    let validation = "clientValidation: {mode: Required, ca: ['{dir}/ca.crt'], crl: ['{dir}/ca.crl']}";
    let mut scene = Scene::new(validation);
    assert!(scene.look().is_empty());
    let revoked = scene.authority.client("mallory");
    fs::write(scene.folder.path().join("ca.crl"), scene.authority.crl(&[&revoked], 2100)).unwrap();
    let events = scene.look();
    assert!(matches!(&events[..], [Event::ClientsChanged { authorities: 1, revocation_lists: 1 }]), "{events:?}");
    fs::write(scene.folder.path().join("ca.crt"), "").unwrap();
    scene.look();
    let events = scene.look_after(SETTLING);
    assert!(matches!(&events[..], [Event::ClientsKept { problem }] if problem.contains("ca.crt")), "{events:?}");
    assert!(scene.sources.tls().is_ok());
    fs::write(scene.folder.path().join("ca.crt"), scene.authority.ca_pem()).unwrap();
    assert!(matches!(&scene.look()[..], [Event::ClientsRecovered]));
}
