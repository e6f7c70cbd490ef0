//! The ClientHello message (RFC 8446 4.1.2), strictly read: what it holds, or which rule it breaks.

use tls_parser::{NamedGroup, TlsCipherSuiteID, parse_tls_handshake_client_hello};

use crate::alpn::ProtocolNameList;
use crate::extensions::Extensions;
use crate::malformed::Malformed;
use crate::versions::ProtocolVersions;
use crate::{ja4, server_name, vector};

/// What a well-formed ClientHello says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello<'a> {
    /// The host_name as sent: a valid hostname in ASCII, neither lower-cased nor rid of a trailing dot. `None` if
    /// the client names none.
    pub server_name: Option<&'a str>,
    /// The application protocols that the client offers; empty if it negotiates none.
    pub alpn: ProtocolNameList<'a>,
    /// The protocol versions that the client offers.
    pub versions: ProtocolVersions<'a>,
    /// Whether there is an encrypted_client_hello extension, so that `server_name` may be the public name of someone
    /// else's server. Clients without a key send a GREASE one that looks the same on purpose (RFC 9849 6.2).
    pub has_ech: bool,
    /// Whether the client offers a group with ML-KEM, such as X25519MLKEM768, in supported_groups or key_share.
    pub is_post_quantum: bool,
    /// Bytes of the TLS records that held the hello, headers included, counted from the first byte of the connection.
    pub record_bytes: usize,
    pub(crate) cipher_suites: Vec<TlsCipherSuiteID>,
    /// The types of all extensions, sorted.
    pub(crate) extension_types: &'a [u16],
    /// Checked to be a list of 16-bit values.
    pub(crate) signature_algorithms: &'a [u8],
}

impl<'a> ClientHello<'a> {
    /// Reads the body of the handshake message.
    pub(crate) fn read(
        body: &'a [u8],
        record_bytes: usize,
        extension_types: &'a mut Vec<u16>,
    ) -> Result<Self, Malformed> {
        let legacy_version = body.first_chunk().ok_or(Malformed::Fields)?;
        let (behind, fields) = parse_tls_handshake_client_hello(body).map_err(|_| Malformed::Fields)?;
        if fields.ciphers.is_empty() {
            return Err(Malformed::NoCipherSuites);
        }
        if fields.comp.is_empty() {
            return Err(Malformed::NoCompressionMethods);
        }
        // tls-parser takes extensions that are cut off for none, and leaves them as a rest.
        if !behind.is_empty() {
            return Err(Malformed::ExtensionsLength);
        }
        let extensions = Extensions::read(fields.ext.unwrap_or_default(), extension_types)?;
        let read = &extensions;
        Ok(Self {
            server_name: read.server_name.map(server_name::read).transpose()?,
            alpn: read.alpn.map_or(Ok(ProtocolNameList::default()), ProtocolNameList::read)?,
            versions: read
                .supported_versions
                .map_or(Ok(ProtocolVersions::legacy(legacy_version)), ProtocolVersions::read)?,
            has_ech: read.encrypted_client_hello.is_some(),
            is_post_quantum: is_post_quantum(read)?,
            record_bytes,
            cipher_suites: fields.ciphers,
            extension_types,
            signature_algorithms: read
                .signature_algorithms
                .map_or(Some(&[][..]), list_of_u16)
                .ok_or(Malformed::SignatureAlgorithms)?,
        })
    }

    /// The JA4 fingerprint of the client, such as `t13d1516h2_8daaf6152771_e5627efa2ab1`.
    pub fn ja4(&self) -> String {
        ja4::fingerprint(self)
    }
}

fn is_post_quantum(extensions: &Extensions<'_>) -> Result<bool, Malformed> {
    let mut found = false;
    if let Some(data) = extensions.supported_groups {
        let groups = list_of_u16(data).ok_or(Malformed::SupportedGroups)?;
        found |= vector::iter_u16(groups).any(|group| ML_KEM_GROUPS.contains(&NamedGroup(group)));
    }
    if let Some(data) = extensions.key_share {
        let mut shares = vector::filling_u16(data).ok_or(Malformed::KeyShare)?;
        while !shares.is_empty() {
            let (group, behind) = key_share_entry(shares).ok_or(Malformed::KeyShare)?;
            found |= ML_KEM_GROUPS.contains(&group);
            shares = behind;
        }
    }
    Ok(found)
}

/// The group of the first KeyShareEntry (RFC 8446 4.2.8), and what stands behind the entry.
fn key_share_entry(shares: &[u8]) -> Option<(NamedGroup, &[u8])> {
    let (&group, rest) = shares.split_first_chunk()?;
    let (key_exchange, behind) = vector::split_u16(rest)?;
    (!key_exchange.is_empty()).then_some((NamedGroup(u16::from_be_bytes(group)), behind))
}

fn list_of_u16(data: &[u8]) -> Option<&[u8]> {
    vector::filling_u16(data).and_then(vector::of_u16)
}

