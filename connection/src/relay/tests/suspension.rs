//! A relay is stopped and somebody goes on with it, at any moment: neither end notices, and no byte is lost or doubled.

use std::future::{Future, pending};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_local};

use super::fixture::{AN_HOUR, connected, expect_bytes, expect_end, expect_reset, scenario, send_bytes};
use super::pressure::fill;
use crate::relay::{
    Progress, RelayContext, RelayEnd, RelayOutcome, RelayPolicy, Relayed, SuspendedDirection, SuspendedRelay,
    SuspendedStage, Traffic, relay_tcp_until,
};

/// Resolves when it is polled for this time and has itself polled until then.
struct Polls(u32);

impl Future for Polls {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        if self.0 == 0 {
            return Poll::Ready(());
        }
        self.0 -= 1;
        task.waker().wake_by_ref();
        Poll::Pending
    }
}

/// As it would arrive in another process.
fn passed_on(suspended: SuspendedRelay) -> ((TcpStream, TcpStream), Progress) {
    let direction = |direction: SuspendedDirection| {
        let head = serde_json::to_vec(&direction).unwrap();
        SuspendedDirection { undelivered: direction.undelivered, ..serde_json::from_slice(&head).unwrap() }
    };
    let SuspendedRelay { client, backend, progress } = suspended;
    let progress = Progress {
        client_to_backend: direction(progress.client_to_backend),
        backend_to_client: direction(progress.backend_to_client),
        idle: progress.idle,
    };
    ((TcpStream::from_std(client).unwrap(), TcpStream::from_std(backend).unwrap()), progress)
}

/// Relays with a suspension after `polls`, then after one poll more, and so on.
fn interrupted_relay(
    policy: RelayPolicy,
    client: TcpStream,
    backend: TcpStream,
    polls: impl Fn(u32) -> Option<u32> + 'static,
) -> JoinHandle<(RelayEnd, u32)> {
    let (mut connections, mut progress) = ((client, backend), Progress::default());
    spawn_local(async move {
        let mut suspensions = 0;
        loop {
            // Another process has other buffers, pipes and counters.
            let (context, traffic) = (RelayContext::new(policy), Traffic::default());
            let suspend = async {
                match polls(suspensions) {
                    Some(polls) => Polls(polls).await,
                    None => pending().await,
                }
            };
            match relay_tcp_until(&context, connections, progress, AN_HOUR, &traffic, pending(), suspend).await {
                Relayed::Ended(end) => return (end, suspensions),
                Relayed::Suspended(suspended) => {
                    suspensions += 1;
                    (connections, progress) = passed_on(*suspended);
                }
            }
        }
    })
}

#[test]
fn no_byte_is_lost_or_doubled_wherever_it_is_stopped() {
    scenario(async {
        for policy in [RelayPolicy::Auto, RelayPolicy::Splice, RelayPolicy::Copy] {
            for first in 0..8 {
                let (mut client, from_client) = connected().await;
                let (to_backend, mut backend) = connected().await;
                // Each relay lives for another number of polls, from none on, until it is left alone.
                let polls = move |suspensions| (suspensions < 150).then_some(first + suspensions % 5);
                let relay = interrupted_relay(policy, from_client, to_backend, polls);
                let (mut client_reads, mut client_writes) = client.split();
                let (mut backend_reads, mut backend_writes) = backend.split();
                tokio::join!(
                    async {
                        send_bytes(&mut client_writes, 1, TOTAL).await;
                        client_writes.shutdown().await.unwrap();
                    },
                    expect_bytes(&mut backend_reads, 1, TOTAL),
                    send_bytes(&mut backend_writes, 2, TOTAL),
                    expect_bytes(&mut client_reads, 2, TOTAL),
                );
                expect_end(&mut backend).await;
                backend.shutdown().await.unwrap();
                expect_end(&mut client).await;
                let (end, suspensions) = relay.await.unwrap();
                assert!(matches!(end.outcome, RelayOutcome::Ok), "{policy:?} {first} {end:?}");
                assert_eq!((end.client_to_backend, end.backend_to_client), (TOTAL as u64, TOTAL as u64));
                assert!(suspensions > 10, "{policy:?} {first}: {suspensions}");
            }
        }
    });
}

