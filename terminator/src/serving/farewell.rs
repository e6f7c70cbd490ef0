//! Ends a connection in the way that its peer should see: an alert that can be read, or an abortive close.

use std::io;
use std::time::Duration;

use connection::relay::ClientSocket;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// The alerts that the terminator itself sends, in the clear, before rustls has answered the hello; all others are
/// rustls' own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Alert {
    /// The terminator could not get to the connection in time (RFC 8446 section 6.2).
    InternalError = 80,
    /// The name is not this tenant's (RFC 6066 section 3).
    UnrecognizedName = 112,
}

/// Sends a fatal alert, then closes as [`close`] does.
pub(super) async fn alert_and_close(mut client: ClientSocket, alert: Alert) {
    // A record of its own: content type alert, length 2, level fatal (RFC 8446 sections 5.1 and 6).
    let record = [21, 0x03, 0x03, 0x00, 0x02, 2, alert as u8];
    // Seven bytes always fit into the send buffer of a connection on which nothing was sent yet.
    if client.write_all(&record).await.is_ok() {
        close(client).await;
    }
}

/// Closes a connection whose last word was an alert, so that the client can read it. Takes [`LINGER`] at most.
///
/// A close with unread bytes in the receive queue is a RST (RFC 2525 section 2.17), which can destroy the alert before
/// the client reads it. So what the client still sends is read and thrown away until it closes too, within bounds.
pub(super) async fn close(mut client: ClientSocket) {
    let farewell = async {
        client.shutdown().await?;
        let mut scrap = [0; 4096];
        let mut budget = DISCARD_LIMIT;
        while budget > 0 {
            match client.read(&mut scrap).await? {
                0 => break,
                length => budget = budget.saturating_sub(length),
            }
        }
        Ok::<(), io::Error>(())
    };
    // Whatever fails here, the client is gone or does not listen; there is nothing left to do for it.
    let _: Result<io::Result<()>, _> = timeout(LINGER, farewell).await;
}

/// Makes the last close of the connection a RST: the peer sees a failure, and no end that could pass for a whole answer
/// (socket(7), SO_LINGER with a time of zero).
pub(super) fn close_will_reset(client: &ClientSocket) {
    // It fails only where the connection is gone already.
    let _ = SockRef::from(client.tcp()).set_linger(Some(Duration::ZERO));
}

/// How long a refused client may take to read its alert and close: a few round trips of any network.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes that are thrown away for one refused client: a full receive buffer of the usual size.
const DISCARD_LIMIT: usize = 128 * 1024;
