//! Both ends of the channel in one process, over real sockets.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::TcpStream as TokioStream;

use super::message::tests::sample;
use super::message::{PROTOCOL_VERSION, REQUEST_LIMIT, Request, encode};
use super::*;
use crate::seqpacket::{register, seqpacket};

/// A path of its own for each test; the folder goes away with it.
struct SocketPath(PathBuf);

impl SocketPath {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("handoff-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Self(folder.join("handoff.sock"))
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().unwrap());
    }
}

async fn channel() -> (SocketPath, HandoffListener, HandoffSender, HandoffReceiver) {
    let path = SocketPath::new();
    let listener = HandoffListener::bind(&path.0, 0o600).unwrap();
    let sender = HandoffSender::connect(&path.0).unwrap();
    let receiver = listener.accept().await.unwrap();
    (path, listener, sender, receiver)
}

/// A channel whose sending end is raw.
async fn raw_channel() -> (SocketPath, HandoffListener, OwnedFd, HandoffReceiver) {
    let path = SocketPath::new();
    let listener = HandoffListener::bind(&path.0, 0o600).unwrap();
    let raw = seqpacket().unwrap();
    rustix::net::connect(&raw, &rustix::net::SocketAddrUnix::new(&path.0).unwrap()).unwrap();
    let receiver = listener.accept().await.unwrap();
    (path, listener, raw, receiver)
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    (client, accepted)
}

fn send_raw(socket: &OwnedFd, payload: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(descriptors.is_empty() || control.push(SendAncillaryMessage::ScmRights(descriptors)));
    sendmsg(socket, &[io::IoSlice::new(payload)], &mut control, SendFlags::empty()).unwrap();
}

fn connection_message() -> Vec<u8> {
    encode(&Request::Connection(Cow::Owned(sample("tls"))), REQUEST_LIMIT).unwrap()
}

async fn expect_connection(receiver: &HandoffReceiver) -> (Handoff, TcpStream) {
    match receiver.recv().await.unwrap() {
        Some(Received::Connection(handoff, connection, None)) => (*handoff, connection),
        other => panic!("no connection but {other:?}"),
    }
}

/// One poll; None when it has to wait.
async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    // A budget of its own: an exhausted one looks like waiting.
    tokio::task::yield_now().await;
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn addresses_come_ahead_of_the_connections_that_are_sent_after_them() {
    let (_path, _listener, sender, receiver) = channel().await;
    let addresses = (0..crate::backends::MOST_ADDRESSES as u128).map(|last| {
        // As long as an address can be as text.
        let prefix = 0x2001_1db8_1111_1111_1111_1111_1111_0000_u128;
        std::net::Ipv6Addr::from_bits(prefix + last + 0x1000).into()
    });
    let resolved = ResolvedName { name: "x".repeat(254), addresses: addresses.collect() };
    sender.send_addresses(&resolved).await.unwrap();
    let (_client, accepted) = tcp_pair();
    sender.send(&sample("tls"), &accepted).await.unwrap();
    assert!(matches!(receiver.recv().await.unwrap(), Some(Received::Addresses(same)) if same == resolved));
    expect_connection(&receiver).await;
}

#[tokio::test]
async fn a_connection_arrives_with_its_bytes_unread_and_works() {
    let (_path, _listener, sender, receiver) = channel().await;
    let (mut client, accepted) = tcp_pair();
    client.write_all(b"hello").unwrap();
    let handoff = sample("tls");
    sender.send(&handoff, &accepted).await.unwrap();
    drop(accepted);
    let (received, connection) = expect_connection(&receiver).await;
    assert_eq!(received, handoff);
    assert_eq!(connection.peer_addr().unwrap(), client.local_addr().unwrap());
    assert!(rustix::io::fcntl_getfd(&connection).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    let connection = TokioStream::from_std(connection).unwrap();
    connection.readable().await.unwrap();
    let mut bytes = [0; 16];
    assert_eq!(connection.try_read(&mut bytes).unwrap(), 5);
    assert_eq!(&bytes[..5], b"hello");
    connection.try_write(b"answer").unwrap();
    drop(connection);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"answer");
}

