//! Bytes arrive complete, in order and by the path that the policy says.

use std::future::pending;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::fixture::{AN_HOUR, Relayed, expect_bytes, expect_end, scenario, send_bytes};
use crate::relay::{DataPath, RelayContext, RelayEnd, RelayOutcome, RelayPolicy};

async fn both_ways(mut relayed: Relayed, total: usize) -> RelayEnd {
    {
        let (mut from_backend, mut to_backend) = relayed.client.split();
        let (mut from_client, mut to_client) = relayed.backend.split();
        tokio::join!(
            async {
                send_bytes(&mut to_backend, 1, total).await;
                to_backend.shutdown().await.unwrap();
            },
            async {
                send_bytes(&mut to_client, 2, total).await;
                to_client.shutdown().await.unwrap();
            },
            expect_bytes(&mut from_client, 1, total),
            expect_bytes(&mut from_backend, 2, total),
        );
    }
    expect_end(&mut relayed.client).await;
    expect_end(&mut relayed.backend).await;
    assert_eq!(relayed.traffic.totals(), (total as u64, total as u64));
    let end = relayed.end().await;
    assert!(matches!(end.outcome, RelayOutcome::Ok), "{end:?}");
    assert_eq!((end.client_to_backend, end.backend_to_client), (total as u64, total as u64));
    end
}

const BULK: usize = 64 << 20;

#[test]
fn bulk_both_ways_is_exact_when_copied() {
    scenario(async {
        let end = both_ways(Relayed::new(RelayPolicy::Copy).await, BULK).await;
        assert_eq!((end.path, end.fallback), (DataPath::Copy, None));
    });
}

#[test]
fn bulk_both_ways_is_exact_when_spliced() {
    scenario(async {
        let end = both_ways(Relayed::new(RelayPolicy::Splice).await, BULK).await;
        assert_eq!((end.path, end.fallback), (DataPath::Splice, None));
    });
}

#[test]
fn bulk_turns_to_splicing_by_itself_and_stays_exact() {
    scenario(async {
        let end = both_ways(Relayed::new(RelayPolicy::Auto).await, BULK).await;
        assert_eq!((end.path, end.fallback), (DataPath::Splice, None));
    });
}

#[test]
fn without_a_pipe_bulk_is_copied_and_the_end_says_why() {
    scenario(async {
        for policy in [RelayPolicy::Auto, RelayPolicy::Splice] {
            let context = RelayContext::with_pipes(policy, 0);
            let end = both_ways(Relayed::with(&context, AN_HOUR, pending()).await, 8 << 20).await;
            assert_eq!((end.path, end.fallback), (DataPath::Copy, Some("no_pipe")));
        }
    });
}

#[test]
fn relays_that_compete_for_one_pipe_stay_exact() {
    scenario(async {
        let context = RelayContext::with_pipes(RelayPolicy::Splice, 1);
        let one = Relayed::with(&context, AN_HOUR, pending()).await;
        let two = Relayed::with(&context, AN_HOUR, pending()).await;
        tokio::join!(both_ways(one, 8 << 20), both_ways(two, 8 << 20));
        assert_eq!(context.pipes().count(), 1);
    });
}

#[test]
fn small_messages_are_copied_and_need_no_pipe() {
    scenario(async {
        let context = RelayContext::new(RelayPolicy::Auto);
        let mut relayed = Relayed::with(&context, AN_HOUR, pending()).await;
        let mut message = [7; 512];
        for _ in 0..1_000 {
            relayed.client.write_all(&message).await.unwrap();
            relayed.backend.read_exact(&mut message).await.unwrap();
            relayed.backend.write_all(&message).await.unwrap();
            relayed.client.read_exact(&mut message).await.unwrap();
        }
        relayed.client.shutdown().await.unwrap();
        relayed.backend.shutdown().await.unwrap();
        let end = relayed.end().await;
        assert_eq!((end.path, end.client_to_backend), (DataPath::Copy, 512_000));
        assert_eq!(context.pipes().count(), 0);
    });
}

#[test]
fn small_messages_are_exact_when_spliced() {
    scenario(async {
        let mut relayed = Relayed::new(RelayPolicy::Splice).await;
        for seed in 0..500 {
            let length = 8 * (seed as usize % 64 + 1);
            send_bytes(&mut relayed.client, seed, length).await;
            expect_bytes(&mut relayed.backend, seed, length).await;
            send_bytes(&mut relayed.backend, seed, length).await;
            expect_bytes(&mut relayed.client, seed, length).await;
        }
        assert_eq!(relayed.traffic.totals().0, relayed.traffic.totals().1);
    });
}

#[test]
fn urgent_data_does_not_end_a_spliced_direction_early() {
    scenario(async {
        let mut relayed = Relayed::new(RelayPolicy::Splice).await;
        relayed.client.write_all(b"before").await.unwrap();
        rustix::net::send(&relayed.client, b"!", rustix::net::SendFlags::OOB).unwrap();
        relayed.client.write_all(b"after").await.unwrap();
        relayed.client.shutdown().await.unwrap();
        let mut received = Vec::new();
        relayed.backend.read_to_end(&mut received).await.unwrap();
        // The urgent byte itself is out of band: a reader of the stream does not see it (tcp(7), SO_OOBINLINE).
        assert_eq!(received, b"beforeafter");
    });
}
