//! What connections cost the process: memory while they are idle, descriptors when they are over. In a binary of its
//! own, one test at a time, because the kernel counts both per process.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::future::pending;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use connection::ConnectionId;
use connection::handoff::{Handoff, HandoffListener, HandoffSender, Received};
use connection::relay::{RelayContext, RelayEnd, RelayOutcome, RelayPolicy, Traffic, relay_tcp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

/// Binds the sockets' lifetimes to the test: all are closed when it returns.
fn alone(test: impl Future<Output = ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn: MutexGuard<'_, ()> = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limited = async { tokio::time::timeout(Duration::from_secs(120), test).await };
    LocalSet::new().block_on(&runtime, limited).unwrap();
}

async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

async fn relayed(context: &RelayContext) -> (TcpStream, TcpStream, JoinHandle<RelayEnd>) {
    let (client, from_client) = connected().await;
    let (to_backend, backend) = connected().await;
    let (context, traffic, hour) = (context.clone(), Rc::new(Traffic::default()), Duration::from_secs(3600));
    let relay =
        spawn_local(async move { relay_tcp(&context, from_client, to_backend, hour, &traffic, pending()).await });
    (client, backend, relay)
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn resident_bytes() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn a_thousand_idle_relays_own_no_buffers() {
    alone(async {
        let context = RelayContext::new(RelayPolicy::Auto);
        let mut relays = Vec::new();
        let before = resident_bytes();
        for _ in 0..1_000 {
            let (mut client, mut backend, relay) = relayed(&context).await;
            client.write_all(b"hello").await.unwrap();
            backend.read_exact(&mut [0; 5]).await.unwrap();
            relays.push((client, backend, relay));
        }
        let each = resident_bytes().saturating_sub(before) / relays.len();
        println!("{each} resident bytes per idle relay, with its client and its backend");
        assert!(each < 8 * 1024, "{each}");
    });
}

#[test]
fn ended_relays_leave_no_descriptor_behind() {
    alone(async {
        let context = RelayContext::new(RelayPolicy::Auto);
        let before = open_descriptors();
        for _ in 0..200 {
            let (mut client, mut backend, relay) = relayed(&context).await;
            client.shutdown().await.unwrap();
            assert_eq!(backend.read(&mut [0; 1]).await.unwrap(), 0);
            backend.shutdown().await.unwrap();
            assert!(matches!(relay.await.unwrap().outcome, RelayOutcome::Ok));
        }
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn ten_thousand_hand_offs_leave_no_descriptor_behind() {
    alone(async {
        let folder = std::env::temp_dir().join(format!("footprint-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("handoff.sock");
        let listener = HandoffListener::bind(&path, 0o600).unwrap();
        let sender = HandoffSender::connect(&path).unwrap();
        let receiver = listener.accept().await.unwrap();
        let (client, accepted) = connected().await;
        let handoff = Handoff {
            id: ConnectionId(1),
            listener: "tls".into(),
            client: client.local_addr().unwrap(),
            local: client.peer_addr().unwrap(),
            server_name: None,
            alpn: Vec::new(),
            ja4: String::new(),
            accepted_monotonic_ns: 0,
            accepted_unix_ms: 0,
            deadline_monotonic_ns: 0,
            hello_ms: 0.0,
            has_source_socket: false,
        };
        let before = open_descriptors();
        let send = async {
            for _ in 0..10_000 {
                sender.send(&handoff, &accepted).await.unwrap();
            }
        };
        let receive = async {
            for _ in 0..10_000 {
                assert!(matches!(receiver.recv().await.unwrap(), Some(Received::Connection(..))));
            }
        };
        tokio::join!(send, receive);
        assert_eq!(open_descriptors(), before);
        fs::remove_dir_all(&folder).unwrap();
    });
}
