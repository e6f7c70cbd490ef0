//! What the tests that start the real binary share: certificates, the process, clients and a backend.

pub(crate) mod backend;
pub(crate) mod client;
pub(crate) mod patience;
pub(crate) mod pki;
pub(crate) mod process;
pub(crate) mod tls_backend;
