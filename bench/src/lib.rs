//! The side-by-side run: sni-router, its peers and no router at all take turns under the same load on the same
//! machine. It prints what it measured and judges nothing.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod backend;
mod cell;
mod contest;
mod load;
mod options;
mod report;
mod statistics;
mod subject;
mod target;
mod terminators;

use anyhow::{Result, bail};
use tests::network::Network;
use tests::scratch::Scratch;

use crate::backend::Backends;
use crate::contest::Contest;
pub use crate::options::Options;
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
    let subjects = Subjects::start(&scratch, &network, &backends, &clients)?;
    let contest = Contest::new(&subjects, options);
    if contest.is_empty() {
        bail!("no cell holds {:?}; the cells are:\n{}", options.only, Contest::all(&subjects).names());
    }
    let report = Report::begin(options, &network, &subjects);
    report.announce(&contest);
    let results = contest.run(&network.client, &backends, &clients, options)?;
    report.print(&results);
    report.write_json(&results)
}

/// Half of all ports; the kernel keeps as many for the routers that leave the choice to it.
const CUT_THROUGH_PORTS: &str = "40000-65535";
