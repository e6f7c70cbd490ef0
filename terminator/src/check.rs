//! `sni-terminator check`: what is wrong with one tenant's certificates, each with the command that shows the same.
//! Reads them exactly as a terminator does, as the tenant's user and confined; serves nothing.

use std::io::Write;
use std::path::{Path, PathBuf};

use config::{CertificateSource, Config, HostnamePattern, SandboxPolicy, Terminate};
use rustls::crypto::aws_lc_rs;

use crate::certificates::{
    ClientAnchors, ExpiryWatch, Finding, Moment, Presence, ServedCertificate, covers, findings, not_covered, paths,
    presence, to_be_covered,
};
use crate::confinement::{Confinement, forbid_new_privileges};
use crate::start::{StartError, find, identity, input, needs, system};

/// Prints one line for each finding; whether none of them is a problem.
pub(crate) fn check(config: &Path, tenant: &str) -> Result<bool, StartError> {
    forbid_new_privileges().map_err(system)?;
    let config = Config::load(config).map_err(input)?;
    let (index, terminate) = find(&config, tenant)?;
    let settings = &config.tenants[index];
    let mut confinement =
        Confinement::begin(identity(&config, tenant)?, SandboxPolicy::BestEffort, true).map_err(system)?;
    confinement.restrict_access(&needs(settings, terminate, None, Path::new("")));

    let mut notes = Notes::default();
    certificates(&config, index, terminate, &mut notes);
    if let Some(trust) = terminate.client_validation.trust() {
        match ClientAnchors::read(trust) {
            Ok(anchors) => {
                if let Err(error) =
                    anchors.verifier(&terminate.client_validation, &aws_lc_rs::default_provider().into())
                {
                    notes.problem(&error.to_string(), None);
                }
            }
            Err(error) => notes.problem(&error.to_string(), None),
        }
    }
    notes.print().map_err(system)?;
    Ok(!notes.any_problem)
}

fn certificates(config: &Config, index: usize, terminate: &Terminate, notes: &mut Notes) {
    let provider = aws_lc_rs::default_provider();
    let now = Moment::now();
    let mut served = Vec::new();
    for source in &terminate.certificates {
        if terminate.generate && presence(source) == Presence::Absent {
            continue;
        }
        let (file, _) = paths(source);
        match ServedCertificate::load(source, &provider) {
            Ok(certificate) => {
                for finding in findings(&certificate.certified_key.cert, &certificate.leaf, now, &provider) {
                    let told = format!("{}: certificate {finding}", file.display());
                    match finding {
                        Finding::WrongOrder { .. } => notes.warning(&told, Some(show_chain(&file))),
                        Finding::BrokenChain(_) | Finding::IssuerOutOfDate => {
                            notes.problem(&told, Some(show_chain(&file)));
                        }
                        Finding::Expired(_) | Finding::NotYetValid(_) => {
                            notes.problem(&told, Some(show(&file, "-dates")));
                        }
                        Finding::NotForServers => notes.problem(&told, Some(show(&file, "-ext extendedKeyUsage"))),
                        Finding::NamesNotCovered(_) => {}
                    }
                }
                overlaps(config, index, &certificate, &file, notes);
                served.push(certificate);
            }
            Err(error) => notes.problem(&error.to_string(), show_mismatch(source)),
        }
    }
    for warning in ExpiryWatch::default().warnings(&served, now) {
        if warning.not_after >= now {
            let told = format!("{}: certificate expires at {}: renew it", warning.name, warning.not_after);
            notes.warning(&told, None);
        }
    }
    let leaves = served.iter().map(|certificate| &certificate.leaf);
    if let Some(finding) = not_covered(leaves, &to_be_covered(&config.tenants[index].hostnames, terminate))
        && !served.is_empty()
    {
        let file = terminate.certificates.first().map(|source| paths(source).0).unwrap_or_default();
        notes.problem(&format!("certificate {finding}"), Some(show(&file, "-ext subjectAltName")));
    }
}

/// A browser that has a connection to this tenant sends requests for every name of its certificate over it (RFC 9113
/// section 9.1.1), so such a name's own tenant would miss them.
fn overlaps(config: &Config, index: usize, certificate: &ServedCertificate, file: &Path, notes: &mut Notes) {
    let others = config.tenants.iter().enumerate().filter(|(other, _)| *other != index);
    for (_, other) in others {
        let shared: Vec<&HostnamePattern> =
            other.hostnames.iter().filter(|hostname| covers(&certificate.leaf.dns_names, hostname)).collect();
        if let Some(hostname) = shared.first() {
            let told = format!(
                "{}: certificate covers {hostname} of tenant {} too: clients may send that tenant's requests here",
                file.display(),
                other.name
            );
            notes.warning(&told, Some(show(file, "-ext subjectAltName")));
        }
    }
}

fn show(file: &Path, what: &str) -> String {
    format!("openssl x509 -noout -subject {what} -in {}", file.display())
}

fn show_chain(file: &Path) -> String {
    format!("openssl crl2pkcs7 -nocrl -certfile {} | openssl pkcs7 -print_certs -noout", file.display())
}

/// Both print the public key.
fn show_mismatch(source: &CertificateSource) -> Option<String> {
    let (certificate, key): (PathBuf, PathBuf) = paths(source);
    Some(format!(
        "openssl x509 -noout -pubkey -in {}; openssl pkey -pubout -in {}",
        certificate.display(),
        key.display()
    ))
}

/// What was found, in the order of finding.
#[derive(Debug, Default)]
struct Notes {
    lines: Vec<String>,
    any_problem: bool,
}

impl Notes {
    fn problem(&mut self, told: &str, command: Option<String>) {
        self.any_problem = true;
        self.note("problem", told, command);
    }

    fn warning(&mut self, told: &str, command: Option<String>) {
        self.note("warning", told, command);
    }

    fn note(&mut self, severity: &str, told: &str, command: Option<String>) {
        let command = command.map(|command| format!("\n    see: {command}")).unwrap_or_default();
        self.lines.push(format!("{severity}: {told}{command}"));
    }

    fn print(&self) -> std::io::Result<()> {
        let mut output = std::io::stdout();
        self.lines.iter().try_for_each(|line| writeln!(output, "{line}"))
    }
}
