//! Ends a connection that nobody gets: one answer that the client can read, then an orderly close.

use ::connection::farewell::say_and_close;
use tokio::net::TcpStream;

use super::rejection::Answer;
use super::socket_options::set_receive_low_water_mark;

/// Sends the answer and closes, which takes a second at most.
pub(super) async fn answer_and_close(stream: TcpStream, answer: Answer) {
    // The peek may have left a mark that would hide a shorter rest. Where this fails, so will the reads.
    let _ = set_receive_low_water_mark(&stream, 1);
    match answer {
        Answer::Alert(alert) => say_and_close(stream, &alert.record()).await,
        Answer::PlainHttp400 => say_and_close(stream, PLAIN_HTTP_400.as_bytes()).await,
        Answer::Silence => say_and_close(stream, &[]).await,
    }
}

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
