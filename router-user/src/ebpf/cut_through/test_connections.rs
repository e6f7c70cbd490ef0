//! For tests: two connections over loopback that could be switched.

use std::net::{self, SocketAddr};

use router_common::cut_through::{FlowKey, Sighting};
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::install::Attempt;
use super::raw::{self, Repair, Sequences};
use super::record;

/// One from a client that has sent its hello, and one to a backend that has heard nothing.
pub(super) struct Connections {
    pub(super) far_client: TcpStream,
    pub(super) client: net::TcpStream,
    pub(super) backend: net::TcpStream,
    pub(super) far_backend: TcpStream,
    pub(super) attempt: Attempt,
    /// Of the backend's packets, and what the programs would have noted of its SYN-ACK.
    pub(super) backend_key: FlowKey,
    pub(super) backend_sighting: Sighting,
}

impl Connections {
    pub(super) async fn with_hello() -> Self {
        let (mut far_client, client) = pair().await;
        let (backend, far_backend) = pair().await;
        far_client.write_all(HELLO).await.unwrap();
        client.readable().await.unwrap();
        let (backend_address, local) = (backend.peer_addr().unwrap(), backend.local_addr().unwrap());
        let peers_syn = sequences(&client).receive.wrapping_sub(HELLO.len() as u32 + 1);
        let own_syn = sequences(&backend).send.wrapping_sub(1);
        let attempt = Attempt {
            client: client.peer_addr().unwrap(),
            local: client.local_addr().unwrap(),
            client_sighting: sighting(peers_syn),
            backend: backend_address,
            port: local.port(),
        };
        Self {
            far_client,
            client: client.into_std().unwrap(),
            backend: backend.into_std().unwrap(),
            far_backend,
            attempt,
            backend_key: record::key(backend_address, local),
            backend_sighting: sighting(own_syn),
        }
    }
}

/// Both ends of a connection over loopback with segments of an ordinary size.
async fn pair() -> (TcpStream, TcpStream) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_tcp_mss(1400).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(1).unwrap();
    socket.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(socket.into()).unwrap();
    let connecting = TcpSocket::new_v4().unwrap();
    raw::set_maximum_segment(&connecting, 1400).unwrap();
    let (connected, accepted) = tokio::join!(connecting.connect(listener.local_addr().unwrap()), listener.accept());
    (connected.unwrap(), accepted.unwrap().0)
}

fn sequences(socket: &TcpStream) -> Sequences {
    let sequences = raw::enter_repair(socket).unwrap();
    raw::set_repair(socket, Repair::OffWithoutProbe).unwrap();
    sequences
}

/// What the programs would have noted of a connection whose SYN had this number.
fn sighting(sequence: u32) -> Sighting {
    Sighting { arrives: 1, leaves: 1, sequence, arrived: 0, left: 0 }
}

pub(super) const HELLO: &[u8; 5] = b"hello";
