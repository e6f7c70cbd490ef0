//! A link that lets packets overtake each other: a place in the middle, whose only program passes frames from one
//! interface to the other and now and then holds one back until others have gone by.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::bind;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Network, Place, end_host};
use crate::segment::sum;

/// Between the client and the router; the link ends when it is dropped.
pub struct Reordering {
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
    _middle: Place,
}

#[derive(Default)]
struct State {
    stopped: AtomicBool,
    overtaken: AtomicU64,
}

impl Reordering {
    /// Replaces the link between the two by one on which every `one_of`th packet of each direction comes late.
    pub fn between_client_and_router(network: &Network, one_of: u32) -> Result<Self> {
        let middle = Place::isolated([0, 0, 0, 0], 0)?;
        middle.set("ipv6/conf/all/disable_ipv6", "1")?;
        middle.set("ipv6/conf/default/disable_ipv6", "1")?;
        let path = middle.path().unwrap_or_default();
        network.router.ip(&format!(
            "link del to-client
             link add to-client type veth peer name router-side netns {path}
             addr add 10.0.1.1/24 dev to-client
             addr add fd00::101/120 dev to-client nodad
             link set to-client gso_max_segs 1
             link set to-client up"
        ))?;
        network.client.ip(&format!(
            "link add to-router type veth peer name client-side netns {path}
             link set to-router gso_max_segs 1"
        ))?;
        middle.ip("link set client-side up\nlink set router-side up")?;
        network.client.ip(&end_host(["10.0.1.2/24", "fd00::102/120"], ["10.0.1.1", "fd00::101"]))?;

        let state = Arc::new(State::default());
        let sockets = middle.run(|| Ok([open("client-side")?, open("router-side")?]))?;
        let [client, router] = sockets.map(Arc::new);
        let threads = [(&client, &router), (&router, &client)].map(|(from, to)| {
            let (from, to, state) = (Arc::clone(from), Arc::clone(to), Arc::clone(&state));
            thread::spawn(move || pass_on(&from, &to, &state, one_of))
        });
        Ok(Self { state, threads: threads.into(), _middle: middle })
    }

    /// How many packets have been overtaken so far.
    pub fn overtaken(&self) -> u64 {
        self.state.overtaken.load(Ordering::Relaxed)
    }
}

impl Drop for Reordering {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A packet socket of one interface (packet(7)); it does not see what it sends itself.
fn open(interface: &str) -> Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(ETH_P_ALL.to_be()))))?;
    let mut addresses = getifaddrs().context("list the interfaces")?;
    let address = addresses.find_map(|entry| {
        let address = entry.address?;
        (entry.interface_name == interface).then(|| address.as_link_addr().copied())?
    });
    bind(socket.as_raw_fd(), &address.with_context(|| format!("no interface {interface}"))?)?;
    socket.set_read_timeout(Some(LATEST))?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    Ok(socket)
}

fn pass_on(from: &Socket, to: &Socket, state: &State, one_of: u32) {
    let mut frame = vec![0; LARGEST_FRAME];
    let mut held: VecDeque<(u32, Vec<u8>)> = VecDeque::new();
    let (mut frames, mut random) = (0_u32, 1_u32);
    while !state.stopped.load(Ordering::Relaxed) {
        let arrived = match (&*from).read(&mut frame) {
            Ok(length) => {
                frames = frames.wrapping_add(1);
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let frame = &mut frame[..length];
                complete_checksum(frame);
                if (random >> 16).is_multiple_of(one_of) {
                    held.push_back((frames.wrapping_add(3 + (random >> 8) % 5), frame.to_vec()));
                    continue;
                }
                // A full queue loses it, as a link may.
                let _ = (&*to).write(frame);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => false,
            Err(_) => return,
        };
        // Nobody overtakes what was the last for a while.
        while held.front().is_some_and(|(due, _)| !arrived || due.wrapping_sub(frames).cast_signed() <= 0) {
            let Some((_, frame)) = held.pop_front() else { break };
            state.overtaken.fetch_add(u64::from(arrived), Ordering::Relaxed);
            let _ = (&*to).write(&frame);
        }
    }
}

/// What a veth pair leaves to be done by hardware that does not exist: the field has the pseudo header's sum
/// (CHECKSUM_PARTIAL, Documentation/networking/checksum-offloads.rst). A sum that is wrong stays wrong.
fn complete_checksum(frame: &mut [u8]) {
    let (addresses, tcp) = match frame.get(12..14) {
        Some([0x08, 0x00]) if frame.get(14) == Some(&0x45) && frame.get(23) == Some(&TCP) => (26..34, 34),
        Some([0x86, 0xdd]) if frame.get(20) == Some(&TCP) => (22..54, 54),
        _ => return,
    };
    // Short frames are padded by Ethernet.
    let end = match tcp {
        34 => 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]])),
        _ => 54 + usize::from(u16::from_be_bytes([frame[18], frame[19]])),
    };
    if end > frame.len() || end < tcp + 20 {
        return;
    }
    let pseudo = [&frame[addresses], &[0, TCP], &((end - tcp) as u16).to_be_bytes()].concat();
    let partial = !sum(&[&pseudo]);
    if frame[tcp + 16..tcp + 18] == partial.to_be_bytes() {
        // The field takes part in the sum as what it is.
        let whole = sum(&[&frame[tcp..end]]);
        frame[tcp + 16..tcp + 18].copy_from_slice(&whole.to_be_bytes());
    }
}

/// include/uapi/linux/if_ether.h.
const ETH_P_ALL: u16 = 0x0003;
/// IPPROTO_TCP.
const TCP: u8 = 6;
const LARGEST_FRAME: usize = 65_536 + 14;
/// How late a packet can be that nobody overtakes.
const LATEST: Duration = Duration::from_millis(10);
/// Whole windows of a dozen connections.
const RECEIVE_BUFFER: usize = 8 << 20;
