//! Any bytes at all: the parser answers without a panic, and its answers are consistent. The captures of
//! `client-hello/tests/captures` are seeds as well as the few here in `seeds/client_hello`.

#![no_main]

#[path = "../../client-hello/tests/hellos/invariants.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariants::hold(bytes));
