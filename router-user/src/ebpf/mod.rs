//! The kernel's programs: loading them from the embedded object, and the folder on bpffs where they outlive a process.
//! An acceleration: whatever is missing becomes one [`Unavailable`], and the traffic takes the path in userspace.

pub mod cut_through;
mod interfaces;
#[cfg(feature = "ebpf-log")]
mod kernel_log;
mod netlink;
mod object;
mod pins;
mod raw;
pub mod steer;
mod unavailable;

pub use object::{load, load_program};
pub use pins::Pins;
pub use unavailable::Unavailable;
