//! Why a TLS handshake is not a well-formed ClientHello. Each reason cites the rule that it breaks.

use crate::server_name::NameError;

/// The rule that the first handshake message breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A handshake record without content.
    #[error("a handshake record is empty (RFC 8446 5.1)")]
    EmptyRecord,
    /// A record that is longer than 2^14 bytes.
    #[error("a record is longer than 16384 bytes (RFC 8446 5.1)")]
    RecordTooLong,
    /// A record of this content type before the ClientHello was whole.
    #[error("a record of type {0} stands between those of the ClientHello (RFC 8446 5.1)")]
    InterleavedRecord(u8),
    /// A second or later record of this major version.
    #[error("a record has the major version {0} (RFC 5246 E.1)")]
    RecordVersion(u8),
    /// The first handshake message is of this type.
    #[error("the first handshake message is of type {0}, not a ClientHello (RFC 8446 4.1.2)")]
    NotClientHello(u8),
    /// The message is shorter than any ClientHello can be.
    #[error("the ClientHello is too short for its fields (RFC 8446 4.1.2)")]
    TooShort,
    /// The record in which the ClientHello ends goes on behind it.
    ///
    /// Nothing may follow before the server has answered. OpenSSL, BoringSSL, rustls and Go refuse it too.
    #[error("the ClientHello does not end with its record (RFC 8446 5.1)")]
    NotOnRecordBoundary,
    /// The fields before the extensions overrun the message, the session id is longer than 32 bytes, or the cipher
    /// suites are an odd number of bytes.
    #[error("the fields before the extensions are broken (RFC 8446 4.1.2)")]
    Fields,
    /// No cipher suite is offered.
    #[error("the list of cipher suites is empty (RFC 8446 4.1.2)")]
    NoCipherSuites,
    /// No compression method is offered.
    #[error("the list of compression methods is empty (RFC 5246 7.4.1.2)")]
    NoCompressionMethods,
    /// The extensions end before the message does, or behind it.
    #[error("the extensions do not end with the ClientHello (RFC 8446 4.1.2)")]
    ExtensionsLength,
    /// An extension goes on behind the end of the extensions.
    #[error("an extension is cut off (RFC 8446 4.2)")]
    ExtensionCutOff,
    /// Two extensions of this type.
    #[error("there are two extensions of type {0} (RFC 8446 4.2)")]
    DuplicateExtension(u16),
    /// server_name is not a list of names.
    #[error("the extension server_name is broken (RFC 6066 3)")]
    ServerNameList,
    /// server_name holds a name of this type, which is none that exists.
    ///
    /// Servers disagree on what follows such a name (OpenSSL and BoringSSL refuse it, Go skips it, rustls stops
    /// there), so it must not route.
    #[error("a server name is of the unknown type {0} (RFC 6066 3)")]
    NameType(u8),
    /// server_name holds more than one host_name.
    #[error("there is more than one host_name (RFC 6066 3)")]
    SeveralNames,
    /// The host_name is not a hostname.
    #[error("the host_name {0}")]
    ServerName(#[from] NameError),
    /// application_layer_protocol_negotiation is not a list of names, or holds an empty one, or none.
    #[error("the extension application_layer_protocol_negotiation is broken (RFC 7301 3.1)")]
    Alpn,
    /// supported_versions is not a list of versions, or is empty.
    #[error("the extension supported_versions is broken (RFC 8446 4.2.1)")]
    SupportedVersions,
    /// signature_algorithms is not a list of schemes, or is empty.
    #[error("the extension signature_algorithms is broken (RFC 8446 4.2.3)")]
    SignatureAlgorithms,
    /// supported_groups is not a list of groups, or is empty.
    #[error("the extension supported_groups is broken (RFC 8446 4.2.7)")]
    SupportedGroups,
    /// key_share is not a list of keys, or holds an empty one.
    #[error("the extension key_share is broken (RFC 8446 4.2.8)")]
    KeyShare,
}
