//! Makes CAs and certificates. Knows nothing of files or of when one is due.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use config::{Endpoint, Hostname, HostnamePattern};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::plan::Life;
use crate::certificates::Moment;

/// A certificate and its key as one PEM text, so that no file ever holds half a pair.
pub(super) type PairPem = Zeroizing<String>;

/// A new CA of this tenant. Its name is its own, so that clients that trust two generations tell them apart.
pub(super) fn authority(tenant: &str, life: Life) -> Result<PairPem, rcgen::Error> {
    let key = new_key()?;
    let mut params = CertificateParams::default();
    let generation: String = params.key_identifier(&*key).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name = name(tenant, &format!("sni-router generated CA {generation}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_life(&mut params, life);
    let certificate = params.self_signed(&*key)?;
    Ok(pair(&certificate.pem(), &key))
}

/// A certificate for these names and addresses, signed by a CA.
pub(super) fn certificate(
    tenant: &str,
    endpoints: &[Endpoint],
    life: Life,
    (authority, authority_key): (&CertificateDer<'_>, &PrivateKeyDer<'_>),
) -> Result<PairPem, rcgen::Error> {
    let authority_key = Zeroizing::new(KeyPair::try_from(authority_key)?);
    let issuer = Issuer::from_ca_cert_der(authority, &*authority_key)?;
    let key = new_key()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = name(tenant, "sni-router generated certificate");
    params.subject_alt_names = endpoints.iter().map(alternative_name).collect::<Result<_, _>>()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_life(&mut params, life);
    let certificate = params.signed_by(&*key, &issuer)?;
    Ok(pair(&certificate.pem(), &key))
}

fn new_key() -> Result<Zeroizing<KeyPair>, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Zeroizing::new)
}

/// A tenant's name has at most 63 characters, so both fit their bounds (RFC 5280 appendix A.1, ub-common-name).
fn name(tenant: &str, common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, tenant);
    name.push(DnType::CommonName, common_name);
    name
}

fn alternative_name(endpoint: &Endpoint) -> Result<SanType, rcgen::Error> {
    let dns = |name: &str| Ok(SanType::DnsName(name.try_into()?));
    match endpoint {
        Endpoint::Name(HostnamePattern::Exact(name)) => dns(name.as_str()),
        Endpoint::Name(HostnamePattern::Wildcard(suffix)) => dns(&format!("*.{}", Hostname::as_str(suffix))),
        Endpoint::Address(address) => Ok(SanType::IpAddress(*address)),
    }
}

fn set_life(params: &mut CertificateParams, life: Life) {
    params.not_before = time(life.not_before).into();
    params.not_after = time(life.not_after).into();
}

fn time(moment: Moment) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(moment.0).unwrap_or(0))
}

fn pair(certificate: &str, key: &KeyPair) -> PairPem {
    let key = Zeroizing::new(key.serialize_pem());
    Zeroizing::new([certificate, &key].concat())
}
