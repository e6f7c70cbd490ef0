//! The configuration as its users see it: files in, models or messages out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod backend_tls;
mod certificates;
mod contract;
mod hostile;
mod identities;
mod rules;
mod scale;
mod schema;
mod structure;
mod texts;
