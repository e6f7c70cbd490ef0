//! The side-by-side runs: sni-router, its peers and no router at all, or sni-router's data paths, take turns under the
//! same load on the same machine. It prints what it measured and judges nothing.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod backend;
mod cell;
mod contest;
mod flood;
mod handshakes;
mod idle;
mod load;
mod options;
mod reloads;
mod report;
mod statistics;
mod subject;
mod target;
mod terminators;

use anyhow::{Result, bail};
use tests::network::Network;
use tests::scratch::Scratch;

use crate::backend::Backends;
use crate::cell::Mode;
use crate::contest::Contest;
pub use crate::flood::{FloodOptions, flood};
pub use crate::handshakes::{HandshakeCommand, handshakes};
use crate::idle::Idle;
pub use crate::options::Options;
pub use crate::reloads::{ReloadOptions, reloads};
use crate::report::Report;
use crate::subject::Subjects;
use crate::target::Clients;
pub use crate::terminators::{TerminatorOptions, terminators};

/// Sets everything up, measures round by round, prints tables and writes them as JSON.
pub fn side_by_side(options: &Options) -> Result<()> {
    let scratch = Scratch::new()?;
    let network = Network::isolated().unwrap_or_else(|error| Network::loopback(&error));
    if network.router.is_isolated() {
        network.router.set("ipv4/ip_local_reserved_ports", CUT_THROUGH_PORTS)?;
    }
    let clients = Clients::new()?;
    let backends = Backends::start(&network.backend, &clients)?;
    let subjects = Subjects::start(&scratch, &network, &backends, &clients, options.data_paths)?;
    let contest = Contest::new(&subjects, options);
    if contest.is_empty() {
        bail!("no cell holds {:?}; the cells are:\n{}", options.only, Contest::all(&subjects, options).names());
    }
    let report = Report::begin(options, &network, &subjects);
    report.announce(&contest);
    let results = contest.run(&network.client, &backends, &clients, options)?;
    let idle = idle(options, &subjects, &network, &backends, &clients)?;
    report.print(&results, &idle);
    report.write_json(&results, &idle)
}

/// One subject after the other: memory needs no rounds.
fn idle<'s>(
    options: &Options,
    subjects: &'s Subjects,
    network: &Network,
    backends: &Backends,
    clients: &Clients,
) -> Result<Vec<Idle<'s>>> {
    if !options.data_paths || options.idle == 0 {
        return Ok(Vec::new());
    }
    let connections = options.idle as usize;
    let rows = subjects.list.iter().filter(|subject| subject.mode == Mode::Passthrough);
    rows.map(|subject| idle::measure(subject, connections, &network.client, backends, clients)).collect()
}

/// Half of all ports; the kernel keeps as many for the routers that leave the choice to it.
const CUT_THROUGH_PORTS: &str = "40000-65535";
