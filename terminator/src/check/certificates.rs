//! The certificates that the tenant serves with: what they are, and what is wrong with them.

use std::path::{Path, PathBuf};

use config::{CertificateSource, Config, HostnamePattern, Terminate};
use rustls::crypto::aws_lc_rs;

use super::notes::{Notes, Verdict, content, dates, x509};
use crate::certificates::{
    CertificateError, Ending, Finding, KeyStrength, Moment, Presence, ServedCertificate, Stage, covers, findings,
    not_covered, paths, presence, staple_path, to_be_covered,
};

/// Checks each one, and all of them together.
pub(super) fn check(config: &Config, index: usize, terminate: &Terminate, notes: &mut Notes) {
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
                if let Some(Err(reason)) = &certificate.staple {
                    let file = staple_path(source);
                    let see = format!("openssl ocsp -noverify -text -respin {}", file.display());
                    notes.warning(format!("{}: this OCSP response {reason}", file.display()), Some(see));
                }
                describe(&certificate, notes);
                for finding in findings(&certificate.certified_key.cert, &certificate.leaf, now, &provider) {
                    tell(&finding, &file, notes);
                }
                overlaps(config, index, &certificate, &file, notes);
                served.push(certificate);
            }
            Err(error) => notes.problem(error.to_string(), command_for(&error, source)),
        }
    }
    warn_of_expiry(&served, now, notes);
    let leaves = served.iter().map(|certificate| &certificate.leaf);
    if let Some(finding) = not_covered(leaves, &to_be_covered(&config.tenants[index].hostnames, terminate))
        && !served.is_empty()
    {
        let file = terminate.certificates.first().map(|source| paths(source).0).unwrap_or_default();
        notes.problem(format!("certificate {finding}"), Some(x509(&file, "-ext subjectAltName")));
    }
}

/// Certificates whose end is near; one that has come is a finding already.
pub(super) fn warn_of_expiry(certificates: &[ServedCertificate], now: Moment, notes: &mut Notes) {
    for certificate in certificates {
        let file = Path::new(&certificate.name);
        let file = if file.is_dir() { file.join("tls.crt") } else { file.to_owned() };
        let own = Ending::own(certificate);
        if ends_soon(&own, now) {
            let told = format!("{}: certificate expires at {}: renew it", own.name, Moment(own.not_after));
            notes.warning(told, Some(dates(&file)));
        }
        for issuer in Ending::issuers(certificate).iter().filter(|issuer| ends_soon(issuer, now)) {
            let (end, subject) = (Moment(issuer.not_after), &issuer.subject);
            let told = format!("{}: an issuer in the file ({subject}) expires at {end}: renew the chain", issuer.name);
            notes.warning(told, Some(format!("date -u; {} | grep -E 'Subject:|Not '", content(&file))));
        }
    }
}

/// Near enough to speak of it, and not come yet.
pub(super) fn ends_soon(ending: &Ending, now: Moment) -> bool {
    Stage::of_ending(ending, now).is_some_and(|stage| stage < Stage::Expired)
}

/// The command that shows what is wrong with files that cannot be used.
pub(super) fn command_for(error: &CertificateError, source: &CertificateSource) -> Option<String> {
    let (certificate, key): (PathBuf, PathBuf) = paths(source);
    Some(match error {
        CertificateError::KeyMismatch { .. } => format!(
            "openssl x509 -noout -pubkey -in {}; openssl pkey -pubout -in {}",
            certificate.display(),
            key.display()
        ),
        CertificateError::WeakKey { .. } => {
            format!("openssl x509 -noout -text -in {} | grep Public-Key", certificate.display())
        }
        CertificateError::Pem { path, .. } | CertificateError::NoCertificate { path } if *path == certificate => {
            content(&certificate)
        }
        CertificateError::Leaf { .. } => content(&certificate),
        CertificateError::Pem { .. } | CertificateError::NoKey { .. } | CertificateError::SeveralKeys { .. } => {
            format!("openssl storeutl -noout -keys {}", key.display())
        }
        CertificateError::EncryptedKey { .. } | CertificateError::UnusableKey { .. } => {
            format!("openssl pkey -noout -check -in {}", key.display())
        }
        _ => return None,
    })
}

fn describe(certificate: &ServedCertificate, notes: &mut Notes) {
    let leaf = &certificate.leaf;
    let strength = certificate.certified_key.cert.first().and_then(|leaf| KeyStrength::of(leaf));
    let strength = strength.map(|strength| format!("{strength}; ")).unwrap_or_default();
    let value = format!(
        "{}: {strength}until {}; serial {}; {}",
        certificate.name,
        Moment(leaf.not_after),
        leaf.serial,
        leaf.dns_names.join(" ")
    );
    notes.line("Certificate", value, Verdict::Info);
}

fn tell(finding: &Finding, file: &Path, notes: &mut Notes) {
    let told = format!("{}: certificate {finding}", file.display());
    match finding {
        Finding::WrongOrder { .. } => notes.warning(told, Some(chain(file))),
        Finding::BrokenChain(_) | Finding::IssuerOutOfDate => notes.problem(told, Some(chain(file))),
        Finding::Expired(_) | Finding::NotYetValid(_) => notes.problem(told, Some(dates(file))),
        Finding::NotForServers => notes.problem(told, Some(x509(file, "-ext extendedKeyUsage"))),
        Finding::WeakSignature { .. } => {
            let command =
                format!("openssl storeutl -noout -text -certs {} | grep 'Signature Algorithm'", file.display());
            notes.problem(told, Some(command));
        }
        // Of all certificates together.
        Finding::NamesNotCovered(_) => {}
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
            notes.warning(told, Some(x509(file, "-ext subjectAltName")));
        }
    }
}

fn chain(file: &Path) -> String {
    format!("openssl crl2pkcs7 -nocrl -certfile {} | openssl pkcs7 -print_certs -noout", file.display())
}
