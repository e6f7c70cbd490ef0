//! Ends a connection with a last word that its client can read: the word, a FIN, then a close that resets nothing.
//! Decides neither who is refused nor what they are told.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// The TLS alerts that are sent in the clear, to clients whose hello nobody has answered; all others are rustls' own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Alert {
    /// The tenant or the listener does not admit the client (RFC 8446 section 6.2).
    AccessDenied = 49,
    /// A hello that cannot be decoded, is too long, or did not come in time (RFC 8446 section 6.2).
    DecodeError = 50,
    /// The backend or the terminator cannot be reached in time (RFC 8446 section 6.2).
    InternalError = 80,
    /// Nobody here has this name (RFC 6066 section 3).
    UnrecognizedName = 112,
}

impl Alert {
    /// The fatal alert in a record of its own (RFC 8446 sections 5.1 and 6).
    pub fn record(self) -> [u8; 7] {
        const ALERT: u8 = 21;
        const FATAL: u8 = 2;
        [ALERT, 0x03, 0x03, 0x00, 0x02, FATAL, self as u8]
    }
}

/// Sends the last word and closes. Takes [`LINGER`] at most. An empty word is for peers that have theirs already, or
/// would not understand any.
///
/// A close with unread bytes in the receive queue would be a RST (RFC 2525 section 2.17), which can destroy the word
/// before the client reads it. So what the client sent is read and thrown away until it closes too, within bounds.
pub async fn say_and_close(mut client: impl AsyncRead + AsyncWrite + Unpin, word: &[u8]) {
    let farewell = async {
        client.write_all(word).await?;
        client.shutdown().await?;
        discard_until_closed(&mut client).await
    };
    // Whatever fails here, the client is gone or does not listen; there is nothing left to do for it.
    let _: Result<io::Result<()>, _> = timeout(LINGER, farewell).await;
}

async fn discard_until_closed(client: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    // Not part of every connection's task, hardly one of which comes this far.
    let mut scrap = vec![0; 4096];
    let mut budget = DISCARD_LIMIT;
    while budget > 0 {
        match client.read(&mut scrap).await? {
            0 => break,
            length => budget = budget.saturating_sub(length),
        }
    }
    Ok(())
}

/// How long a refused client may take to read its answer and close: a few round trips of any network.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes that are thrown away for one refused client: the largest hello that can wait in the socket, twice.
const DISCARD_LIMIT: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn the_word_arrives_though_the_client_s_bytes_were_never_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        client.write_all(&[0; 60_000]).await.unwrap();
        server.readable().await.unwrap();

        let word = Alert::UnrecognizedName.record();
        let read = async {
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.unwrap();
            drop(client);
            received
        };
        let ((), received) = tokio::join!(say_and_close(server, &word), read);
        assert_eq!(received, [21, 3, 3, 0, 2, 2, 112]);
    }
}
