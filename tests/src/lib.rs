//! What the scenarios and the demo stand on: certificates, fake backends on real sockets, the started router, clients.
//! Never reaches into the product's code except its configuration types: everything else is seen from outside.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod authority;
pub mod binaries;
pub mod certs;
pub mod client_tools;
pub mod deliver;
pub mod demo;
pub mod dns_server;
pub mod fakes;
pub mod grpc;
pub mod hello;
pub mod http;
pub mod log;
pub mod memory;
pub mod metrics;
pub mod network;
pub mod openssl;
pub mod patience;
pub mod pattern;
pub mod peer;
pub mod ports;
pub mod processes;
pub mod raw_client;
pub mod raw_tcp;
pub mod real_client;
pub mod router_process;
pub mod scratch;
pub mod secret_mount;
pub mod segment;
pub mod service_manager;
pub mod setup;
pub mod shortage;
pub mod stream_of_bytes;
pub mod systemd_host;
pub mod tls_client;
