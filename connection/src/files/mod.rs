//! Tells when files may have changed, whichever way people replace them. Never reads one.

mod folders;
mod watch;

pub use self::folders::folders_with_content;
pub use self::watch::{Fingerprint, Watch};
