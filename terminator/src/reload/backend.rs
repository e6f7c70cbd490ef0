//! What backends are trusted by and shown: the files, each with the last content that could be used.
//! The rules are those of the tenant's own certificates: what cannot be used changes nothing, and is told when it lasts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use config::{BackendTls, CertificateSource};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;

use super::event::Event;
use super::sources::worse_dates;
use super::trouble::Trouble;
use crate::backend_tls::BackendConnector;
use crate::certificates::{CertificateError, Ending, EndingKind, Moment, ServedCertificate, read_cas};

/// The files of a tenant's `backendTls`.
#[derive(Debug)]
pub(super) struct BackendSlot {
    settings: BackendTls,
    cas: Cas,
    trouble: Trouble,
    client: Option<ClientCertificateSlot>,
}

#[derive(Debug, PartialEq, Eq)]
struct Cas {
    all: Vec<CertificateDer<'static>>,
    endings: Vec<Ending>,
}

#[derive(Debug)]
struct ClientCertificateSlot {
    source: CertificateSource,
    shown: ServedCertificate,
    trouble: Trouble,
}

impl BackendSlot {
    /// Reads everything for the first time, and everything must be there.
    pub(super) fn load(
        settings: &BackendTls,
        provider: &CryptoProvider,
        events: &mut Vec<Event>,
    ) -> Result<Self, CertificateError> {
        let cas = Cas::read(&settings.ca)?;
        let client = match &settings.client_certificate {
            Some(source) => {
                let shown = ServedCertificate::load(source, provider)?;
                events.push(Event::Renewed { certificate: Box::new(shown.clone()), before: None });
                Some(ClientCertificateSlot { source: source.clone(), shown, trouble: Trouble::default() })
            }
            None => None,
        };
        Ok(Self { settings: settings.clone(), cas, trouble: Trouble::default(), client })
    }

    /// Reads everything again.
    pub(super) fn refresh(&mut self, now: Instant, provider: &CryptoProvider, events: &mut Vec<Event>) {
        match Cas::read(&self.settings.ca) {
            Ok(cas) if cas == self.cas => {
                if self.trouble.is_over() {
                    events.push(Event::BackendCasRecovered);
                }
            }
            Ok(cas) => {
                self.trouble.is_over();
                events.push(Event::BackendCasChanged { authorities: cas.all.len() });
                self.cas = cas;
            }
            Err(error) => {
                let problem = error.to_string();
                if self.trouble.is_worth_telling(&problem, now) {
                    events.push(Event::BackendCasKept { problem });
                }
            }
        }
        if let Some(client) = &mut self.client {
            events.extend(client.refresh(now, provider));
        }
    }

    pub(super) fn in_trouble(&self) -> bool {
        self.trouble.lasts() || self.client.as_ref().is_some_and(|client| client.trouble.lasts())
    }

    /// When the CAs end.
    pub(super) fn endings(&self) -> &[Ending] {
        &self.cas.endings
    }

    /// What connects to backends with these files.
    pub(super) fn connector(&self, provider: &Arc<CryptoProvider>) -> Result<BackendConnector, rustls::Error> {
        let shown = self.client.as_ref().map(|client| client.shown.clone());
        BackendConnector::new(&self.settings, &self.cas.all, shown, provider)
    }
}

impl ClientCertificateSlot {
    fn refresh(&mut self, now: Instant, provider: &CryptoProvider) -> Option<Event> {
        let loaded = ServedCertificate::load(&self.source, provider).map_err(|error| error.to_string());
        let usable = loaded.and_then(|new| {
            if self.shown.is_same_as(&new) {
                return Ok(None);
            }
            match worse_dates(&self.shown.leaf, &new.leaf, Moment::now()) {
                Some(finding) => Err(format!("{}: serial {} {finding}", new.name, new.leaf.serial)),
                None => Ok(Some(new)),
            }
        });
        let name = ServedCertificate::name_of(&self.source);
        match usable {
            Ok(None) => self.trouble.is_over().then_some(Event::Recovered { name }),
            Ok(Some(new)) => {
                self.trouble.is_over();
                let before = std::mem::replace(&mut self.shown, new.clone());
                Some(Event::Renewed { certificate: Box::new(new), before: Some(before.leaf.serial) })
            }
            Err(problem) => self.trouble.is_worth_telling(&problem, now).then(|| {
                let leaf = &self.shown.leaf;
                let serving = Some((leaf.serial.clone(), Moment(leaf.not_after)));
                Event::Kept { name, problem, serving }
            }),
        }
    }
}

impl Cas {
    fn read(bundles: &[PathBuf]) -> Result<Self, CertificateError> {
        let (mut all, mut endings) = (Vec::new(), Vec::new());
        for bundle in bundles {
            let cas = read_cas(bundle)?;
            endings.extend(Ending::cas(EndingKind::BackendCa, bundle, &cas));
            all.extend(cas);
        }
        Ok(Self { all, endings })
    }
}
