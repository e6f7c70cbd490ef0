//! What the eBPF programs and the router agree upon: names of programs and maps, keys and values. One module per program.
//! Fixed-size numbers only: the kernel never sees a tenant's name or a rule.

#![no_std]

pub mod cut_through;
#[cfg(feature = "user")]
mod pod;
pub mod steer;
