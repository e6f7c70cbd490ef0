//! Descriptors: how many there may be, and the registration of those with tokio that it has no type for.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use crate::seqpacket::register;

/// Raises this process's soft limit to the hard one (getrlimit(2)): each connection takes two or more, and the usual one
/// of 1024 dates from select(2).
pub fn raise_limit() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(512), maximum }).unwrap();
        raise_limit().unwrap();
        assert_eq!(getrlimit(Resource::Nofile), Rlimit { current: maximum, maximum });
    }
}