/// The TLS Supported Groups registry of IANA: MLKEM512, MLKEM768 and MLKEM1024 (draft-ietf-tls-mlkem), then
/// SecP256r1MLKEM768, X25519MLKEM768 and SecP384r1MLKEM1024 (draft-ietf-tls-ecdhe-mlkem).
const ML_KEM_GROUPS: [NamedGroup; 6] = [
    NamedGroup(0x0200),
    NamedGroup(0x0201),
    NamedGroup(0x0202),
    NamedGroup(0x11eb),
    NamedGroup(0x11ec),
    NamedGroup(0x11ed),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{client_hello, extension, server_name};
    use crate::versions::ProtocolVersion;

    /// What is read of a body that `change` has had its way with.
    fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Result<(), Malformed> {
        let mut body = client_hello(&[server_name(b"a.example")]).split_off(4);
        change(&mut body);
        ClientHello::read(&body, 0, &mut Vec::new()).map(|_| ())
    }

    fn with(extensions: &[Vec<u8>]) -> Result<(bool, bool), Malformed> {
        let body = client_hello(extensions).split_off(4);
        ClientHello::read(&body, 0, &mut Vec::new()).map(|hello| (hello.has_ech, hello.is_post_quantum))
    }

    /// Where the sample has its session id, cipher suites, compression methods and extensions.
    const SESSION_ID: usize = 34;
    const CIPHER_SUITES: usize = 35;
    const COMPRESSION_METHODS: usize = 41;
    const EXTENSIONS: usize = 43;

    #[test]
    fn the_sample_is_well_formed() {
        assert_eq!(changed(|_| ()), Ok(()));
    }

    #[test]
    fn a_hello_without_extensions_is_fine() {
        let body = client_hello(&[]).split_off(4);
        for body in [&body[..], &body[..EXTENSIONS]] {
            let mut types = Vec::new();
            let hello = ClientHello::read(body, 0, &mut types).unwrap();
            assert_eq!(hello.server_name, None);
            assert!(hello.alpn.is_empty());
            let versions: Vec<_> = hello.versions.iter().collect();
            assert_eq!(versions, [ProtocolVersion::TLS12]);
        }
    }

    #[test]
    fn bytes_behind_the_extensions_are_malformed() {
        assert_eq!(changed(|body| body.push(0)), Err(Malformed::ExtensionsLength));
    }

    #[test]
    fn extensions_that_overrun_the_message_are_malformed() {
        assert_eq!(changed(|body| body.truncate(body.len() - 1)), Err(Malformed::ExtensionsLength));
        assert_eq!(changed(|body| body.truncate(EXTENSIONS + 1)), Err(Malformed::ExtensionsLength));
    }

    #[test]
    fn a_session_id_over_32_bytes_is_malformed() {
        assert_eq!(changed(|body| body[SESSION_ID] = 33), Err(Malformed::Fields));
    }

    #[test]
    fn an_odd_number_of_cipher_suite_bytes_is_malformed() {
        assert_eq!(changed(|body| body[CIPHER_SUITES + 1] = 3), Err(Malformed::Fields));
    }

    #[test]
    fn no_cipher_suites_are_malformed() {
        let none = |body: &mut Vec<u8>| {
            body.splice(CIPHER_SUITES..COMPRESSION_METHODS, [0, 0]);
        };
        assert_eq!(changed(none), Err(Malformed::NoCipherSuites));
    }

    #[test]
    fn no_compression_methods_are_malformed() {
        let none = |body: &mut Vec<u8>| {
            body.splice(COMPRESSION_METHODS..EXTENSIONS, [0]);
        };
        assert_eq!(changed(none), Err(Malformed::NoCompressionMethods));
    }

    #[test]
    fn fields_that_overrun_the_message_are_malformed() {
        assert_eq!(changed(|body| body[CIPHER_SUITES] = 0xff), Err(Malformed::Fields));
        assert_eq!(changed(|body| body.truncate(COMPRESSION_METHODS + 1)), Err(Malformed::Fields));
    }

    #[test]
    fn an_encrypted_client_hello_is_noticed() {
        assert_eq!(with(&[extension(0xfe0d, b"\0")]), Ok((true, false)));
    }

    #[test]
    fn a_post_quantum_group_is_noticed_in_either_extension() {
        let groups = extension(10, &[0, 4, 0x11, 0xec, 0, 29]);
        assert_eq!(with(&[groups]), Ok((false, true)));
        let shares = extension(51, &[0, 10, 0, 29, 0, 1, 9, 0x11, 0xec, 0, 1, 9]);
        assert_eq!(with(&[shares]), Ok((false, true)));
        let classic = extension(10, &[0, 4, 0, 23, 0, 29]);
        assert_eq!(with(&[classic]), Ok((false, false)));
    }

    #[test]
    fn no_key_share_is_fine() {
        assert_eq!(with(&[extension(51, &[0, 0])]), Ok((false, false)));
    }

    #[test]
    fn broken_lists_are_malformed() {
        for data in [&[][..], &[0, 0], &[0, 1, 3], &[0, 4, 0, 29], &[0, 2, 0, 29, 0]] {
            assert_eq!(with(&[extension(10, data)]), Err(Malformed::SupportedGroups));
            assert_eq!(with(&[extension(13, data)]), Err(Malformed::SignatureAlgorithms));
        }
        for data in [&[][..], &[0, 1, 0], &[0, 4, 0, 29, 0, 0], &[0, 5, 0, 29, 0, 2, 9], &[0, 0, 0]] {
            assert_eq!(with(&[extension(51, data)]), Err(Malformed::KeyShare));
        }
        assert_eq!(with(&[extension(0, &[])]), Err(Malformed::ServerNameList));
        assert_eq!(with(&[extension(16, &[])]), Err(Malformed::Alpn));
        assert_eq!(with(&[extension(43, &[])]), Err(Malformed::SupportedVersions));
    }
}
