//! A client and a backend with a relay between them, and reproducible bytes to send through it.

use std::future::{Future, pending};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use crate::relay::{RelayContext, RelayEnd, RelayPolicy, Traffic, relay_tcp};

pub(super) struct Relayed {
    pub(super) client: TcpStream,
    pub(super) backend: TcpStream,
    pub(super) traffic: Rc<Traffic>,
    pub(super) relay: JoinHandle<RelayEnd>,
}

impl Relayed {
    pub(super) async fn new(policy: RelayPolicy) -> Self {
        Self::with(&RelayContext::new(policy), AN_HOUR, pending()).await
    }

    pub(super) async fn with(
        context: &RelayContext,
        idle_timeout: Duration,
        stop: impl Future<Output = ()> + 'static,
    ) -> Self {
        let (client, from_client) = connected().await;
        let (to_backend, backend) = connected().await;
        let traffic = Rc::new(Traffic::default());
        let (context, counters) = (context.clone(), Rc::clone(&traffic));
        let relay =
            spawn_local(
                async move { relay_tcp(&context, from_client, to_backend, idle_timeout, &counters, stop).await },
            );
        Self { client, backend, traffic, relay }
    }

    pub(super) async fn end(self) -> RelayEnd {
        self.relay.await.unwrap()
    }
}

/// Both ends of a connection, with TCP_NODELAY.
pub(super) async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    (near, far)
}

/// Runs a scenario on one thread, as a worker does, and fails when it hangs.
pub(super) fn scenario(scenario: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limited = async { tokio::time::timeout(Duration::from_secs(60), scenario).await };
    LocalSet::new().block_on(&runtime, limited).expect("the scenario hangs");
}

/// Waits for a RST and fails on anything else that ends the connection.
pub(super) async fn expect_reset(stream: &TcpStream) {
    stream.ready(Interest::ERROR).await.unwrap();
    let errno = stream.take_error().unwrap().expect("an error").raw_os_error();
    // After a FIN the kernel reports a RST as EPIPE (tcp_reset in net/ipv4/tcp_input.c).
    let (connreset, pipe) = (rustix::io::Errno::CONNRESET, rustix::io::Errno::PIPE);
    assert!(errno == Some(connreset.raw_os_error()) || errno == Some(pipe.raw_os_error()), "{errno:?}");
}

pub(super) async fn expect_end(stream: &mut TcpStream) {
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
}

/// The same bytes for the same seed (xorshift64*), so that a receiver can check each of them.
pub(super) struct Bytes(u64);

impl Bytes {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    pub(super) fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            let word = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// Sends `total` bytes (a multiple of 8) of this seed.
pub(super) async fn send_bytes(sink: &mut (impl AsyncWriteExt + Unpin), seed: u64, total: usize) {
    let mut bytes = Bytes::new(seed);
    let mut chunk = vec![0; CHUNK];
    let mut left = total;
    while left > 0 {
        let length = left.min(CHUNK);
        bytes.fill(&mut chunk[..length]);
        sink.write_all(&chunk[..length]).await.unwrap();
        left -= length;
    }
}

/// Receives `total` bytes of this seed, each of which has to be right.
pub(super) async fn expect_bytes(source: &mut (impl AsyncReadExt + Unpin), seed: u64, total: usize) {
    let mut bytes = Bytes::new(seed);
    let (mut received, mut expected) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut left = total;
    while left > 0 {
        let length = left.min(CHUNK);
        source.read_exact(&mut received[..length]).await.unwrap();
        bytes.fill(&mut expected[..length]);
        assert!(received[..length] == expected[..length], "wrong bytes within the last {left}");
        left -= length;
    }
}

pub(super) const AN_HOUR: Duration = Duration::from_secs(3600);
const CHUNK: usize = 48 * 1024;
