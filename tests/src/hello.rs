//! Handmade ClientHellos for the raw client: small, valid unless a test bends them, never completed to a handshake.

/// A ClientHello (RFC 8446 section 4.1.2) with the extensions that a router looks at.
#[derive(Clone, Debug)]
pub struct Hello {
    server_names: Vec<Vec<u8>>,
    protocols: Vec<Vec<u8>>,
    padding: usize,
}

impl Hello {
    /// With this server name.
    pub fn named(name: &str) -> Self {
        Self { server_names: vec![name.as_bytes().to_vec()], protocols: Vec::new(), padding: 0 }
    }

    /// Without a server_name extension.
    pub fn nameless() -> Self {
        Self { server_names: Vec::new(), protocols: Vec::new(), padding: 0 }
    }

    /// With one more host_name entry in the same extension, which RFC 6066 section 3 forbids.
    #[must_use]
    pub fn and_named(mut self, name: &str) -> Self {
        self.server_names.push(name.as_bytes().to_vec());
        self
    }

    /// With these application protocols (RFC 7301).
    #[must_use]
    pub fn offering(mut self, protocols: &[&str]) -> Self {
        self.protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    /// With a padding extension (RFC 7685) of this many zero bytes.
    #[must_use]
    pub fn padded(mut self, bytes: usize) -> Self {
        self.padding = bytes;
        self
    }

    /// As one or more TLS records of the largest size.
    pub fn records(&self) -> Vec<u8> {
        records(&self.handshake_message(), MAX_RECORD)
    }

    /// The bare handshake message.
    pub fn handshake_message(&self) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([0x5a; 32]);
        body.extend(prefixed::<1>(&[0x11; 32]));
        body.extend(prefixed::<2>(&[0x13, 0x01, 0x13, 0x02, 0xc0, 0x2b, 0xc0, 0x2f]));
        body.extend(prefixed::<1>(&[0]));
        body.extend(prefixed::<2>(&self.extensions()));
        let mut message = vec![CLIENT_HELLO];
        message.extend(prefixed::<3>(&body));
        message
    }

    fn extensions(&self) -> Vec<u8> {
        let mut extensions = Vec::new();
        if !self.server_names.is_empty() {
            let entries: Vec<u8> =
                self.server_names.iter().flat_map(|name| [vec![HOST_NAME], prefixed::<2>(name)].concat()).collect();
            extensions.extend(extension(SERVER_NAME, &prefixed::<2>(&entries)));
        }
        extensions.extend(extension(SUPPORTED_GROUPS, &prefixed::<2>(&X25519)));
        extensions.extend(extension(SIGNATURE_ALGORITHMS, &prefixed::<2>(&[0x04, 0x03, 0x08, 0x04])));
        extensions.extend(extension(SUPPORTED_VERSIONS, &prefixed::<1>(&[0x03, 0x04, 0x03, 0x03])));
        let share = [X25519.as_slice(), &prefixed::<2>(&[0x42; 32])].concat();
        extensions.extend(extension(KEY_SHARE, &prefixed::<2>(&share)));
        if !self.protocols.is_empty() {
            let names: Vec<u8> = self.protocols.iter().flat_map(|name| prefixed::<1>(name)).collect();
            extensions.extend(extension(APPLICATION_PROTOCOLS, &prefixed::<2>(&names)));
        }
        if self.padding > 0 {
            extensions.extend(extension(PADDING, &vec![0; self.padding]));
        }
        extensions
    }
}

/// A handshake message, or several, cut into records of at most `size` bytes (RFC 8446 section 5.1).
pub fn records(handshake: &[u8], size: usize) -> Vec<u8> {
    handshake.chunks(size).flat_map(|part| [vec![HANDSHAKE_RECORD, 3, 1], prefixed::<2>(part)].concat()).collect()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().to_vec(), prefixed::<2>(body)].concat()
}

/// A vector with its length in `LENGTH_BYTES` bytes before it (RFC 8446 section 3.4).
fn prefixed<const LENGTH_BYTES: usize>(body: &[u8]) -> Vec<u8> {
    let length = body.len().to_be_bytes();
    [&length[length.len() - LENGTH_BYTES..], body].concat()
}

/// RFC 8446 section 5.1.
pub(crate) const HANDSHAKE_RECORD: u8 = 22;
/// RFC 8446 section 5.1: 2^14 bytes of plaintext.
pub(crate) const MAX_RECORD: usize = 16_384;
/// RFC 8446 section 4.
const CLIENT_HELLO: u8 = 1;
/// RFC 6066 section 3.
const HOST_NAME: u8 = 0;
const SERVER_NAME: u16 = 0;
/// RFC 8446 section 4.2.
const SUPPORTED_GROUPS: u16 = 10;
const SIGNATURE_ALGORITHMS: u16 = 13;
const SUPPORTED_VERSIONS: u16 = 43;
const KEY_SHARE: u16 = 51;
/// RFC 7301 section 3.1.
const APPLICATION_PROTOCOLS: u16 = 16;
/// RFC 7685.
const PADDING: u16 = 21;
/// RFC 8446 section 4.2.7.
const X25519: [u8; 2] = [0x00, 0x1d];

#[cfg(test)]
mod tests {
    use rustls::server::Acceptor;

    use super::*;

    #[test]
    fn another_implementation_reads_the_name() {
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut Hello::named("api.acme.test").padded(700).records().as_slice()).unwrap();
        let accepted = acceptor.accept().unwrap().unwrap();
        assert_eq!(accepted.client_hello().server_name(), Some("api.acme.test"));
    }

    #[test]
    fn another_implementation_reads_the_protocols() {
        let mut acceptor = Acceptor::default();
        let hello = Hello::named("api.acme.test").offering(&["h2", "http/1.1"]);
        acceptor.read_tls(&mut hello.records().as_slice()).unwrap();
        let accepted = acceptor.accept().unwrap().unwrap();
        assert!(accepted.client_hello().alpn().unwrap().eq([b"h2".as_slice(), b"http/1.1"]));
    }

    #[test]
    fn small_records_hold_the_same_message() {
        let message = Hello::named("api.acme.test").handshake_message();
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut records(&message, 64).as_slice()).unwrap();
        let accepted = acceptor.accept().unwrap().unwrap();
        assert_eq!(accepted.client_hello().server_name(), Some("api.acme.test"));
    }
}