#[tokio::test]
async fn the_peers_uid_is_known() {
    let (_path, _listener, _sender, receiver) = channel().await;
    assert_eq!(receiver.peer_uid().unwrap(), rustix::process::getuid().as_raw());
}

#[tokio::test]
async fn a_full_queue_is_waited_for() {
    let (_path, _listener, sender, receiver) = channel().await;
    let (_client, accepted) = tcp_pair();
    let handoff = sample("tls");
    let mut queued = 0;
    while let Some(sent) = poll_once(sender.send(&handoff, &accepted)).await {
        sent.unwrap();
        queued += 1;
    }
    assert!(queued > 10, "{queued}");
    let last = sample("the last one");
    let receive = async {
        for _ in 0..queued {
            assert_eq!(expect_connection(&receiver).await.0, handoff);
        }
        assert_eq!(expect_connection(&receiver).await.0.listener, "the last one");
    };
    let (sent, ()) = tokio::join!(sender.send(&last, &accepted), receive);
    sent.unwrap();
}

#[tokio::test]
async fn a_send_that_is_given_up_sends_nothing() {
    let (_path, _listener, sender, receiver) = channel().await;
    let (_client, accepted) = tcp_pair();
    let handoff = sample("tls");
    let mut queued = 0;
    while poll_once(sender.send(&handoff, &accepted)).await.is_some() {
        queued += 1;
    }
    assert!(poll_once(sender.send(&sample("given up"), &accepted)).await.is_none());
    receiver.stop();
    for _ in 0..queued {
        assert_eq!(expect_connection(&receiver).await.0.listener, "tls");
    }
    assert!(receiver.recv().await.unwrap().is_none());
}

#[tokio::test]
async fn stop_receives_what_is_queued_and_refuses_the_rest() {
    let (_path, _listener, sender, receiver) = channel().await;
    let (_client, accepted) = tcp_pair();
    for _ in 0..3 {
        sender.send(&sample("tls"), &accepted).await.unwrap();
    }
    receiver.stop();
    let refused = sender.send(&sample("tls"), &accepted).await.unwrap_err();
    assert!(matches!(refused, HandoffError::PeerGone) && refused.can_pass(), "{refused:?}");
    for _ in 0..3 {
        expect_connection(&receiver).await;
    }
    assert!(receiver.recv().await.unwrap().is_none());
    assert!(poll_once(sender.closed()).await.is_none(), "the other end is open still");
    drop(receiver);
    sender.closed().await;
}

#[tokio::test]
async fn a_terminator_that_died_is_noticed_with_messages_unread() {
    let (_path, _listener, sender, receiver) = channel().await;
    let (mut client, accepted) = tcp_pair();
    sender.send(&sample("tls"), &accepted).await.unwrap();
    assert!(poll_once(sender.closed()).await.is_none());
    drop(receiver);
    sender.closed().await;
    for _ in 0..2 {
        let error = sender.send(&sample("tls"), &accepted).await.unwrap_err();
        assert!(matches!(error, HandoffError::PeerGone), "{error:?}");
    }
    assert!(matches!(sender.status().await, Err(HandoffError::PeerGone)));
    // The connection in the lost message closes with the last descriptor: nobody is left hanging.
    drop(accepted);
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
}

#[tokio::test]
async fn a_router_that_died_ends_the_channel() {
    let (_path, _listener, sender, receiver) = channel().await;
    drop(sender);
    assert!(receiver.recv().await.unwrap().is_none());
}

#[tokio::test]
async fn a_status_comes_back_also_when_it_is_large() {
    let (_path, _listener, sender, receiver) = channel().await;
    let certificate = CertificateStatus {
        name: "c".repeat(80),
        serial: "01".repeat(20),
        not_after: 1,
        ..CertificateStatus::default()
    };
    let status = TerminatorStatus {
        tenant: "acme".into(),
        certificates: vec![certificate; 700],
        handshake_seconds: Histogram { bounds: vec![0.1], counts: vec![1, 2], sum: 0.75 },
        ..TerminatorStatus::default()
    };
    let answer = async {
        assert!(matches!(receiver.recv().await.unwrap(), Some(Received::StatusRequest)));
        receiver.send_status(&status).await.unwrap();
    };
    let (received, ()) = tokio::join!(sender.status(), answer);
    assert_eq!(received.unwrap(), status);
}

