//! What a tenant over its limit costs another one: the time of the other's connections while nobody floods, while the
//! first is flooded, and while the same flood goes to a program that only refuses, which is what the flood's clients
//! cost by themselves on the same machine. The three take turns.

mod load;
mod report;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use tests::authority::{Authority, KeyKind};
use tests::fakes::{Echo, Server};
use tests::hello::Hello;
use tests::network::Network;
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};
use tests::tls_client::TlsClient;

use self::load::{Connector, Flood, Paced};

/// Measures what a flood of one tenant costs another one.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
pub struct FloodOptions {
    /// How often each of the three is measured
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long each time, in seconds
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// The `connectionRate` of the tenant that is flooded with ten times as many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// The router's `dataPath`
    #[arg(long, default_value = "Auto")]
    data_path: String,
    /// New connections per second of the other tenant
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
}

/// Where the flood goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Nobody,
    TheOtherTenant,
    AProgramThatRefuses,
}

impl To {
    const ALL: [Self; 3] = [Self::Nobody, Self::TheOtherTenant, Self::AProgramThatRefuses];
}

/// One round of one of the three.
#[derive(Clone, Copy, Debug)]
struct Sample {
    p50: Duration,
    p99: Duration,
    connections: usize,
    /// Of the flood: those that were refused, and all.
    refused: u64,
    flood: u64,
}

/// Both tenants' mode, and their samples by [`To`].
struct Series {
    mode: &'static str,
    samples: [Vec<Sample>; To::ALL.len()],
}

/// Runs all of it and prints the table.
pub fn flood(options: &FloodOptions) -> Result<()> {
    let network = Network::isolated().unwrap_or_else(|error| Network::loopback(&error));
    let authority = Authority::new("flood CA")?;
    let echo = || network.backend.run(|| Echo::start_on(network.backend.free_address()?));
    let (flooded, other) = (echo()?, echo()?);
    let setup = setup(options, &network, &authority, flooded.address(), other.address())?;
    let router = network.router.run(|| RouterProcess::start(setup))?;
    let refusing = network.router.run(|| {
        Server::start_on((network.router.address(), 0).into(), |mut stream| {
            let _ = stream.read(&mut [0; 4096])?;
            stream.write_all(&ALERT)
        })
    })?;
    let client = TlsClient::trusting(&authority)?;
    report::begin(options, &network);
    let mut all = Vec::new();
    for mode in ["Passthrough", "Terminate"] {
        let connector = Connector::new(&client, router.address(), &name("other", mode), mode == "Terminate");
        let hello = match mode {
            "Terminate" => client.first_flight(&name("flooded", mode))?,
            _ => Hello::named(&name("flooded", mode)).records(),
        };
        let mut series = Series { mode, samples: Default::default() };
        for round in 0..options.rounds as usize {
            for turn in 0..To::ALL.len() {
                // Whoever is first of a round is another one in the next.
                let to = To::ALL[(turn + round) % To::ALL.len()];
                let address = match to {
                    To::Nobody => None,
                    To::TheOtherTenant => Some(router.address()),
                    To::AProgramThatRefuses => Some(refusing.address()),
                };
                let sample = network.client.run(|| measure(options, &connector, address, &hello))?;
                series.samples[to as usize].push(sample);
            }
        }
        all.push(series);
    }
    report::print(&all);
    report::write_json(options, &network, &all)
}

fn setup(
    options: &FloodOptions,
    network: &Network,
    authority: &Authority,
    flooded: SocketAddr,
    other: SocketAddr,
) -> Result<Setup> {
    let limits = format!("limits: {{ connectionRate: {} }}", options.limit);
    let data_path = format!("dataPath: {}", options.data_path);
    let mut setup = Setup::new().line(&data_path).listener_address(network.router.address().into());
    for (role, backend) in [("flooded", flooded), ("other", other)] {
        let host = name(role, "Passthrough");
        let passthrough = Tenant::passthrough(&format!("{role}-passthrough"), &[&host], backend);
        let host = name(role, "Terminate");
        let certificate = authority.server(&[&host], KeyKind::Ecdsa)?;
        let terminate = Tenant::terminate(&format!("{role}-terminate"), &[&host], backend, &certificate);
        for tenant in [passthrough, terminate] {
            setup = setup.tenant(if role == "flooded" { tenant.line(&limits) } else { tenant });
        }
    }
    Ok(setup)
}

fn name(role: &str, mode: &str) -> String {
    format!("{role}.{}.test", mode.to_lowercase())
}

fn measure(
    options: &FloodOptions,
    connector: &Connector<'_>,
    flood: Option<SocketAddr>,
    hello: &[u8],
) -> Result<Sample> {
    let duration = Duration::from_secs_f64(options.seconds.clamp(0.1, 600.0));
    let flood = flood.map(|address| Flood { address, hello, per_second: 10 * options.limit });
    load::measure(connector, &Paced { per_second: options.rate, duration }, flood.as_ref())
}

/// internal_error in a record of its own (RFC 8446 section 6), as the router refuses who is over a limit.
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];
