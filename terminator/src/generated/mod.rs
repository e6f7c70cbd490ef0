//! The tenant's own CA and certificate, for as long as nobody brings one: made, kept where the tenant's uid alone can read
//! them, renewed in time, removed when no longer used. Decides nothing about when they are used.

mod issue;
mod plan;
mod store;

use std::io;
use std::path::PathBuf;

use config::{CertificateSource, Endpoint};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use thiserror::Error;

use self::plan::{AUTHORITY_LIFE, CERTIFICATE_LIFE, Kept, Life, due};
use self::store::{Kind, Store};
use crate::certificates::{
    CertificateError, Leaf, Moment, ServedCertificate, not_covered, read_certificates, read_key, to_pem,
};

pub(crate) use self::store::{make_folder, remove, replace};

/// Makes and keeps one tenant's CA and certificate.
#[derive(Clone, Debug)]
pub(crate) struct Generator {
    tenant: String,
    endpoints: Vec<Endpoint>,
    store: Store,
}

/// What can be served.
#[derive(Clone, Debug)]
pub(crate) struct Generated {
    /// The certificate.
    pub(crate) certificate: ServedCertificate,
    /// What clients have to trust: the CA that signed it, and the next one where there is one.
    pub(crate) authorities: String,
}

/// What was made; one log line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// A CA that signs from now on.
    Authority {
        /// Its end.
        not_after: Moment,
    },
    /// A CA that clients learn to trust before it signs.
    NextAuthority {
        /// Its end.
        not_after: Moment,
    },
    /// The next CA signs from now on.
    Promotion,
    /// A certificate.
    Certificate {
        /// Its serial.
        serial: String,
        /// Its end.
        not_after: Moment,
    },
}

