//! The tenant's generated certificate among its sources: in use while none of the external ones is there, never made
//! when one is, cleaned up when one comes.

use std::path::PathBuf;
use std::time::Instant;

use config::Endpoint;
use rustls::crypto::CryptoProvider;

use super::event::Event;
use super::trouble::Trouble;
use crate::certificates::Moment;
use crate::generated::{GenerateError, Generated, Generator};

/// Where a tenant with `generate: true` keeps and tells things.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The tenant's name.
    pub(crate) tenant: String,
    /// The folder of its generated CA and certificate.
    pub(crate) generated: PathBuf,
    /// The file in which everybody finds what to trust.
    pub(crate) advertised: PathBuf,
}

/// The generated certificate, where the configuration asks for one.
#[derive(Debug)]
pub(super) struct Own {
    generator: Generator,
    use_: Use,
    trouble: Trouble,
}

#[derive(Debug)]
enum Use {
    NotDecided,
    Generated(Box<Generated>),
    External,
}

impl Own {
    pub(super) fn new(place: &Place, endpoints: &[Endpoint]) -> Self {
        let generator = Generator::new(&place.tenant, endpoints.to_vec(), place.generated.clone());
        Self { generator, use_: Use::NotDecided, trouble: Trouble::default() }
    }

    /// What is served, unless that comes from outside.
    pub(super) fn in_use(&self) -> Option<&Generated> {
        match &self.use_ {
            Use::Generated(generated) => Some(generated),
            Use::NotDecided | Use::External => None,
        }
    }

    pub(super) fn files(&self) -> [PathBuf; 3] {
        self.generator.files()
    }

    pub(super) fn in_trouble(&self) -> bool {
        self.trouble.lasts()
    }

    /// Whether time alone has made something due.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        self.in_use().is_some() && self.generator.is_due(now)
    }

    /// Nothing comes from outside: serves what is kept, made anew where that is due. Whether there is something to serve.
    pub(super) fn provide(&mut self, now: Instant, provider: &CryptoProvider, events: &mut Vec<Event>) -> bool {
        match self.generator.provide(Moment::now(), provider) {
            Ok((generated, made)) => {
                self.trouble.is_over();
                events.extend(made.into_iter().map(Event::Generated));
                let is_new = self.in_use().is_none_or(|old| {
                    !old.certificate.is_same_as(&generated.certificate) || old.authorities != generated.authorities
                });
                if is_new {
                    let certificate = Box::new(generated.certificate.clone());
                    events.push(Event::GeneratedInUse { certificate });
                }
                self.use_ = Use::Generated(Box::new(generated));
            }
            Err(error) => self.tell(&error, now, events),
        }
        self.in_use().is_some()
    }

    /// Something is there from outside that cannot be used: what is kept may serve, and nothing is made.
    pub(super) fn provide_what_is_kept(&mut self, provider: &CryptoProvider, events: &mut Vec<Event>) {
        if let Use::NotDecided = self.use_
            && let Some(generated) = self.generator.kept_only(Moment::now(), provider)
        {
            events.push(Event::GeneratedInUse { certificate: Box::new(generated.certificate.clone()) });
            self.use_ = Use::Generated(Box::new(generated));
        }
    }

    /// A certificate from outside is served: ours, its key and its CA go.
    pub(super) fn give_way(&mut self, now: Instant, events: &mut Vec<Event>) {
        if !matches!(self.use_, Use::External) {
            events.push(Event::ExternalInUse);
            self.use_ = Use::External;
        }
        match self.generator.clean_up() {
            Ok(true) => events.push(Event::CleanedUp),
            Ok(false) => {}
            Err(error) => return self.tell(&error, now, events),
        }
        self.trouble.is_over();
    }

    fn tell(&mut self, error: &GenerateError, now: Instant, events: &mut Vec<Event>) {
        let problem = error.to_string();
        if self.trouble.is_worth_telling(&problem, now) {
            events.push(Event::GenerateFailed { problem });
        }
    }

    /// Why there is nothing to serve at all.
    pub(super) fn problem(&self) -> Option<&str> {
        self.trouble.problem()
    }
}
