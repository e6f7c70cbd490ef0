//! One connection of the self-test: switched as the router switches, bytes both ways with a half-close in between.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;
use socket2::SockRef;
use tokio::sync::mpsc::unbounded_channel;

use super::of;
use super::site::{End, Family, LINK, Site};
use crate::ebpf::cut_through::collector::Collector;
use crate::ebpf::cut_through::{CutThrough, Described, EndSender, Fate, FlowEnd, FlowOutcome, NotCut};
use crate::ebpf::interfaces::set_transmit_checksums;

/// Who sums up what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checksums {
    /// Nobody: large packets stay whole, and their checksums are left to a hardware that is not there.
    ByHardware,
    /// What the client sends is summed up after the translation, what the backend sends before it; the other end checks.
    BySoftware,
}

/// What is to be carried.
pub(super) struct Flow<'s> {
    pub(super) site: &'s Site,
    pub(super) family: Family,
    pub(super) checksums: Checksums,
    pub(super) deadline: Instant,
}

impl Flow<'_> {
    /// Succeeds when both ends got every byte, the programs say so, too, and packets stayed as large as they were.
    pub(super) fn carry(&self, cut_through: &CutThrough, collector: &mut Collector) -> Result<(), String> {
        self.prepare_links()?;
        let router = (self.family.router(End::Client), 0);
        let backend = (self.family.host(End::Backend), 0);
        let at_router = TcpListener::bind(router).map_err(of("listen at the router"))?;
        let at_backend = self.at(End::Backend, || TcpListener::bind(backend))?.map_err(of("listen at the backend"))?;
        let to = at_router.local_addr().map_err(of("the router's address"))?;
        let client = self
            .at(End::Client, || TcpStream::connect_timeout(&to, self.remaining()))?
            .map_err(of("connect to the router"))?;
        self.limit(&client)?;
        (&client).write_all(&hello()).map_err(of("send the hello"))?;
        let accepted = self.accept(&at_router)?;
        wait_for(&accepted, HELLO).map_err(of("wait for the hello"))?;

        let before = packets_sent()?;
        let to = at_backend.local_addr().map_err(of("the backend's address"))?;
        let (tell_end, mut ends) = unbounded_channel();
        self.switch(cut_through, accepted, to, tell_end)?;
        let backend = self.accept(&at_backend)?;
        let end = thread::scope(|scope| {
            let client = scope.spawn(move || client_end(&client));
            let backend = scope.spawn(move || backend_end(&backend));
            let end = loop {
                collector.turn(TURN, None);
                match ends.try_recv() {
                    Ok((_place, Fate::Ended(end))) => break Ok(end),
                    Ok((_place, Fate::Returned { reason, .. })) => {
                        break Err(format!("the connection was given back: {}", reason.label()));
                    }
                    Err(_) if client.is_finished() && backend.is_finished() && self.late() => {
                        break Err("the programs have not told of the end".to_owned());
                    }
                    Err(_) => {}
                }
            };
            let told = |name: &str, result: thread::Result<io::Result<()>>| match result {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(format!("at the {name}: {error}")),
                Err(_panicked) => Err(format!("at the {name}: panicked")),
            };
            let ends = [told("client", client.join()), told("backend", backend.join())];
            let failures: Vec<_> = ends.into_iter().filter_map(Result::err).collect();
            if failures.is_empty() { end } else { Err(failures.join(", ")) }
        })?;
        let expected = FlowEnd {
            client_to_backend: (HELLO + BYTES) as u64,
            backend_to_client: BYTES as u64,
            outcome: FlowOutcome::Ok,
        };
        if end != expected {
            return Err(format!("the programs have seen {end:?}"));
        }
        if self.checksums == Checksums::ByHardware {
            let sent = packets_sent()?;
            for (end, (before, after)) in [End::Client, End::Backend].iter().zip(before.iter().zip(sent)) {
                let packets = after.saturating_sub(*before) as usize;
                if packets > BYTES / SEGMENT / 2 {
                    return Err(format!("{packets} packets {} for {BYTES} bytes: they were cut up", end.link()));
                }
            }
        }
        Ok(())
    }

    /// As `router::passthrough` does.
    fn switch(
        &self,
        cut_through: &CutThrough,
        client: TcpStream,
        backend: SocketAddr,
        tell_end: EndSender,
    ) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(of("start a runtime"))?.block_on(async {
            client.set_nonblocking(true).map_err(of("the client's socket"))?;
            let not_cut = |reason: crate::ebpf::cut_through::Fallback| format!("relay, because of {}", reason.label());
            let peer = client.peer_addr().map_err(of("the client's address"))?;
            let candidate = cut_through.prepare(&client, peer).map_err(not_cut)?;
            let dialled = cut_through.dial(&candidate, backend, self.remaining()).await;
            let dialled = dialled.map_err(|error| error.to_string())?;
            let attempt = dialled.attempt.map_err(not_cut)?;
            let backend = dialled.backend.into_std().map_err(of("the backend's socket"))?;
            match cut_through.install(attempt, client, backend, Described::default(), IDLE_TIMEOUT, tell_end) {
                Ok(_place) => Ok(()),
                Err(NotCut::Relay { reason, .. }) => Err(not_cut(reason)),
                Err(NotCut::Broken(error)) => Err(format!("switch: {error}")),
            }
        })
    }

    /// A veth pair stands for a network card: what it is told to leave to the hardware is never done.
    fn prepare_links(&self) -> Result<(), String> {
        let by_hardware = self.checksums == Checksums::ByHardware;
        // The client's packets pass the programs without a sum and get one when they leave the router; the backend's
        // have one from the start. Whoever gets a packet with a sum checks it.
        set_transmit_checksums(End::Backend.link(), by_hardware).map_err(of("ethtool at the router"))?;
        self.at(End::Backend, || set_transmit_checksums(LINK, by_hardware))?.map_err(of("ethtool at the backend"))
    }

    fn accept(&self, listener: &TcpListener) -> Result<TcpStream, String> {
        SockRef::from(listener).set_read_timeout(Some(self.remaining())).map_err(of("limit a wait"))?;
        let (stream, _) = listener.accept().map_err(of("accept"))?;
        self.limit(&stream)?;
        Ok(stream)
    }

    fn limit(&self, stream: &TcpStream) -> Result<(), String> {
        let limit = Some(self.remaining());
        stream.set_read_timeout(limit).and_then(|()| stream.set_write_timeout(limit)).map_err(of("limit a wait"))
    }

    fn at<T>(&self, end: End, work: impl FnOnce() -> T) -> Result<T, String> {
        self.site.at(end, work).map_err(of("enter a network namespace"))
    }

    /// Never nothing, which would be no limit.
    fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
    }

    fn late(&self) -> bool {
        Instant::now() > self.deadline
    }
}

