//! Backends that refuse, swallow, reset, or never read.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tests::patience::{PATIENCE, eventually};
use tests::processes::proportional_set_size;

use super::scene::{Connection, Scene, Way, backend};

#[test]
fn one_that_refuses_is_an_immediate_end() {
    for way in Way::ALL {
        let Some(scene) = Scene::start(way, "", |network| network.backend.free_address().unwrap()) else { return };
        let begin = Instant::now();
        assert_failed(&scene, scene.connect().unwrap());
        assert!(begin.elapsed() < CONNECT_TIMEOUT, "{way:?}: the client waited for a time-out");
        scene.assert_counted("backend_refused", 1);
        scene.assert_others_served();
    }
}

#[test]
fn all_of_them_down_is_an_immediate_end_until_one_is_back() {
    for way in Way::ALL {
        let check = "healthCheck: { interval: 20ms, timeout: 1s, unhealthyAfter: 2, healthyAfter: 2 }";
        let mut at = None;
        let address = |network: &tests::network::Network| *at.insert(network.backend.free_address().unwrap());
        let Some(scene) = Scene::start(way, check, address) else { return };
        let is_up = |up: f64| {
            let labels = [("tenant", "faulty")];
            let metrics = scene.network.router.run(|| scene.router.metrics()).ok()?;
            let known = metrics.has("sni_router_backend_up", &labels);
            (known && metrics.sum("sni_router_backend_up", &labels) == up).then_some(())
        };
        eventually(PATIENCE, "the backend is down", || is_up(0.0)).unwrap();
        assert_failed(&scene, scene.connect().unwrap());
        scene.assert_counted("none_healthy", 1);
        scene.assert_others_served();
        let start = || tests::fakes::Echo::start_on(at.unwrap());
        let _back = scene.network.backend.run(start).unwrap();
        eventually(PATIENCE, "the backend is up", || is_up(1.0)).unwrap();
        assert_echoes(&scene);
    }
}

#[test]
fn one_that_swallows_what_comes_is_given_up_after_the_connect_timeout() {
    for way in Way::ALL {
        let mut echo = None;
        let start = |network: &tests::network::Network| {
            let address = network.backend.free_address().unwrap();
            echo = Some(network.backend.run(|| tests::fakes::Echo::start_on(address)).unwrap());
            address
        };
        let Some(scene) = Scene::start(way, "connectTimeout: 500ms", start) else { return };
        // The SYN arrives, its answer goes nowhere.
        let router = match echo.as_ref().unwrap().address() {
            SocketAddr::V4(address) => {
                let [a, b, c, _] = address.ip().octets();
                format!("{a}.{b}.{c}.0/25")
            }
            SocketAddr::V6(_) => panic!("IPv4 is meant"),
        };
        scene.network.backend.ip(&format!("route add blackhole {router}")).unwrap();
        let client = scene.connect().unwrap();
        scene.assert_others_served();
        assert_failed(&scene, client);
        scene.assert_counted("backend_timed_out", 1);
        scene.network.backend.ip(&format!("route del blackhole {router}")).unwrap();
        assert_echoes(&scene);
    }
}

#[test]
fn one_that_resets_in_the_middle_is_no_orderly_end() {
    for way in Way::ALL {
        let mut server = None;
        let start = |network: &tests::network::Network| {
            let serve = |mut stream: std::net::TcpStream| {
                // Who speaks before the hello is relayed.
                read_until(&mut stream, START)?;
                stream.write_all(&[b'x'; FIRST_PART])?;
                read_until(&mut stream, NOW)?;
                SockRef::from(&stream).set_linger(Some(Duration::ZERO))
            };
            server.insert(backend(network, serve)).address()
        };
        let Some(scene) = Scene::start(way, "", start) else { return };
        let mut client = scene.connect().unwrap();
        client.write_all(START).unwrap();
        client.flush().unwrap();
        let mut bytes = vec![0; FIRST_PART];
        client.read_exact(&mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == b'x'), "{way:?}");
        client.write_all(NOW).unwrap();
        client.flush().unwrap();
        let end = client.end().expect_err("a reset looked like an orderly end");
        let expected = match way {
            // The relay's RST overtakes nothing: the client's TLS sees the same.
            Way::Terminate => [ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof],
            _ => [ErrorKind::ConnectionReset; 2],
        };
        assert!(expected.contains(&end.kind()), "{way:?}: {end}");
        scene.assert_counted("backend_reset", 1);
        scene.assert_path(1);
        scene.assert_others_served();
    }
}