#[tokio::test]
async fn a_status_that_nobody_waits_for_any_more_is_not_taken_for_the_next() {
    let (_path, _listener, sender, receiver) = channel().await;
    assert!(poll_once(sender.status()).await.is_none());
    let answer = async {
        for pid in [1, 2] {
            assert!(matches!(receiver.recv().await.unwrap(), Some(Received::StatusRequest)));
            receiver.send_status(&TerminatorStatus { pid, ..TerminatorStatus::default() }).await.unwrap();
        }
    };
    let (received, ()) = tokio::join!(sender.status(), answer);
    assert_eq!(received.unwrap().pid, 2);
}

#[tokio::test]
async fn a_watch_for_the_end_does_not_take_the_answer_away() {
    let (_path, _listener, sender, receiver) = channel().await;
    let answer = async {
        receiver.recv().await.unwrap();
        receiver.send_status(&TerminatorStatus::default()).await.unwrap();
    };
    tokio::select! {
        () = sender.closed() => panic!("not closed"),
        (status, ()) = async { tokio::join!(sender.status(), answer) } => { status.unwrap(); }
    }
}

#[tokio::test]
async fn a_source_socket_comes_with_the_connection_that_tells_of_it() {
    let (_path, _listener, sender, receiver) = channel().await;
    let (_client, accepted) = tcp_pair();
    let source = TcpListener::bind("127.0.0.1:0").unwrap();
    let handoff = Handoff { has_source_socket: true, ..sample("tls") };
    sender.send_with(&handoff, &accepted, Some(source.as_fd())).await.unwrap();
    let Some(Received::Connection(got, connection, Some(socket))) = receiver.recv().await.unwrap() else {
        panic!("no connection with a socket")
    };
    assert_eq!((*got, connection.local_addr().unwrap()), (handoff.clone(), accepted.local_addr().unwrap()));
    assert_eq!(TcpListener::from(socket).local_addr().unwrap(), source.local_addr().unwrap());
    sender.send(&handoff, &accepted).await.unwrap();
    assert!(matches!(receiver.recv().await, Err(HandoffError::WrongDescriptors { count: 1 })));
}

#[tokio::test]
async fn surplus_descriptors_are_closed_and_the_channel_goes_on() {
    let (_path, _listener, raw, receiver) = raw_channel().await;
    let (_client, accepted) = tcp_pair();
    let (mut pipe_reader, pipe_writer) = io::pipe().unwrap();
    send_raw(&raw, &connection_message(), &[accepted.as_fd(), pipe_writer.as_fd()]);
    drop(pipe_writer);
    let error = receiver.recv().await.unwrap_err();
    assert!(matches!(error, HandoffError::WrongDescriptors { count: 2 }), "{error:?}");
    assert!(error.is_about_one_message());
    assert_eq!(pipe_reader.read(&mut [0; 1]).unwrap(), 0, "the surplus descriptor is open still");
    send_raw(&raw, &connection_message(), &[accepted.as_fd()]);
    expect_connection(&receiver).await;
}

#[tokio::test]
async fn more_descriptors_than_there_is_room_for_are_all_closed() {
    let (_path, _listener, raw, receiver) = raw_channel().await;
    let (mut pipe_reader, pipe_writer) = io::pipe().unwrap();
    send_raw(&raw, &connection_message(), &[pipe_writer.as_fd(); 8]);
    drop(pipe_writer);
    assert!(matches!(receiver.recv().await, Err(HandoffError::DescriptorsLost)));
    assert_eq!(pipe_reader.read(&mut [0; 1]).unwrap(), 0, "a descriptor is open still");
}

