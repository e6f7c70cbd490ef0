//! What ends a relay from outside: time, the caller, being dropped.

use std::future::pending;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::fixture::{AN_HOUR, Relayed, expect_end, expect_reset, scenario};
use crate::relay::{RelayContext, RelayOutcome, RelayPolicy};

#[test]
fn silence_ends_it() {
    scenario(async {
        let context = RelayContext::new(RelayPolicy::Auto);
        let relayed = Relayed::with(&context, Duration::from_millis(50), pending()).await;
        expect_reset(&relayed.client).await;
        expect_reset(&relayed.backend).await;
        assert!(matches!(relayed.end().await.outcome, RelayOutcome::IdleTimeout));
    });
}

#[test]
fn a_byte_either_way_puts_the_idle_timeout_off() {
    scenario(async {
        let context = RelayContext::new(RelayPolicy::Auto);
        let idle = Duration::from_millis(400);
        let mut relayed = Relayed::with(&context, idle, pending()).await;
        let started = Instant::now();
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        while started.elapsed() < 2 * idle {
            pace.tick().await;
            relayed.backend.write_all(b"x").await.unwrap();
            relayed.client.read_exact(&mut [0; 1]).await.unwrap();
        }
        let last = Instant::now();
        expect_reset(&relayed.client).await;
        assert!(last.elapsed() >= idle - Duration::from_millis(50), "{:?}", last.elapsed());
        assert!(matches!(relayed.end().await.outcome, RelayOutcome::IdleTimeout));
    });
}

#[test]
fn half_closed_and_silent_is_idle_too() {
    scenario(async {
        let context = RelayContext::new(RelayPolicy::Auto);
        let mut relayed = Relayed::with(&context, Duration::from_millis(50), pending()).await;
        relayed.client.shutdown().await.unwrap();
        expect_end(&mut relayed.backend).await;
        assert!(matches!(relayed.end().await.outcome, RelayOutcome::IdleTimeout));
    });
}

#[test]
fn the_largest_idle_timeout_does_not_overflow() {
    scenario(async {
        let context = RelayContext::new(RelayPolicy::Auto);
        let mut relayed = Relayed::with(&context, Duration::MAX, pending()).await;
        relayed.client.write_all(b"x").await.unwrap();
        relayed.backend.read_exact(&mut [0; 1]).await.unwrap();
    });
}

#[test]
fn the_caller_ends_it_and_learns_what_had_moved() {
    scenario(async {
        let (pull, pulled) = oneshot::channel::<()>();
        let context = RelayContext::new(RelayPolicy::Auto);
        let stop = async {
            let _ = pulled.await;
        };
        let mut relayed = Relayed::with(&context, AN_HOUR, stop).await;
        relayed.client.write_all(b"four").await.unwrap();
        relayed.backend.read_exact(&mut [0; 4]).await.unwrap();
        pull.send(()).unwrap();
        expect_reset(&relayed.client).await;
        expect_reset(&relayed.backend).await;
        let end = relayed.end().await;
        assert!(matches!(end.outcome, RelayOutcome::Stopped), "{end:?}");
        assert_eq!(end.client_to_backend, 4);
    });
}

#[test]
fn dropping_it_resets_both() {
    scenario(async {
        let mut relayed = Relayed::new(RelayPolicy::Auto).await;
        relayed.client.write_all(b"x").await.unwrap();
        relayed.backend.read_exact(&mut [0; 1]).await.unwrap();
        relayed.relay.abort();
        expect_reset(&relayed.client).await;
        expect_reset(&relayed.backend).await;
    });
}
