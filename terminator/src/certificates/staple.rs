//! OCSP responses to be stapled (RFC 6960, RFC 6066 section 8): whether a file holds one that is about this certificate, good
//! and in its dates. Fetches none, and leaves the signature to the clients, as all servers do.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use config::CertificateSource;
use x509_parser::asn1_rs::{Any, Class, FromDer};
use x509_parser::time::ASN1Time;

use super::{Leaf, Moment, paths};

/// A response that can be stapled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Staple {
    /// As it is sent.
    pub(crate) der: Vec<u8>,
    /// Until when clients believe it; `None` where it does not say.
    pub(crate) next_update: Option<Moment>,
}

/// Why a file that is there is not stapled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotStapled {
    /// It cannot be read.
    Unreadable(String),
    /// It is no DER of a basic OCSP response.
    NoResponse,
    /// The responder had an error instead of an answer.
    Unsuccessful,
    /// It is about other certificates.
    OtherCertificate,
    /// It says that the certificate is revoked, or not known.
    NotGood,
    /// Its end has passed.
    Outdated(Moment),
    /// Its begin has not come.
    NotYet(Moment),
}

impl fmt::Display for NotStapled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Self::NoResponse => f.write_str("is no OCSP response in DER"),
            Self::Unsuccessful => f.write_str("is the responder's error, not an answer"),
            Self::OtherCertificate => f.write_str("is about another certificate"),
            Self::NotGood => f.write_str("says that the certificate is revoked or unknown: replace the certificate"),
            Self::Outdated(end) => write!(f, "is outdated since {end}: fetch a new one"),
            Self::NotYet(begin) => write!(f, "is not valid before {begin}"),
        }
    }
}

/// The file beside a certificate that would hold its response: `tls.ocsp` of a secret, else the certificate's with the
/// extension `ocsp`.
pub(crate) fn staple_path(source: &CertificateSource) -> PathBuf {
    paths(source).0.with_extension("ocsp")
}

/// What can be stapled to this leaf now; `None` where no file is there.
pub(super) fn read(path: &Path, leaf: &Leaf, now: Moment) -> Option<Result<Staple, NotStapled>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_BYTES => Some(Err(NotStapled::NoResponse)),
        Ok(_) => Some(
            fs::read(path)
                .map_err(|error| NotStapled::Unreadable(error.to_string()))
                .and_then(|der| examine(der, leaf, now)),
        ),
        Err(_) => None,
    }
}

fn examine(der: Vec<u8>, leaf: &Leaf, now: Moment) -> Result<Staple, NotStapled> {
    let response = single_responses(&der)?;
    let about = |single: &&Single| single.serial.eq_ignore_ascii_case(&leaf.serial);
    let single = response.iter().find(about).ok_or(NotStapled::OtherCertificate)?;
    if !single.is_good {
        return Err(NotStapled::NotGood);
    }
    if let Some(end) = single.next_update.filter(|end| *end < now) {
        return Err(NotStapled::Outdated(end));
    }
    if single.this_update.0 > now.0 + CLOCKS_DIFFER_BY {
        return Err(NotStapled::NotYet(single.this_update));
    }
    let next_update = single.next_update;
    Ok(Staple { der, next_update })
}

/// What a response says about one certificate.
#[derive(Debug)]
struct Single {
    serial: String,
    is_good: bool,
    this_update: Moment,
    next_update: Option<Moment>,
}

/// RFC 6960 section 4.2.1, from the outermost element to the single responses.
fn single_responses(der: &[u8]) -> Result<Vec<Single>, NotStapled> {
    let mut outer = Elements::inside(der).ok_or(NotStapled::NoResponse)?;
    if outer.next().is_none_or(|status| status.data != [SUCCESSFUL]) {
        return Err(NotStapled::Unsuccessful);
    }
    let mut walk = || {
        let mut bytes = Elements(outer.next()?.data);
        let mut bytes = Elements(bytes.next()?.data);
        let _type = bytes.next()?;
        let mut basic = Elements::inside(bytes.next()?.data)?;
        let mut data = Elements(basic.next()?.data);
        if is_context(&data.next()?, 0) {
            // That was the version, which may be missing.
            let _responder = data.next()?;
        }
        // After the responder, when it spoke.
        let _produced_at = data.next()?;
        let mut singles = Vec::new();
        for response in Elements(data.next()?.data) {
            singles.push(single(response.data)?);
        }
        Some(singles)
    };
    walk().ok_or(NotStapled::NoResponse)
}

fn single(response: &[u8]) -> Option<Single> {
    let mut fields = Elements(response);
    let mut id = Elements(fields.next()?.data);
    let serial = id.by_ref().nth(3)?;
    let status = fields.next()?;
    let (rest, this_update) = ASN1Time::from_der(fields.0).ok()?;
    fields.0 = rest;
    let next_update = match fields.next().filter(|field| is_context(field, 0)) {
        Some(field) => Some(Moment(ASN1Time::from_der(field.data).ok()?.1.timestamp())),
        None => None,
    };
    Some(Single {
        serial: serial.data.iter().map(|byte| format!("{byte:02X}")).collect(),
        is_good: is_context(&status, 0),
        this_update: Moment(this_update.timestamp()),
        next_update,
    })
}