#[test]
fn one_that_never_reads_costs_bounded_memory_until_the_idle_timeout() {
    for way in Way::ALL {
        let mut server = None;
        let (release, held) = channel::<()>();
        let held = Mutex::new(held);
        let start = |network: &tests::network::Network| {
            let serve = move |stream: std::net::TcpStream| -> io::Result<()> {
                let _ = held.lock().unwrap_or_else(PoisonError::into_inner).recv();
                drop(stream);
                Ok(())
            };
            server.insert(backend(network, serve)).address()
        };
        let Some(scene) = Scene::start(way, "idleTimeout: 2s", start) else { return };
        let relays = match way {
            Way::Terminate => scene.router.terminator_pid("faulty").unwrap(),
            _ => scene.router.router_pid().unwrap(),
        };
        let before = proportional_set_size(relays).unwrap();
        let stalled = |_| {
            let mut client = scene.connect().unwrap();
            client.socket().set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            let mut sent = 0;
            while client.write(&[b'x'; 64 * 1024]).is_ok_and(|written| written > 0) {
                sent += 64 * 1024;
                assert!(sent < MOST_THAT_BUFFERS_TAKE, "{way:?}: somebody reads without bound");
            }
            client
        };
        let mut clients: Vec<_> = (0..STALLED).map(stalled).collect();
        scene.assert_others_served();
        let grown = proportional_set_size(relays).unwrap().saturating_sub(before);
        assert!(grown < MOST_MEMORY, "{way:?}: {grown} bytes");
        scene.assert_counted("idle_timeout", STALLED as u32);
        scene.assert_path(if way == Way::CutThrough { STALLED as u32 } else { 1 });
        for (number, client) in clients.iter_mut().enumerate() {
            let end = client.end();
            assert!(end.is_err(), "{way:?}: an idle time-out looked like an orderly end to {number}: {end:?}");
        }
        drop(release);
        scene.assert_others_served();
    }
}

/// Reads up to these bytes, behind which the other end says nothing until it is answered.
fn read_until(stream: &mut std::net::TcpStream, marker: &[u8]) -> io::Result<()> {
    let mut said = Vec::new();
    while !said.ends_with(marker) {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        said.extend(&chunk[..read]);
    }
    Ok(())
}

/// What passes through gets the alert of a failure, what is terminated a RST.
fn assert_failed(scene: &Scene, mut client: Connection) {
    match (scene.way, client.end()) {
        (Way::Terminate, end) => {
            end.expect_err("a failure looked like an orderly end");
        }
        (way, end) => assert_eq!(end.unwrap(), [21, 3, 3, 0, 2, 2, INTERNAL_ERROR], "{way:?}"),
    }
}

fn assert_echoes(scene: &Scene) {
    let echoes = || {
        let mut client = scene.connect().ok()?;
        client.write_all(b"ping").ok()?;
        client.flush().ok()?;
        let first = &mut [0; 1];
        client.read_exact(first).ok()?;
        // The hello comes back, or the ping.
        (first != &[ALERT_RECORD]).then_some(())
    };
    eventually(PATIENCE, "it works again", echoes).unwrap();
}

/// The default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const FIRST_PART: usize = 200_000;
const START: &[u8] = b"start";
const NOW: &[u8] = b"now";
const STALLED: usize = 4;
/// tcp_wmem and tcp_rmem of four sockets, at most.
const MOST_THAT_BUFFERS_TAKE: usize = 64 << 20;
/// The kernel's buffers are not the process's; most of this is what the first connection makes once.
const MOST_MEMORY: u64 = 8 << 20;
/// RFC 8446 section 5.1.
const ALERT_RECORD: u8 = 21;
/// RFC 8446 section 6.2.
const INTERNAL_ERROR: u8 = 80;
