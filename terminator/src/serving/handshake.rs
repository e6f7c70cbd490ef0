//! From an unread socket to an encrypted stream: the hello as rustls reads it, the check of its name, the handshake.
//! Sends every alert that a failure calls for; dials nothing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use connection::Alert;
use connection::farewell::say_and_close;
use connection::limits::Exceeded;
use connection::relay::SharedSocket;
use rustls::server::Acceptor;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certificates::{CertificateLabel, with_refused};
use crate::failure::Reason;
use crate::tenant_names::TenantNames;
use crate::tls_config::TenantTls;

/// What the router said about a connection, as far as the handshake checks it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Routed<'a> {
    /// The listener that accepted it.
    pub(super) listener: &'a str,
    /// The name by which it was routed.
    pub(super) server_name: Option<&'a str>,
    /// Until when the hello must have been read.
    pub(super) hello_deadline: Instant,
}

/// A handshake that failed, and what the client is still to be told.
#[derive(Debug)]
pub(super) struct Failed {
    /// The label.
    pub(super) reason: Reason,
    /// The reason in words, for people.
    pub(super) words: String,
    /// The client certificate that was refused.
    pub(super) refused: Option<CertificateLabel>,
    farewell: Farewell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    /// rustls has sent its alert already.
    AlertIsSent,
    /// Nothing was sent yet.
    Alert(Alert),
    /// The keys are gone with the handshake's state, so no alert could be encrypted.
    Nothing,
}

impl Failed {
    /// Tells the client, where it can be told, and closes. To be called when all is counted: it may take a second.
    pub(super) async fn close(self, client: SharedSocket) {
        match self.farewell {
            Farewell::Alert(alert) => say_and_close(client, &alert.record()).await,
            Farewell::AlertIsSent => say_and_close(client, &[]).await,
            Farewell::Nothing => {}
        }
    }

    /// A connection of a tenant that uses all that it may: refused before its hello is read.
    pub(super) fn over_limit(exceeded: Exceeded) -> Self {
        let (reason, words) = match exceeded {
            Exceeded::Connections => (Reason::MaxConnections, "limits.maxConnections is reached"),
            Exceeded::Rate => (Reason::HandshakeRate, "limits.handshakeRate is reached"),
        };
        Self::unanswered(reason, words, Alert::InternalError)
    }

    fn unanswered(reason: Reason, words: impl Into<String>, alert: Alert) -> Self {
        Self { reason, words: words.into(), refused: None, farewell: Farewell::Alert(alert) }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        let reason = Reason::of(&error);
        let farewell = if reason == Reason::ClientClosed { Farewell::Nothing } else { Farewell::AlertIsSent };
        Self { reason, words: error.to_string(), refused: None, farewell }
    }
}

/// Reads the hello, checks its name and shakes hands. Never takes longer than [`HANDSHAKE_LIMIT`].
pub(super) async fn shake_hands(
    client: SharedSocket,
    routed: Routed<'_>,
    names: &TenantNames,
    tls: &TenantTls,
) -> Result<TlsStream<SharedSocket>, Failed> {
    let now = Instant::now();
    if routed.hello_deadline <= now {
        let words = "the hand-off's deadline had passed before the terminator got to it";
        return Err(Failed::unanswered(Reason::DeadlinePassed, words, Alert::InternalError));
    }
    let deadline = now + HANDSHAKE_LIMIT;

    let acceptor = LazyConfigAcceptor::new(Acceptor::default(), client);
    let start = timeout_at(routed.hello_deadline.min(deadline), acceptor).await.map_err(|_elapsed| {
        // The router has seen a whole hello, so this is rare: its parser and rustls disagree.
        let words = "no whole ClientHello within the hand-off's deadline";
        Failed::unanswered(Reason::DeadlinePassed, words, Alert::InternalError)
    })??;

    let in_hello = start.client_hello().server_name().map(str::to_owned);
    if !names.accept(in_hello.as_deref(), routed.server_name, routed.listener) {
        let words = format!(
            "the hello asks for {}, the router said {}; this tenant does not answer to it",
            in_hello.as_deref().unwrap_or("no name"),
            routed.server_name.unwrap_or("no name"),
        );
        return Err(Failed::unanswered(Reason::UnrecognizedName, words, Alert::UnrecognizedName));
    }

    let (handshake, refused) = with_refused(timeout_at(deadline, start.into_stream(Arc::clone(&tls.server)))).await;
    let failed = match handshake {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(error)) => Failed::from(error),
        Err(_elapsed) => Failed {
            reason: Reason::Timeout,
            words: format!("not complete within {} s", HANDSHAKE_LIMIT.as_secs()),
            refused: None,
            farewell: Farewell::Nothing,
        },
    };
    Err(Failed { refused, ..failed })
}

/// One deadline for the whole handshake, over all its round trips: nginx allows 60 s, Envoy 15 s; two round trips over
/// the slowest satellite link, with one retransmission each, stay under 6 s.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
