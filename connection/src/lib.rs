//! What both daemons do to a TCP connection: dial, relay, reset, hand over, drain, and log its end.
//! Holds no key, parses no TLS and takes no routing decision.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod access_log;
pub mod backends;
pub mod channel;
pub mod clock;
mod connection_id;
pub mod descriptors;
pub mod dial;
pub mod drain;
pub mod farewell;
pub mod files;
pub mod handoff;
mod label_set;
pub mod lifeline;
pub mod limits;
pub mod proxy_protocol;
pub mod relay;
pub mod reset;
mod seqpacket;
pub mod silence;
mod source_socket;

pub use access_log::{AccessLine, AccessLog, AccessLogFile};
pub use backends::{Backends, Lease};
pub use connection_id::ConnectionId;
pub use dial::{DialError, acknowledge_with_first_bytes, dial, dial_and_go_on, dial_announced, dial_with};
pub use drain::{Drain, DrainPhase, DrainSignal};
pub use farewell::Alert;
pub use limits::Limits;
pub use reset::{close_will_reset, reset};
pub use source_socket::SourceSocket;
