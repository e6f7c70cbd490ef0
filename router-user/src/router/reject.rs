//! Ends a connection that nobody gets: one answer that the client can read, then an orderly close.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::rejection::{Alert, Answer};
use super::socket_options::set_receive_low_water_mark;

/// Sends the answer and closes. Takes [`LINGER`] at most.
///
/// A close with unread bytes in the receive queue would be a RST (RFC 2525 section 2.17), which can destroy the answer
/// before the client reads it. So what the client sent is read and thrown away until it closes too, within bounds.
pub(super) async fn answer_and_close(mut stream: TcpStream, answer: Answer) {
    let farewell = async {
        // The peek may have left a mark that would hide a shorter rest.
        set_receive_low_water_mark(&stream, 1)?;
        match answer {
            Answer::Alert(alert) => stream.write_all(&alert_record(alert)).await?,
            Answer::PlainHttp400 => stream.write_all(PLAIN_HTTP_400.as_bytes()).await?,
            Answer::Silence => {}
        }
        stream.shutdown().await?;
        discard_until_closed(&stream).await
    };
    // Whatever fails here, the client is gone or does not listen; there is nothing left to do for it.
    let _: Result<io::Result<()>, _> = timeout(LINGER, farewell).await;
}

/// A fatal alert in a record of its own (RFC 8446 sections 5.1 and 6).
fn alert_record(alert: Alert) -> [u8; 7] {
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    [ALERT, 0x03, 0x03, 0x00, 0x02, FATAL, alert as u8]
}

async fn discard_until_closed(stream: &TcpStream) -> io::Result<()> {
    let mut scrap = [0; 4096];
    let mut budget = DISCARD_LIMIT;
    while budget > 0 {
        stream.ready(Interest::READABLE).await?;
        match stream.try_read(&mut scrap) {
            Ok(0) => return Ok(()),
            Ok(length) => budget = budget.saturating_sub(length),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How long a rejected client may take to read its answer and close: a few round trips of any network.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes that are thrown away for one rejected client: the largest hello that can wait in the socket, twice.
const DISCARD_LIMIT: usize = 128 * 1024;

const PLAIN_HTTP_400: &str = "HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 48\r\n\
    Connection: close\r\n\
    \r\n\
    This port speaks TLS. Use https:// to reach it.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_http_answer_announces_its_true_length() {
        let (head, body) = PLAIN_HTTP_400.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
    }
}
