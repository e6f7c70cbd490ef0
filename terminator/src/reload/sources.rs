//! The tenant's files, each with the last content that could be used. Reads files; decides what is good enough to be
//! served; says what happened as values. Logs nothing, watches nothing, waits for nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use config::{CertificateSource, Endpoint, HostnamePattern, Terminate};
use rustls::crypto::{CryptoProvider, aws_lc_rs};

use super::advertised::{Advertised, Origin};
use super::backend::BackendSlot;
use super::event::{Event, report};
use super::own::{Own, Place};
use super::trouble::{SETTLING, Trouble};
use crate::certificates::{
    CertificateError, ClientAnchors, Ending, Finding, Leaf, Moment, Presence, ServedCertificate, findings, not_covered,
    paths, presence, staple_path, to_be_covered,
};
use crate::tls_config::{TenantTls, Tickets, TlsConfigError};

/// All that can change while the terminator runs.
#[derive(Debug)]
pub(crate) struct Sources {
    terminate: Terminate,
    endpoints: Vec<Endpoint>,
    provider: Arc<CryptoProvider>,
    tickets: Tickets,
    certificates: Vec<CertificateSlot>,
    clients: Option<ClientSlot>,
    /// Where the configuration asks for a generated certificate.
    own: Option<Own>,
    advertised: Advertised,
    backend: Option<BackendSlot>,
}

#[derive(Debug)]
struct CertificateSlot {
    source: CertificateSource,
    /// `None` until the source could be used for the first time.
    served: Option<ServedCertificate>,
    trouble: Trouble,
    /// Since when neither file is there, where a generated certificate can take the place of this one.
    absent_since: Option<Instant>,
}

#[derive(Debug)]
struct ClientSlot {
    anchors: ClientAnchors,
    trouble: Trouble,
}

