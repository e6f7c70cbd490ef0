//! Steering (`steer:`): fills the maps of the program `steer`, attaches it, and tells what it counted. Everything that
//! needs a capability happens in [`Steering::start`].

mod link;
mod table;

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Map, MapData, MapError, PerCpuArray, SockMap};
use aya::programs::SkLookup;
use aya::{Ebpf, Pod};
use config::Config;
use router_common::steer::{DENIED, PORTS, PREFIXES, PROGRAM, SET, SOCKETS, VERDICTS, Verdict, WORKERS, slot};
use tracing::{debug, info, warn};

use self::link::Link;
use self::table::Table;
use super::{Pins, Unavailable, load, load_program};
use crate::listening::listen;

/// What became of `steer:`.
#[derive(Debug)]
pub enum Steering {
    /// No listener has it; perhaps a former process steers.
    NotConfigured(Option<OwnedFd>),
    /// The kernel steers.
    Attached(Steer),
    /// Listeners have it, the kernel does not do it.
    Unavailable(Unavailable),
}

/// The attached program.
pub struct Steer {
    link: Link,
    verdicts: PerCpuArray<MapData, u64>,
}

impl Steering {
    /// Loads, fills and attaches, or says in one line why not; what a former process steers it steers until
    /// [`take_over`](Self::take_over). `sockets` are the bound ones: for each listener at least one, of which as many as there
    /// are workers are steered to.
    pub fn prepare(config: &Config, sockets: &[Vec<TcpListener>], workers: usize) -> Self {
        if config.listeners.iter().all(|listener| listener.steer.is_empty()) {
            let former = Pins::find(&config.runtime_dir).map(|pins| link::of_a_former_process(&pins)).transpose();
            let former = former.inspect_err(|error| warn!(%error, "steer: what a former process steers here stays"));
            return Self::NotConfigured(former.ok().flatten().flatten());
        }
        match attach(config, sockets, workers) {
            Ok(steer) => Self::Attached(steer),
            Err(reason) => {
                warn!(reason = reason.reason(), "steer: off, only bound addresses are listened on: {reason}");
                if let Unavailable::Verifier { log, .. } = &reason {
                    debug!("{log}");
                }
                Self::Unavailable(reason)
            }
        }
    }

    /// From one SYN to the next this process steers instead of a former one. Needs no privileges.
    pub fn take_over(&self) {
        let taken_over = match self {
            Self::Attached(steer) => steer.link.take_over(),
            Self::NotConfigured(Some(former)) => link::end(former),
            Self::NotConfigured(None) | Self::Unavailable(_) => Ok(()),
        };
        if let Err(error) = taken_over {
            warn!(%error, "steer: a former process steers on");
        }
    }

    /// Whether another process steers in this one's place, which then only finishes what it has begun.
    pub fn is_taken_over(&self) -> bool {
        matches!(self, Self::Attached(steer) if steer.link.is_taken_over())
    }

    /// Ends the steering unless another process has it: what is steered would be refused by nobody's listener, and
    /// denied sources by a process that is gone.
    pub fn end(&self) {
        if let Self::Attached(steer) = self
            && !steer.link.is_taken_over()
            && let Err(error) = steer.link.detach()
        {
            warn!(%error, "steer: could not be detached, it stays without a listener");
        }
    }

    /// What the program has counted; `None` when it does not run, or when the kernel does not tell.
    pub fn verdicts(&self) -> Option<Vec<(Verdict, u64)>> {
        let Self::Attached(steer) = self else { return None };
        let count = |verdict: Verdict| steer.verdicts.get(&(verdict as u32), 0).map(|cpus| cpus.iter().sum());
        Verdict::ALL.into_iter().map(|verdict| Some((verdict, count(verdict).ok()?))).collect()
    }
}

impl fmt::Debug for Steer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steer").field("link", &self.link).finish_non_exhaustive()
    }
}

/// Load, fill, attach, in that order: from its first packet on the program knows everything. Whatever fails is undone
/// by dropping what was made.
fn attach(config: &Config, sockets: &[Vec<TcpListener>], workers: usize) -> Result<Steer, Unavailable> {
    let bound: Vec<_> = config.listeners.iter().zip(sockets).map(|(l, own)| own_address(own, l.address)).collect();
    let table = Table::new(&config.listeners, &bound, config.admin);
    let workers = workers as u32;
    let entries = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).max(1);
    let mut object = load(&SET, |loader| {
        loader
            .override_global(WORKERS, &workers, true)
            .map_max_entries(PREFIXES, entries(table.prefixes.len()))
            .map_max_entries(PORTS, entries(table.ports.len()))
            .map_max_entries(DENIED, entries(table.denied.len()))
            .map_max_entries(SOCKETS, entries(sockets.len()).saturating_mul(workers));
    })?;
    fill(&mut object, PREFIXES, &table.prefixes)?;
    fill(&mut object, PORTS, &table.ports)?;
    let denied: Vec<_> = table.denied.into_iter().map(|key| (key, 0_u32)).collect();
    fill(&mut object, DENIED, &denied)?;
    let mut map: SockMap<&mut MapData> = map(&mut object, SOCKETS)?;
    for (listener, sockets) in (0..).zip(sockets) {
        for (worker, socket) in (0..workers).zip(sockets.iter().cycle()) {
            // Only sockets that listen have a place in the map (net/core/sock_map.c, sock_map_sk_state_allowed).
            listen(socket).map_err(|error| Unavailable::of_call("steer: listen", error))?;
            map.set(slot(listener, worker, workers), socket, 0).map_err(failed(SOCKETS))?;
        }
    }
    let program: &mut SkLookup = load_program(&mut object, PROGRAM, SkLookup::load)?;
    // After the load, so that a process that may do nothing hears of the capabilities and not of bpffs.
    let link = Link::open(program, &Pins::find_or_mount(&config.runtime_dir)?)?;
    let verdicts = object.take_map(VERDICTS).ok_or_else(|| missing(VERDICTS))?.try_into().map_err(failed(VERDICTS))?;
    info!(prefixes = table.prefixes.len(), denied = denied.len(), workers, "steer: ready");
    Ok(Steer { link, verdicts })
}

fn own_address(sockets: &[TcpListener], configured: SocketAddr) -> SocketAddr {
    sockets.first().and_then(|socket| socket.local_addr().ok()).unwrap_or(configured)
}

fn fill<K: Pod, V: Pod>(
    object: &mut Ebpf,
    name: &'static str,
    entries: &[(aya::maps::lpm_trie::Key<K>, V)],
) -> Result<(), Unavailable> {
    let mut map: LpmTrie<&mut MapData, K, V> = map(object, name)?;
    entries.iter().try_for_each(|(key, value)| map.insert(key, value, 0)).map_err(failed(name))
}

/// Borrowed: the program refers to its maps by descriptors that must be open until it is loaded.
fn map<'o, M>(object: &'o mut Ebpf, name: &'static str) -> Result<M, Unavailable>
where
    M: TryFrom<&'o mut Map, Error = MapError>,
{
    object.map_mut(name).ok_or_else(|| missing(name))?.try_into().map_err(failed(name))
}

fn missing(map: &str) -> Unavailable {
    Unavailable::Object(format!("no map {map}"))
}

fn failed(map: &'static str) -> impl Fn(MapError) -> Unavailable {
    move |error| Unavailable::of_map(format!("fill map {map}"), error)
}