impl Checksums {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ByHardware => "large packets",
            Self::BySoftware => "checksums",
        }
    }
}

fn client_end(mut stream: &TcpStream) -> io::Result<()> {
    stream.write_all(&pattern(1))?;
    stream.shutdown(Shutdown::Write)?;
    expect(stream, &pattern(2))
}

fn backend_end(mut stream: &TcpStream) -> io::Result<()> {
    expect(stream, &[hello(), pattern(1)].concat())?;
    stream.write_all(&pattern(2))
}

/// These bytes and then the end.
fn expect(mut stream: &TcpStream, expected: &[u8]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(expected.len());
    if let Err(error) = stream.read_to_end(&mut bytes) {
        return Err(io::Error::new(error.kind(), format!("{error} after {} of {} bytes", bytes.len(), expected.len())));
    }
    if bytes == expected {
        return Ok(());
    }
    let same = bytes.iter().zip(expected).take_while(|(got, expected)| got == expected).count();
    let message = format!("{} bytes instead of {}, the first {same} as they were sent", bytes.len(), expected.len());
    Err(io::Error::other(message))
}

/// Until so many bytes can be peeked.
fn wait_for(stream: &TcpStream, bytes: usize) -> io::Result<()> {
    match rustix::net::recv(stream, &mut vec![0; bytes][..], RecvFlags::PEEK | RecvFlags::WAITALL)? {
        (_, length) if length == bytes => Ok(()),
        (_, length) => Err(io::Error::other(format!("{length} of {bytes} bytes"))),
    }
}

fn hello() -> Vec<u8> {
    pattern(3)[..HELLO].to_vec()
}

fn pattern(kind: u32) -> Vec<u8> {
    (0..BYTES as u32).map(|place| (place.wrapping_mul(2 * kind + 1) >> 7) as u8 ^ place as u8).collect()
}

/// Of the router's interfaces towards client and backend.
fn packets_sent() -> Result<[u64; 2], String> {
    let text = fs::read_to_string("/proc/thread-self/net/dev").map_err(of("read /proc/net/dev"))?;
    let of_link = |link: &str| {
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix(link)?.strip_prefix(':'))?;
        // Behind the eight numbers of what was received (proc(5)): bytes, then packets.
        line.split_whitespace().nth(9)?.parse().ok()
    };
    match (of_link(End::Client.link()), of_link(End::Backend.link())) {
        (Some(client), Some(backend)) => Ok([client, backend]),
        _ => Err("/proc/net/dev has no packets".to_owned()),
    }
}

/// As long as many a hello.
const HELLO: usize = 517;
/// Each way; enough for a congestion window to grow, which makes packets large.
const BYTES: usize = 512 * 1024;
/// Of an Ethernet with timestamps.
const SEGMENT: usize = 1448;
const TURN: Duration = Duration::from_millis(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
