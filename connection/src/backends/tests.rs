//! The set as its users see it: shares, retries, health.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use config::BackendAddress;

use super::*;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const LIMIT: Duration = Duration::from_secs(3);

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 443))
}

fn set(weights: &[u16], balance: Balance, check: Option<HealthCheck>) -> Arc<Backends> {
    let targets = (1..)
        .zip(weights)
        .map(|(n, weight)| BackendTarget { address: BackendAddress::Ip(address(n)), weight: *weight });
    Arc::new(Backends::new("shop", &targets.collect::<Vec<_>>(), balance, check))
}

fn lease(backends: &Backends, client: IpAddr) -> Lease {
    Lease::take(&backends.current(), client, &[]).unwrap()
}

fn observe(backends: &Backends, index: usize, result: Result<(), &DialError>) {
    backends.observe(&backends.current().list[index], result);
}

/// How often each backend is chosen when nobody keeps a connection.
fn shares(backends: &Arc<Backends>, rounds: usize) -> Vec<usize> {
    let mut counts = vec![0; backends.targets.len()];
    for _ in 0..rounds {
        counts[lease(backends, CLIENT).index] += 1;
    }
    counts
}

fn refused(address: SocketAddr) -> DialError {
    DialError::Refused { address }
}

#[test]
fn round_robin_gives_each_its_weight_evenly_spread() {
    let backends = set(&[5, 1, 1], Balance::RoundRobin, None);
    let turns: Vec<_> = (0..7).map(|_| lease(&backends, CLIENT).index).collect();
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
    let leases: Vec<_> = (0..9).map(|_| lease(&backends, CLIENT)).collect();
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
        clients.iter().map(|client| (*client, lease(&backends, *client).index)).collect()
    };
    let before = homes();
    let share = |index| before.values().filter(|home| **home == index).count();
    assert!(share(0).abs_diff(2000) < 400 && share(2).abs_diff(4000) < 450 && share(3) == 0, "{}", share(2));
    assert_eq!(before, homes());

    observe(&backends, 1, Err(&refused(address(2))));
    let after = homes();
    assert!(before.iter().all(|(client, home)| if *home == 1 { after[client] != 1 } else { after[client] == *home }));
    observe(&backends, 1, Ok(()));
    assert_eq!(before, homes());
}

#[test]
fn a_client_s_home_is_the_same_in_every_version() {
    let backends = set(&[1, 1, 1], Balance::SourceHash, None);
    let home = |client: IpAddr| lease(&backends, client).index;
    let homes: Vec<_> = (1..=8).map(|last| home(Ipv4Addr::new(192, 0, 2, last).into())).collect();
    assert_eq!(homes, HOMES);
    assert_eq!(home(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().into()), homes[0]);
    assert!(home(Ipv6Addr::LOCALHOST.into()) < 3);
}

#[tokio::test]
async fn a_failed_connection_goes_on_to_the_next_backend() {
    let backends = set(&[1, 1, 1], Balance::RoundRobin, None);
    let mut asked = Vec::new();
    let connect = backends.connect(CLIENT, LIMIT, async |backend, _| {
        asked.push(backend.address);
        if asked.len() < 3 { Err(refused(backend.address)) } else { Ok(()) }
    });
    let ((), lease) = connect.await.unwrap();
    assert_eq!(lease.address(), address(3));
    assert_eq!(asked, [address(1), address(2), address(3)]);
}

#[tokio::test]
async fn when_all_refuse_the_last_refusal_is_the_error_and_nothing_stays_counted() {
    let backends = set(&[1, 1], Balance::LeastConnections, None);
    let mut attempts = 0;
    let error = backends.connect(CLIENT, LIMIT, async |backend, _| {
        attempts += 1;
        Err::<(), _>(refused(backend.address))
    });
    assert!(matches!(error.await.unwrap_err(), DialError::Refused { .. }));
    assert_eq!(attempts, 2);
    assert!(backends.states().iter().all(|state| state.active == 0));
}

