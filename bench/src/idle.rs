//! What connections cost that do nothing: each subject in turn holds thousands of them, and the memory of its processes
//! and of the kernel is compared with what it was before.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::socket::{setsockopt, sockopt::Linger};
use tests::network::Place;
use tests::patience::eventually;

use crate::backend::Backends;
use crate::cell::Service;
use crate::subject::Subject;
use crate::target::{Clients, Connection, PATIENCE, Target};

/// One subject's memory, in bytes for each connection.
pub(crate) struct Idle<'s> {
    pub(crate) subject: &'s Subject,
    /// The proportional set size of the router's processes (PSS, proc_pid_smaps(5)).
    pub(crate) router: Option<f64>,
    /// Objects in the kernel's slab caches for sockets; those of the clients and of the backend are among them.
    pub(crate) kernel: f64,
    /// What maps of eBPF programs take however many connections there are, in bytes altogether.
    pub(crate) maps: u64,
}

/// Has `subject` hold this many connections, each of which has moved bytes both ways.
pub(crate) fn measure<'s>(
    subject: &'s Subject,
    connections: usize,
    client: &Place,
    backends: &Backends,
    clients: &Clients,
) -> Result<Idle<'s>> {
    let target = subject.target(Service::Echo, backends, clients)?;
    // Whatever is made once is there before.
    close(client.run(|| open(&target, WARM_UP))?)?;
    let before = settled(subject)?;
    let open = client.run(|| open(&target, connections))?;
    let during = settled(subject)?;
    close(open)?;
    settled(subject)?;
    let each = |before: u64, during: u64| (during as f64 - before as f64) / connections as f64;
    Ok(Idle {
        subject,
        router: during.router.zip(before.router).map(|(during, before)| each(before, during)),
        kernel: each(before.kernel, during.kernel),
        maps: subject.map_bytes()?,
    })
}

/// Memory at one moment, in bytes.
#[derive(Clone, Copy)]
struct Memory {
    router: Option<u64>,
    kernel: u64,
}

/// Once it stays what it is: closed connections are freed late, and batches of work come after their cause.
fn settled(subject: &Subject) -> Result<Memory> {
    let now = || anyhow::Ok(Memory { router: subject.memory()?, kernel: slab_bytes()? });
    let mut last = now()?;
    // On a busy machine it never does; what it is then is as good as it gets.
    let _ = eventually(SETTLING, "the memory stays the same", || {
        thread::sleep(QUIET);
        let before = std::mem::replace(&mut last, now().ok()?);
        let moved = |before: u64, after: u64| before.abs_diff(after);
        let router = moved(before.router.unwrap_or(0), last.router.unwrap_or(0));
        (router < SMALL && moved(before.kernel, last.kernel) < SMALL).then_some(())
    });
    Ok(last)
}

fn open(target: &Target, connections: usize) -> Result<Vec<TcpStream>> {
    let left = AtomicUsize::new(connections);
    let some = || {
        let mut open = Vec::new();
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            open.push(established(target)?);
        }
        io::Result::Ok(open)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..OPENERS).map(|_| scope.spawn(some)).collect();
        let mut open = Vec::with_capacity(connections);
        for (number, thread) in threads.into_iter().enumerate() {
            let some = thread.join().map_err(|_| anyhow!("opener {number} panicked"))?;
            open.extend(some.with_context(|| format!("connection after {} others", open.len()))?);
        }
        Ok(open)
    })
}

fn established(target: &Target) -> io::Result<TcpStream> {
    let Connection::Plain(mut socket) = target.connect()? else {
        return Err(io::Error::other("idle connections are measured without TLS"));
    };
    socket.write_all(&MESSAGE)?;
    socket.read_exact(&mut MESSAGE.clone())?;
    Ok(socket)
}

/// With a RST, which leaves no memory of the connection anywhere.
fn close(open: Vec<TcpStream>) -> Result<()> {
    let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    open.iter().try_for_each(|socket| setsockopt(socket, Linger, &at_once)).context("SO_LINGER")
}

/// Of the caches that connections use (/proc/slabinfo, slabinfo(5)). A socket's directory entry, 192 bytes, is not among
/// them: everything that touches files changes that cache.
fn slab_bytes() -> Result<u64> {
    let text = fs::read_to_string("/proc/slabinfo").context("read /proc/slabinfo")?;
    let mut bytes = 0;
    for line in text.lines().skip(2).filter(|line| CACHES.iter().any(|name| line.starts_with(name))) {
        let mut numbers = line.split_whitespace().skip(1).map(str::parse::<u64>);
        let (Some(Ok(active)), Some(Ok(_)), Some(Ok(size))) = (numbers.next(), numbers.next(), numbers.next()) else {
            bail!("a line of /proc/slabinfo: {line}");
        };
        bytes += active * size;
    }
    Ok(bytes)
}

const CACHES: [&str; 8] =
    ["TCP", "tw_sock_TCP", "request_sock_TCP", "tcp_bind", "sock_inode_cache", "filp", "eventpoll", "skbuff"];
const WARM_UP: usize = 500;
const OPENERS: usize = 16;
const MESSAGE: [u8; 64] = [b'i'; 64];
const QUIET: Duration = Duration::from_secs(1);
/// Connections that are over linger for some seconds in haproxy's pools, sni-router's table and the kernel.
const SETTLING: Duration = Duration::from_secs(60 + PATIENCE.as_secs());
/// 14 bytes of each of 9,000 connections.
const SMALL: u64 = 128 * 1024;
