//! Keeps asking, on a thread of its own: each name when its answer has become old. Tells the backends of this process,
//! and the terminators.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use ::connection::Backends;
use config::{BackendName, Mode};
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, LocalSet, spawn_local};
use tracing::{info, warn};

use super::announce::{announce, announce_to_prober};
use super::answer::Held;
use super::lookup::look_up;
use super::system::{Files, System};
use super::{Names, names};
use crate::router::{LivePolicy, Policy, TenantState};

/// Starts the thread; it lives as long as the process.
pub(crate) fn spawn(policy: &LivePolicy) -> io::Result<()> {
    let policy = policy.follow();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new()
        .name("names".to_owned())
        .spawn(move || LocalSet::new().block_on(&runtime, keep_asking(policy)))?;
    Ok(())
}

/// Who uses a name in this process.
type Users = Rc<RefCell<HashMap<BackendName, Vec<Arc<Backends>>>>>;

/// Asks for what the policy in force has, until there is no router any more.
async fn keep_asking(mut policy: watch::Receiver<Arc<Policy>>) {
    let users = Users::default();
    let turns = Rc::new(Semaphore::new(QUESTIONS_AT_ONCE));
    let mut system = Rc::new(System::new(policy.borrow().config.resolver.clone(), Files::default()));
    let mut asked: HashMap<BackendName, AbortHandle> = HashMap::new();
    // Holding the tenants keeps their addresses, which are the keys, from being used again.
    let mut told: HashMap<*const TenantState, (Arc<TenantState>, AbortHandle)> = HashMap::new();
    let mut prober: Option<AbortHandle> = None;
    loop {
        let current = policy.borrow_and_update().clone();
        if *system.settings() != current.config.resolver {
            system = Rc::new(System::new(current.config.resolver.clone(), Files::default()));
            asked.drain().for_each(|(_, task)| task.abort());
        }
        let known = &current.names;
        let mut next: HashMap<BackendName, Vec<Arc<Backends>>> = HashMap::new();
        let mut told_before = std::mem::take(&mut told);
        for tenant in current.tenants.iter().filter(|tenant| names(&tenant.settings).next().is_some()) {
            for name in names(&tenant.settings) {
                next.entry(name.clone()).or_default().extend(tenant.backends.clone());
            }
            if let Mode::Terminate(_) = tenant.settings.mode {
                let key = Arc::as_ptr(tenant);
                let entry = told_before.remove(&key).unwrap_or_else(|| {
                    let socket = current.config.handoff_socket(&tenant.settings.name);
                    let task = announce(socket, Arc::clone(tenant), Arc::clone(known));
                    (Arc::clone(tenant), spawn_local(task).abort_handle())
                });
                told.insert(key, entry);
            }
        }
        told_before.into_values().for_each(|(_, task)| task.abort());
        prober.take().iter().for_each(AbortHandle::abort);
        let is_probed = |tenant: &&Arc<TenantState>| {
            tenant.settings.certificate_probe.is_some() && names(&tenant.settings).next().is_some()
        };
        let probed: Vec<_> = current.tenants.iter().filter(is_probed).cloned().collect();
        if !probed.is_empty() {
            let task = announce_to_prober(current.config.prober_socket(), probed, Arc::clone(known));
            prober = Some(spawn_local(task).abort_handle());
        }
        asked.retain(|name, task| {
            let is_wanted = next.contains_key(name);
            if !is_wanted {
                task.abort();
            }
            is_wanted
        });
        known.keep_only(|name| next.contains_key(name));
        *users.borrow_mut() = next;
        // What has been answered between the making of the policy and this moment.
        for tenant in &current.tenants {
            if let Some(backends) = &tenant.backends {
                known.fill(backends, &tenant.settings);
            }
        }
        for name in users.borrow().keys() {
            asked.entry(name.clone()).or_insert_with(|| {
                let (system, users, turns) = (Rc::clone(&system), Rc::clone(&users), Rc::clone(&turns));
                spawn_local(keep_asking_for(name.clone(), system, Arc::clone(known), users, turns)).abort_handle()
            });
        }
        drop(current);
        if policy.changed().await.is_err() {
            return;
        }
    }
}

/// One name, until the task is aborted.
async fn keep_asking_for(name: BackendName, system: Rc<System>, known: Arc<Names>, users: Users, turns: Rc<Semaphore>) {
    let mut held = Held::of(known.addresses(&name));
    loop {
        let answer = {
            let _turn = turns.acquire().await;
            look_up(&system, &name, held.has_addresses()).await
        };
        let next = held.take(answer, system.settings());
        if let Some(reason) = next.trouble {
            warn!(%name, reason, in_use = next.addresses.as_ref().map_or(0, |all| all.len()), "a backend's name cannot be resolved: its last good answer holds");
        } else if next.is_back {
            info!(%name, "a backend's name is resolved again");
        }
        known.learn(&name, next.outcome, next.addresses.as_ref());
        if let Some(addresses) = &next.addresses {
            for backends in users.borrow().get(&name).into_iter().flatten() {
                backends.resolve(&name, addresses);
            }
        }
        tokio::time::sleep(next.pause).await;
    }
}

/// Of all names of a large configuration at the start.
const QUESTIONS_AT_ONCE: usize = 64;
