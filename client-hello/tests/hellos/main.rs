//! The parser on the hellos of real clients: as captured, cut, reframed and mutated.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod captures;
mod framing;
mod invariants;
mod mutations;
mod prefixes;
