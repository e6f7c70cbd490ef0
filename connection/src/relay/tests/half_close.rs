//! The end of one direction leaves the other one alone.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::fixture::{Relayed, expect_bytes, expect_end, scenario, send_bytes};
use crate::relay::{RelayOutcome, RelayPolicy};

const POLICIES: [RelayPolicy; 3] = [RelayPolicy::Auto, RelayPolicy::Splice, RelayPolicy::Copy];

#[test]
fn a_client_that_has_finished_still_receives() {
    scenario(async {
        for policy in POLICIES {
            let Relayed { mut client, mut backend, relay, .. } = Relayed::new(policy).await;
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut question = Vec::new();
            backend.read_to_end(&mut question).await.unwrap();
            assert_eq!(question, b"question");
            let answer = async {
                send_bytes(&mut backend, 3, 4 << 20).await;
                backend.shutdown().await.unwrap();
            };
            tokio::join!(answer, expect_bytes(&mut client, 3, 4 << 20));
            expect_end(&mut client).await;
            assert!(matches!(relay.await.unwrap().outcome, RelayOutcome::Ok));
        }
    });
}

#[test]
fn a_backend_that_has_finished_still_receives() {
    scenario(async {
        for policy in POLICIES {
            let Relayed { mut client, mut backend, relay, .. } = Relayed::new(policy).await;
            backend.shutdown().await.unwrap();
            expect_end(&mut client).await;
            let upload = async {
                send_bytes(&mut client, 4, 4 << 20).await;
                client.shutdown().await.unwrap();
            };
            tokio::join!(upload, expect_bytes(&mut backend, 4, 4 << 20));
            expect_end(&mut backend).await;
            assert!(matches!(relay.await.unwrap().outcome, RelayOutcome::Ok));
        }
    });
}

#[test]
fn an_end_does_not_overtake_what_a_slow_reader_has_not_taken() {
    scenario(async {
        for policy in POLICIES {
            let Relayed { mut client, mut backend, relay, .. } = Relayed::new(policy).await;
            let upload = async {
                send_bytes(&mut client, 5, 16 << 20).await;
                client.shutdown().await.unwrap();
            };
            tokio::join!(upload, expect_bytes(&mut backend, 5, 16 << 20));
            expect_end(&mut backend).await;
            backend.shutdown().await.unwrap();
            let end = relay.await.unwrap();
            assert!(matches!(end.outcome, RelayOutcome::Ok));
            assert_eq!(end.client_to_backend, 16 << 20);
        }
    });
}
