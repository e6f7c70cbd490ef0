//! The price of isolation: TLS handshakes per second of sni-router, whose keys are in a confined process of each tenant's
//! own, beside the same rustls and the same relay in one process, haproxy and nginx; full and resumed, ECDSA and RSA.

mod backend;
mod load;
mod one_process;
mod report;
mod subjects;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tests::authority::{Authority, Identity, KeyKind};
use tests::network::Network;
use tests::scratch::Scratch;

use self::load::Measured;
use self::report::Report;
use self::subjects::{Subject, Subjects};

/// Measures TLS handshakes per second of sni-router, of one process, of haproxy and of nginx.
#[derive(Debug, Parser)]
#[command(max_term_width = 100, args_conflicts_with_subcommands = true)]
pub struct HandshakeCommand {
    #[command(subcommand)]
    role: Option<Role>,
    /// How often each cell is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long each time, in seconds
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Terminate TLS for both names, in one process that holds both keys.
    #[command(hide = true)]
    OneProcess {
        /// Where the backend listens.
        #[arg(long)]
        backend: SocketAddr,
        /// Of both certificates, as `ecdsa.crt`, `ecdsa.key` and so on.
        #[arg(long)]
        folder: PathBuf,
        /// Where to listen for the name with the ECDSA key and for that with the RSA key.
        #[arg(long, num_args = 2)]
        listen: Vec<SocketAddr>,
    },
}

/// Measures, prints a table for each cell and writes everything as JSON.
pub fn handshakes(command: &HandshakeCommand) -> Result<()> {
    if let Some(Role::OneProcess { backend, folder, listen }) = &command.role {
        return one_process::serve(*backend, folder, listen);
    }
    let scratch = Scratch::new()?;
    let network = Network::isolated().unwrap_or_else(|error| Network::loopback(&error));
    let certificates = Certificates::new()?;
    let backend = network.backend.free_address()?;
    network.backend.run(|| backend::start(backend))?;
    let subjects = Subjects::start(&scratch, &network, backend, &certificates)?;
    let report = Report::begin(command, &network, &subjects);
    let duration = Duration::from_secs_f64(command.seconds.clamp(0.1, 600.0));
    let mut series: Vec<Series<'_>> = Cell::all(&subjects).collect();
    for round in 1..=command.rounds {
        for series in &mut series {
            let Cell { subject, key, kind } = series.cell;
            report.progress(&format!("round {round} of {}: {} {key:?} {kind:?}", command.rounds, subject.name));
            let address = subject.address(key);
            let cpu = || subject.process.cpu_time();
            series.samples.push(load::measure(&network.client, address, key, kind, duration, cpu)?);
        }
    }
    report.print(&series);
    report.write_json(&series)
}

/// Which key the server's certificate has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    /// P-256.
    Ecdsa,
    /// 2048 bits.
    Rsa,
}

impl Key {
    const ALL: [Self; 2] = [Self::Ecdsa, Self::Rsa];

    /// Of files and of the tenant.
    fn label(self) -> &'static str {
        match self {
            Self::Ecdsa => "ecdsa",
            Self::Rsa => "rsa",
        }
    }

    fn host(self) -> &'static str {
        match self {
            Self::Ecdsa => "ecdsa.handshakes.test",
            Self::Rsa => "rsa.handshakes.test",
        }
    }
}

/// What a handshake costs the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A key exchange and a signature.
    Full,
    /// A key exchange (RFC 8446 section 2.2, psk_dhe_ke).
    Resumed,
}

/// One subject under one load.
#[derive(Clone, Copy)]
struct Cell<'s> {
    subject: &'s Subject,
    key: Key,
    kind: Kind,
}

/// A cell with a sample for each round.
struct Series<'s> {
    cell: Cell<'s>,
    samples: Vec<Measured>,
}

impl<'s> Cell<'s> {
    /// The subjects of a key and kind next to each other.
    fn all(subjects: &'s Subjects) -> impl Iterator<Item = Series<'s>> {
        let tables = [Kind::Full, Kind::Resumed].into_iter().flat_map(|kind| Key::ALL.map(|key| (kind, key)));
        tables.flat_map(move |(kind, key)| {
            subjects.list.iter().map(move |subject| Series { cell: Cell { subject, key, kind }, samples: Vec::new() })
        })
    }
}

/// What all servers show.
struct Certificates {
    ecdsa: Identity,
    rsa: Identity,
}

impl Certificates {
    fn new() -> Result<Self> {
        let authority = Authority::new("handshakes CA")?;
        Ok(Self {
            ecdsa: authority.server(&[Key::Ecdsa.host()], KeyKind::Ecdsa)?,
            rsa: authority.server(&[Key::Rsa.host()], KeyKind::Rsa)?,
        })
    }

    fn of(&self, key: Key) -> &Identity {
        match key {
            Key::Ecdsa => &self.ecdsa,
            Key::Rsa => &self.rsa,
        }
    }
}

/// What a client sends when the handshake is complete.
const REQUEST: [u8; 64] = [b'q'; 64];
/// What the backend sends back, before it closes.
const ANSWER: [u8; 8] = *b"answered";
