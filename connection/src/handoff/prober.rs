//! What the prober of certificates tells when the router, or its own successor, asks: in pages, because a message has a
//! bound and the number of backends has none.

use serde::{Deserialize, Serialize};

use super::{CertificateStatus, ConnectionCount, SandboxPart};

/// All that a prober knows. Unknown fields are ignored and missing ones are empty, so that versions can differ.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProberStatus {
    /// Its process.
    pub pid: u32,
    /// How it is confined.
    pub sandbox: Vec<SandboxPart>,
    /// Probes by how they ended, since its start.
    pub probes: Vec<ConnectionCount>,
    /// Backends that have been asked at least once.
    pub backends: Vec<ProbedBackend>,
    /// Whether there are more backends than this page has.
    pub has_more: bool,
}

/// One backend of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProbedBackend {
    /// Whose backend it is.
    pub tenant: String,
    /// Where it listens.
    pub address: String,
    /// Whether it showed a certificate when it was asked last.
    pub ok: bool,
    /// When it showed one last, in Unix seconds; 0 for never.
    pub seen: i64,
    /// What it showed then: its own certificate first, then those issuers that end earlier.
    pub certificates: Vec<CertificateStatus>,
}

/// So many of [`MOST_CERTIFICATES`] with names of [`LONGEST_NAME`] fit into one message.
pub(super) const BACKENDS_PER_PAGE: usize = 48;

impl ProberStatus {
    /// The next page of `rest`, without counters.
    pub fn page(mut rest: impl Iterator<Item = ProbedBackend>) -> Self {
        let backends = rest.by_ref().take(BACKENDS_PER_PAGE).collect();
        Self { backends, has_more: rest.next().is_some(), ..Self::default() }
    }
}

impl ProbedBackend {
    /// The same with what it says of itself cut to what a message has room for.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.certificates.truncate(MOST_CERTIFICATES);
        for (number, certificate) in self.certificates.iter_mut().enumerate() {
            certificate.serial.truncate(LONGEST_SERIAL);
            certificate.names.truncate(if number == 0 { MOST_NAMES } else { 0 });
            for name in &mut certificate.names {
                *name = name.chars().take(LONGEST_NAME).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect();
            }
        }
        self
    }
}

/// A certificate and its issuers; longer chains are rare, and their upper ends live long.
const MOST_CERTIFICATES: usize = 4;
/// For people; a certificate may have thousands.
const MOST_NAMES: usize = 4;
/// RFC 1035 section 2.3.4.
const LONGEST_NAME: usize = 255;
/// RFC 5280 section 4.1.2.2 allows 20 octets, two digits each.
const LONGEST_SERIAL: usize = 64;

#[cfg(test)]
mod tests {
    use super::super::message::{STATUS_LIMIT, encode};
    use super::*;

    #[test]
    fn a_page_fits_into_a_message_whatever_backends_say() {
        let certificate = CertificateStatus {
            name: String::new(),
            serial: "A".repeat(1000),
            not_before: i64::MIN,
            not_after: i64::MIN,
            names: vec!["\u{1}".repeat(1000); 10],
        };
        let backend = ProbedBackend {
            tenant: "t".repeat(63),
            address: "[2001:0db8:0000:0000:0000:0000:0000:0001]:65535".to_owned(),
            ok: false,
            seen: i64::MAX,
            certificates: vec![certificate; 10],
        };
        let page = ProberStatus::page(std::iter::repeat(backend.bounded()));
        assert!((page.backends.len(), page.has_more) == (BACKENDS_PER_PAGE, true));
        let length = encode(&page, usize::MAX).unwrap().len();
        // The rest is for the counters and the means of confinement.
        assert!(length < STATUS_LIMIT - 8192, "{length}");
    }

    #[test]
    fn the_last_page_says_so() {
        let rest = |count| std::iter::repeat_n(ProbedBackend::default(), count);
        let last = ProberStatus::page(rest(BACKENDS_PER_PAGE));
        assert_eq!((last.backends.len(), last.has_more), (BACKENDS_PER_PAGE, false));
        assert!(ProberStatus::page(rest(BACKENDS_PER_PAGE + 1)).has_more);
        assert!(!ProberStatus::page(rest(0)).has_more);
    }
}