fn is_context(element: &Any<'_>, tag: u32) -> bool {
    element.header.class() == Class::ContextSpecific && element.header.tag().0 == tag
}

/// The elements of a constructed one, in their order.
struct Elements<'d>(&'d [u8]);

impl<'d> Elements<'d> {
    /// Those of the one element that these bytes hold.
    fn inside(der: &'d [u8]) -> Option<Self> {
        Self(der).next().map(|element| Self(element.data))
    }
}

impl<'d> Iterator for Elements<'d> {
    type Item = Any<'d>;

    fn next(&mut self) -> Option<Any<'d>> {
        let (rest, element) = Any::from_der(self.0).ok()?;
        self.0 = rest;
        Some(element)
    }
}

/// OCSPResponseStatus successful (RFC 6960 section 4.2.1).
const SUCCESSFUL: u8 = 0;
/// A response with the responder's certificates in it has some thousand bytes.
const MAX_BYTES: u64 = 64 * 1024;
const CLOCKS_DIFFER_BY: i64 = 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, content: &[&[u8]]) -> Vec<u8> {
        let content = content.concat();
        let length = content.len();
        let head =
            if length < 128 { vec![tag, length as u8] } else { vec![tag, 0x82, (length >> 8) as u8, length as u8] };
        [head, content].concat()
    }

    /// A response about one serial, from 2027-01-15 to 2027-01-16 where it has an end.
    fn response(serial: &[u8], status: u8, has_end: bool) -> Vec<u8> {
        let id = tlv(0x30, &[&tlv(0x30, &[]), &tlv(0x04, &[b"name"]), &tlv(0x04, &[b"key"]), &tlv(0x02, &[serial])]);
        let (begin, end) = (tlv(0x18, &[b"20270115080000Z"]), tlv(0x18, &[b"20270116080000Z"]));
        let end = if has_end { tlv(0xa0, &[&end]) } else { Vec::new() };
        let single = tlv(0x30, &[&id, &tlv(status, &[]), &begin, &end]);
        let data = tlv(0x30, &[&tlv(0xa2, &[&tlv(0x04, &[b"responder"])]), &begin, &tlv(0x30, &[&single])]);
        let basic = tlv(0x30, &[&data, &tlv(0x30, &[]), &tlv(0x03, &[b"signature"])]);
        let bytes = tlv(0x30, &[&tlv(0x06, &[&[0x2a]]), &tlv(0x04, &[&basic])]);
        tlv(0x30, &[&tlv(0x0a, &[&[0]]), &tlv(0xa0, &[&bytes])])
    }

    fn examine_at(der: Vec<u8>, serial: &str, now: i64) -> Result<Option<Moment>, NotStapled> {
        let leaf = Leaf { dns_names: vec![], addresses: vec![], serial: serial.into(), not_before: 0, not_after: 0 };
        examine(der, &leaf, Moment(now)).map(|staple| staple.next_update)
    }

    /// 2027-01-15 08:00 UTC.
    const BEGIN: i64 = 1_800_000_000;
    const DAY: i64 = 86_400;

    #[test]
    fn a_response_about_this_certificate_within_its_dates_is_stapled() {
        assert_eq!(examine_at(response(&[0x0a, 1], 0x80, true), "0A01", BEGIN), Ok(Some(Moment(BEGIN + DAY))));
        assert_eq!(examine_at(response(&[0x0a, 1], 0x80, false), "0a01", BEGIN + 90 * DAY), Ok(None));
    }

    #[test]
    fn every_other_one_says_why_not() {
        let good = || response(&[1], 0x80, true);
        assert_eq!(examine_at(good(), "02", BEGIN), Err(NotStapled::OtherCertificate));
        assert_eq!(examine_at(response(&[1], 0xa1, true), "01", BEGIN), Err(NotStapled::NotGood));
        assert_eq!(examine_at(good(), "01", BEGIN + 2 * DAY), Err(NotStapled::Outdated(Moment(BEGIN + DAY))));
        assert_eq!(examine_at(good(), "01", BEGIN - DAY), Err(NotStapled::NotYet(Moment(BEGIN))));
        assert_eq!(examine_at(tlv(0x30, &[&tlv(0x0a, &[&[6]])]), "01", BEGIN), Err(NotStapled::Unsuccessful));
        assert_eq!(examine_at(b"-----BEGIN".to_vec(), "01", BEGIN), Err(NotStapled::NoResponse));
        let whole = good();
        for length in 0..whole.len() {
            assert!(examine_at(whole[..length].to_vec(), "01", BEGIN).is_err(), "{length}");
        }
    }
}
