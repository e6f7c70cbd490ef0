//! The bytes of a connection that is handed over: the length of the head, the head as JSON, then what both directions
//! have read and not written. Fields are only ever added, each with a default: the two routers may be of different builds.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use ::connection::ConnectionId;
use ::connection::relay::Progress;
use serde::{Deserialize, Serialize};

use crate::router::access::Passport;

/// What the sockets do not tell.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::router) enum HandedOver {
    /// Comes with the client's descriptor.
    Unread(UnreadConnection),
    /// Comes with the client's and the backend's.
    Relayed(Box<RelayedConnection>),
}

/// A connection of which nothing has been read but a trusted sender's header.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::router) struct UnreadConnection {
    pub(in crate::router) id: ConnectionId,
    pub(in crate::router) listener: String,
    pub(in crate::router) peer: SocketAddr,
    pub(in crate::router) client: SocketAddr,
    pub(in crate::router) told_local: Option<SocketAddr>,
    pub(in crate::router) is_header_taken: bool,
    /// Whether it counts for its source.
    #[serde(default)]
    pub(in crate::router) is_source_admitted: bool,
    pub(in crate::router) accepted_at: SystemTime,
    /// See [`::connection::clock`].
    pub(in crate::router) accepted_monotonic_ns: u64,
    pub(in crate::router) deadline_monotonic_ns: u64,
}

/// A connection whose bytes move.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::router) struct RelayedConnection {
    pub(in crate::router) record: Passport,
    pub(in crate::router) tenant: String,
    pub(in crate::router) backend: Option<SocketAddr>,
    pub(in crate::router) idle_timeout: Duration,
    pub(in crate::router) drain_timeout: Duration,
    pub(in crate::router) progress: Progress,
}

/// The head of a message.
#[derive(Debug, Serialize, Deserialize)]
struct Head<M> {
    connection: M,
    /// Of both directions.
    #[serde(default)]
    undelivered: [usize; 2],
}

impl HandedOver {
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let undelivered: [&[u8]; 2] = match self {
            Self::Unread(_) => [&[], &[]],
            Self::Relayed(relayed) => {
                let Progress { client_to_backend, backend_to_client, .. } = &relayed.progress;
                [&client_to_backend.undelivered, &backend_to_client.undelivered]
            }
        };
        let head = serde_json::to_vec(&Head { connection: self, undelivered: undelivered.map(<[u8]>::len) })?;
        let length = u32::try_from(head.len()).map_err(io::Error::other)?;
        Ok([&length.to_le_bytes(), &head[..], undelivered[0], undelivered[1]].concat())
    }

    pub(super) fn decode(bytes: &[u8]) -> io::Result<Self> {
        let cut_off = || io::Error::new(io::ErrorKind::InvalidData, "a message that is cut off");
        let (length, rest) = bytes.split_first_chunk().ok_or_else(cut_off)?;
        let (head, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(cut_off)?;
        let Head { mut connection, undelivered } = serde_json::from_slice(head)?;
        if let Self::Relayed(relayed) = &mut connection {
            let (to_backend, to_client) = rest.split_at_checked(undelivered[0]).ok_or_else(cut_off)?;
            if to_client.len() != undelivered[1] {
                return Err(cut_off());
            }
            relayed.progress.client_to_backend.undelivered = to_backend.to_vec();
            relayed.progress.backend_to_client.undelivered = to_client.to_vec();
        }
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use ::connection::channel::MESSAGE_LIMIT;
    use ::connection::relay::{SuspendedDirection, SuspendedStage};

    use super::*;

    fn relayed(server_name: &str, undelivered: usize) -> HandedOver {
        let direction = |stage, byte| SuspendedDirection {
            stage,
            delivered: 7,
            spliced: true,
            lacked_pipe: false,
            undelivered: vec![byte; undelivered],
        };
        let mut record = Passport::sample();
        record.server_name = Some(server_name.to_owned());
        HandedOver::Relayed(Box::new(RelayedConnection {
            record,
            tenant: "acme".to_owned(),
            backend: Some("192.0.2.1:443".parse().unwrap()),
            idle_timeout: Duration::from_secs(600),
            drain_timeout: Duration::MAX,
            progress: Progress {
                client_to_backend: direction(SuspendedStage::Ending, 1),
                backend_to_client: direction(SuspendedStage::Flowing, 2),
                idle: Duration::from_millis(3),
            },
        }))
    }

    #[test]
    fn a_relay_survives_the_way_and_always_fits() {
        for undelivered in [0, 1, 64 * 1024] {
            let message = relayed(&"x".repeat(255), undelivered);
            let bytes = message.encode().unwrap();
            assert!(bytes.len() < MESSAGE_LIMIT);
            assert_eq!(format!("{:?}", HandedOver::decode(&bytes).unwrap()), format!("{message:?}"));
        }
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let bytes = relayed("a.example", 10).encode().unwrap();
        assert!((0..bytes.len()).all(|length| HandedOver::decode(&bytes[..length]).is_err()));
    }
}
