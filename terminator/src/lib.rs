//! The library behind `sni-terminator`: the TLS and the keys of one tenant, and nothing else.
//! Never parses a hello itself (rustls does), never listens on a network address, never sees another tenant's key.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod backend_tls;
mod certificates;
mod check;
mod cli;
mod confinement;
mod counters;
mod failure;
mod generated;
mod identity;
mod live_tls;
mod outcome;
mod probing;
mod reload;
mod serving;
mod start;
mod tenant_names;
mod tls_config;

#[cfg(test)]
#[path = "../tests/support/pki.rs"]
mod test_pki;

pub use cli::Cli;
