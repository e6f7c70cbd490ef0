//! What clients are told to trust: the CA of the generated certificate, an explicit bundle, or the `ca.crt` beside the
//! certificates in use. Only certificates ever leave this file, whatever else is in those that are read.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::event::Event;
use super::trouble::Trouble;
use crate::certificates::{CertificateError, Ending, EndingKind, read_certificates, to_pem};
use crate::generated::{remove, replace};

/// The bundle of one tenant.
#[derive(Debug, Default)]
pub(super) struct Advertised {
    /// Where everybody finds it; `None` where nothing is generated and so nobody needs the file.
    file: Option<PathBuf>,
    bundle: Option<Arc<str>>,
    /// When its CAs end. Those that are generated see to that themselves.
    endings: Vec<Ending>,
    trouble: Trouble,
    /// Whether the file holds what it should.
    written: bool,
}

/// Where a bundle comes from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// This text.
    Text(String),
    /// These files; those that are optional may be missing.
    Files { files: Vec<PathBuf>, optional: bool },
}

impl Advertised {
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        Self { file, ..Self::default() }
    }

    pub(super) fn bundle(&self) -> Option<Arc<str>> {
        self.bundle.clone()
    }

    pub(super) fn endings(&self) -> &[Ending] {
        &self.endings
    }

    pub(super) fn in_trouble(&self) -> bool {
        self.trouble.lasts()
    }

    /// Advertises what the origin holds now. What cannot be used leaves the last good bundle.
    pub(super) fn refresh(&mut self, origin: Origin, now: Instant, events: &mut Vec<Event>) {
        let read = match origin {
            Origin::Text(text) => Ok((text, Vec::new())),
            Origin::Files { files, optional } => read(&files, optional),
        };
        let outcome = read.and_then(|(text, endings)| {
            let bundle = (!text.is_empty()).then(|| Arc::from(text));
            if bundle != self.bundle {
                events.push(Event::Advertised {
                    authorities: bundle.as_deref().map_or(0, |text: &str| text.matches("BEGIN CERTIFICATE").count()),
                    file: self.file.clone(),
                });
                self.bundle = bundle;
                self.endings = endings;
                self.written = false;
            }
            self.write()
        });
        match outcome {
            Ok(()) => {
                self.trouble.is_over();
            }
            Err(problem) => {
                if self.trouble.is_worth_telling(&problem, now) {
                    events.push(Event::AdvertisedKept { problem });
                }
            }
        }
    }

    fn write(&mut self) -> Result<(), String> {
        let Some(file) = self.file.as_deref().filter(|_| !self.written) else { return Ok(()) };
        let written = match &self.bundle {
            Some(bundle) => replace(file, bundle, 0o644),
            None => remove(file).map(drop),
        };
        written.map_err(|error| format!("write {}: {error}", file.display()))?;
        self.written = true;
        Ok(())
    }
}

fn read(files: &[PathBuf], optional: bool) -> Result<(String, Vec<Ending>), String> {
    let (mut bundle, mut endings) = (String::new(), Vec::new());
    for file in files {
        if optional && is_missing(file) {
            continue;
        }
        let certificates = read_certificates(file).map_err(|error| error.to_string())?;
        if certificates.is_empty() {
            return Err(CertificateError::NoCa { path: file.clone() }.to_string());
        }
        endings.extend(Ending::cas(EndingKind::AdvertisedCa, file, &certificates));
        for pem in certificates.iter().map(to_pem) {
            if !bundle.contains(&pem) {
                bundle.push_str(&pem);
            }
        }
    }
    if bundle.len() > MAX_BUNDLE_BYTES {
        return Err(format!("the CA bundle is larger than {} KiB", MAX_BUNDLE_BYTES / 1024));
    }
    Ok((bundle, endings))
}

fn is_missing(file: &Path) -> bool {
    fs::metadata(file).is_err_and(|error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
}

/// It travels in the status, which has a bound of its own (`connection::handoff`): some forty CAs.
const MAX_BUNDLE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_pki::{Authority, KeyKind};

    #[test]
    fn only_certificates_are_told_and_each_once() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (Authority::new("one"), Authority::new("two"));
        let key = one.server(&["a.example"], KeyKind::Ecdsa).key_pem;
        let [a, b] = ["a.crt", "b.crt"].map(|name| folder.path().join(name));
        fs::write(&a, format!("# comment\n{}{key}{}", one.ca_pem(), two.ca_pem())).unwrap();
        fs::write(&b, one.ca_pem()).unwrap();
        let file = folder.path().join("ca.crt");
        let mut advertised = Advertised::new(Some(file.clone()));
        let mut events = Vec::new();
        let origin = Origin::Files { files: vec![a, b, folder.path().join("none")], optional: true };
        advertised.refresh(origin, Instant::now(), &mut events);
        let bundle = advertised.bundle().unwrap();
        assert!(!bundle.contains("KEY") && !bundle.contains("comment"));
        assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 2);
        assert_eq!(fs::read_to_string(&file).unwrap(), *bundle);
        assert_eq!(advertised.endings().len(), 3, "of each file by itself");
        assert!(matches!(&events[..], [Event::Advertised { authorities: 2, .. }]), "{events:?}");

        advertised.refresh(Origin::Text(String::new()), Instant::now(), &mut events);
        assert!(advertised.bundle().is_none() && !file.exists() && advertised.endings().is_empty());
    }

    #[test]
    fn what_cannot_be_used_leaves_the_last_bundle() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("cas.crt");
        fs::write(&bundle, Authority::new("one").ca_pem()).unwrap();
        let origin = Origin::Files { files: vec![bundle.clone()], optional: false };
        let mut advertised = Advertised::new(None);
        let mut events = Vec::new();
        let now = Instant::now();
        advertised.refresh(origin.clone(), now, &mut events);
        let before = advertised.bundle();
        fs::write(&bundle, "nothing").unwrap();
        advertised.refresh(origin.clone(), now, &mut events);
        advertised.refresh(origin.clone(), now + super::super::trouble::SETTLING, &mut events);
        assert!(advertised.in_trouble() && advertised.bundle() == before);
        assert!(matches!(&events[..], [_, Event::AdvertisedKept { problem }] if problem.contains("cas.crt")));
        fs::remove_file(&bundle).unwrap();
        advertised.refresh(origin, now, &mut events);
        assert!(advertised.in_trouble() && advertised.bundle() == before);
    }
}