impl Sources {
    /// Reads everything for the first time. One usable certificate is enough; the CAs of clients must all be there.
    pub(crate) fn load(
        terminate: &Terminate,
        hostnames: &[HostnamePattern],
        place: Option<&Place>,
    ) -> Result<(Self, Vec<Event>), TlsConfigError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let endpoints = to_be_covered(hostnames, terminate);
        let now = Instant::now();
        let clients = match terminate.client_validation.trust() {
            Some(trust) => Some(ClientSlot { anchors: ClientAnchors::read(trust)?, trouble: Trouble::default() }),
            None => None,
        };
        let mut events = Vec::new();
        let backend = match &terminate.backend_tls {
            Some(settings) => Some(BackendSlot::load(settings, &provider, &mut events)?),
            None => None,
        };
        let mut sources = Self {
            terminate: terminate.clone(),
            own: place.map(|place| Own::new(place, &endpoints)),
            advertised: Advertised::new(place.map(|place| place.advertised.clone())),
            endpoints,
            provider,
            tickets: Tickets::new()?,
            certificates: Vec::new(),
            clients,
            backend,
        };
        let mut first_error = None;
        for source in &terminate.certificates {
            let mut slot = CertificateSlot::new(source);
            match ServedCertificate::load(source, &sources.provider) {
                Ok(certificate) => sources.serve(&mut slot, certificate, &mut events),
                Err(CertificateError::NotFound { .. }) if sources.own.is_some() => {
                    slot.absent_since = Some(now);
                    events.push(Event::NotFound { name: slot.source_name(), problem: slot.not_found() });
                }
                Err(error) => {
                    events.push(slot.kept(error.to_string(), None));
                    slot.trouble.tell_now(error.to_string());
                    first_error = first_error.or(Some(error));
                }
            }
            sources.certificates.push(slot);
        }
        sources.refresh_own(now, &mut events);
        sources.tell_what_is_not_covered(&mut events);
        sources.refresh_advertised(now, &mut events);
        if sources.served().next().is_some() {
            return Ok((sources, events));
        }
        events.iter().for_each(report);
        Err(match (first_error, sources.own.as_ref().and_then(Own::problem)) {
            (Some(error), _) => error.into(),
            (None, problem) => TlsConfigError::Generated(problem.unwrap_or_default().to_owned()),
        })
    }

    /// The files whose change matters.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files = files_of(&self.terminate);
        files.extend(self.own.iter().flat_map(Own::files));
        files
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
        self.refresh_own(now, &mut events);
        self.tell_what_is_not_covered(&mut events);
        self.refresh_clients(now, &mut events);
        if let Some(backend) = &mut self.backend {
            backend.refresh(now, &self.provider, &mut events);
        }
        self.refresh_advertised(now, &mut events);
        events
    }

    /// Whether the last look left a problem, which time alone may solve or make worth telling.
    pub(crate) fn in_trouble(&self) -> bool {
        let clients = self.clients.as_ref().is_some_and(|slot| slot.trouble.lasts());
        let backend = self.backend.as_ref().is_some_and(BackendSlot::in_trouble);
        let own = self.own.as_ref().is_some_and(Own::in_trouble) || self.advertised.in_trouble();
        let certificate = self.certificates.iter().any(|slot| slot.trouble.lasts() || slot.is_going());
        clients || backend || own || certificate
    }

    /// Whether time alone has made something due: a generated certificate's renewal, a staple's end.
    pub(crate) fn is_due(&self, now: Moment) -> bool {
        let staple_is_over = self.served().any(|served| served.staple_is_over(now));
        staple_is_over || self.own.as_ref().is_some_and(|own| own.is_due(now))
    }

    /// What is served with these files.
    pub(crate) fn tls(&self) -> Result<TenantTls, TlsConfigError> {
        let verifier = match &self.clients {
            Some(slot) => slot.anchors.verifier(&self.terminate.client_validation, &self.provider)?,
            None => None,
        };
        let served = self.served().cloned().collect();
        let authorities = self.advertised.bundle();
        let backend = self.backend.as_ref().map(|slot| slot.connector(&self.provider)).transpose()?;
        TenantTls::new(&self.terminate, served, authorities, verifier, Arc::clone(&self.provider), &self.tickets)
            .map(|tls| TenantTls { backend: backend.map(Arc::new), ..tls })
            .map(|tls| TenantTls { trust: self.trust(&tls.with_an_end()), ..tls })
    }

    /// What ends beside the tenant's own certificates.
    fn trust(&self, own: &[ServedCertificate]) -> Vec<Ending> {
        let issuers = own.iter().flat_map(Ending::issuers);
        let clients = self.clients.iter().flat_map(|slot| slot.anchors.endings());
        let backends = self.backend.iter().flat_map(BackendSlot::endings);
        issuers.chain(clients.chain(backends).chain(self.advertised.endings()).cloned()).collect()
    }

    fn served(&self) -> impl Iterator<Item = &ServedCertificate> {
        let generated = self.own.as_ref().and_then(Own::in_use).map(|generated| &generated.certificate);
        let external = self.certificates.iter().filter_map(|slot| slot.served.as_ref());
        generated.into_iter().chain(external)
    }

    fn refresh_certificate(&self, slot: &mut CertificateSlot, now: Instant, events: &mut Vec<Event>) {
        if self.own.is_some() && presence(&slot.source) == Presence::Absent {
            slot.absent_since.get_or_insert(now);
            slot.trouble.is_over();
            return;
        }
        slot.absent_since = None;
        let loaded = ServedCertificate::load(&slot.source, &self.provider).map_err(|error| error.to_string());
        let usable = loaded.and_then(|new| match &slot.served {
            Some(old) if old.is_same_as(&new) => Ok((old.staple != new.staple).then_some(new)),
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
                    let generated = self.own.as_ref().and_then(Own::in_use).map(|generated| &generated.certificate);
                    events.push(slot.kept(problem, generated));
                }
            }
        }
    }

    fn serve(&self, slot: &mut CertificateSlot, new: ServedCertificate, events: &mut Vec<Event>) {
        let chain = &new.certified_key.cert;
        let doubts = findings(chain, &new.leaf, Moment::now(), &self.provider);
        // An expired leaf is told by the watch over all certificates' ends.
        let doubts = doubts.into_iter().filter(|finding| !matches!(finding, Finding::Expired(_)));
        let doubts: Vec<Event> = doubts.map(|finding| Event::Doubtful { name: new.name.clone(), finding }).collect();
        let before = slot.served.replace(new.clone());
        if before.as_ref().and_then(|before| before.staple.as_ref()) != new.staple.as_ref() {
            events.push(Event::Stapled { name: new.name.clone(), staple: new.staple.clone() });
        }
        if before.as_ref().is_none_or(|before| !before.is_same_as(&new)) {
            let before = before.map(|old| old.leaf.serial);
            events.push(Event::Renewed { certificate: Box::new(new), before });
            events.extend(doubts);
        }
    }

    /// Decides between certificates from outside and a generated one.
    fn refresh_own(&mut self, now: Instant, events: &mut Vec<Event>) {
        let Some(own) = &mut self.own else { return };
        if self.certificates.iter().all(|slot| slot.is_gone(now)) {
            if own.provide(now, &self.provider, events) {
                for slot in self.certificates.iter_mut().filter(|slot| slot.served.is_some()) {
                    slot.served = None;
                    events.push(Event::NotFound { name: slot.source_name(), problem: slot.not_found() });
                }
            }
        } else if self.certificates.iter().any(|slot| slot.served.is_some()) {
            own.give_way(now, events);
        } else {
            own.provide_what_is_kept(&self.provider, events);
        }
    }

    fn refresh_advertised(&mut self, now: Instant, events: &mut Vec<Event>) {
        if self.certificates.iter().any(CertificateSlot::is_going) {
            // What is served has not changed yet.
            return;
        }
        let beside = |slot: &CertificateSlot| match &slot.source {
            CertificateSource::SecretDir(folder) if slot.served.is_some() => Some(folder.join(CA_FILE)),
            _ => None,
        };
        let origin = match (self.own.as_ref().and_then(Own::in_use), &self.terminate.ca_bundle) {
            (Some(generated), _) => Origin::Text(generated.authorities.clone()),
            (None, Some(bundle)) => Origin::Files { files: vec![bundle.clone()], optional: false },
            (None, None) => {
                Origin::Files { files: self.certificates.iter().filter_map(beside).collect(), optional: true }
            }
        };
        self.advertised.refresh(origin, now, events);
    }

    /// All certificates together must cover the tenant's hostnames; said whenever one of them is new.
    fn tell_what_is_not_covered(&self, events: &mut Vec<Event>) {
        if events.iter().any(|event| matches!(event, Event::Renewed { .. })) {
            let leaves = self.served().map(|served| &served.leaf);
            let names: Vec<String> = self.certificates.iter().map(CertificateSlot::source_name).collect();
            let name = names.join(", ");
            events.extend(not_covered(leaves, &self.endpoints).map(|finding| Event::Doubtful { name, finding }));
        }
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

impl CertificateSlot {
    fn new(source: &CertificateSource) -> Self {
        Self { source: source.clone(), served: None, trouble: Trouble::default(), absent_since: None }
    }

    fn kept(&self, problem: String, instead: Option<&ServedCertificate>) -> Event {
        let serving = self.served.as_ref().or(instead);
        let serving = serving.map(|served| (served.leaf.serial.clone(), Moment(served.leaf.not_after)));
        Event::Kept { name: self.source_name(), problem, serving }
    }

    /// Neither file is there, and that is no matter of the moment between two renames.
    fn is_gone(&self, now: Instant) -> bool {
        self.absent_since.is_some_and(|since| self.served.is_none() || now.duration_since(since) >= SETTLING)
    }

    fn is_going(&self) -> bool {
        self.absent_since.is_some() && self.served.is_some()
    }

    fn not_found(&self) -> String {
        let (path, key) = paths(&self.source);
        CertificateError::NotFound { path, key }.to_string()
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
        files.extend([certificate, key, staple_path(source)]);
        if let CertificateSource::SecretDir(folder) = source {
            files.push(folder.join(CA_FILE));
        }
    }
    files.extend(terminate.ca_bundle.clone());
    if let Some(trust) = terminate.client_validation.trust() {
        files.extend(trust.ca.iter().chain(&trust.crl).cloned());
    }
    if let Some(backend) = &terminate.backend_tls {
        files.extend(backend.ca.iter().cloned());
        if let Some(source) = &backend.client_certificate {
            let (certificate, key) = paths(source);
            files.extend([certificate, key]);
        }
    }
    files
}

/// A new certificate that is outside its dates does not replace one that is inside.
pub(super) fn worse_dates(old: &Leaf, new: &Leaf, now: Moment) -> Option<Finding> {
    if !old.is_valid_at(now.0) || new.is_valid_at(now.0) {
        None
    } else if new.not_before > now.0 {
        Some(Finding::NotYetValid(Moment(new.not_before)))
    } else {
        Some(Finding::Expired(Moment(new.not_after)))
    }
}

/// Of a kubernetes.io/tls Secret.
const CA_FILE: &str = "ca.crt";

#[cfg(test)]
mod tests;
