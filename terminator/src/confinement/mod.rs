//! Everything that keeps a terminator, should it be taken over, from doing more than its tenant's TLS. In this order:
//! privileges, memory, Landlock, and, once all threads run, seccomp. Decides nothing about who it becomes.

#[cfg(debug_assertions)]
pub(crate) mod attempts;
mod landlock;
mod memory_limit;
mod privileges;
mod seccomp;

use std::path::PathBuf;

use config::SandboxPolicy;
use connection::handoff::SandboxPart;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use rustix::mm::{MlockAllFlags, mlockall};
use thiserror::Error;
use tracing::{info, warn};

pub(crate) use self::memory_limit::enter as enter_memory_group;
pub(crate) use self::privileges::{ConfineError, forbid_new_privileges};
use crate::identity::Identity;

/// What the process needs after it is confined.
#[derive(Clone, Debug)]
pub(crate) struct Needs {
    /// Folders whose files it reads.
    pub(crate) read: Vec<PathBuf>,
    /// Folders in which it replaces files; read too.
    pub(crate) write: Vec<PathBuf>,
    /// The folder in which it makes its socket.
    pub(crate) socket_folder: PathBuf,
    /// TCP ports that it connects to.
    pub(crate) connect: Vec<u16>,
}

/// A means of confinement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// PR_SET_NO_NEW_PRIVS.
    NoNewPrivileges,
    /// A uid that no other process has.
    OwnUid,
    /// All capability sets are empty.
    NoCapabilities,
    /// PR_SET_DUMPABLE 0.
    NotDumpable,
    /// RLIMIT_CORE 0.
    NoCoreDumps,
    /// Nothing of its memory is written to swap.
    LockedMemory,
    /// Landlock on files: its certificate folders, read-only.
    LandlockFiles,
    /// Landlock on TCP: no bind, connections to the backends' ports alone.
    LandlockNetwork,
    /// Landlock on signals and abstract sockets of other processes.
    LandlockScopes,
    /// The allow-list of system calls.
    Seccomp,
    /// The bound of its memory, where the configuration asks for one.
    MemoryLimit,
}

impl Part {
    /// Whether `sandbox.policy: Required` insists on it. Locked memory depends on a limit that only root can raise, and
    /// where there is no swap it protects from nothing.
    fn is_required(self) -> bool {
        self != Self::LockedMemory
    }

    /// The label of metrics, and the word of log lines.
    fn label(self) -> &'static str {
        match self {
            Self::NoNewPrivileges => "no_new_privileges",
            Self::OwnUid => "own_uid",
            Self::NoCapabilities => "no_capabilities",
            Self::NotDumpable => "not_dumpable",
            Self::NoCoreDumps => "no_core_dumps",
            Self::LockedMemory => "locked_memory",
            Self::LandlockFiles => "landlock_files",
            Self::LandlockNetwork => "landlock_network",
            Self::LandlockScopes => "landlock_scopes",
            Self::Seccomp => "seccomp",
            Self::MemoryLimit => "memory_limit",
        }
    }
}

/// What holds and what does not, gathered step by step. Nothing is said to hold that the kernel did not confirm.
#[derive(Debug)]
pub(crate) struct Confinement {
    policy: SandboxPolicy,
    identity: Identity,
    writes_files: bool,
    parts: Vec<(Part, Result<(), String>)>,
}

/// A piece of the confinement is missing, and the policy is Required; or a step failed that never may.
#[derive(Debug, Error)]
pub(crate) enum NotConfined {
    /// Under every policy.
    #[error(transparent)]
    Privileges(#[from] ConfineError),
    /// Under `sandbox.policy: Required`.
    #[error("sandbox.policy is Required, and this is missing: {0}")]
    Missing(String),
}

impl Confinement {
    /// Becomes `target` when started as root and gives up what does not depend on the tenant's needs. `alone`: nobody
    /// supervises, so whoever started this process chose its uid for it.
    pub(crate) fn begin(target: Identity, policy: SandboxPolicy, alone: bool) -> Result<Self, NotConfined> {
        let mut confinement = Self::begin_without_keys(target, policy, alone)?;
        confinement.parts.push((Part::LockedMemory, lock_memory()));
        Ok(confinement)
    }

    /// The same for a process that has nothing to keep out of swap.
    pub(crate) fn begin_without_keys(
        target: Identity,
        policy: SandboxPolicy,
        alone: bool,
    ) -> Result<Self, NotConfined> {
        let dropped = privileges::confine(target)?;
        let own_uid = if dropped.dropped || alone {
            Ok(())
        } else {
            Err("not started as root, so all processes share one uid".to_owned())
        };
        let parts = vec![
            (Part::NoNewPrivileges, Ok(())),
            (Part::OwnUid, own_uid),
            (Part::NoCapabilities, Ok(())),
            (Part::NotDumpable, Ok(())),
            (Part::NoCoreDumps, Ok(())),
        ];
        Ok(Self { policy, identity: dropped.identity, writes_files: false, parts })
    }

    /// Takes note of how the bound of memory was set.
    pub(crate) fn memory_limit(&mut self, outcome: Result<(), String>) {
        self.parts.push((Part::MemoryLimit, outcome));
    }

    /// Forbids files and connections that the tenant does not need. For this thread and those that it starts.
    pub(crate) fn restrict_access(&mut self, needs: &Needs) {
        self.writes_files = !needs.write.is_empty();
        self.parts.extend(landlock::restrict(needs));
    }

    /// Forbids all system calls that serving does not need, in all threads; says what holds; and fails where something
    /// that the policy requires does not.
    pub(crate) fn seal(mut self) -> Result<Vec<SandboxPart>, NotConfined> {
        self.parts.push((Part::Seccomp, seccomp::restrict(self.writes_files)));
        let holds =
            words(self.parts.iter().filter(|(_, state)| state.is_ok()).map(|(part, _)| part.label().to_owned()));
        let missing = words(self.missing(|_| true));
        let required = words(self.missing(Part::is_required));
        let Identity { uid, gid } = self.identity;
        if required.is_empty() {
            info!(uid, gid, holds, missing, "confined");
        } else if self.policy == SandboxPolicy::Required {
            return Err(NotConfined::Missing(required));
        } else {
            warn!(uid, gid, holds, missing, "confined as far as this system can");
        }
        let part = |(part, state): &(Part, Result<(), String>)| SandboxPart {
            part: part.label().to_owned(),
            holds: state.is_ok(),
            reason: state.as_ref().err().cloned().unwrap_or_default(),
        };
        Ok(self.parts.iter().map(part).collect())
    }

    fn missing(&self, which: impl Fn(Part) -> bool) -> impl Iterator<Item = String> {
        self.parts.iter().filter(move |(part, _)| which(*part)).filter_map(|(part, state)| {
            let reason = state.as_ref().err()?;
            Some(format!("{} ({reason})", part.label()))
        })
    }
}

/// Raises the limit of locked memory while root can, so that the tenant's uid may lock all of it.
pub(crate) fn raise_locked_memory_limit() {
    // Refused to an ordinary user; what that means is told with the confinement.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
}

/// All pages, as they are used: keys are wherever the cryptographic library puts them.
fn lock_memory() -> Result<(), String> {
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        // With a limit, later allocations would fail at it.
        Ok((soft, _)) if soft != RLIM_INFINITY => {
            Err(format!("RLIMIT_MEMLOCK is {} KiB: raise it to unlimited, or turn off swap", soft / 1024))
        }
        Ok(_) => mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
            .map_err(|error| format!("mlockall: {error}")),
        Err(error) => Err(format!("getrlimit: {error}")),
    }
}

fn words(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(", ")
}
