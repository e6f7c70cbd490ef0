//! Log lines: fields on the standard error output, which every process of one `sni-router run` shares.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Installs the subscriber; SNI_ROUTER_LOG is the filter, `info` by default.
pub fn init() {
    let filter = EnvFilter::try_from_env("SNI_ROUTER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
