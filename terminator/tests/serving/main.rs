//! The real `sni-terminator`, with the test in the place of the router, the clients and the backend.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod access_log;
mod backend_tls;
mod certificates;
mod client_certificates;
mod confinement;
mod deadlines;
mod drain;
mod ends;
mod names;
mod proxy_header;
mod resumption;
mod start_up;
mod versions;