#[test]
fn what_the_sink_has_not_taken_goes_along() {
    scenario(async {
        for policy in [RelayPolicy::Auto, RelayPolicy::Splice, RelayPolicy::Copy] {
            let (mut client, from_client) = connected().await;
            let (to_backend, mut backend) = connected().await;
            let (suspend, suspended) = tokio::sync::oneshot::channel::<()>();
            let traffic = std::rc::Rc::new(Traffic::default());
            let counted = std::rc::Rc::clone(&traffic);
            let first = spawn_local(async move {
                let (context, fresh) = (RelayContext::new(policy), Progress::default());
                let suspend = async { drop(suspended.await) };
                relay_tcp_until(&context, (from_client, to_backend), fresh, AN_HOUR, &counted, pending(), suspend).await
            });
            let sent = fill(&mut client, &traffic.client_to_backend).await;
            client.shutdown().await.unwrap();
            suspend.send(()).unwrap();
            let Relayed::Suspended(relay) = first.await.unwrap() else { panic!("it has ended") };
            assert!(!relay.progress.client_to_backend.undelivered.is_empty(), "{policy:?}: nothing is under way");
            assert_eq!(relay.progress.client_to_backend.stage, SuspendedStage::Flowing);
            let next = spawn_local(async move {
                let (context, (connections, progress)) = (RelayContext::new(policy), passed_on(*relay));
                let traffic = Traffic::default();
                relay_tcp_until(&context, connections, progress, AN_HOUR, &traffic, pending(), pending()).await
            });
            expect_bytes(&mut backend, 9, sent).await;
            expect_end(&mut backend).await;
            backend.write_all(b"late").await.unwrap();
            backend.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"late");
            let Relayed::Ended(end) = next.await.unwrap() else { panic!("nobody has suspended it") };
            assert!(matches!(end.outcome, RelayOutcome::Ok), "{end:?}");
            assert_eq!((end.client_to_backend, end.backend_to_client), (sent as u64, 4));
        }
    });
}

#[test]
fn a_direction_that_has_ended_stays_so() {
    scenario(async {
        let (mut client, from_client) = connected().await;
        let (to_backend, mut backend) = connected().await;
        client.write_all(b"only this").await.unwrap();
        client.shutdown().await.unwrap();
        let polls = |suspensions| (suspensions < 100).then_some(suspensions % 3);
        let relay = interrupted_relay(RelayPolicy::Auto, from_client, to_backend, polls);
        let mut received = Vec::new();
        backend.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"only this");
        send_bytes(&mut backend, 3, TOTAL).await;
        drop(backend);
        expect_bytes(&mut client, 3, TOTAL).await;
        expect_end(&mut client).await;
        let (end, _) = relay.await.unwrap();
        assert!(matches!(end.outcome, RelayOutcome::Ok), "{end:?}");
    });
}

#[test]
fn a_reset_that_comes_while_nobody_relays_is_passed_on() {
    scenario(async {
        let (client, from_client) = connected().await;
        let (to_backend, backend) = connected().await;
        let (context, traffic) = (RelayContext::new(RelayPolicy::Auto), Traffic::default());
        let connections = (from_client, to_backend);
        let fresh = Progress::default();
        let stopped = relay_tcp_until(&context, connections, fresh, AN_HOUR, &traffic, pending(), Polls(2)).await;
        let Relayed::Suspended(relay) = stopped else { panic!("it has ended") };
        crate::reset::reset(client);
        let (connections, progress) = passed_on(*relay);
        let end = relay_tcp_until(&context, connections, progress, AN_HOUR, &traffic, pending(), pending()).await;
        expect_reset(&backend).await;
        assert!(matches!(&end, Relayed::Ended(end) if matches!(end.outcome, RelayOutcome::ClientReset)), "{end:?}");
    });
}

#[test]
fn silence_before_counts() {
    scenario(async {
        let (_client, from_client) = connected().await;
        let (to_backend, _backend) = connected().await;
        let (context, traffic) = (RelayContext::new(RelayPolicy::Auto), Traffic::default());
        let progress = Progress { idle: AN_HOUR - Duration::from_millis(20), ..Progress::default() };
        let connections = (from_client, to_backend);
        let end = relay_tcp_until(&context, connections, progress, AN_HOUR, &traffic, pending(), pending()).await;
        assert!(matches!(&end, Relayed::Ended(end) if matches!(end.outcome, RelayOutcome::IdleTimeout)), "{end:?}");
    });
}

/// Enough that both directions become bulk.
const TOTAL: usize = 4 * 1024 * 1024;
