//! Whether the files of a certificate are there at all. Reads none of them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use config::CertificateSource;

use super::paths;

/// What there is of a certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Neither file: nobody has put a certificate there, or somebody took it away.
    Absent,
    /// One of the two.
    Half {
        /// The file that does not exist.
        missing: PathBuf,
        /// The file that does.
        there: PathBuf,
    },
    /// Both, whatever they hold; or files that this uid may not even look for.
    There,
}

/// Looks at the names alone.
pub(crate) fn presence(source: &CertificateSource) -> Presence {
    let (certificate, key) = paths(source);
    match (is_missing(&certificate), is_missing(&key)) {
        (true, true) => Presence::Absent,
        (true, false) => Presence::Half { missing: certificate, there: key },
        (false, true) => Presence::Half { missing: key, there: certificate },
        (false, false) => Presence::There,
    }
}

fn is_missing(file: &Path) -> bool {
    fs::metadata(file).is_err_and(|error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_one_and_both_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        let source = CertificateSource::SecretDir(secret.clone());
        assert_eq!(presence(&source), Presence::Absent);
        fs::create_dir(&secret).unwrap();
        assert_eq!(presence(&source), Presence::Absent);
        fs::write(secret.join("tls.key"), "").unwrap();
        let half = Presence::Half { missing: secret.join("tls.crt"), there: secret.join("tls.key") };
        assert_eq!(presence(&source), half);
        fs::write(secret.join("tls.crt"), "").unwrap();
        assert_eq!(presence(&source), Presence::There);
    }
}
