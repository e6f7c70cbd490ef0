//! A certificate authority for tests and the demo: server and client certificates, as PEM files or as secret folders.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, RevokedCertParams, RsaKeySize, SerialNumber,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

/// A root, or one below it, that signs leaves.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    /// A new root with this common name.
    pub fn new(common_name: &str) -> Result<Self> {
        Self::root(ca_params(common_name))
    }

    /// A new root that was made half a year ago and ends after this time.
    pub fn ending(common_name: &str, left: Duration) -> Result<Self> {
        let mut params = ca_params(common_name);
        half_a_year_old(&mut params, left);
        Self::root(params)
    }

    fn root(params: CertificateParams) -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("generate the root's key")?;
        let root = params.self_signed(&key).context("sign the root")?;
        Ok(Self { certificate: root.der().clone(), pem: root.pem(), issuer: Issuer::new(params, key) })
    }

    /// One below this one, made half a year ago, that ends after this time. Its leaves come with it alone in their file.
    pub fn intermediate(&self, common_name: &str, left: Duration) -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("generate an intermediate's key")?;
        let mut params = ca_params(common_name);
        half_a_year_old(&mut params, left);
        let made = params.signed_by(&key, &self.issuer).context("sign an intermediate")?;
        Ok(Self { certificate: made.der().clone(), pem: made.pem(), issuer: Issuer::new(params, key) })
    }

    /// The root that lies in this folder as ca.crt and ca.key; a new one is put there if there is none.
    pub fn load_or_make(folder: &Path, common_name: &str) -> Result<Self> {
        let (certificate, key) = (folder.join("ca.crt"), crate::certs::key_path(folder));
        if !key.exists() {
            let made = Self::new(common_name)?;
            write(&certificate, &made.pem, 0o644)?;
            write(&key, &made.key_pem(), 0o600)?;
            return Ok(made);
        }
        let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
        let pem = read(&certificate)?;
        let key = KeyPair::from_pem(&read(&key)?).with_context(|| format!("the key in {}", key.display()))?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).context("the CA's certificate")?;
        let issuer = Issuer::from_ca_cert_der(&der, key).context("the CA's certificate")?;
        Ok(Self { issuer, certificate: der, pem })
    }

    /// The root's key, for programs that sign with it.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// The root as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The root as the only anchor of trust.
    pub fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).context("trust the root")?;
        Ok(roots)
    }

    /// A server certificate for these names (wildcards too), with a key of this kind.
    pub fn server(&self, names: &[&str], kind: KeyKind) -> Result<Identity> {
        let params = server_params(names)?;
        self.issue(params, kind)
    }

    /// A server certificate for these names and addresses that ends after this time.
    pub fn server_for(&self, names: &[&str], life: Duration) -> Result<Identity> {
        let mut params = server_params(names)?;
        begin_now(&mut params, life);
        self.issue(params, KeyKind::Ecdsa)
    }

    /// A client certificate with this common name, and perhaps a URI, that ends after this time.
    pub fn client_for(&self, common_name: &str, uri: Option<&str>, life: Duration) -> Result<Identity> {
        let mut params = named(common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if let Some(uri) = uri {
            params.subject_alt_names.push(rcgen::SanType::URI(uri.try_into().with_context(|| format!("URI {uri}"))?));
        }
        begin_now(&mut params, life);
        self.issue(params, KeyKind::Ecdsa)
    }

    /// A server certificate that was made half a year ago and ends after this time.
    pub fn expiring_server(&self, names: &[&str], left: Duration) -> Result<Identity> {
        let mut params = server_params(names)?;
        half_a_year_old(&mut params, left);
        self.issue(params, KeyKind::Ecdsa)
    }

    /// A server certificate that has expired half a year ago.
    pub fn expired_server(&self, names: &[&str]) -> Result<Identity> {
        let mut params = server_params(names)?;
        params.not_before = (SystemTime::now() - 2 * HALF_A_YEAR).into();
        params.not_after = (SystemTime::now() - HALF_A_YEAR).into();
        self.issue(params, KeyKind::Ecdsa)
    }

    /// A server certificate that begins in a year.
    pub fn future_server(&self, names: &[&str]) -> Result<Identity> {
        let mut params = server_params(names)?;
        params.not_before = (SystemTime::now() + 2 * HALF_A_YEAR).into();
        params.not_after = (SystemTime::now() + 4 * HALF_A_YEAR).into();
        self.issue(params, KeyKind::Ecdsa)
    }

    /// A list that revokes these certificates, valid for a day.
    pub fn crl(&self, revoked: &[&Identity]) -> Result<String> {
        self.crl_of(SystemTime::now() + A_DAY, revoked)
    }

    /// A list that revokes nothing and is to be renewed within this time.
    pub fn crl_ending(&self, left: Duration) -> Result<String> {
        self.crl_of(SystemTime::now() + left, &[])
    }

    /// The same as it was half a year ago: nobody has renewed it since.
    pub fn outdated_crl(&self) -> Result<String> {
        self.crl_of(SystemTime::now() + A_DAY - HALF_A_YEAR, &[])
    }

    fn crl_of(&self, end: SystemTime, revoked: &[&Identity]) -> Result<String> {
        let revoked_certs = revoked
            .iter()
            .map(|identity| {
                Ok(RevokedCertParams {
                    serial_number: SerialNumber::from_slice(&identity.serial_bytes()?),
                    revocation_time: (end - A_DAY).into(),
                    reason_code: None,
                    invalidity_date: None,
                })
            })
            .collect::<Result<_>>()?;
        let params = CertificateRevocationListParams {
            this_update: (end - A_DAY - HALF_A_YEAR).into(),
            next_update: end.into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).and_then(|crl| crl.pem()).context("sign a revocation list")
    }

    /// A client certificate with this common name.
    pub fn client(&self, common_name: &str) -> Result<Identity> {
        let mut params = named(common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, KeyKind::Ecdsa)
    }

    /// A client certificate that ended half a year ago.
    pub fn expired_client(&self, common_name: &str) -> Result<Identity> {
        let mut params = named(common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = (SystemTime::now() - 2 * HALF_A_YEAR).into();
        params.not_after = (SystemTime::now() - HALF_A_YEAR).into();
        self.issue(params, KeyKind::Ecdsa)
    }

    fn issue(&self, mut params: CertificateParams, kind: KeyKind) -> Result<Identity> {
        let key = match kind {
            KeyKind::Ecdsa => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            KeyKind::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        }
        .context("generate a leaf's key")?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &self.issuer).context("sign a leaf")?;
        Ok(Identity {
            certificate: leaf.der().clone(),
            certificate_pem: format!("{}{}", leaf.pem(), self.pem),
            key_pem: key.serialize_pem(),
        })
    }
}

