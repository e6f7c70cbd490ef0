//! Ends a connection that nobody gets: one answer that the client can read, then an orderly close.

use super::lazy_stream::LazyStream;
use super::rejection::Answer;
use super::socket_options::set_receive_low_water_mark;
use ::connection::farewell::say_and_close;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tracing::debug;

/// Sends the answer and closes, which takes a second at most.
pub(super) async fn answer_and_close(stream: LazyStream, answer: Answer) {
    if let LazyStream::Registered(stream) = &stream {
        // The peek may have left a mark that would hide a shorter rest. Where this fails, so will the reads.
        let _ = set_receive_low_water_mark(stream, 1);
    }
    match answer {
        Answer::Alert(alert) => say(stream, &alert.record()).await,
        Answer::AlertInPassing(alert) => say_in_passing(&stream, &alert.record()),
        Answer::PlainHttp400 => say(stream, PLAIN_HTTP_400.as_bytes()).await,
        Answer::Silence => say(stream, &[]).await,
    }
}

async fn say(stream: LazyStream, word: &[u8]) {
    match stream.register() {
        Ok(stream) => say_and_close(stream, word).await,
        Err(error) => debug!(%error, "a client that hears no answer"),
    }
}

/// What has come is read and thrown away, so that the close that follows is a FIN; what comes later gets a RST, after the
/// word.
fn say_in_passing(stream: &LazyStream, word: &[u8]) {
    // Nothing here can fail but on a connection that is gone.
    let _ = recv(stream, &mut [0; USUAL_HELLO], RecvFlags::DONTWAIT);
    let _ = send(stream, word, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}

/// Post-quantum hellos have some 1,700 bytes.
const USUAL_HELLO: usize = 4096;

const PLAIN_HTTP_400: &str = "HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 48\r\n\
    Connection: close\r\n\
    \r\n\
    This port speaks TLS. Use https:// to reach it.\n";

#[cfg(test)]
mod tests {
    use ::connection::Alert;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn an_alert_in_passing_is_followed_by_an_orderly_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        client.write_all(&[0; USUAL_HELLO]).await.unwrap();
        while rustix::io::ioctl_fionread(&stream).unwrap() < USUAL_HELLO as u64 {
            tokio::task::yield_now().await;
        }
        answer_and_close(LazyStream::Registered(stream), Answer::AlertInPassing(Alert::InternalError)).await;
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, Alert::InternalError.record());
    }

    #[test]
    fn the_http_answer_announces_its_true_length() {
        let (head, body) = PLAIN_HTTP_400.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
    }
}
