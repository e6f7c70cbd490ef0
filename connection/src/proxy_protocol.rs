//! The PROXY protocol header (haproxy.org, doc/proxy-protocol.txt) that tells a backend who the client is. Only makes
//! bytes; the daemons send them ahead of everything else.

use std::net::{IpAddr, SocketAddr};

use config::{ProxyProtocol, ProxyTlv, ProxyVersion};
use proxy_protocol_rs::{HeaderBuilder, SslClientFlags, SslInfo};

use crate::ConnectionId;

/// What is known of a connection when its backend answers.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The client.
    pub client: SocketAddr,
    /// Where the client connected to.
    pub local: SocketAddr,
    /// The connection's number in the access log.
    pub id: ConnectionId,
    /// The name that the client asked for.
    pub server_name: Option<&'a str>,
    /// What was agreed upon, where TLS was terminated.
    pub tls: Option<&'a OriginTls<'a>>,
}

/// A terminated connection's TLS.
#[derive(Clone, Debug)]
pub struct OriginTls<'a> {
    /// The protocol that was agreed upon (RFC 7301).
    pub alpn: Option<&'a [u8]>,
    /// As in `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite's IANA name.
    pub cipher: String,
    /// The client's certificate, verified.
    pub certificate: Option<ClientCertificate<'a>>,
    /// What the tenant's rules make of the client.
    pub groups: &'a [String],
}

/// A client's certificate.
#[derive(Clone, Debug)]
pub struct ClientCertificate<'a> {
    /// DER.
    pub der: &'a [u8],
    /// The subject's common name.
    pub common_name: Option<String>,
}

/// The header as the tenant wants it.
pub fn header(settings: &ProxyProtocol, origin: &Origin<'_>) -> Vec<u8> {
    let (client, local) = of_one_family(origin.client, origin.local);
    if settings.version == ProxyVersion::V1 {
        return HeaderBuilder::v1_proxy(client, local).build();
    }
    let header = HeaderBuilder::v2_proxy(client, local);
    settings.tlvs.iter().fold(header, |header, tlv| with(header, *tlv, origin)).build()
}

/// The header of a connection that nobody else asked for, such as a health check: LOCAL, or UNKNOWN under version 1.
pub(crate) fn own_header(settings: &ProxyProtocol) -> Vec<u8> {
    match settings.version {
        ProxyVersion::V1 => HeaderBuilder::v1_unknown().build(),
        ProxyVersion::V2 => HeaderBuilder::v2_local().build(),
    }
}

fn with(header: HeaderBuilder, tlv: ProxyTlv, origin: &Origin<'_>) -> HeaderBuilder {
    let certificate = origin.tls.and_then(|tls| tls.certificate.as_ref());
    match tlv {
        ProxyTlv::Authority => origin.server_name.into_iter().fold(header, HeaderBuilder::with_authority),
        ProxyTlv::Alpn => origin.tls.and_then(|tls| tls.alpn).into_iter().fold(header, HeaderBuilder::with_alpn),
        ProxyTlv::UniqueId => header.with_unique_id(origin.id.to_string()),
        ProxyTlv::Ssl => origin.tls.map(ssl).into_iter().fold(header, HeaderBuilder::with_ssl),
        ProxyTlv::ClientCertificate => match certificate {
            Some(certificate) if certificate.der.len() <= LARGEST_CERTIFICATE => {
                header.with_raw_tlv(CLIENT_CERTIFICATE, certificate.der)
            }
            _ => header,
        },
        ProxyTlv::Groups => match origin.tls.map(|tls| tls.groups.join(",")) {
            Some(groups) if (1..=LONGEST_GROUPS).contains(&groups.len()) => {
                header.with_raw_tlv(GROUPS, groups.as_bytes())
            }
            _ => header,
        },
        ProxyTlv::Crc32c => header.with_crc32c(),
    }
}

fn ssl(tls: &OriginTls<'_>) -> SslInfo {
    let mut client_flags = SslClientFlags::SSL;
    if tls.certificate.is_some() {
        client_flags |= SslClientFlags::CERT_CONN | SslClientFlags::CERT_SESS;
    }
    SslInfo {
        client_flags,
        verified: tls.certificate.is_some(),
        version: Some(tls.version.to_owned()),
        cipher: Some(tls.cipher.clone()),
        cn: tls.certificate.as_ref().and_then(|certificate| certificate.common_name.clone()),
        ..SslInfo::default()
    }
}

