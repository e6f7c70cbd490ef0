//! The command line: what can be asked, which exit code answers, and where log lines go.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, value_parser};
use config::Part;
use tracing_subscriber::EnvFilter;

use crate::check::check;
use crate::probing::probe;
use crate::start::{Request, StartError, run};

/// Ends the TLS of one tenant of sni-router; holds this tenant's keys and nobody else's.
#[derive(Debug, Parser)]
#[command(name = "sni-terminator", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve one tenant, in the foreground. `sni-router run` starts this itself; alone it is for Kubernetes.
    ///
    /// Started as root, it becomes the tenant's user before it reads a key. SIGTERM drains: no new connections,
    /// established ones get the tenant's drainTimeout. A second SIGTERM stops at once. SNI_ROUTER_LOG sets the log
    /// filter, for example debug (default info).
    Serve {
        /// The configuration file (YAML), the same as the router's.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The tenant's name in the configuration.
        #[arg(long, value_name = "NAME")]
        tenant: String,
        /// The Unix socket on which the router hands connections over.
        #[arg(long, value_name = "PATH")]
        socket: PathBuf,
        /// The cgroup to enter where the tenant has a sandbox.memoryMax.
        #[arg(long, hide = true)]
        memory_group: Option<PathBuf>,
        /// Drain and exit when the standard input ends: the supervisor is gone.
        #[arg(long, hide = true)]
        supervised: bool,
        /// Who the tenant is on this host, as the supervisor, which has read the whole file, says.
        #[arg(long, hide = true, requires_all = ["gid", "supervised"], value_parser = value_parser!(u32).range(1..))]
        uid: Option<u32>,
        /// The same.
        #[arg(long, hide = true, requires = "uid", value_parser = value_parser!(u32).range(1..))]
        gid: Option<u32>,
        /// Tenants of the file that have to be read beside this one.
        #[arg(long, hide = true, requires = "uid", value_name = "NAME")]
        beside: Vec<String>,
    },
    /// Print one tenant's TLS policy, and what is wrong with its certificates: 0 nothing, 1 problems.
    ///
    /// `sni-router check` starts this itself. Started as root, it becomes the tenant's user first, so what it can read
    /// is what the tenant's terminator can read.
    Check {
        /// The configuration file (YAML), the same as the router's.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The tenant's name in the configuration.
        #[arg(long, value_name = "NAME")]
        tenant: String,
        /// One JSON document instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// Look at the certificates of Passthrough tenants' backends (certificateProbe), in the foreground. Holds no key.
    ///
    /// `sni-router run` starts this itself where a tenant has a certificateProbe; alone it is for Kubernetes, beside a
    /// router with the same runtimeDir. Started as root, it becomes a user of its own first.
    Probe {
        /// The configuration file (YAML), the same as the router's.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// End when the standard input does: the supervisor is gone.
        #[arg(long, hide = true)]
        supervised: bool,
    },
    /// Try from inside the confinement what somebody who has taken a terminator over would try. Only in debug builds.
    #[cfg(debug_assertions)]
    #[command(hide = true)]
    Attempt {
        /// The configuration file; without it nothing is confined.
        #[arg(long)]
        config: Option<PathBuf>,
        /// The tenant.
        #[arg(long, default_value = "")]
        tenant: String,
        /// Where the hand-off socket would be.
        #[arg(long)]
        socket: Option<PathBuf>,
        /// What to try, such as read=/etc/passwd.
        attempts: Vec<String>,
    },
}

impl Cli {
    /// Reads the command line of this process; what is wrong with it, or help, has been printed already.
    pub fn from_arguments() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| {
            // A closed standard error leaves nobody to tell.
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(INPUT_IS_WRONG) } else { ExitCode::SUCCESS }
        })
    }

    /// Runs the command and returns the process's exit code.
    pub fn run(self) -> ExitCode {
        log_to_stderr();
        let request = match self.command {
            Command::Serve { config, tenant, socket, memory_group, supervised, uid, gid, beside } => Request {
                config,
                tenant,
                socket,
                memory_group,
                supervised,
                part: uid.zip(gid).map(|(uid, gid)| Part { identity: config::Identity { uid, gid }, beside }),
                #[cfg(debug_assertions)]
                attempts: Vec::new(),
            },
            Command::Check { config, tenant, json } => {
                return match check(&config, &tenant, json) {
                    Ok(true) => ExitCode::SUCCESS,
                    Ok(false) => ExitCode::from(INPUT_IS_WRONG),
                    Err(error) => end(&error),
                };
            }
            Command::Probe { config, supervised } => {
                return probe(&config, supervised).err().map_or(ExitCode::SUCCESS, |error| end(&error));
            }
            #[cfg(debug_assertions)]
            Command::Attempt { config: Some(config), tenant, socket, attempts } => Request {
                config,
                tenant,
                socket: socket.unwrap_or_default(),
                memory_group: None,
                supervised: false,
                part: None,
                attempts,
            },
            #[cfg(debug_assertions)]
            Command::Attempt { config: None, attempts, .. } => {
                crate::confinement::attempts::attempt_all(&attempts);
                return ExitCode::SUCCESS;
            }
        };
        run(&request).err().map_or(ExitCode::SUCCESS, |error| end(&error))
    }
}

/// Says why, and chooses the exit code.
fn end(error: &StartError) -> ExitCode {
    eprintln!("sni-terminator: {error}");
    match error {
        StartError::Input(_) => ExitCode::from(INPUT_IS_WRONG),
        StartError::System(_) => ExitCode::from(SYSTEM_REFUSED),
    }
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("SNI_ROUTER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

const INPUT_IS_WRONG: u8 = 1;
const SYSTEM_REFUSED: u8 = 2;

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nobody_is_told_to_be_root() {
        let start = |uid: &str, gid: &str| {
            let words = "sni-terminator serve --config c --tenant t --socket s --supervised --uid UID --gid GID";
            let words = words.replace("UID", uid).replace("GID", gid);
            Cli::try_parse_from(words.split(' ')).map(drop).map_err(|error| error.kind())
        };
        assert_eq!(start("61184", "61184"), Ok(()));
        assert_eq!(start("0", "61184"), Err(clap::error::ErrorKind::ValueValidation));
        assert_eq!(start("61184", "0"), Err(clap::error::ErrorKind::ValueValidation));
    }
}
