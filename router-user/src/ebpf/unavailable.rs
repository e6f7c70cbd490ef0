//! Why the kernel does not run a program: one reason per thing that an operator can do about it.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use nix::errno::Errno;

/// The programs cannot be had; the work is done in userspace, or not at all where there is no other way.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The process lacks a capability.
    #[error("{operation}: not permitted: CAP_BPF and CAP_NET_ADMIN (or root) are needed at the start")]
    NotPermitted {
        /// What was tried.
        operation: String,
    },
    /// The kernel does not know a call, a map or a type of program.
    #[error("{operation}: {source}: this kernel cannot do it")]
    Kernel {
        /// What was tried.
        operation: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel's verifier rejected a program.
    #[error("program {program}: refused by the kernel's verifier: {}", last_line(log))]
    Verifier {
        /// The program.
        program: &'static str,
        /// All that the verifier said.
        log: String,
    },
    /// No bpffs to pin to.
    #[error("bpffs: {operation} {}: {source}{}", path.display(), advice(operation))]
    Bpffs {
        /// What was tried.
        operation: &'static str,
        /// With this.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// No memory, or a limit.
    #[error("{operation}: {source}")]
    Resources {
        /// What was tried.
        operation: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The programs run, but a flow of the self-test did not go through them as it should.
    #[error("self-test: {0}")]
    SelfTest(String),
    /// The embedded object is not what this program expects.
    #[error("the eBPF object: {0}")]
    Object(String),
}

impl Unavailable {
    /// The value of the label `reason` in metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotPermitted { .. } => "not_permitted",
            Self::Kernel { .. } => "kernel",
            Self::Verifier { .. } => "verifier",
            Self::Bpffs { .. } => "bpffs",
            Self::Resources { .. } => "resources",
            Self::SelfTest(_) => "self_test",
            Self::Object(_) => "object",
        }
    }

    /// The kernel refused `operation`.
    pub fn of_call(operation: impl Into<String>, source: io::Error) -> Self {
        let operation = operation.into();
        match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EPERM | Errno::EACCES) => Self::NotPermitted { operation },
            Some(Errno::ENOMEM | Errno::E2BIG | Errno::ENOSPC | Errno::EMFILE | Errno::ENFILE) => {
                Self::Resources { operation, source }
            }
            _ => Self::Kernel { operation, source },
        }
    }

    /// A map could not be made, filled or pinned.
    pub fn of_map(operation: impl Into<String>, error: MapError) -> Self {
        let operation = operation.into();
        match errno(&error) {
            Some(source) => Self::of_call(operation, source),
            None => Self::Object(format!("{operation}: {error}")),
        }
    }

    /// A program could not be loaded or attached.
    pub fn of_program(program: &'static str, error: ProgramError) -> Self {
        match &error {
            ProgramError::LoadError { io_error, verifier_log } => {
                let log = verifier_log.to_string();
                // Without CAP_BPF the kernel refuses before it verifies, and a type that it does not know has no log.
                if log.is_empty() || io_error.raw_os_error() == Some(Errno::EPERM as i32) {
                    return Self::of_call(format!("load program {program}"), duplicate(io_error));
                }
                Self::Verifier { program, log }
            }
            _ => match errno(&error) {
                Some(source) => Self::of_call(format!("program {program}"), source),
                None => Self::Object(format!("program {program}: {error}")),
            },
        }
    }

    pub(super) fn of_loading(error: EbpfError) -> Self {
        match error {
            EbpfError::MapError(MapError::CreateError { name, io_error }) => {
                Self::of_call(format!("make map {name}"), io_error)
            }
            error => match errno(&error) {
                Some(source) => Self::of_call("load the object", source),
                None => Self::Object(error.to_string()),
            },
        }
    }
}

/// The system call's error at the bottom of a chain of errors. aya's transparent variants stand for their content and
/// are thus looked into by name.
fn errno(error: &(dyn Error + 'static)) -> Option<io::Error> {
    let mut found = None;
    let mut cause = Some(error);
    while let Some(error) = cause {
        let transparent = match (error.downcast_ref::<ProgramError>(), error.downcast_ref::<MapError>()) {
            (Some(ProgramError::IOError(error)), _) | (_, Some(MapError::IoError(error))) => Some(error),
            _ => None,
        };
        found = transparent.or_else(|| error.downcast_ref::<io::Error>()).map(duplicate).or(found);
        cause = error.source();
    }
    found
}

fn duplicate(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
}

fn advice(operation: &str) -> &'static str {
    if operation == MOUNT { " (mount -t bpf bpf /sys/fs/bpf makes one for the whole host)" } else { "" }
}

/// Where the verifier says what it did not like: before its statistics.
fn last_line(log: &str) -> &str {
    let statistics = |line: &&str| {
        line.starts_with("processed ") || line.starts_with("verification time") || line.starts_with("stack depth")
    };
    log.lines().rev().map(str::trim).find(|line| !line.is_empty() && !statistics(line)).unwrap_or("no reason given")
}

/// The operation of [`Unavailable::Bpffs`] that root may have to do instead.
pub(super) const MOUNT: &str = "mount";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_is_told_from_an_old_kernel_and_from_a_limit() {
        for (errno, reason) in [
            (Errno::EPERM, "not_permitted"),
            (Errno::EINVAL, "kernel"),
            (Errno::ENOSYS, "kernel"),
            (Errno::ENOMEM, "resources"),
        ] {
            let error = MapError::CreateError { name: "M".to_owned(), io_error: errno.into() };
            assert_eq!(Unavailable::of_loading(error.into()).reason(), reason);
            let program = ProgramError::IOError(errno.into());
            assert_eq!(Unavailable::of_program("p", program).reason(), reason);
        }
    }

    #[test]
    fn of_a_verifier_log_the_last_words_are_told() {
        let log = "0: R1=ctx()\nR3 invalid mem access 'scalar'\nverification time 9 usec\nprocessed 12 insns\n\n";
        assert_eq!(last_line(log), "R3 invalid mem access 'scalar'");
        assert_eq!(last_line(""), "no reason given");
    }
}
