//! What the backend is told of a terminated connection ahead of the client's bytes.

use config::ProxyProtocol;
use connection::handoff::Handoff;
use connection::proxy_protocol::{ClientCertificate, Origin, OriginTls, header};
use rustls::{ProtocolVersion, ServerConnection};

use crate::certificates::{ClientIdentity, common_name};

/// The header for a connection whose handshake is complete.
pub(super) fn proxy_header(
    settings: &ProxyProtocol,
    handoff: &Handoff,
    tls: &ServerConnection,
    identity: Option<&ClientIdentity>,
) -> Vec<u8> {
    let certificate = tls.peer_certificates().and_then(|chain| chain.first());
    let tls = OriginTls {
        alpn: tls.alpn_protocol(),
        version: match tls.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        },
        cipher: cipher_name(tls).unwrap_or_default(),
        certificate: certificate.map(|der| ClientCertificate { der, common_name: common_name(der) }),
        groups: identity.map(|identity| identity.groups.as_slice()).unwrap_or_default(),
    };
    let server_name = handoff.server_name.as_deref();
    let origin = Origin { client: handoff.client, local: handoff.local, id: handoff.id, server_name, tls: Some(&tls) };
    header(settings, &origin)
}

/// The cipher suite as IANA calls it; rustls' own names of TLS 1.3 suites differ.
pub(super) fn cipher_name(tls: &ServerConnection) -> Option<String> {
    let suite = tls.negotiated_cipher_suite()?;
    suite.suite().as_str().map(|name| name.replacen("TLS13_", "TLS_", 1))
}
