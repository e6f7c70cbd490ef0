//! The tenant's TLS policy as lines in the manner of testssl.sh. It is read off the settings and the provider that a
//! terminator serves with.

use config::{BackendTls, ClientTrust, ClientValidation, Terminate, TlsVersion};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ProtocolVersion, SupportedCipherSuite};

use super::notes::{Notes, Verdict};

/// Says what clients of the tenant meet, and what its backends do.
pub(super) fn describe(terminate: &Terminate, notes: &mut Notes) {
    let provider = aws_lc_rs::default_provider();
    for old in ["SSLv2", "SSLv3", "TLS 1", "TLS 1.1"] {
        notes.line(old, "not offered", Verdict::Ok);
    }
    if terminate.min_version == TlsVersion::V1_2 {
        notes.line("TLS 1.2", "offered", Verdict::Ok);
    } else {
        notes.line("TLS 1.2", "not offered", Verdict::Info);
    }
    notes.line("TLS 1.3", "offered", Verdict::Ok);
    if terminate.min_version == TlsVersion::V1_2 {
        notes.line("TLS 1.2 ciphers", suites(&provider, ProtocolVersion::TLSv1_2), Verdict::Ok);
    }
    notes.line("TLS 1.3 ciphers", suites(&provider, ProtocolVersion::TLSv1_3), Verdict::Ok);
    notes.line("Forward secrecy", "every cipher", Verdict::Ok);
    let groups = provider.kx_groups.iter().map(|group| format!("{:?}", group.name())).collect::<Vec<_>>().join(" ");
    notes.line("Key exchange", groups, Verdict::Ok);
    notes.line("Compression", "not offered", Verdict::Ok);
    notes.line("Renegotiation", "not offered", Verdict::Ok);
    notes.line("Early data (0-RTT)", "not offered", Verdict::Ok);
    let alpn = if terminate.alpn.is_empty() { "not offered".to_owned() } else { terminate.alpn.join(", ") };
    notes.line("ALPN", alpn, Verdict::Info);
    let resumption = match terminate.client_validation {
        ClientValidation::None => "tickets; keys of this process alone, new ones every 6 hours",
        _ => "none: clients show their certificates each time",
    };
    notes.line("Session resumption", resumption, Verdict::Ok);
    notes.line("Client certificates", clients(&terminate.client_validation), Verdict::Info);
    let backend = terminate.backend_tls.as_deref().map_or_else(|| "none: plaintext".to_owned(), towards_backends);
    notes.line("TLS to backends", backend, Verdict::Info);
}

/// As IANA calls them.
fn suites(provider: &CryptoProvider, version: ProtocolVersion) -> String {
    let of_version = |suite: &&SupportedCipherSuite| suite.version().version == version;
    let name = |suite: &SupportedCipherSuite| {
        suite.suite().as_str().map(|name| name.replacen("TLS13_", "TLS_", 1)).unwrap_or_default()
    };
    provider.cipher_suites.iter().filter(of_version).map(name).collect::<Vec<_>>().join(" ")
}

fn clients(validation: &ClientValidation) -> String {
    let (mode, trust) = match validation {
        ClientValidation::None => return "not asked for".to_owned(),
        ClientValidation::Optional(trust) => ("optional", trust),
        ClientValidation::Required(trust) => ("required", trust),
    };
    let ClientTrust { ca, crl, max_intermediates, allow } = trust;
    let depth = max_intermediates.map(|depth| format!(", at most {depth} intermediates")).unwrap_or_default();
    let rules = if allow.is_empty() { "every certificate".to_owned() } else { format!("{} rules", allow.len()) };
    format!("{mode}; {} CA files, {} revocation lists, {rules}{depth}", ca.len(), crl.len())
}

fn towards_backends(tls: &BackendTls) -> String {
    let lowest = if tls.min_version == TlsVersion::V1_2 { "TLS 1.2" } else { "TLS 1.3" };
    let name = tls.server_name.as_ref().map_or_else(|| "its address".to_owned(), ToString::to_string);
    let shown = if tls.client_certificate.is_some() { "; with a client certificate" } else { "" };
    let alpn = if tls.pass_alpn { "; ALPN passed on" } else { "" };
    format!("{lowest} or later; for {name}; {} CA files, {} pins{shown}{alpn}", tls.ca.len(), tls.pins.len())
}
