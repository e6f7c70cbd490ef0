//! The tenant's files, each with the last content that could be used. Reads files; decides what is good enough to be
//! served; says what happened as values. Logs nothing, watches nothing, waits for nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::{CertificateSource, HostnamePattern, Terminate};
use rustls::crypto::{CryptoProvider, aws_lc_rs};

use crate::certificates::{CertificateError, ClientAnchors, Finding, Moment, ServedCertificate, findings, paths};
use crate::tls_config::{TenantTls, Tickets, TlsConfigError};

/// All that can change while the terminator runs.
#[derive(Debug)]
pub(crate) struct Sources {
    terminate: Terminate,
    hostnames: Vec<HostnamePattern>,
    provider: Arc<CryptoProvider>,
    tickets: Tickets,
    certificates: Vec<CertificateSlot>,
    clients: Option<ClientSlot>,
}

#[derive(Debug)]
struct CertificateSlot {
    source: CertificateSource,
    /// `None` until the source could be used for the first time.
    served: Option<ServedCertificate>,
    trouble: Trouble,
}

#[derive(Debug)]
struct ClientSlot {
    anchors: ClientAnchors,
    trouble: Trouble,
}

/// What a look at the files brought to light.
#[derive(Debug)]
pub(crate) enum Event {
    /// A certificate is served that was not served before.
    Renewed {
        /// It, with what it serves.
        certificate: Box<ServedCertificate>,
        /// The serial of the one that it replaces.
        before: Option<String>,
    },
    /// Something is not as it should be about a certificate that is served all the same.
    Doubtful {
        /// The certificate's name.
        name: String,
        /// What it is.
        finding: Finding,
    },
    /// The files hold nothing that can be served.
    Kept {
        /// The certificate's name.
        name: String,
        /// Why not.
        problem: String,
        /// What is served instead; `None` when there never was anything.
        serving: Option<(String, Moment)>,
    },
    /// The files hold again what is served already.
    Recovered {
        /// The certificate's name.
        name: String,
    },
    /// Other CAs or revocation lists are in force.
    ClientsChanged {
        /// How many CAs.
        authorities: usize,
        /// How many lists.
        revocation_lists: usize,
    },
    /// The files of the CAs or lists cannot be used; those before stay in force.
    ClientsKept {
        /// Why not.
        problem: String,
    },
    /// The files of the CAs and lists hold again what is in force already.
    ClientsRecovered,
}

impl Sources {
    /// Reads everything for the first time. One usable certificate is enough; the CAs of clients must all be there.
    pub(crate) fn load(
        terminate: &Terminate,
        hostnames: &[HostnamePattern],
    ) -> Result<(Self, Vec<Event>), TlsConfigError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let clients = match terminate.client_validation.trust() {
            Some(trust) => Some(ClientSlot { anchors: ClientAnchors::read(trust)?, trouble: Trouble::default() }),
            None => None,
        };
        let mut sources = Self {
            terminate: terminate.clone(),
            hostnames: hostnames.to_vec(),
            provider,
            tickets: Tickets::new()?,
            certificates: Vec::new(),
            clients,
        };
        let mut events = Vec::new();
        let mut first_error = None;
        for source in &terminate.certificates {
            let mut slot = CertificateSlot { source: source.clone(), served: None, trouble: Trouble::default() };
            match ServedCertificate::load(source, &sources.provider) {
                Ok(certificate) => sources.serve(&mut slot, certificate, &mut events),
                Err(error) => {
                    events.push(slot.kept(error.to_string()));
                    slot.trouble.tell_now(error.to_string());
                    first_error = first_error.or(Some(error));
                }
            }
            sources.certificates.push(slot);
        }
        match first_error {
            Some(error) if sources.certificates.iter().all(|slot| slot.served.is_none()) => Err(error.into()),
            _ => Ok((sources, events)),
        }
    }

    /// The files whose change matters.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        files_of(&self.terminate)
    }

    /// Reads everything again. What cannot be used is told when it lasts for [`SETTLING`]: files are seldom replaced
    /// all at once.
    pub(crate) fn refresh(&mut self, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        let mut slots = std::mem::take(&mut self.certificates);
        for slot in &mut slots {
            self.refresh_certificate(slot, now, &mut events);
        }
        self.certificates = slots;
        self.refresh_clients(now, &mut events);
        events
    }

    /// Whether the last look left a problem, which time alone may solve or make worth telling.
    pub(crate) fn in_trouble(&self) -> bool {
        let clients = self.clients.as_ref().is_some_and(|slot| slot.trouble.lasts());
        clients || self.certificates.iter().any(|slot| slot.trouble.lasts())
    }

    /// What is served with these files.
    pub(crate) fn tls(&self) -> Result<TenantTls, TlsConfigError> {
        let verifier = match &self.clients {
            Some(slot) => slot.anchors.verifier(&self.terminate.client_validation, &self.provider)?,
            None => None,
        };
        let served = self.certificates.iter().filter_map(|slot| slot.served.clone()).collect();
        TenantTls::new(&self.terminate, served, verifier, Arc::clone(&self.provider), &self.tickets)
    }

    fn refresh_certificate(&self, slot: &mut CertificateSlot, now: Instant, events: &mut Vec<Event>) {
        let loaded = ServedCertificate::load(&slot.source, &self.provider).map_err(|error| error.to_string());
        let usable = loaded.and_then(|new| match &slot.served {
            Some(old) if old.is_same_as(&new) => Ok(None),
            Some(old) => match worse_dates(&old.leaf, &new.leaf, Moment::now()) {
                Some(finding) => Err(format!("{}: serial {} {finding}", new.name, new.leaf.serial)),
                None => Ok(Some(new)),
            },
            None => Ok(Some(new)),
        });
        match usable {
            Ok(Some(new)) => {
                slot.trouble.is_over();
                self.serve(slot, new, events);
            }
            Ok(None) => {
                if slot.trouble.is_over() {
                    events.push(Event::Recovered { name: slot.source_name() });
                }
            }
            Err(problem) => {
                if slot.trouble.is_worth_telling(&problem, now) {
                    events.push(slot.kept(problem));
                }
            }
        }
    }

    fn serve(&self, slot: &mut CertificateSlot, new: ServedCertificate, events: &mut Vec<Event>) {
        let chain = &new.certified_key.cert;
        let doubts = findings(chain, &new.leaf, &self.hostnames, Moment::now(), &self.provider);
        // An expired leaf is told by the watch over all certificates' ends.
        let doubts = doubts.into_iter().filter(|finding| !matches!(finding, Finding::Expired(_)));
        let doubts: Vec<Event> = doubts.map(|finding| Event::Doubtful { name: new.name.clone(), finding }).collect();
        let before = slot.served.replace(new.clone()).map(|old| old.leaf.serial);
        events.push(Event::Renewed { certificate: Box::new(new), before });
        events.extend(doubts);
    }

    fn refresh_clients(&mut self, now: Instant, events: &mut Vec<Event>) {
        let (Some(slot), Some(trust)) = (&mut self.clients, self.terminate.client_validation.trust()) else { return };
        let read = ClientAnchors::read(trust)
            // What is usable file by file may not be so together.
            .and_then(|new| new.verifier(&self.terminate.client_validation, &self.provider).map(|_| new))
            .map_err(|error: CertificateError| error.to_string());
        match read {
            Ok(new) if new == slot.anchors => {
                if slot.trouble.is_over() {
                    events.push(Event::ClientsRecovered);
                }
            }
            Ok(new) => {
                slot.trouble.is_over();
                events.push(Event::ClientsChanged {
                    authorities: new.authorities(),
                    revocation_lists: new.revocation_lists(),
                });
                slot.anchors = new;
            }
            Err(problem) => {
                if slot.trouble.is_worth_telling(&problem, now) {
                    events.push(Event::ClientsKept { problem });
                }
            }
        }
    }
}