/// The protocol has no way to say that an IPv4 client came to an IPv6 address; such a pair is told as IPv6.
fn of_one_family(client: SocketAddr, local: SocketAddr) -> (SocketAddr, SocketAddr) {
    let as_ipv6 = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    if client.is_ipv4() == local.is_ipv4() { (client, local) } else { (as_ipv6(client), as_ipv6(local)) }
}

/// The DER of the client's certificate, in the range for custom types (PP2_TYPE_MIN_CUSTOM).
pub const CLIENT_CERTIFICATE: u8 = 0xE0;

/// The client's groups with commas between them, in the range for custom types.
pub const GROUPS: u8 = 0xE1;

/// Dozens of long names; the rest of the header needs room too.
const LONGEST_GROUPS: usize = 8 * 1024;

/// The length of a whole header is a 16-bit number; certificates of people and services have one or two KiB.
const LARGEST_CERTIFICATE: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use proxy_protocol_rs::parse;

    use super::*;

    const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)), 40000);
    const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1)), 443);

    fn origin<'a>(tls: Option<&'a OriginTls<'a>>) -> Origin<'a> {
        Origin { client: CLIENT, local: LOCAL, id: ConnectionId(7), server_name: Some("shop.example"), tls }
    }

    #[test]
    fn version_1_is_a_line_of_text() {
        let settings = ProxyProtocol { version: ProxyVersion::V1, tlvs: Vec::new() };
        assert_eq!(header(&settings, &origin(None)), b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n");
    }

    #[test]
    fn a_pair_of_two_families_is_told_as_ipv6() {
        let settings = ProxyProtocol { version: ProxyVersion::V1, tlvs: Vec::new() };
        let local = "[2001:db8::1]:443".parse().unwrap();
        let line = header(&settings, &Origin { local, ..origin(None) });
        assert_eq!(line, b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 40000 443\r\n");
    }

    #[test]
    fn version_2_tells_what_is_asked_for() {
        let tls = OriginTls {
            alpn: Some(b"h2"),
            version: "TLSv1.3",
            cipher: "TLS_AES_128_GCM_SHA256".to_owned(),
            certificate: Some(ClientCertificate { der: b"der", common_name: Some("somebody".to_owned()) }),
            groups: &["ops".to_owned(), "prod".to_owned()],
        };
        let all = [
            ProxyTlv::Crc32c,
            ProxyTlv::Authority,
            ProxyTlv::Alpn,
            ProxyTlv::UniqueId,
            ProxyTlv::Ssl,
            ProxyTlv::ClientCertificate,
            ProxyTlv::Groups,
        ];
        let settings = ProxyProtocol { version: ProxyVersion::V2, tlvs: all.to_vec() };
        let bytes = header(&settings, &origin(Some(&tls)));
        // The parser checks the CRC.
        let (info, length) = parse(&bytes).unwrap();
        assert_eq!(length, bytes.len());
        assert_eq!((info.source_inet(), info.destination_inet()), (Some(CLIENT), Some(LOCAL)));
        assert_eq!(
            (info.tlvs.authority.as_deref(), info.tlvs.alpn.as_deref()),
            (Some("shop.example"), Some(&b"h2"[..]))
        );
        assert_eq!(info.tlvs.unique_id.as_deref(), Some(ConnectionId(7).to_string().as_bytes()));
        let ssl = info.tlvs.ssl.unwrap();
        assert!(ssl.verified && ssl.client_flags.contains(SslClientFlags::SSL | SslClientFlags::CERT_CONN));
        assert_eq!((ssl.version.as_deref(), ssl.cn.as_deref()), (Some("TLSv1.3"), Some("somebody")));
        assert!(info.tlvs.crc32c.is_some() && info.tlvs.raw.contains(&(CLIENT_CERTIFICATE, b"der".to_vec())));
        assert!(info.tlvs.raw.contains(&(GROUPS, b"ops,prod".to_vec())));
    }

    #[test]
    fn what_passthrough_cannot_know_is_left_out() {
        let settings = ProxyProtocol { version: ProxyVersion::V2, tlvs: vec![ProxyTlv::Authority] };
        let (info, _) = parse(&header(&settings, &origin(None))).unwrap();
        assert_eq!(info.tlvs.raw.len(), 1);
    }
}
