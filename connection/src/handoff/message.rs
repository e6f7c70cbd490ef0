//! The bytes of a hand-off message: one byte of protocol version, then JSON.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{HandoffError, ProberStatus, TerminatorStatus};
use crate::ConnectionId;

/// What the terminator has to know about a connection that it cannot read from the socket. Fields are only ever
/// added, each with a default, and unknown ones are ignored: router and terminator may be of different builds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Handoff {
    /// The name of this connection in both processes' logs.
    pub id: ConnectionId,
    /// The name of the listener that accepted it.
    pub listener: String,
    /// The client, behind whichever proxy announced it.
    pub client: SocketAddr,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// As the client sent it.
    #[serde(default)]
    pub server_name: Option<String>,
    /// What the client offers; the router leaves out what would make the message too long.
    #[serde(default)]
    pub alpn: Vec<String>,
    /// The hello's fingerprint.
    #[serde(default)]
    pub ja4: String,
    /// CLOCK_MONOTONIC nanoseconds (see [`crate::clock`]) when the connection was accepted.
    #[serde(default)]
    pub accepted_monotonic_ns: u64,
    /// Unix milliseconds when the connection was accepted.
    #[serde(default)]
    pub accepted_unix_ms: u64,
    /// CLOCK_MONOTONIC nanoseconds by which the terminator has to have taken the connection over.
    pub deadline_monotonic_ns: u64,
    /// Milliseconds from accept to a complete hello.
    #[serde(default)]
    pub hello_ms: f64,
    /// Whether a socket comes with it that is bound to the client's address, for the way to the backend.
    #[serde(default)]
    pub has_source_socket: bool,
}

/// What a name of backends stands for, which the terminator has no way to find out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedName {
    /// As it is configured.
    pub name: String,
    /// All its addresses, at most [`MOST_ADDRESSES`](crate::backends::MOST_ADDRESSES).
    pub addresses: Vec<IpAddr>,
}

/// What the router sends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request<'a> {
    /// Comes with one descriptor, or two.
    Connection(Cow<'a, Handoff>),
    /// Holds from now on, for all connections.
    Addresses(Cow<'a, ResolvedName>),
    /// Asks for a [`StatusReply`] with the same number.
    Status(u64),
    /// Asks for a [`ProberReply`] with the same number, from this backend on.
    Probed { request: u64, from: usize },
}

/// What the terminator sends back.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StatusReply<'a> {
    pub(super) request: u64,
    pub(super) status: Cow<'a, TerminatorStatus>,
}

/// What the prober of certificates sends back.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ProberReply {
    pub(super) request: u64,
    pub(super) page: ProberStatus,
}

pub(super) fn encode(message: &impl Serialize, limit: usize) -> Result<Vec<u8>, HandoffError> {
    let mut bytes = vec![PROTOCOL_VERSION];
    serde_json::to_writer(&mut bytes, message).map_err(HandoffError::Malformed)?;
    if bytes.len() > limit {
        return Err(HandoffError::TooLong { limit });
    }
    Ok(bytes)
}

pub(super) fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, HandoffError> {
    match bytes.split_first() {
        Some((&PROTOCOL_VERSION, json)) => serde_json::from_slice(json).map_err(HandoffError::Malformed),
        Some((&theirs, _)) => Err(HandoffError::UnknownVersion { theirs, ours: PROTOCOL_VERSION }),
        None => serde_json::from_slice(bytes).map_err(HandoffError::Malformed),
    }
}

/// Rises only with a change that an older build would misunderstand; a new field is no such change.
pub(super) const PROTOCOL_VERSION: u8 = 1;

/// A hand-off is some hundred bytes; the server name (255) and the ALPN list (64 KiB at most in a hello, and cut by
/// the router) are what a client can make long.
pub(super) const REQUEST_LIMIT: usize = 16 * 1024;

/// Thousands of counters and certificates; below the 208 KiB that a Unix socket sends in one message by default
/// (net.core.wmem_default).
pub(super) const STATUS_LIMIT: usize = 128 * 1024;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::handoff) fn sample(listener: &str) -> Handoff {
        Handoff {
            id: ConnectionId(1),
            listener: listener.into(),
            client: ([192, 0, 2, 7], 50_000).into(),
            local: ([198, 51, 100, 1], 443).into(),
            server_name: Some("api.acme.example".into()),
            alpn: vec!["h2".into()],
            ja4: "t13d1516h2_8daaf6152771_e5627efa2ab1".into(),
            accepted_monotonic_ns: 1,
            accepted_unix_ms: 2,
            deadline_monotonic_ns: 3,
            hello_ms: 0.25,
            has_source_socket: false,
        }
    }

    #[test]
    fn fields_of_a_newer_build_are_ignored_and_missing_ones_have_defaults() {
        let json = br#"{"connection":{"id":"00000000000000ff","listener":"tls","client":"192.0.2.7:1",
            "local":"[2001:db8::1]:443","deadline_monotonic_ns":5,"from_the_future":[1]}}"#;
        let bytes = [&[PROTOCOL_VERSION], &json[..]].concat();
        let Request::Connection(handoff) = decode(&bytes).unwrap() else { panic!("not a connection") };
        assert_eq!(handoff.id.to_string(), "00000000000000ff");
        assert_eq!(handoff.server_name, None);
    }

    #[test]
    fn a_hand_off_survives_the_way() {
        let handoff = sample("tls");
        let bytes = encode(&Request::Connection(Cow::Borrowed(&handoff)), REQUEST_LIMIT).unwrap();
        let Request::Connection(back) = decode(&bytes).unwrap() else { panic!("not a connection") };
        assert_eq!(*back, handoff);
    }

    #[test]
    fn what_is_too_long_is_not_sent() {
        let error =
            encode(&Request::Connection(Cow::Owned(sample(&"x".repeat(REQUEST_LIMIT)))), REQUEST_LIMIT).unwrap_err();
        assert!(matches!(error, HandoffError::TooLong { limit: REQUEST_LIMIT }), "{error:?}");
    }

    #[test]
    fn another_version_is_named() {
        let error = decode::<Request>(&[9, b'{', b'}']).unwrap_err();
        assert!(matches!(error, HandoffError::UnknownVersion { theirs: 9, ours: 1 }), "{error:?}");
    }
}
