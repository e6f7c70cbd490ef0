//! Ports for routers under test, on 127.0.0.1.
//!
//! They come from below the ephemeral range (`net.ipv4.ip_local_port_range`, 32768 by default): a port that the kernel
//! gave to `bind(0)` could become the source port of a neighbour's outgoing connection before the router binds it.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::{Context, Result};

/// An address that nobody listens on, and that this process gives out only once.
pub fn free_address() -> Result<SocketAddr> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let span = LAST - FIRST;
    let start = std::process::id().wrapping_mul(SPREAD) % u32::from(span);
    (0..span)
        .map(|step| FIRST + ((start + u32::from(step)) % u32::from(span)) as u16)
        .find(|port| !given.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .inspect(|port| {
            given.insert(*port);
        })
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .context("no free port between 10000 and 32000")
}

static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

const FIRST: u16 = 10_000;
const LAST: u16 = 32_000;
/// Keeps test processes that run at the same time apart: neighbours in pid are this many ports from each other.
const SPREAD: u32 = 211;
