//! The set as its users see it: shares, retries, health.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use config::BackendTarget;

use super::*;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const LIMIT: Duration = Duration::from_secs(3);

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 443))
}

fn set(weights: &[u16], balance: Balance, check: Option<HealthCheck>) -> Arc<Backends> {
    let targets = (1..).zip(weights).map(|(n, weight)| BackendTarget { address: address(n), weight: *weight });
    Arc::new(Backends::new("shop", &targets.collect::<Vec<_>>(), balance, check))
}

/// How often each backend is chosen when nobody keeps a connection.
fn shares(backends: &Arc<Backends>, rounds: usize) -> Vec<usize> {
    let mut counts = vec![0; backends.list.len()];
    for _ in 0..rounds {
        counts[backends.lease(CLIENT, &[]).unwrap().index] += 1;
    }
    counts
}

fn refused(address: SocketAddr) -> DialError {
    DialError::Refused { address }
}

#[test]
fn round_robin_gives_each_its_weight_evenly_spread() {
    let backends = set(&[5, 1, 1], Balance::RoundRobin, None);
    let turns: Vec<_> = (0..7).map(|_| backends.lease(CLIENT, &[]).unwrap().index).collect();
    assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0]);
    assert_eq!(shares(&set(&[200, 100], Balance::RoundRobin, None), 300), [200, 100]);
}

#[test]
fn random_gives_each_about_its_weight_and_nothing_to_weight_zero() {
    let counts = shares(&set(&[3, 1, 0], Balance::Random, None), 40_000);
    assert_eq!(counts[2], 0);
    // Ten standard deviations of a binomial distribution.
    assert!(counts[0].abs_diff(30_000) < 900, "{counts:?}");
}

#[test]
fn least_connections_counts_what_is_open_by_weight() {
    let backends = set(&[1, 2], Balance::LeastConnections, None);
    let leases: Vec<_> = (0..9).map(|_| backends.lease(CLIENT, &[]).unwrap()).collect();
    assert_eq!(backends.states().iter().map(|state| state.active).collect::<Vec<_>>(), [3, 6]);
    drop(leases);
    assert!(backends.states().iter().all(|state| state.active == 0));
    assert_eq!(shares(&set(&[1, 1], Balance::LeastConnections, None), 10), [5, 5]);
}

#[test]
fn a_backend_that_goes_moves_only_its_own_clients() {
    let check = HealthCheck { interval: LIMIT, timeout: LIMIT, unhealthy_after: 1, healthy_after: 1 };
    let backends = set(&[1, 1, 2, 0], Balance::SourceHash, Some(check));
    let clients: Vec<IpAddr> = (0..8000_u32).map(|number| Ipv4Addr::from_bits(0xC000_0200 + number).into()).collect();
    let homes = || -> HashMap<IpAddr, usize> {
        clients.iter().map(|client| (*client, backends.lease(*client, &[]).unwrap().index)).collect()
    };
    let before = homes();
    let share = |index| before.values().filter(|home| **home == index).count();
    assert!(share(0).abs_diff(2000) < 400 && share(2).abs_diff(4000) < 450 && share(3) == 0, "{}", share(2));
    assert_eq!(before, homes());

    backends.observe(1, Err(&refused(address(2))));
    let after = homes();
    assert!(before.iter().all(|(client, home)| if *home == 1 { after[client] != 1 } else { after[client] == *home }));
    backends.observe(1, Ok(()));
    assert_eq!(before, homes());
}

#[test]
fn a_client_s_home_is_the_same_in_every_version() {
    let backends = set(&[1, 1, 1], Balance::SourceHash, None);
    let home = |client: IpAddr| backends.lease(client, &[]).unwrap().index;
    let homes: Vec<_> = (1..=8).map(|last| home(Ipv4Addr::new(192, 0, 2, last).into())).collect();
    assert_eq!(homes, HOMES);
    assert_eq!(home(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().into()), homes[0]);
    assert!(home(Ipv6Addr::LOCALHOST.into()) < 3);
}

