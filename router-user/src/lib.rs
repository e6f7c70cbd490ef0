//! sni-router: the supervisor, the router and the commands around them. Never reads a key, never links a TLS library.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod admin;
pub mod cli;
pub mod commands;
mod config_file;
pub mod demand;
pub mod ebpf;
pub mod failure;
pub mod identity;
mod listening;
pub mod logging;
pub mod metrics;
pub mod names;
mod passed;
pub mod router;
pub mod routing;
pub mod status;
mod supervision;
pub mod supervisor;
