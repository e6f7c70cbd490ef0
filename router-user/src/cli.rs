//! The command line: what can be asked, and which exit code answers.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Failure;
use crate::{commands, router, supervisor};

/// Routes TLS connections by their server name, to a backend as they are or to their tenant's terminator.
#[derive(Debug, Parser)]
#[command(name = "sni-router", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything on this host, in the foreground: the router and one terminator per Terminate tenant.
    ///
    /// SIGTERM drains: listeners stop, established connections get their tenant's drainTimeout. A second SIGTERM stops
    /// at once. SNI_ROUTER_LOG sets the log filter, for example debug (default info).
    Run {
        #[command(flatten)]
        config: ConfigFile,
        /// What this process was until an upgrade of it has left here.
        #[arg(long, hide = true)]
        resume: Option<PathBuf>,
    },
    /// Run the router alone; the terminators are somebody else's work (Kubernetes).
    Router {
        #[command(flatten)]
        config: ConfigFile,
        /// Drain and exit when the standard input ends: the supervisor is gone.
        #[arg(long, hide = true)]
        supervised: bool,
    },
    /// Check a configuration file: 0 ok, 1 problems.
    Check {
        #[command(flatten)]
        config: ConfigFile,
        /// Print the problems as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show where a server name would go, and by which rule.
    Route {
        #[command(flatten)]
        config: ConfigFile,
        /// The server name, as a client would send it.
        name: String,
        /// The listener that is asked; the first one by default.
        #[arg(long)]
        listener: Option<String>,
    },
    /// Show a running router: tenants, connections, certificates, backends, how terminators are confined.
    Status {
        /// The router's admin endpoint: the path of its socket, or http://HOST:PORT.
        #[arg(long, value_name = "URL|SOCKET", default_value = "/run/sni-router/admin.sock")]
        admin: String,
        /// Print everything as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Have the programs that are on disk now take over from the running ones, with all connections.
    ///
    /// The listening sockets and the relayed connections go to a new router, terminators are replaced one by one and
    /// drain. A new program that does not start changes nothing. SIGUSR2 to the supervisor does the same.
    Upgrade(ConfigFile),
    /// Show the established connections that the kernel carries, whether a router runs or not; needs root.
    Flows {
        #[command(flatten)]
        config: ConfigFile,
        /// Only those of this tenant.
        #[arg(long)]
        tenant: Option<String>,
        /// Reset both ends of each.
        #[arg(long)]
        end: bool,
    },
    /// Whether this program understands what a running supervisor would leave it.
    #[command(hide = true)]
    CheckState { state: PathBuf },
    /// Print the JSON Schema of the configuration file.
    Schema {
        /// The same for people, in Markdown.
        #[arg(long)]
        markdown: bool,
    },
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration file (YAML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl Cli {
    /// Runs the command and returns the process's exit code.
    pub fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Run { config, resume: None } => supervisor::run(&config.config),
            Command::Run { config, resume: Some(state) } => supervisor::resume(&config.config, &state),
            Command::CheckState { state } => supervisor::check_state(&state),
            Command::Router { config, supervised } => router::run(&config.config, supervised),
            Command::Check { config, json } => commands::check::check(&config.config, json),
            Command::Route { config, name, listener } => {
                commands::route::route(&config.config, &name, listener.as_deref())
            }
            Command::Status { admin, json } => commands::status::status(&admin, json),
            Command::Upgrade(file) => commands::upgrade::upgrade(&file.config),
            Command::Flows { config, tenant, end } => commands::flows::flows(&config.config, tenant.as_deref(), end),
            Command::Schema { markdown } => commands::schema::schema(markdown),
        };
        let Err(failure) = result else { return ExitCode::SUCCESS };
        if !matches!(failure, Failure::Child(_) | Failure::Told) {
            eprintln!("{failure}");
        }
        failure.exit_code()
    }
}
