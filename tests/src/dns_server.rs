//! A DNS server whose zone the scenario changes while it serves. Answers questions for A and AAAA by UDP (RFC 1035), and
//! understands nothing else.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

/// Listens on 127.0.0.1 until it is dropped; then the port is closed.
pub struct DnsServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    serving: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// By the name without a dot at the end.
    zone: HashMap<String, Vec<IpAddr>>,
    fails: bool,
    stopped: bool,
}

impl DnsServer {
    /// A server that knows no name.
    pub fn start() -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").context("a socket for a DNS server")?;
        socket.set_read_timeout(Some(LOOK_AROUND))?;
        let address = socket.local_addr()?;
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let serving = thread::spawn(move || {
            let mut question = [0; 1232];
            loop {
                let received = socket.recv_from(&mut question);
                let state = shared.lock().unwrap_or_else(PoisonError::into_inner);
                if state.stopped {
                    return;
                }
                if let Ok((length, client)) = received
                    && let Some(reply) = reply(&question[..length], &state)
                {
                    // A client that is gone asks no more.
                    let _ = socket.send_to(&reply, client);
                }
            }
        });
        Ok(Self { address, state, serving: Some(serving) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on `name` has these addresses and no others.
    pub fn set(&self, name: &str, addresses: &[IpAddr]) {
        self.change(|state| _ = state.zone.insert(name.to_owned(), addresses.to_vec()));
    }

    /// From now on there is no such name.
    pub fn remove(&self, name: &str) {
        self.change(|state| _ = state.zone.remove(name));
    }

    /// From now on every answer is SERVFAIL.
    pub fn fail(&self) {
        self.change(|state| state.fails = true);
    }

    /// Answers again.
    pub fn recover(&self) {
        self.change(|state| state.fails = false);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.change(|state| state.stopped = true);
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

/// `None` for what is no question.
fn reply(question: &[u8], state: &State) -> Option<Vec<u8>> {
    let (name, family, end) = parse(question)?;
    let found = state.zone.get(&name);
    let code = match (state.fails, found) {
        (true, _) => SERVFAIL,
        (false, None) => NXDOMAIN,
        (false, Some(_)) => 0,
    };
    let data = |address: &IpAddr| match (address, family) {
        (IpAddr::V4(address), A) => Some(address.octets().to_vec()),
        (IpAddr::V6(address), AAAA) => Some(address.octets().to_vec()),
        _ => None,
    };
    let answers: Vec<Vec<u8>> = match code {
        0 => found.into_iter().flatten().filter_map(data).collect(),
        _ => Vec::new(),
    };
    let needs_soa = answers.is_empty() && code != SERVFAIL;
    let mut reply = question.get(..2)?.to_vec();
    // A response, recursion desired and available.
    reply.extend([0x81, 0x80 | code, 0, 1]);
    reply.extend(u16::try_from(answers.len()).ok()?.to_be_bytes());
    reply.extend([0, u8::from(needs_soa), 0, 0]);
    reply.extend(question.get(HEADER..end)?);
    for data in answers {
        record(&mut reply, &QUESTIONED_NAME, family, &data);
    }
    if needs_soa {
        // Names of one byte (the root), then five numbers, the last of which is the TTL of "there is none".
        let data = [&[0, 0][..], &[0; 16], &TTL.to_be_bytes()].concat();
        record(&mut reply, &[0], SOA, &data);
    }
    Some(reply)
}

fn record(reply: &mut Vec<u8>, name: &[u8], kind: u16, data: &[u8]) {
    reply.extend(name);
    reply.extend(kind.to_be_bytes());
    reply.extend([0, 1]);
    reply.extend(TTL.to_be_bytes());
    reply.extend((data.len() as u16).to_be_bytes());
    reply.extend(data);
}

/// The name in small letters, the type, and where the question ends.
fn parse(question: &[u8]) -> Option<(String, u16, usize)> {
    let mut labels = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(question.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let family = u16::from_be_bytes([*question.get(at)?, *question.get(at + 1)?]);
    Some((labels.join("."), family, at + 4))
}

/// RFC 1035 section 4.1.1.
const HEADER: usize = 12;
/// RFC 1035 section 4.1.4: a pointer to the name of the question, right after the header.
const QUESTIONED_NAME: [u8; 2] = [0xc0, HEADER as u8];
const A: u16 = 1;
const SOA: u16 = 6;
/// RFC 3596 section 2.1.
const AAAA: u16 = 28;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
/// Above what scenarios allow as `maxTtl`, and above their patience where nothing bounds it.
const TTL: u32 = 3600;
/// How often a server that nobody asks looks whether it is to end.
const LOOK_AROUND: Duration = Duration::from_millis(50);
