//! The extensions of a ClientHello (RFC 8446 4.2): their framing, that none comes twice, and the raw data of those
//! that this crate reads. All others pass unread.

use tls_parser::{TlsExtension, TlsExtensionType, parse_tls_extension_unknown};

use crate::malformed::Malformed;

/// The data of the extensions that are read; `None` where the client did not send one.
#[derive(Debug, Default)]
pub(crate) struct Extensions<'a> {
    pub(crate) server_name: Option<&'a [u8]>,
    pub(crate) alpn: Option<&'a [u8]>,
    pub(crate) supported_versions: Option<&'a [u8]>,
    pub(crate) signature_algorithms: Option<&'a [u8]>,
    pub(crate) supported_groups: Option<&'a [u8]>,
    pub(crate) key_share: Option<&'a [u8]>,
    pub(crate) encrypted_client_hello: Option<&'a [u8]>,
}

impl<'a> Extensions<'a> {
    /// Walks `block`, the contents of the extensions vector, and leaves the types of all of them in `types`, sorted.
    pub(crate) fn read(block: &'a [u8], types: &mut Vec<u16>) -> Result<Self, Malformed> {
        let mut extensions = Self::default();
        types.clear();
        let mut rest = block;
        while !rest.is_empty() {
            let Ok((behind, TlsExtension::Unknown(extension_type, data))) = parse_tls_extension_unknown(rest) else {
                return Err(Malformed::ExtensionCutOff);
            };
            types.push(extension_type.0);
            if let Some(slot) = extensions.slot(extension_type) {
                *slot = Some(data);
            }
            rest = behind;
        }
        types.sort_unstable();
        match types.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Malformed::DuplicateExtension(pair[0])),
            None => Ok(extensions),
        }
    }

    fn slot(&mut self, extension_type: TlsExtensionType) -> Option<&mut Option<&'a [u8]>> {
        match extension_type {
            TlsExtensionType::ServerName => Some(&mut self.server_name),
            TlsExtensionType::SupportedGroups => Some(&mut self.supported_groups),
            TlsExtensionType::SignatureAlgorithms => Some(&mut self.signature_algorithms),
            ALPN => Some(&mut self.alpn),
            TlsExtensionType::SupportedVersions => Some(&mut self.supported_versions),
            TlsExtensionType::KeyShare => Some(&mut self.key_share),
            ENCRYPTED_CLIENT_HELLO => Some(&mut self.encrypted_client_hello),
            _ => None,
        }
    }
}

/// RFC 6066 3.
pub(crate) const SERVER_NAME: TlsExtensionType = TlsExtensionType::ServerName;
/// RFC 7301 3.1.
pub(crate) const ALPN: TlsExtensionType = TlsExtensionType::ApplicationLayerProtocolNegotiation;
/// RFC 9849 5.
const ENCRYPTED_CLIENT_HELLO: TlsExtensionType = TlsExtensionType(0xfe0d);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::extension;

    fn read(block: &[u8]) -> Result<Vec<u16>, Malformed> {
        let mut types = vec![99];
        Extensions::read(block, &mut types).map(|_| types)
    }

    #[test]
    fn types_are_left_sorted_and_nothing_of_the_last_hello_stays() {
        let block = [extension(43, b"x"), extension(0, b""), extension(10, b"yz")].concat();
        assert_eq!(read(&block), Ok(vec![0, 10, 43]));
        assert_eq!(read(&[]), Ok(vec![]));
    }

    #[test]
    fn a_duplicate_extension_is_malformed_known_or_not() {
        for kind in [0, 16, 0x1234, 0x0a0a] {
            let block = [extension(kind, b"x"), extension(7, b""), extension(kind, b"x")].concat();
            assert_eq!(read(&block), Err(Malformed::DuplicateExtension(kind)));
        }
    }

    #[test]
    fn an_extension_that_is_cut_off_is_malformed() {
        let block = [extension(1, b"x"), extension(2, b"yz")].concat();
        for length in (1..block.len()).filter(|&length| length != 5) {
            assert_eq!(read(&block[..length]), Err(Malformed::ExtensionCutOff));
        }
    }

    #[test]
    fn the_most_extensions_that_fit_are_read_in_time() {
        let block: Vec<u8> = (0..16_383).flat_map(|kind| extension(kind, b"")).collect();
        assert_eq!(read(&block).unwrap().len(), 16_383);
    }
}
