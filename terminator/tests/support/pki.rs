//! Certificates for tests: authorities, servers and clients, with keys of both kinds. Shared by the unit tests and
//! the tests that start the real binary.

#![allow(dead_code, reason = "each of the test binaries that include this file uses a part of it")]

use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RevocationReason,
    RevokedCertParams, SerialNumber, date_time_ymd,
};

/// The algorithm of a leaf's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// P-256.
    Ecdsa,
    /// 2048 bits.
    Rsa,
}

/// A chain and its key, both PEM.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) chain_pem: String,
    pub(crate) key_pem: String,
    pub(crate) serial: SerialNumber,
}

/// A certificate authority with a P-256 key.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
}

impl Authority {
    pub(crate) fn new(common_name: &str) -> Self {
        let params = ca_params(common_name);
        let key = KeyPair::generate().unwrap();
        let ca_pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), ca_pem }
    }

    pub(crate) fn ca_pem(&self) -> String {
        self.ca_pem.clone()
    }

    pub(crate) fn server(&self, names: &[&str], kind: KeyKind) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params, kind)
    }

    /// A certificate that is valid from the first day of one year to the first of another.
    pub(crate) fn dated_server(&self, names: &[&str], (from, until): (i32, i32)) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        self.sign(params, KeyKind::Ecdsa)
    }

    /// An authority whose certificate this one signed.
    pub(crate) fn intermediate(&self, common_name: &str) -> Self {
        let params = ca_params(common_name);
        let key = KeyPair::generate().unwrap();
        let ca_pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self { issuer: Issuer::new(params, key), ca_pem }
    }

    /// A revocation list of these serials, valid until the first day of the year after `until`.
    pub(crate) fn crl(&self, revoked: &[&Pair], until: i32) -> String {
        let revoked_certs = revoked
            .iter()
            .map(|pair| RevokedCertParams {
                serial_number: pair.serial.clone(),
                revocation_time: date_time_ymd(2024, 1, 1),
                reason_code: Some(RevocationReason::KeyCompromise),
                invalidity_date: None,
            })
            .collect();
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(until + 1, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    pub(crate) fn client(&self, common_name: &str) -> Pair {
        self.sign(client_params(common_name), KeyKind::Ecdsa)
    }

    /// A client certificate with everything else as it is here.
    pub(crate) fn client_with(&self, mut params: CertificateParams) -> Pair {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, KeyKind::Ecdsa)
    }

    pub(crate) fn expired_client(&self, common_name: &str) -> Pair {
        let mut params = client_params(common_name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        self.sign(params, KeyKind::Ecdsa)
    }

    fn sign(&self, mut params: CertificateParams, kind: KeyKind) -> Pair {
        let key = match kind {
            KeyKind::Ecdsa => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            KeyKind::Rsa => KeyPair::generate_for(&PKCS_RSA_SHA256),
        }
        .unwrap();
        // rcgen takes the serial from the key unless it is given.
        let serial = SerialNumber::from(NEXT_SERIAL.fetch_add(1, Ordering::Relaxed));
        params.serial_number = Some(serial.clone());
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair { chain_pem: certificate.pem(), key_pem: key.serialize_pem(), serial }
    }
}

fn ca_params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn client_params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

static NEXT_SERIAL: AtomicU64 = AtomicU64::new(0x1000);
