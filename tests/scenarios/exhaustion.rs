//! The host runs short of something: nobody spins, each failure is counted by its reason, and when there is enough again
//! everything works. ENFILE, ENOBUFS and ENOMEM are injected: a test that really used up the host's would take others
//! with it.

mod calls;
mod descriptors;
mod handoffs;
mod ports;
mod scene;
