//! Tells a TLS handshake record from the other things that clients send to a TLS port, by their first bytes.
//! Looks at no more than those, and never at the hello itself.

use tls_parser::TlsRecordType;

/// What a connection speaks that does not begin with a TLS handshake record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotTls {
    /// A plain HTTP request line, or the preface of HTTP/2 without TLS.
    Http,
    /// The identification line of an SSH client (RFC 4253 4.2).
    Ssh,
    /// A PROXY protocol header, version 1 or 2, from a load balancer that this listener does not expect.
    ProxyHeader,
    /// A ClientHello in the format of SSL 2.0 (RFC 5246 E.2), which RFC 6176 forbids.
    Sslv2,
    /// A TLS alert in place of a hello.
    TlsAlert,
    /// Another TLS record: ChangeCipherSpec, application data or heartbeat, such as the middle of a connection.
    OtherTlsRecord,
    /// None of these.
    Unknown,
}

impl NotTls {
    /// A short name in snake_case, for labels and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Ssh => "ssh",
            Self::ProxyHeader => "proxy_header",
            Self::Sslv2 => "sslv2",
            Self::TlsAlert => "tls_alert",
            Self::OtherTlsRecord => "other_tls_record",
            Self::Unknown => "unknown",
        }
    }
}

/// What the first bytes decide.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FirstBytes {
    /// A handshake record of some TLS version.
    HandshakeRecord,
    /// Something else, for good.
    NotTls(NotTls),
    /// More than one of these is still possible.
    Undecided,
}

impl FirstBytes {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        match *bytes {
            [] => Self::Undecided,
            [HANDSHAKE, TLS_MAJOR, ..] => Self::HandshakeRecord,
            [ALERT, TLS_MAJOR, ..] => Self::NotTls(NotTls::TlsAlert),
            [CHANGE_CIPHER_SPEC | APPLICATION_DATA | HEARTBEAT, TLS_MAJOR, ..] => Self::NotTls(NotTls::OtherTlsRecord),
            [CHANGE_CIPHER_SPEC..=HEARTBEAT] => Self::Undecided,
            [0x80..=0xff, ref sslv2 @ ..] => Self::of_sslv2(sslv2),
            _ => Self::of_text(bytes),
        }
    }

    /// `after_first`: low byte of the length, whose highest bit is set; message type 1; version {0, 2} or {3, x}
    /// (RFC 5246 E.2).
    fn of_sslv2(after_first: &[u8]) -> Self {
        match after_first {
            [] | [_] | [_, 1] | [_, 1, 0] => Self::Undecided,
            [_, 1, 0, 2, ..] | [_, 1, TLS_MAJOR, ..] => Self::NotTls(NotTls::Sslv2),
            _ => Self::NotTls(NotTls::Unknown),
        }
    }

    fn of_text(bytes: &[u8]) -> Self {
        let beginnings = || BEGINNINGS.iter();
        if let Some((_, kind)) = beginnings().find(|(text, _)| bytes.starts_with(text)) {
            Self::NotTls(*kind)
        } else if beginnings().any(|(text, _)| text.starts_with(bytes)) {
            Self::Undecided
        } else {
            Self::NotTls(NotTls::Unknown)
        }
    }
}

const CHANGE_CIPHER_SPEC: u8 = TlsRecordType::ChangeCipherSpec.0;
const ALERT: u8 = TlsRecordType::Alert.0;
pub(crate) const HANDSHAKE: u8 = TlsRecordType::Handshake.0;
const APPLICATION_DATA: u8 = TlsRecordType::ApplicationData.0;
const HEARTBEAT: u8 = TlsRecordType::Heartbeat.0;

/// The major version of all record headers since SSL 3.0. RFC 5246 E.1: servers "MUST accept any value {03,XX} as the
/// record layer version number for ClientHello"; RFC 8446 5.1: the minor one "MUST be ignored for all purposes".
pub(crate) const TLS_MAJOR: u8 = 3;

/// None of these is a prefix of another one, so that an answer is final.
const BEGINNINGS: [(&[u8], NotTls); 13] = [
    // RFC 9110 9.3 and RFC 5789 2.
    (b"GET ", NotTls::Http),
    (b"HEAD ", NotTls::Http),
    (b"POST ", NotTls::Http),
    (b"PUT ", NotTls::Http),
    (b"DELETE ", NotTls::Http),
    (b"CONNECT ", NotTls::Http),
    (b"OPTIONS ", NotTls::Http),
    (b"TRACE ", NotTls::Http),
    (b"PATCH ", NotTls::Http),
    // RFC 9113 3.4.
    (b"PRI * HTTP/2.0", NotTls::Http),
    // RFC 4253 4.2.
    (b"SSH-", NotTls::Ssh),
    // haproxy/doc/proxy-protocol.txt 2.1 and 2.2.
    (b"PROXY ", NotTls::ProxyHeader),
    (b"\r\n\r\n\0\r\nQUIT\n", NotTls::ProxyHeader),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Each shorter prefix is open, the whole decides, and what follows does not matter.
    fn decides(bytes: &[u8], kind: NotTls) {
        for length in 0..bytes.len() {
            assert_eq!(FirstBytes::of(&bytes[..length]), FirstBytes::Undecided, "{length} bytes of {bytes:x?}");
        }
        assert_eq!(FirstBytes::of(bytes), FirstBytes::NotTls(kind));
        for next in 0..=255 {
            let longer = [bytes, &[next]].concat();
            assert_eq!(FirstBytes::of(&longer), FirstBytes::NotTls(kind));
        }
    }

    #[test]
    fn http_requests_are_told_apart() {
        for method in ["GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "CONNECT ", "OPTIONS ", "TRACE ", "PATCH "] {
            decides(method.as_bytes(), NotTls::Http);
        }
    }

    #[test]
    fn the_http2_preface_is_http() {
        decides(b"PRI * HTTP/2.0", NotTls::Http);
    }

    #[test]
    fn an_ssh_banner_is_told_apart() {
        decides(b"SSH-", NotTls::Ssh);
    }

    #[test]
    fn a_proxy_header_is_told_apart() {
        decides(b"PROXY ", NotTls::ProxyHeader);
        decides(b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a", NotTls::ProxyHeader);
    }

    #[test]
    fn an_sslv2_hello_is_told_apart() {
        decides(&[0x80, 0x2e, 1, 0, 2], NotTls::Sslv2);
        decides(&[0x80, 0x67, 1, 3], NotTls::Sslv2);
        decides(&[0xff, 0xff, 2], NotTls::Unknown);
    }

    #[test]
    fn other_tls_records_are_told_apart() {
        decides(&[0x15, 3], NotTls::TlsAlert);
        decides(&[0x14, 3], NotTls::OtherTlsRecord);
        decides(&[0x17, 3], NotTls::OtherTlsRecord);
        decides(&[0x18, 3], NotTls::OtherTlsRecord);
    }

    #[test]
    fn a_handshake_byte_without_a_tls_version_is_unknown() {
        decides(&[0x16, 2], NotTls::Unknown);
        decides(&[0x15, 0], NotTls::Unknown);
    }

    #[test]
    fn near_misses_are_unknown_at_once() {
        decides(b"GETS", NotTls::Unknown);
        decides(b"PRI * HTTP/1", NotTls::Unknown);
        decides(b"g", NotTls::Unknown);
        decides(&[0], NotTls::Unknown);
    }

    #[test]
    fn every_minor_record_version_is_tls() {
        for minor in 0..=255 {
            assert_eq!(FirstBytes::of(&[0x16, 3, minor]), FirstBytes::HandshakeRecord);
        }
    }
}
