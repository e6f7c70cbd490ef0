//! Whom the tenant trusts: the CAs and revocation lists of its clients, the CAs of its backends, and what these are shown.

use std::path::Path;
use std::sync::Arc;

use config::{BackendTls, ClientTrust, ClientValidation};
use rustls::crypto::aws_lc_rs;
use x509_parser::{parse_x509_certificate, parse_x509_crl};

use super::certificates::{command_for, ends_soon, warn_of_expiry};
use super::notes::{Notes, content, dates, x509};
use crate::certificates::{
    CertificateError, ClientAnchors, Ending, EndingKind, Moment, ServedCertificate, is_for_clients, outside_its_dates,
    paths, read_cas, read_crls,
};

/// Everything that client certificates are checked against.
pub(super) fn check_clients(validation: &ClientValidation, notes: &mut Notes) {
    let Some(trust) = validation.trust() else { return };
    match ClientAnchors::read(trust) {
        Ok(anchors) => {
            if let Err(error) = anchors.verifier(validation, &aws_lc_rs::default_provider().into()) {
                notes.problem(error.to_string(), None);
            }
        }
        Err(error) => notes.problem(error.to_string(), command(&error)),
    }
    for bundle in &trust.ca {
        check_cas(bundle, notes);
    }
    check_crls(trust, notes);
}

/// Everything that backends are verified by and shown.
pub(super) fn check_backend(tls: &BackendTls, notes: &mut Notes) {
    for bundle in &tls.ca {
        if let Err(error) = read_cas(bundle) {
            notes.problem(error.to_string(), command(&error));
        }
        check_cas(bundle, notes);
    }
    let Some(source) = &tls.client_certificate else { return };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let file = paths(source).0;
    match ServedCertificate::load(source, &provider) {
        Ok(certificate) => {
            let now = Moment::now();
            if let Some(finding) = outside_its_dates(&certificate.leaf, now) {
                notes.problem(format!("{}: client certificate {finding}", file.display()), Some(dates(&file)));
            }
            if certificate.certified_key.cert.first().is_some_and(|leaf| !is_for_clients(leaf)) {
                let told = "its extended key usage does not allow TLS clients: backends will refuse it";
                notes.problem(format!("{}: {told}", file.display()), Some(x509(&file, "-ext extendedKeyUsage")));
            }
            warn_of_expiry(&[certificate], now, notes);
        }
        Err(error) => notes.problem(error.to_string(), command_for(&error, source)),
    }
}

/// An anchor's dates are not looked at in a handshake, so these are hints: of a CA that was forgotten, or of a clock.
fn check_cas(bundle: &Path, notes: &mut Notes) {
    let now = Moment::now();
    let cas = read_cas(bundle).unwrap_or_default();
    for (place, ca) in Ending::cas(EndingKind::ClientCa, bundle, &cas).iter().enumerate() {
        let (begin, end) = (Moment(ca.not_before), Moment(ca.not_after));
        let told = if now > end {
            format!("expired at {end}: replace it, or remove it")
        } else if now < begin {
            format!("is not valid before {begin}: this host's clock says {now}; one of them is wrong")
        } else if ends_soon(ca, now) {
            format!("expires at {end}: add its successor beside it")
        } else {
            continue;
        };
        let (bundle_name, place, subject) = (bundle.display(), place + 1, &ca.subject);
        let command = format!("date -u; {} | grep -E 'Subject:|Not '", content(bundle));
        notes.warning(format!("{bundle_name}: CA certificate {place} ({subject}) {told}"), Some(command));
    }
}

/// A list that is outdated, or missing for one CA, refuses everybody of that CA.
fn check_crls(trust: &ClientTrust, notes: &mut Notes) {
    let now = Moment::now();
    let mut issuers = Vec::new();
    for file in &trust.crl {
        for der in read_crls(file).into_iter().flatten() {
            let Ok((_, list)) = parse_x509_crl(&der) else { continue };
            issuers.push(list.issuer().as_raw().to_vec());
            let command = format!("date -u; openssl crl -noout -issuer -lastupdate -nextupdate -in {}", file.display());
            let (name, issuer) = (file.display(), list.issuer());
            if let Some(next) = list.next_update().map(|next| Moment(next.timestamp())).filter(|next| *next < now) {
                let told = format!("was to be renewed by {next}: every client of this CA is refused");
                notes.problem(format!("{name}: revocation list of {issuer} {told}"), Some(command.clone()));
            }
            let begin = Moment(list.last_update().timestamp());
            if begin > now {
                let told = format!("begins at {begin}: this host's clock says {now}; one of them is wrong");
                notes.warning(format!("{name}: revocation list of {issuer} {told}"), Some(command));
            }
        }
    }
    if issuers.is_empty() {
        return;
    }
    for bundle in &trust.ca {
        for der in read_cas(bundle).into_iter().flatten() {
            let Ok((_, ca)) = parse_x509_certificate(&der) else { continue };
            if !issuers.iter().any(|issuer| issuer == ca.subject().as_raw()) {
                let told = format!("no revocation list of {}: every client of this CA is refused", ca.subject());
                let lists: Vec<_> = trust.crl.iter().map(|list| list.display().to_string()).collect();
                let command = format!("openssl crl -noout -issuer -in {}", lists.join(" "));
                notes.problem(format!("{}: {told}", bundle.display()), Some(command));
            }
        }
    }
}

fn command(error: &CertificateError) -> Option<String> {
    match error {
        CertificateError::NoCa { path }
        | CertificateError::UnusableCa { path, .. }
        | CertificateError::Pem { path, .. } => Some(content(path)),
        CertificateError::NoCrl { path } | CertificateError::UnusableCrl { path, .. } => {
            Some(format!("openssl crl -noout -text -in {}", path.display()))
        }
        _ => None,
    }
}