#[tokio::test]
async fn a_lack_of_this_host_is_not_tried_again_elsewhere() {
    let backends = set(&[1, 1], Balance::RoundRobin, None);
    let mut attempts = 0;
    let error = backends.connect(CLIENT, LIMIT, async |backend, _| {
        attempts += 1;
        Err::<(), _>(DialError::NoMemory { address: backend.address, source: std::io::Error::other("none") })
    });
    assert!(matches!(error.await.unwrap_err(), DialError::NoMemory { .. }));
    assert_eq!(attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_backend_leaves_time_for_the_others() {
    let backends = set(&[1, 1, 1], Balance::RoundRobin, None);
    let mut shares = Vec::new();
    let connect = backends.connect(CLIENT, LIMIT, async |backend, share| {
        shares.push(share);
        if shares.len() == 3 {
            return Ok(());
        }
        tokio::time::sleep(share).await;
        Err(DialError::TimedOut { address: backend.address })
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
        let connect = backends.connect(CLIENT, LIMIT, async |backend, _| {
            attempts += 1;
            Err::<(), _>(refused(backend.address))
        });
        connect.await.unwrap_err()
    };
    assert!(matches!(connect().await, DialError::Refused { .. }));
    assert!(matches!(connect().await, DialError::Refused { .. }));
    assert!(matches!(connect().await, DialError::NoneHealthy { backends: 2 }));
    assert_eq!(attempts, 2);
    assert_eq!(
        backends.states()[0],
        BackendState { address: address(1).to_string(), name: None, up: false, active: 0 }
    );
}

#[tokio::test]
async fn probes_find_a_backend_that_comes_back() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = BackendTarget { address: BackendAddress::Ip(listener.local_addr().unwrap()), weight: 1 };
    let interval = Duration::from_millis(5);
    let check = HealthCheck { interval, timeout: LIMIT, unhealthy_after: 1, healthy_after: 1 };
    let backends = Arc::new(Backends::new("shop", &[target], Balance::Random, Some(check)));
    observe(&backends, 0, Err(&refused(address(1))));
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

fn named(name: &str, port: u16, check: Option<HealthCheck>) -> (Arc<Backends>, BackendName) {
    let name = BackendName::parse(name).unwrap();
    let target = BackendTarget { address: BackendAddress::Name(name.clone(), port), weight: 1 };
    (Arc::new(Backends::new("shop", &[target], Balance::RoundRobin, check)), name)
}

#[tokio::test]
async fn a_name_that_has_not_been_answered_for_is_waited_for() {
    let (backends, name) = named("svc.ns.svc", 443, None);
    let dial = async |backend: &Endpoint, _| Ok(backend.clone());
    let connect = backends.connect(CLIENT, LIMIT, dial);
    let answer = async {
        tokio::task::yield_now().await;
        backends.resolve(&BackendName::parse("other").unwrap(), &[address(9).ip()]);
        backends.resolve(&name, &[address(1).ip()]);
    };
    let (connected, ()) = tokio::join!(connect, answer);
    let (endpoint, lease) = connected.unwrap();
    assert_eq!((endpoint.address, endpoint.name), (address(1), Some(name)));
    assert_eq!(lease.address(), address(1));
}

#[tokio::test(start_paused = true)]
async fn no_address_and_no_answer_are_both_told_by_the_name() {
    let (backends, name) = named("svc.ns.svc", 443, None);
    let connect = || backends.connect(CLIENT, LIMIT, async |_, _| Ok(()));
    let began = Instant::now();
    let error = connect().await.unwrap_err();
    assert_eq!(error.to_string(), "connect to a backend: svc.ns.svc:443 has no address");
    assert!(began.elapsed() >= LIMIT);
    let down = BackendState {
        address: "svc.ns.svc:443".to_owned(),
        name: Some("svc.ns.svc:443".to_owned()),
        up: false,
        active: 0,
    };
    assert_eq!(backends.states(), [down]);
    backends.resolve(&name, &[]);
    let began = Instant::now();
    assert!(matches!(connect().await.unwrap_err(), DialError::NoAddress { .. }));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn an_address_that_stays_keeps_its_health_and_its_connections() {
    let check = HealthCheck { interval: LIMIT, timeout: LIMIT, unhealthy_after: 1, healthy_after: 1 };
    let (backends, name) = named("svc", 443, Some(check));
    backends.resolve(&name, &[address(1).ip(), address(2).ip()]);
    observe(&backends, 0, Err(&refused(address(1))));
    let held = lease(&backends, CLIENT);
    assert_eq!(held.address(), address(2));
    backends.resolve(&name, &[address(3).ip(), address(1).ip(), address(2).ip()]);
    let states: Vec<_> = backends.states().into_iter().map(|state| (state.up, state.active)).collect();
    assert_eq!(states, [(false, 0), (true, 1), (true, 0)]);
    // What is left out gets nothing new, and what it has it keeps to its end.
    backends.resolve(&name, &[address(3).ip()]);
    assert_eq!(lease(&backends, CLIENT).address(), address(3));
    assert_eq!(held.address(), address(2));
    drop(held);
    backends.resolve(&name, &[address(2).ip()]);
    assert_eq!(backends.states()[0].active, 0);
}

#[tokio::test]
async fn probes_follow_the_name() {
    let (one, other) = ("127.0.0.1:0", "127.0.0.2:0");
    let first = std::net::TcpListener::bind(one).unwrap();
    let port = first.local_addr().unwrap().port();
    let second = std::net::TcpListener::bind(other.replace(":0", &format!(":{port}"))).unwrap();
    let interval = Duration::from_millis(5);
    let check = HealthCheck { interval, timeout: LIMIT, unhealthy_after: 1, healthy_after: 1 };
    let (backends, name) = named("svc", port, Some(check));
    let first = tokio::net::TcpListener::from_std({
        first.set_nonblocking(true).unwrap();
        first
    })
    .unwrap();
    let second = tokio::net::TcpListener::from_std({
        second.set_nonblocking(true).unwrap();
        second
    })
    .unwrap();
    let probed = async {
        backends.resolve(&name, &[first.local_addr().unwrap().ip()]);
        first.accept().await.unwrap();
        backends.resolve(&name, &[second.local_addr().unwrap().ip()]);
        second.accept().await.unwrap();
    };
    tokio::select! {
        () = probe(Arc::clone(&backends), ConnectProbe::default()) => panic!("the probes ended"),
        done = tokio::time::timeout(Duration::from_secs(30), probed) => done.unwrap(),
    }
}

/// Worked out by an independent implementation of the same formula.
const HOMES: [usize; 8] = [0, 1, 0, 1, 0, 0, 1, 0];