#[tokio::test]
async fn each_wrong_message_is_named_and_the_channel_goes_on() {
    let (_path, _listener, raw, receiver) = raw_channel().await;
    let (_client, accepted) = tcp_pair();
    let null = fs::File::open("/dev/null").unwrap();
    let (_one, datagrams) = std::os::unix::net::UnixDatagram::pair().unwrap();

    send_raw(&raw, &[PROTOCOL_VERSION + 1, b'{', b'}'], &[accepted.as_fd()]);
    assert!(matches!(receiver.recv().await, Err(HandoffError::UnknownVersion { theirs: 2, ours: 1 })));
    send_raw(&raw, &[PROTOCOL_VERSION, b'{'], &[accepted.as_fd()]);
    assert!(matches!(receiver.recv().await, Err(HandoffError::Malformed(_))));
    send_raw(&raw, &connection_message(), &[]);
    assert!(matches!(receiver.recv().await, Err(HandoffError::WrongDescriptors { count: 0 })));
    send_raw(&raw, &vec![PROTOCOL_VERSION; 40_000], &[accepted.as_fd()]);
    assert!(matches!(receiver.recv().await, Err(HandoffError::TooLong { limit: REQUEST_LIMIT })));
    send_raw(&raw, &connection_message(), &[null.as_fd()]);
    assert!(matches!(receiver.recv().await, Err(HandoffError::NotAConnection)));
    send_raw(&raw, &connection_message(), &[datagrams.as_fd()]);
    assert!(matches!(receiver.recv().await, Err(HandoffError::NotAConnection)));

    send_raw(&raw, &connection_message(), &[accepted.as_fd()]);
    expect_connection(&receiver).await;
}

#[tokio::test]
async fn the_socket_file_has_its_mode_and_goes_away() {
    let path = SocketPath::new();
    let listener = HandoffListener::bind(&path.0, 0o660).unwrap();
    assert_eq!(fs::metadata(&path.0).unwrap().permissions().mode() & 0o777, 0o660);
    drop(listener);
    assert!(!path.0.exists());
    let error = HandoffSender::connect(&path.0).unwrap_err();
    assert!(matches!(error, HandoffError::NotListening { .. }) && error.can_pass(), "{error:?}");
    assert!(error.to_string().contains("handoff.sock"), "{error}");
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let path = SocketPath::new();
    drop(std::os::unix::net::UnixListener::bind(&path.0).unwrap());
    assert!(path.0.exists(), "std leaves the file behind, as a crash does");
    let _listener = HandoffListener::bind(&path.0, 0o600).unwrap();
    let error = HandoffListener::bind(&path.0, 0o600).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    HandoffSender::connect(&path.0).unwrap();
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let path = SocketPath::new();
    fs::write(&path.0, "precious").unwrap();
    assert_eq!(HandoffListener::bind(&path.0, 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&path.0).unwrap(), "precious");
}

#[tokio::test]
async fn a_successors_socket_file_survives_our_end() {
    let path = SocketPath::new();
    let old = HandoffListener::bind(&path.0, 0o600).unwrap();
    fs::remove_file(&path.0).unwrap();
    let _new = HandoffListener::bind(&path.0, 0o600).unwrap();
    drop(old);
    HandoffSender::connect(&path.0).unwrap();
}

#[tokio::test]
async fn a_path_that_is_too_long_is_an_error() {
    let path = PathBuf::from(format!("/tmp/{}", "x".repeat(200)));
    assert!(HandoffListener::bind(&path, 0o600).is_err());
    let error = HandoffSender::connect(&path).unwrap_err();
    assert!(matches!(error, HandoffError::Connect { .. }) && !error.can_pass(), "{error:?}");
}

#[tokio::test]
async fn the_priority_wait_sees_no_data() {
    let (one, other) =
        rustix::net::socketpair(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::SEQPACKET, flags(), None)
            .unwrap();
    let watched = register(one, Interest::READABLE | Interest::PRIORITY).unwrap();
    rustix::net::send(&other, b"data", SendFlags::empty()).unwrap();
    watched.readable().await.unwrap().retain_ready();
    assert!(poll_once(watched.ready(Interest::PRIORITY)).await.is_none());
    drop(other);
    watched.ready(Interest::PRIORITY).await.unwrap().retain_ready();
}

fn flags() -> rustix::net::SocketFlags {
    rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK
}
