//! A RST on one side becomes a RST on the other, whatever the relay is doing at that moment.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::fixture::{Relayed, connected, expect_end, expect_reset, scenario};
use super::pressure::fill;
use crate::relay::{RelayOutcome, RelayPolicy};
use crate::reset::reset;

const POLICIES: [RelayPolicy; 3] = [RelayPolicy::Auto, RelayPolicy::Splice, RelayPolicy::Copy];

async fn settled(relayed: &mut Relayed) {
    relayed.client.write_all(b"x").await.unwrap();
    relayed.backend.read_exact(&mut [0; 1]).await.unwrap();
}

#[test]
fn of_an_idle_client() {
    scenario(async {
        for policy in POLICIES {
            let mut relayed = Relayed::new(policy).await;
            settled(&mut relayed).await;
            reset(relayed.client);
            expect_reset(&relayed.backend).await;
            assert!(matches!(relayed.relay.await.unwrap().outcome, RelayOutcome::ClientReset));
        }
    });
}

#[test]
fn of_an_idle_backend() {
    scenario(async {
        for policy in POLICIES {
            let mut relayed = Relayed::new(policy).await;
            settled(&mut relayed).await;
            reset(relayed.backend);
            expect_reset(&relayed.client).await;
            assert!(matches!(relayed.relay.await.unwrap().outcome, RelayOutcome::BackendReset));
        }
    });
}

#[test]
fn of_a_client_that_had_finished_while_the_backend_is_silent() {
    scenario(async {
        for policy in POLICIES {
            let mut relayed = Relayed::new(policy).await;
            relayed.client.shutdown().await.unwrap();
            expect_end(&mut relayed.backend).await;
            reset(relayed.client);
            expect_reset(&relayed.backend).await;
            assert!(matches!(relayed.relay.await.unwrap().outcome, RelayOutcome::ClientReset));
        }
    });
}

#[test]
fn of_a_backend_that_had_finished_while_the_client_is_silent() {
    scenario(async {
        for policy in POLICIES {
            let mut relayed = Relayed::new(policy).await;
            relayed.backend.shutdown().await.unwrap();
            expect_end(&mut relayed.client).await;
            reset(relayed.backend);
            expect_reset(&relayed.client).await;
            assert!(matches!(relayed.relay.await.unwrap().outcome, RelayOutcome::BackendReset));
        }
    });
}

#[test]
fn of_a_client_that_is_not_read_from_because_the_backend_is_full() {
    scenario(async {
        for policy in POLICIES {
            let mut relayed = Relayed::new(policy).await;
            fill(&mut relayed.client, &relayed.traffic.client_to_backend).await;
            reset(relayed.client);
            expect_reset(&relayed.backend).await;
            assert!(matches!(relayed.relay.await.unwrap().outcome, RelayOutcome::ClientReset));
        }
    });
}

#[test]
fn of_a_backend_that_is_full() {
    scenario(async {
        for policy in POLICIES {
            let mut relayed = Relayed::new(policy).await;
            fill(&mut relayed.client, &relayed.traffic.client_to_backend).await;
            reset(relayed.backend);
            expect_reset(&relayed.client).await;
            assert!(matches!(relayed.relay.await.unwrap().outcome, RelayOutcome::BackendReset));
        }
    });
}

#[test]
fn of_a_client_that_closes_without_reading() {
    scenario(async {
        let mut relayed = Relayed::new(RelayPolicy::Auto).await;
        relayed.backend.write_all(b"unread").await.unwrap();
        relayed.client.readable().await.unwrap();
        drop(relayed.client);
        expect_reset(&relayed.backend).await;
        assert!(matches!(relayed.relay.await.unwrap().outcome, RelayOutcome::ClientReset));
    });
}

#[test]
fn what_a_backend_sent_before_its_reset_still_arrives() {
    scenario(async {
        let (mut client, from_client) = connected().await;
        let (to_backend, mut backend) = connected().await;
        backend.write_all(b"413 too large").await.unwrap();
        to_backend.readable().await.unwrap();
        reset(backend);
        to_backend.ready(tokio::io::Interest::ERROR).await.unwrap();
        let relayed = tokio::task::spawn_local(async move {
            let context = crate::relay::RelayContext::new(RelayPolicy::Auto);
            let traffic = crate::relay::Traffic::default();
            let hour = super::fixture::AN_HOUR;
            crate::relay::relay_tcp(&context, from_client, to_backend, hour, &traffic, std::future::pending()).await
        });
        let mut answer = [0; 13];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"413 too large");
        let end = relayed.await.unwrap();
        assert!(matches!(end.outcome, RelayOutcome::BackendReset), "{end:?}");
        expect_reset(&client).await;
    });
}
