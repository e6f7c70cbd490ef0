//! Certificates for trying things: a CA in a folder, server certificates as secret folders, client certificates as files.
//! Not for production: the CA's key lies beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;

use crate::authority::Authority;

/// Makes a CA, and server and client certificates of it.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
pub struct CertsOptions {
    /// Where they go; a CA that is there already signs again
    #[arg(long, value_name = "FOLDER", default_value = "certs")]
    pub out: PathBuf,
    /// A server certificate for these names and addresses, in a folder like a kubernetes.io/tls Secret that is named after
    /// the first; may be repeated
    #[arg(long, value_name = "NAME[,NAME...]")]
    pub server: Vec<String>,
    /// A client certificate with this common name and, after a =, this URI; may be repeated
    #[arg(long, value_name = "NAME[=URI]")]
    pub client: Vec<String>,
    /// How long they are valid
    #[arg(long, default_value_t = 30)]
    pub days: u32,
}

/// Makes them and prints what was made.
pub fn make(options: &CertsOptions) -> Result<Vec<PathBuf>> {
    if options.days == 0 {
        bail!("--days must be at least 1");
    }
    fs::create_dir_all(&options.out).with_context(|| format!("make {}", options.out.display()))?;
    let authority = Authority::load_or_make(&options.out, "CA for trying things")?;
    let ca = options.out.join("ca.crt");
    let mut made = vec![ca.clone()];
    let life = Duration::from_secs(u64::from(options.days) * 24 * 60 * 60);
    for names in &options.server {
        let names: Vec<&str> = names.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        let folder = options.out.join(file_name(names.first().context("--server needs a name")?));
        authority.server_for(&names, life)?.write_secret_dir(&folder, None)?;
        fs::copy(&ca, folder.join("ca.crt")).context("copy the CA")?;
        made.push(folder);
    }
    for client in &options.client {
        let (name, uri) = client.split_once('=').map_or((client.as_str(), None), |(name, uri)| (name, Some(uri)));
        let files = authority.client_for(name, uri, life)?.write_files(&options.out, &file_name(name))?;
        made.extend([files.certificate, files.key]);
    }
    Ok(made)
}

/// A wildcard's `*` means something else to shells, and nothing may lead out of the folder.
fn file_name(name: &str) -> String {
    name.replace('*', "any").replace(['/', '\\'], "_").trim_start_matches('.').to_owned()
}

/// Where the CA's key lies.
pub(crate) fn key_path(folder: &Path) -> PathBuf {
    folder.join("ca.key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_signs_with_the_same_authority() {
        let folder = tempfile::tempdir().unwrap();
        let options = |server: &[&str], client: &[&str]| CertsOptions {
            out: folder.path().join("certs"),
            server: server.iter().map(|&name| name.to_owned()).collect(),
            client: client.iter().map(|&name| name.to_owned()).collect(),
            days: 3,
        };
        make(&options(&["*.acme.example,acme.example,127.0.0.1"], &[])).unwrap();
        let ca = fs::read_to_string(folder.path().join("certs/ca.crt")).unwrap();
        let made = make(&options(&[], &["manager=spiffe://acme/prod/manager"])).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("certs/ca.crt")).unwrap(), ca);
        assert!(made.iter().any(|path| path.ends_with("manager.key")));
        let server = fs::read_to_string(folder.path().join("certs/any.acme.example/tls.crt")).unwrap();
        let pem = rustls::pki_types::pem::PemObject::from_pem_slice(server.as_bytes()).unwrap();
        let leaf: rustls::pki_types::CertificateDer<'_> = pem;
        let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
        assert_eq!(leaf.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 3);
        assert!(leaf.validity().time_to_expiration().unwrap().whole_hours() < 73);
        assert!(make(&CertsOptions { days: 0, ..options(&[], &[]) }).is_err());
    }
}