/// Why there is nothing generated to be served.
#[derive(Debug, Error)]
pub(crate) enum GenerateError {
    /// A kept file cannot be used.
    #[error(transparent)]
    Kept(#[from] CertificateError),
    /// A file cannot be kept.
    #[error("keep the generated {}: {source}", path.display())]
    Keep {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The cryptographic library's word.
    #[error("generate a certificate: {0}")]
    Issue(#[from] rcgen::Error),
}

impl Generator {
    /// For this tenant and what clients reach it by, in this folder.
    pub(crate) fn new(tenant: &str, endpoints: Vec<Endpoint>, folder: PathBuf) -> Self {
        Self { tenant: tenant.to_owned(), endpoints, store: Store::new(folder) }
    }

    /// The files whose change matters.
    pub(crate) fn files(&self) -> [PathBuf; 3] {
        Kind::ALL.map(|kind| self.store.path(kind))
    }

    /// Makes what is due and gives what is to be served.
    pub(crate) fn provide(
        &self,
        now: Moment,
        provider: &CryptoProvider,
    ) -> Result<(Generated, Vec<Made>), GenerateError> {
        let mut made = Vec::new();
        let due = due(self.kept()?, now);
        if due.promotion {
            self.store.promote().map_err(self.cannot_keep(Kind::Authority))?;
            made.push(Made::Promotion);
        }
        if due.authority {
            let not_after = self.make_authority(Kind::Authority, now)?;
            made.push(Made::Authority { not_after });
        }
        if due.next {
            let not_after = self.make_authority(Kind::Next, now)?;
            made.push(Made::NextAuthority { not_after });
        }
        if due.certificate {
            self.make_certificate(now)?;
        }
        let generated = self.load(provider)?;
        if due.certificate {
            let leaf = &generated.certificate.leaf;
            made.push(Made::Certificate { serial: leaf.serial.clone(), not_after: Moment(leaf.not_after) });
        }
        Ok((generated, made))
    }

    /// Whether [`provide`](Self::provide) would make something. What cannot be read is told by that.
    pub(crate) fn is_due(&self, now: Moment) -> bool {
        self.kept().map_or(true, |kept| !due(kept, now).is_nothing())
    }

    /// What was kept, and nothing new; `None` where nothing usable is there.
    pub(crate) fn kept_only(&self, now: Moment, provider: &CryptoProvider) -> Option<Generated> {
        let kept = self.kept().ok()?;
        let usable = kept.authority.is_some() && kept.certificate.is_some_and(|life| life.not_after >= now);
        if usable { self.load(provider).ok() } else { None }
    }

    /// Removes all that was kept; whether there was something.
    pub(crate) fn clean_up(&self) -> Result<bool, GenerateError> {
        self.store.clear().map_err(self.cannot_keep(Kind::Authority))
    }

    fn make_authority(&self, kind: Kind, now: Moment) -> Result<Moment, GenerateError> {
        let life = Life::beginning(now, AUTHORITY_LIFE, None);
        let pem = issue::authority(&self.tenant, life)?;
        self.store.write(kind, &pem).map_err(self.cannot_keep(kind))?;
        Ok(life.not_after)
    }

    fn make_certificate(&self, now: Moment) -> Result<(), GenerateError> {
        let path = self.store.path(Kind::Authority);
        let authority = read_one(path.clone())?;
        let leaf = parse(&authority, &path)?;
        let key = read_key(&path)?;
        let life = Life::beginning(now, CERTIFICATE_LIFE, Some(Moment(leaf.not_after)));
        let pem = issue::certificate(&self.tenant, &self.endpoints, life, (&authority, &key))?;
        self.store.write(Kind::Certificate, &pem).map_err(self.cannot_keep(Kind::Certificate))
    }

    fn load(&self, provider: &CryptoProvider) -> Result<Generated, GenerateError> {
        let path = self.store.path(Kind::Certificate);
        let source = CertificateSource::Files { certificate: path.clone(), key: path };
        let certificate = ServedCertificate { name: NAME.to_owned(), ..ServedCertificate::load(&source, provider)? };
        let mut authorities = String::new();
        for kind in [Kind::Authority, Kind::Next] {
            let path = self.store.path(kind);
            if path.exists() {
                authorities.push_str(&to_pem(&read_one(path)?));
            }
        }
        Ok(Generated { certificate, authorities })
    }

    fn kept(&self) -> Result<Kept, GenerateError> {
        let life = |kind| match self.read(kind)? {
            Some((_, leaf)) => Ok::<_, GenerateError>(Some(life_of(&leaf))),
            None => Ok(None),
        };
        let certificate = match (self.read(Kind::Authority)?, self.read(Kind::Certificate)?) {
            (Some((authority, _)), Some((der, leaf))) => {
                let fits = not_covered(std::iter::once(&leaf), &self.endpoints).is_none() && issued(&authority, &der);
                fits.then(|| life_of(&leaf))
            }
            _ => None,
        };
        Ok(Kept { authority: life(Kind::Authority)?, next: life(Kind::Next)?, certificate })
    }

    fn read(&self, kind: Kind) -> Result<Option<(CertificateDer<'static>, Leaf)>, GenerateError> {
        let path = self.store.path(kind);
        if !path.exists() {
            return Ok(None);
        }
        let certificate = read_one(path.clone())?;
        let leaf = parse(&certificate, &path)?;
        Ok(Some((certificate, leaf)))
    }

    fn cannot_keep(&self, kind: Kind) -> impl FnOnce(io::Error) -> GenerateError {
        let path = self.store.path(kind);
        move |source| GenerateError::Keep { path, source }
    }
}

fn life_of(leaf: &Leaf) -> Life {
    Life { not_before: Moment(leaf.not_before), not_after: Moment(leaf.not_after) }
}

fn read_one(path: PathBuf) -> Result<CertificateDer<'static>, CertificateError> {
    let mut certificates = read_certificates(&path)?;
    match certificates.pop() {
        Some(certificate) => Ok(certificate),
        None => Err(CertificateError::NoCertificate { path }),
    }
}

fn parse(certificate: &CertificateDer<'_>, path: &std::path::Path) -> Result<Leaf, CertificateError> {
    Leaf::parse(certificate).map_err(|reason| CertificateError::Leaf { path: path.to_owned(), reason })
}

/// Each of our CAs has a name of its own, so names tell whose certificate it is.
fn issued(authority: &CertificateDer<'_>, certificate: &CertificateDer<'_>) -> bool {
    let parse = |der| x509_parser::parse_x509_certificate(der).ok().map(|(_, certificate)| certificate);
    parse(authority)
        .zip(parse(certificate))
        .is_some_and(|(authority, certificate)| authority.subject().as_raw() == certificate.issuer().as_raw())
}

/// What metrics and log lines call the certificate.
pub(crate) const NAME: &str = "generated";

#[cfg(test)]
mod tests;
