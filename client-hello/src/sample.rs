//! Hand-made ClientHellos for the unit tests.

/// A handshake message with the cipher suites of TLS 1.3 and these extensions.
pub(crate) fn client_hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    client_hello_with(&[0x1301, 0x1302], extensions)
}

/// A handshake message with these cipher suites and extensions.
pub(crate) fn client_hello_with(cipher_suites: &[u16], extensions: &[Vec<u8>]) -> Vec<u8> {
    let extensions = extensions.concat();
    let mut body = vec![3, 3];
    body.extend([0x5a; 32]);
    body.push(0);
    body.extend((2 * cipher_suites.len() as u16).to_be_bytes());
    body.extend(cipher_suites.iter().flat_map(|suite| suite.to_be_bytes()));
    body.extend([1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut message = (body.len() as u32).to_be_bytes();
    message[0] = 1;
    [&message[..], &body].concat()
}

/// An extension of this type.
pub(crate) fn extension(extension_type: u16, data: &[u8]) -> Vec<u8> {
    let length = data.len() as u16;
    [&extension_type.to_be_bytes(), &length.to_be_bytes(), data].concat()
}

/// The extension server_name with one host_name.
pub(crate) fn server_name(name: &[u8]) -> Vec<u8> {
    let length = name.len() as u16;
    let (entry, list) = (length.to_be_bytes(), (length + 3).to_be_bytes());
    extension(0, &[&list[..], &[0], &entry, name].concat())
}

/// `message` in records of at most `record` bytes each.
pub(crate) fn in_records(message: &[u8], record: usize) -> Vec<u8> {
    let records = message.chunks(record).flat_map(|fragment| {
        let length = (fragment.len() as u16).to_be_bytes();
        [&[0x16, 3, 1], &length[..], fragment].concat()
    });
    records.collect()
}
