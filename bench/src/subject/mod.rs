//! Who is measured: sni-router and its variants, the peers that this machine has, and no router at all.

mod haproxy;
mod nginx;
mod process;
mod sni_router;

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tests::client_tools::{Tool, install_missing_of};
use tests::network::{Network, Place};
use tests::patience::{PATIENCE, eventually};
use tests::scratch::Scratch;

pub(crate) use self::process::Process;
use crate::backend::{ANSWER, Backends};
use crate::cell::{Mode, Service};
use crate::target::{Clients, KeyExchange, Target};

/// One row of the tables.
pub(crate) struct Subject {
    pub(crate) mode: Mode,
    pub(crate) name: &'static str,
    /// `None` is no router at all.
    router: Option<Router>,
    key_exchange: KeyExchange,
}

/// A router's listener for one mode.
#[derive(Clone)]
struct Router {
    address: SocketAddr,
    process: Arc<Process>,
}

impl Subject {
    fn direct(mode: Mode) -> Self {
        Self { mode, name: "direct", router: None, key_exchange: KeyExchange::X25519 }
    }

    fn routed(mode: Mode, name: &'static str, router: Router) -> Self {
        Self { mode, name, router: Some(router), key_exchange: KeyExchange::X25519 }
    }

    /// Where clients of a service connect to and how they begin.
    pub(crate) fn target(&self, service: Service, backends: &Backends, clients: &Clients) -> Result<Arc<Target>> {
        let address = match &self.router {
            Some(router) => router.address,
            None => backends.direct(self.mode, service).context("every service has a backend")?,
        };
        Ok(Arc::new(Target { address, opening: clients.opening(self.mode, service, self.key_exchange)? }))
    }

    /// Processor time that the router's processes have used.
    pub(crate) fn cpu_time(&self) -> Result<Option<Duration>> {
        self.router.as_ref().map(|router| router.process.cpu_time()).transpose()
    }

    /// Memory of the router's processes in bytes, shared pages by their share.
    pub(crate) fn memory(&self) -> Result<Option<u64>> {
        self.router.as_ref().map(|router| router.process.memory()).transpose()
    }

    /// Memory of the router's eBPF maps in bytes.
    pub(crate) fn map_bytes(&self) -> Result<u64> {
        self.router.as_ref().map_or(Ok(0), |router| router.process.map_bytes())
    }

    /// Waits until the way to a backend is open and its answer right.
    fn ready(&self, place: &Place, backends: &Backends, clients: &Clients) -> Result<()> {
        let target = self.target(Service::Answer, backends, clients)?;
        let answer = || {
            let mut answer = [0; ANSWER.len()];
            target.connect().and_then(|mut connection| connection.read_exact(&mut answer)).ok()?;
            (answer == ANSWER).then_some(())
        };
        let waited = place.run(|| {
            eventually(PATIENCE, &format!("{} answers ({})", self.name, self.mode.name()), || {
                let ended = self.router.as_ref().is_some_and(|router| !router.process.is_running());
                if ended { Some(Err(())) } else { answer().map(Ok) }
            })
        });
        match (waited, &self.router) {
            (Ok(Ok(())), _) => Ok(()),
            (Ok(Err(())), Some(router)) => bail!("{} ended; its log:\n{}", self.name, router.process.log()),
            (Err(error), Some(router)) => Err(error.context(format!("the log:\n{}", router.process.log()))),
            (Ok(Err(())), None) => bail!("no router has ended"),
            (Err(error), None) => Err(error),
        }
    }
}

/// All that could be started, in the order of their turns.
pub(crate) struct Subjects {
    pub(crate) list: Vec<Subject>,
    /// What each program says that it is.
    pub(crate) versions: Vec<String>,
    /// Peers that are left out, and why.
    pub(crate) missing: Vec<String>,
}

impl Subjects {
    /// Starts everything. A peer that cannot run here is left out; sni-router has to run.
    /// With `data_paths` each row of sni-router is one of them, and `Auto` is none.
    pub(crate) fn start(
        scratch: &Scratch,
        network: &Network,
        backends: &Backends,
        clients: &Clients,
        data_paths: bool,
    ) -> Result<Self> {
        let site = Site { scratch, place: &network.router, backends, clients };
        let mut subjects = Self {
            list: vec![Subject::direct(Mode::Passthrough), Subject::direct(Mode::Terminate)],
            versions: Vec::new(),
            missing: Vec::new(),
        };
        subjects.admit(sni_router::start(&site, data_paths)?, network, backends, clients)?;
        install_missing_of(&[Tool::HaProxy, Tool::Nginx])?;
        for (name, start) in [("haproxy", haproxy::start as fn(&Site<'_>) -> _), ("nginx", nginx::start)] {
            let admitted = start(&site).and_then(|peer| subjects.admit(peer, network, backends, clients));
            if let Err(error) = admitted {
                subjects.missing.push(format!("{name} is left out: {error:#}"));
            }
        }
        Ok(subjects)
    }

    fn admit(&mut self, entrant: Entrant, network: &Network, backends: &Backends, clients: &Clients) -> Result<()> {
        for subject in &entrant.subjects {
            subject.ready(&network.client, backends, clients)?;
        }
        self.list.extend(entrant.subjects);
        self.versions.push(entrant.version);
        Ok(())
    }
}

/// A program with all its variants.
struct Entrant {
    version: String,
    subjects: Vec<Subject>,
}

/// How many connections each router has to take; its descriptors are limited to twice as many.
const CONNECTIONS: usize = 9_500;

/// What a router needs to know to be started.
struct Site<'a> {
    scratch: &'a Scratch,
    place: &'a Place,
    backends: &'a Backends,
    clients: &'a Clients,
}