/// The kind of a leaf's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    Ecdsa,
    /// RSA with 2048 bits.
    Rsa,
}

/// A leaf and its key.
#[derive(Clone)]
pub struct Identity {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key_pem: String,
}

impl Identity {
    /// The leaf alone.
    pub fn leaf(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// The serial as `openssl x509 -serial` prints it.
    pub fn serial(&self) -> Result<String> {
        Ok(self.serial_bytes()?.iter().map(|byte| format!("{byte:02X}")).collect())
    }

    fn serial_bytes(&self) -> Result<Vec<u8>> {
        let (_, leaf) = x509_parser::parse_x509_certificate(&self.certificate).context("parse our own certificate")?;
        Ok(leaf.raw_serial().to_vec())
    }

    /// The chain, the leaf first.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// PKCS #8.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// SHA-256 of the DER leaf, lower-case hex.
    pub fn sha256(&self) -> String {
        hex_sha256(&self.certificate)
    }

    /// The key, for an in-process client or server.
    pub fn key(&self) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).context("parse our own key")
    }

    /// Writes `NAME.crt` and `NAME.key` for clients of the current user.
    pub fn write_files(&self, folder: &Path, name: &str) -> Result<PemFiles> {
        let files =
            PemFiles { certificate: folder.join(format!("{name}.crt")), key: folder.join(format!("{name}.key")) };
        write(&files.certificate, &self.certificate_pem, 0o644)?;
        write(&files.key, &self.key_pem, 0o600)?;
        Ok(files)
    }

    /// Writes a folder in the layout of a kubernetes.io/tls Secret; with an owner, that uid alone may read the key.
    pub fn write_secret_dir(&self, folder: &Path, owner: Option<Owner>) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        write(&folder.join("tls.crt"), &self.certificate_pem, 0o644)?;
        write(&folder.join("tls.key"), &self.key_pem, 0o400)?;
        for path in [folder.to_path_buf(), folder.join("tls.crt"), folder.join("tls.key")] {
            if let Some(Owner { uid, gid }) = owner {
                chown(&path, Some(uid), Some(gid)).with_context(|| format!("give {} to uid {uid}", path.display()))?;
            }
        }
        Ok(())
    }
}

/// Who may read a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The tenant's uid.
    pub uid: u32,
    /// The tenant's gid.
    pub gid: u32,
}

/// A certificate and its key as clients take them.
#[derive(Clone, Debug)]
pub struct PemFiles {
    /// Leaf first.
    pub certificate: PathBuf,
    /// PKCS #8.
    pub key: PathBuf,
}

/// SHA-256 in lower-case hex.
pub fn hex_sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn server_params(names: &[&str]) -> Result<CertificateParams> {
    let mut params = named(names.first().copied().unwrap_or("server"));
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.parse() {
            Ok(address) => Ok(rcgen::SanType::IpAddress(address)),
            Err(_) => Ok(rcgen::SanType::DnsName((*name).try_into().with_context(|| format!("name {name}"))?)),
        })
        .collect::<Result<_>>()?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// An hour ago: clocks differ.
fn ca_params(common_name: &str) -> CertificateParams {
    let mut params = named(common_name);
    // One below it, and leaves.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn half_a_year_old(params: &mut CertificateParams, left: Duration) {
    params.not_before = (SystemTime::now() - HALF_A_YEAR).into();
    params.not_after = (SystemTime::now() + left).into();
}

fn begin_now(params: &mut CertificateParams, life: Duration) {
    params.not_before = (SystemTime::now() - Duration::from_secs(60 * 60)).into();
    params.not_after = (SystemTime::now() + life).into();
}

fn named(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

/// Replaces an older file: nobody may write to a key, not even its owner.
fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let written = || -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        // The umask may have taken what others need to read a certificate.
        file.set_permissions(fs::Permissions::from_mode(mode))
    };
    written().with_context(|| format!("write {}", path.display()))
}

const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);
const HALF_A_YEAR: Duration = Duration::from_secs(180 * 24 * 60 * 60);
