//! Abortive close: the peer sees a RST, and nothing that is still queued is sent.

use std::os::fd::AsFd;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

/// Closes the connection with a RST.
pub fn reset(connection: TcpStream) {
    close_will_reset(&connection);
}

/// Makes the socket's last close send a RST (socket(7), SO_LINGER with a time of zero). A failure means that the
/// socket is no TCP socket any more, and then there is nobody to tell.
pub fn close_will_reset(socket: &impl AsFd) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn the_peer_sees_a_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        super::reset(server);
        let error = client.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}
