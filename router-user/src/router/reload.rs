//! Replaces the policy by that of another configuration: everything that can fail comes first and changes nothing, then
//! all workers change over.

use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ::connection::label_set;
use config::{Config, LoadError, refused_fields};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tracing::{error, info};

use super::policy::Policy;
use super::worker::{Change, Instruction, Shared};
use crate::listening::{BindError, Bound, deal, once_free};

label_set! {
    /// How a reload ended: label `outcome` of `sni_router_config_reloads_total`.
    pub enum ReloadOutcome {
        /// The new configuration is in force.
        Ok = "ok",
        /// The file cannot be read, or is wrong; the former configuration stays in force.
        Invalid = "invalid",
        /// The file is right, but a running router cannot do what it says; the former configuration stays in force.
        Refused = "refused",
    }
}

/// How reloads went so far.
#[derive(Debug)]
pub struct Reloads {
    counts: [AtomicU64; ReloadOutcome::ALL.len()],
    last_failed: AtomicBool,
    /// Why the last one failed, where it did.
    failure: Mutex<String>,
}

/// A configuration that can be put in force.
#[derive(Debug)]
pub(super) struct Prepared {
    config: Config,
    /// The text that says it.
    text: String,
}

/// Why the former configuration stays in force.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    #[error(transparent)]
    Invalid(#[from] LoadError),
    #[error("{0}")]
    Fixed(LoadError),
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// Who reloads.
#[derive(Debug)]
pub(super) struct Reloader {
    shared: Arc<Shared>,
    /// The text of the configuration in force.
    text: String,
    /// One per worker.
    workers: Vec<UnboundedSender<Instruction>>,
}

impl Reloads {
    pub(super) fn new() -> Self {
        Self {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            last_failed: AtomicBool::new(false),
            failure: Mutex::default(),
        }
    }

    pub(super) fn count(&self, outcome: ReloadOutcome) {
        self.counts[outcome as usize].fetch_add(1, Ordering::Relaxed);
        self.last_failed.store(outcome != ReloadOutcome::Ok, Ordering::Relaxed);
        self.explain(String::new());
    }

    /// Why the last one failed.
    pub(super) fn explain(&self, failure: String) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// Why the file is not what is in force; empty where it is.
    pub fn failure(&self) -> String {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reloads that ended so.
    pub fn total(&self, outcome: ReloadOutcome) -> u64 {
        self.counts[outcome as usize].load(Ordering::Relaxed)
    }

    /// Whether the file is another configuration than the one in force, because the last reload failed.
    pub fn last_failed(&self) -> bool {
        self.last_failed.load(Ordering::Relaxed)
    }
}

impl ReloadError {
    pub(super) fn outcome(&self) -> ReloadOutcome {
        match self {
            Self::Invalid(_) => ReloadOutcome::Invalid,
            Self::Fixed(_) | Self::Bind(_) => ReloadOutcome::Refused,
        }
    }
}

impl Reloader {
    pub(super) fn new(shared: Arc<Shared>, text: String, workers: Vec<UnboundedSender<Instruction>>) -> Self {
        Self { shared, text, workers }
    }

    /// Reads the file. Dropping the result undoes it. What this process cannot change is a supervisor's to see.
    pub(super) fn prepare(&self, file: &Path) -> Result<Prepared, ReloadError> {
        let text = Config::read_file(file)?;
        let before = self.shared.policy.current();
        let config = before.config.of_next_version(&self.text, file, &text)?;
        let [fixed, of_process] = match self.shared.is_supervised {
            true => [Vec::new(), Vec::new()],
            false => {
                [before.config.fixed_fields_that_differ(&config), before.config.process_fields_that_differ(&config)]
            }
        };
        let fixed = [fixed, of_process].concat();
        if !fixed.is_empty() {
            let why = "cannot be changed by a reload of a router without a supervisor: restart it";
            return Err(ReloadError::Fixed(refused_fields(file, &text, &fixed, why)));
        }
        Ok(Prepared { config, text })
    }

    /// Binds the sockets that the configuration needs beyond those that there are, where no supervisor does.
    pub(super) async fn bind(&self, prepared: &Prepared) -> Result<Vec<Bound>, ReloadError> {
        let before = self.shared.policy.current();
        let is_bound = |wanted: &&config::Listener| {
            let known = before.config.listeners.iter().find(|known| known.name == wanted.name);
            known.is_some_and(|known| known.address == wanted.address)
        };
        let missing: Vec<_> = prepared.config.listeners.iter().filter(|wanted| !is_bound(wanted)).collect();
        let bind_all = || missing.iter().map(|listener| Bound::bind(listener, self.workers.len())).collect();
        let bound: Vec<_> = once_free(bind_all).await?;
        bound.iter().try_for_each(Bound::listen)?;
        Ok(bound)
    }

    /// The workers.
    pub(super) fn workers(&self) -> &[UnboundedSender<Instruction>] {
        &self.workers
    }

    /// Accepts from these sockets, those of each listener in the order of the configuration.
    pub(super) async fn open(&self, sockets: Vec<Vec<TcpListener>>) {
        let policy = self.shared.policy.current();
        let names = policy.config.listeners.iter().map(|listener| listener.name.clone());
        self.tell(&policy, names.zip(sockets)).await;
    }

    /// Resolves when every worker serves by `policy` and accepts from its part of the sockets.
    async fn tell(&self, policy: &Arc<Policy>, sockets: impl Iterator<Item = (String, Vec<TcpListener>)>) {
        let mut own: Vec<Vec<(String, TcpListener)>> = self.workers.iter().map(|_| Vec::new()).collect();
        for (name, sockets) in sockets {
            match deal(sockets, own.len()) {
                Ok(hands) => own.iter_mut().zip(hands).for_each(|(own, hand)| {
                    own.extend(hand.into_iter().map(|socket| (name.clone(), socket)));
                }),
                Err(error) => error!(listener = name, %error, "a listener does not accept"),
            }
        }
        let applied = self.workers.iter().zip(own).map(|(worker, sockets)| {
            let (applied, is_applied) = oneshot::channel();
            // A worker that has ended takes no connections.
            let _ = worker.send(Instruction::Change(Change { policy: Arc::clone(policy), sockets, applied }));
            is_applied
        });
        for is_applied in applied.collect::<Vec<_>>() {
            let _ = is_applied.await;
        }
    }

    /// Puts it in force, with the sockets of the listeners that are new or have another address. Resolves when every
    /// worker serves by it.
    pub(super) async fn commit(&mut self, prepared: Prepared, sockets: Vec<Bound>) {
        let began = Instant::now();
        let Prepared { config, text } = prepared;
        self.text = text;
        let policy = Arc::new(self.shared.policy.current().succeed(config));
        for Bound { name, .. } in &sockets {
            info!(listener = name, "listening");
        }
        self.tell(&policy, sockets.into_iter().map(|bound| (bound.name, bound.sockets))).await;
        self.shared.reloads.count(ReloadOutcome::Ok);
        let (listeners, tenants) = (policy.config.listeners.len(), policy.tenants.len());
        self.shared.policy.replace(policy);
        info!(listeners, tenants, took = ?began.elapsed(), "the new configuration is in force");
    }
}