#[tokio::test]
async fn a_failed_connection_goes_on_to_the_next_backend() {
    let backends = set(&[1, 1, 1], Balance::RoundRobin, None);
    let mut asked = Vec::new();
    let connect = backends.connect(CLIENT, LIMIT, async |address, _| {
        asked.push(address);
        if asked.len() < 3 { Err(refused(address)) } else { Ok(()) }
    });
    let ((), lease) = connect.await.unwrap();
    assert_eq!(lease.address(), address(3));
    assert_eq!(asked, [address(1), address(2), address(3)]);
}

#[tokio::test]
async fn when_all_refuse_the_last_refusal_is_the_error_and_nothing_stays_counted() {
    let backends = set(&[1, 1], Balance::LeastConnections, None);
    let mut attempts = 0;
    let error = backends.connect(CLIENT, LIMIT, async |address, _| {
        attempts += 1;
        Err::<(), _>(refused(address))
    });
    assert!(matches!(error.await.unwrap_err(), DialError::Refused { .. }));
    assert_eq!(attempts, 2);
    assert!(backends.states().iter().all(|state| state.active == 0));
}

#[tokio::test]
async fn a_lack_of_this_host_is_not_tried_again_elsewhere() {
    let backends = set(&[1, 1], Balance::RoundRobin, None);
    let mut attempts = 0;
    let error = backends.connect(CLIENT, LIMIT, async |address, _| {
        attempts += 1;
        Err::<(), _>(DialError::NoMemory { address, source: std::io::Error::other("none") })
    });
    assert!(matches!(error.await.unwrap_err(), DialError::NoMemory { .. }));
    assert_eq!(attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_backend_leaves_time_for_the_others() {
    let backends = set(&[1, 1, 1], Balance::RoundRobin, None);
    let mut shares = Vec::new();
    let connect = backends.connect(CLIENT, LIMIT, async |address, share| {
        shares.push(share);
        if shares.len() == 3 {
            return Ok(());
        }
        tokio::time::sleep(share).await;
        Err(DialError::TimedOut { address })
    });
    connect.await.unwrap();
    let near = |share: &Duration| share.abs_diff(Duration::from_secs(1)) < Duration::from_millis(5);
    assert!(shares.iter().all(near), "{shares:?}");
}

#[tokio::test]
async fn refusals_take_a_backend_out_and_without_any_the_answer_is_at_once() {
    let check = HealthCheck { interval: LIMIT, timeout: LIMIT, unhealthy_after: 2, healthy_after: 1 };
    let backends = set(&[1, 0], Balance::RoundRobin, Some(check));
    let mut attempts = 0;
    let mut connect = async || {
        let connect = backends.connect(CLIENT, LIMIT, async |address, _| {
            attempts += 1;
            Err::<(), _>(refused(address))
        });
        connect.await.unwrap_err()
    };
    assert!(matches!(connect().await, DialError::Refused { .. }));
    assert!(matches!(connect().await, DialError::Refused { .. }));
    assert!(matches!(connect().await, DialError::NoneHealthy { backends: 2 }));
    assert_eq!(attempts, 2);
    assert_eq!(backends.states()[0], BackendState { address: address(1), up: false, active: 0 });
}

#[tokio::test]
async fn probes_find_a_backend_that_comes_back() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = BackendTarget { address: listener.local_addr().unwrap(), weight: 1 };
    let interval = Duration::from_millis(5);
    let check = HealthCheck { interval, timeout: LIMIT, unhealthy_after: 1, healthy_after: 1 };
    let backends = Arc::new(Backends::new("shop", &[target], Balance::Random, Some(check)));
    backends.observe(0, Err(&refused(address(1))));
    assert!(!backends.states()[0].up);
    let healthy = async {
        while !backends.states()[0].up {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = probe(Arc::clone(&backends), ConnectProbe::default()) => panic!("the probes ended"),
        back = tokio::time::timeout(Duration::from_secs(30), healthy) => back.unwrap(),
    }
}

/// Worked out by an independent implementation of the same formula.
const HOMES: [usize; 8] = [0, 1, 0, 1, 0, 0, 1, 0];
