//! A backend with a real socket that gives its connections to the test.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::patience::soon;

/// Listens on a port of its own.
pub(crate) struct Backend {
    listener: TcpListener,
}

impl Backend {
    pub(crate) async fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub(crate) async fn accept(&self) -> TcpStream {
        soon("the backend is dialled", self.listener.accept()).await.unwrap().0
    }

    /// Sends everything back, on every connection, for the rest of the test.
    pub(crate) fn echo(self) -> SocketAddr {
        let address = self.address();
        tokio::spawn(async move {
            loop {
                let (mut connection, _) = self.listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut bytes = [0; 4096];
                    while let Ok(length @ 1..) = connection.read(&mut bytes).await {
                        connection.write_all(&bytes[..length]).await.unwrap();
                    }
                });
            }
        });
        address
    }
}

/// An address at which nobody listens.
pub(crate) fn closed_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
