//! The clients: one tenant's at a steady pace, whose time is taken, and the flood's at theirs. Nobody goes faster than the
//! plan says, so that what is measured is the router and not clients that fight for the processor.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use tests::hello::Hello;
use tests::tls_client::{TlsClient, tcp};

use super::{ALERT, Sample};
use crate::statistics::percentile;

/// How the tenant whose time is taken is connected to.
pub(super) struct Connector<'c> {
    client: &'c TlsClient,
    address: SocketAddr,
    name: String,
    is_terminated: bool,
    hello: Vec<u8>,
}

/// The pace of that tenant's connections.
pub(super) struct Paced {
    pub(super) per_second: u32,
    pub(super) duration: Duration,
}

/// The flood.
pub(super) struct Flood<'f> {
    pub(super) address: SocketAddr,
    pub(super) hello: &'f [u8],
    pub(super) per_second: u32,
}

impl<'c> Connector<'c> {
    pub(super) fn new(client: &'c TlsClient, address: SocketAddr, name: &str, is_terminated: bool) -> Self {
        Self { client, address, name: name.to_owned(), is_terminated, hello: Hello::named(name).records() }
    }

    /// A connection, up to the first answer of the backend.
    fn once(&self) -> Result<()> {
        if self.is_terminated {
            let mut stream = self.client.connect(self.address, &self.name)?;
            stream.write_all(b"ping")?;
            stream.flush()?;
            let mut echo = [0; 4];
            stream.read_exact(&mut echo)?;
            ensure!(&echo == b"ping", "another answer than the echo");
        } else {
            let mut stream = tcp(self.address)?;
            stream.write_all(&self.hello)?;
            let mut echo = vec![0; self.hello.len()];
            stream.read_exact(&mut echo)?;
            ensure!(echo == self.hello, "another answer than the echo");
        }
        Ok(())
    }
}

/// Times connections beside the flood, if there is one. Any that fails is an error.
pub(super) fn measure(connector: &Connector<'_>, paced: &Paced, flood: Option<&Flood<'_>>) -> Result<Sample> {
    let (stop, refused, all) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let mut times = thread::scope(|scope| {
        for first in 0..FLOODERS {
            let (stop, refused, all) = (&stop, &refused, &all);
            let Some(flood) = flood else { break };
            scope.spawn(move || {
                let interval = Duration::from_secs(u64::from(FLOODERS)) / flood.per_second;
                let begin = Instant::now() + interval * first / FLOODERS;
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    wait_until(begin + interval * number);
                    all.fetch_add(1, Ordering::Relaxed);
                    if is_refused(flood).unwrap_or(false) {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        // The flood's first second is within its limit.
        thread::sleep(WARM_UP);
        let times = times(connector, paced);
        stop.store(true, Ordering::Relaxed);
        times
    })?;
    let connections = times.len();
    let p50 = percentile(&mut times, 0.5).context("no connection was timed")?;
    let p99 = percentile(&mut times, 0.99).context("no connection was timed")?;
    let (refused, flood) = (refused.load(Ordering::Relaxed), all.load(Ordering::Relaxed));
    Ok(Sample { p50, p99, connections, refused, flood })
}

/// From the moment at which each was to begin, so that one that is late makes those after it late too.
fn times(connector: &Connector<'_>, paced: &Paced) -> Result<Vec<Duration>> {
    let interval = Duration::from_secs(1) / paced.per_second;
    let begin = Instant::now();
    let mut times = Vec::new();
    for number in 0.. {
        let planned = begin + interval * number;
        if planned.duration_since(begin) >= paced.duration {
            break;
        }
        wait_until(planned);
        connector.once().map_err(|error| anyhow!("a connection of the tenant that is not flooded: {error:#}"))?;
        times.push(planned.elapsed());
    }
    Ok(times)
}

fn is_refused(flood: &Flood<'_>) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&flood.address, ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(flood.hello)?;
    let mut answer = [0; ALERT.len()];
    stream.read_exact(&mut answer)?;
    Ok(answer == ALERT)
}

fn wait_until(moment: Instant) {
    thread::sleep(moment.saturating_duration_since(Instant::now()));
}

/// Each waits for its answer, which takes a millisecond or two.
const FLOODERS: u32 = 8;
const WARM_UP: Duration = Duration::from_millis(1500);
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
