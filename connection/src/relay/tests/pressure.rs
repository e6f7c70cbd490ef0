//! Slow readers, greedy senders and many connections: what each costs is bounded.

use std::future::pending;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::yield_now;

use super::fixture::{AN_HOUR, Bytes, Relayed, expect_bytes, expect_end, scenario, send_bytes};
use crate::relay::{RelayContext, RelayOutcome, RelayPolicy};

/// Sends until the relay and every queue behind it are full, and returns how much that took.
pub(super) async fn fill(sender: &mut TcpStream, delivered: &AtomicU64) -> usize {
    let mut bytes = Bytes::new(FILL_SEED);
    let mut chunk = vec![0; 8 * 1024];
    let (mut sent, mut unsent) = (0, 0..0);
    let mut quiet = 0;
    while quiet < QUIET_ROUNDS {
        let before = delivered.load(Ordering::Relaxed);
        if unsent.is_empty() {
            bytes.fill(&mut chunk);
            unsent = 0..chunk.len();
        }
        match sender.try_write(&chunk[unsent.clone()]) {
            Ok(length) => {
                unsent.start += length;
                sent += length;
                quiet = 0;
            }
            Err(_) => {
                tokio::time::timeout(QUIET, sender.writable()).await.ok();
                quiet = if delivered.load(Ordering::Relaxed) == before { quiet + 1 } else { 0 };
            }
        }
    }
    sent
}

const FILL_SEED: u64 = 9;
/// Full means that nothing has moved for this many looks of [`QUIET`] each.
const QUIET_ROUNDS: usize = 5;
const QUIET: std::time::Duration = std::time::Duration::from_millis(5);

#[test]
fn a_slow_reader_gets_everything_in_the_end() {
    scenario(async {
        for policy in [RelayPolicy::Auto, RelayPolicy::Splice, RelayPolicy::Copy] {
            let mut relayed = Relayed::new(policy).await;
            let sent = fill(&mut relayed.client, &relayed.traffic.client_to_backend).await;
            assert!(sent > 64 * 1024, "{sent}");
            relayed.client.shutdown().await.unwrap();
            expect_bytes(&mut relayed.backend, FILL_SEED, sent).await;
            expect_end(&mut relayed.backend).await;
            relayed.backend.shutdown().await.unwrap();
            let end = relayed.end().await;
            assert!(matches!(end.outcome, RelayOutcome::Ok), "{end:?}");
            assert_eq!(end.client_to_backend, sent as u64);
        }
    });
}

#[test]
fn a_blocked_direction_does_not_block_the_other() {
    scenario(async {
        let mut relayed = Relayed::new(RelayPolicy::Auto).await;
        fill(&mut relayed.client, &relayed.traffic.client_to_backend).await;
        let (mut client, mut backend) = (relayed.client, relayed.backend);
        tokio::join!(send_bytes(&mut backend, 6, 8 << 20), expect_bytes(&mut client, 6, 8 << 20));
    });
}

#[test]
fn a_bulk_relay_leaves_turns_to_the_others() {
    scenario(async {
        let context = RelayContext::new(RelayPolicy::Auto);
        let bulk = Relayed::with(&context, AN_HOUR, pending()).await;
        let mut small = Relayed::with(&context, AN_HOUR, pending()).await;
        let moved = bulk.traffic.clone();
        // On threads of their own, so that the relay always finds something to move.
        let (mut sender, mut receiver) = (blocking(bulk.client), blocking(bulk.backend));
        std::thread::spawn(move || {
            let chunk = vec![1; 1 << 20];
            while sender.write_all(&chunk).is_ok() {}
        });
        std::thread::spawn(move || {
            let mut chunk = vec![0; 1 << 20];
            while receiver.read(&mut chunk).is_ok_and(|length| length > 0) {}
        });
        while moved.totals().0 < 4 << 20 {
            yield_now().await;
        }
        for _ in 0..200 {
            let before = moved.totals().0;
            small.client.write_all(b"x").await.unwrap();
            small.backend.read_exact(&mut [0; 1]).await.unwrap();
            let meanwhile = moved.totals().0 - before;
            assert!(meanwhile <= 16 << 20, "{meanwhile} bytes of another relay came first");
        }
        bulk.relay.abort();
    });
}

fn blocking(stream: TcpStream) -> std::net::TcpStream {
    let stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream
}

#[test]
fn a_leftover_is_freed_when_it_is_flushed() {
    scenario(async {
        let context = RelayContext::new(RelayPolicy::Splice);
        let mut relayed = Relayed::with(&context, AN_HOUR, pending()).await;
        let sent = fill(&mut relayed.client, &relayed.traffic.client_to_backend).await;
        assert_eq!(context.pipes().lent(), 1);
        expect_bytes(&mut relayed.backend, FILL_SEED, sent).await;
        relayed.client.write_all(b"x").await.unwrap();
        relayed.backend.read_exact(&mut [0; 1]).await.unwrap();
        assert_eq!((context.pipes().lent(), context.pipes().count()), (0, 1));
    });
}
