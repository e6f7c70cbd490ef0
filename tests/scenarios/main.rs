//! What sni-router does, seen from outside: real processes, real sockets, real clients. One module per behaviour.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fakes_alone;