impl Event {
    /// Whether handshakes have to be served differently from here on.
    pub(crate) fn changes_what_is_served(&self) -> bool {
        matches!(self, Self::Renewed { .. } | Self::ClientsChanged { .. })
    }
}

impl CertificateSlot {
    fn kept(&self, problem: String) -> Event {
        let serving = self.served.as_ref().map(|served| (served.leaf.serial.clone(), Moment(served.leaf.not_after)));
        Event::Kept { name: self.source_name(), problem, serving }
    }

    fn source_name(&self) -> String {
        ServedCertificate::name_of(&self.source)
    }
}

/// All files that a tenant's terminator reads.
pub(crate) fn files_of(terminate: &Terminate) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for source in &terminate.certificates {
        let (certificate, key) = paths(source);
        files.extend([certificate, key]);
    }
    if let Some(trust) = terminate.client_validation.trust() {
        files.extend(trust.ca.iter().chain(&trust.crl).cloned());
    }
    files
}

/// A new certificate that is outside its dates does not replace one that is inside.
fn worse_dates(old: &crate::certificates::Leaf, new: &crate::certificates::Leaf, now: Moment) -> Option<Finding> {
    if !old.is_valid_at(now.0) || new.is_valid_at(now.0) {
        None
    } else if new.not_before > now.0 {
        Some(Finding::NotYetValid(Moment(new.not_before)))
    } else {
        Some(Finding::Expired(Moment(new.not_after)))
    }
}

/// A problem of one source, from when it was seen to when it is over.
#[derive(Debug, Default)]
struct Trouble(Option<Lasting>);

#[derive(Debug)]
struct Lasting {
    problem: String,
    /// Since when it is this problem.
    since: Instant,
    told: bool,
    /// Whether this or another problem before it was told.
    any_told: bool,
}

impl Trouble {
    fn lasts(&self) -> bool {
        self.0.is_some()
    }

    fn tell_now(&mut self, problem: String) {
        self.0 = Some(Lasting { problem, since: Instant::now(), told: true, any_told: true });
    }

    /// Whether this problem has lasted long enough and was not told yet.
    fn is_worth_telling(&mut self, problem: &str, now: Instant) -> bool {
        let any_told = match &mut self.0 {
            Some(lasting) if lasting.problem == problem => {
                let tell = !lasting.told && now.duration_since(lasting.since) >= SETTLING;
                lasting.told |= tell;
                lasting.any_told |= tell;
                return tell;
            }
            Some(other) => other.any_told,
            None => false,
        };
        self.0 = Some(Lasting { problem: problem.to_owned(), since: now, told: false, any_told });
        false
    }

    /// Ends it; whether it had been told.
    fn is_over(&mut self) -> bool {
        self.0.take().is_some_and(|lasting| lasting.any_told)
    }
}

/// The time that somebody may take between writing a certificate and its key.
pub(super) const SETTLING: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

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
}
