//! What sni-router does, seen from outside: real processes, real sockets, real clients. One module per behaviour.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access_log;
mod admin_endpoint;
mod alert_rules;
mod backend_client_certificates;
mod backend_unavailable;
mod backends;
mod bulk_transfer;
mod certificates;
mod check;
mod client_validation;
mod command_line;
mod crate_edges;
mod cut_through;
mod demo;
mod descriptor_leaks;
mod drain;
mod fakes_alone;
mod half_close;
mod key_files;
mod limits;
mod listeners_and_names;
mod model_cases;
mod passthrough_mutual_tls;
mod post_quantum;
mod privileges;
mod proxy_protocol;
mod real_clients;
mod refused_clients;
mod rejects;
mod reload;
mod resets;
mod rotation;
mod router_crash;
mod steer;
mod supervisor_crash;
mod terminator_crash;
mod tickets;
mod trickling_clients;
mod two_tenants;
mod vault;
