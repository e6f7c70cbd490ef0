//! Hands an accepted, unread connection from the router to a tenant's terminator: one message and one descriptor
//! over a SOCK_SEQPACKET Unix socket. Also tells the terminator what its backends' names stand for, and
//! carries its counters back. Decides nothing about either. The prober of certificates is asked the same way.

mod error;
mod listener;
mod message;
mod prober;
mod receiver;
mod sender;
mod status;
mod waits;

pub use crate::ConnectionId;
pub use error::HandoffError;
pub use listener::HandoffListener;
pub use message::{Handoff, ResolvedName};
pub use prober::{ProbedBackend, ProberStatus};
pub use receiver::{HandoffReceiver, Received};
pub use sender::HandoffSender;
pub use status::{
    BackendStatus, CertificateStatus, ClientCertificateCount, ConnectionCount, HandshakeCount, Histogram, SandboxPart,
    TerminatorStatus, TrustStatus,
};
pub use waits::{HandoffWait, HandoffWaits};

#[cfg(test)]
mod tests;
