//! Reads one small file as the tenant's user, and tells an operator how to mend what stands in the way.
//! Never follows up with privileges: a file that this uid cannot read stays unread.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::process::geteuid;
use thiserror::Error;
use zeroize::Zeroizing;

/// The content of a file of at most [`MAX_PEM_BYTES`]; overwritten in memory when dropped, because it may hold a key.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, UnreadableFile> {
    let unreadable = |error: io::Error| UnreadableFile {
        path: path.to_owned(),
        remedy: (error.kind() == io::ErrorKind::PermissionDenied).then(|| Remedy::find(path)).flatten(),
        error,
    };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(io::Error::other("not a regular file")));
    }
    let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    if length > MAX_PEM_BYTES {
        return Err(unreadable(io::Error::other("larger than 1 MiB, which no certificate bundle is")));
    }
    // Room for all of it from the start: a buffer that grows would leave copies of a key behind.
    let mut content = Zeroizing::new(Vec::with_capacity(length + ROOM_FOR_THE_END));
    file.take(length as u64 + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() > length {
        return Err(unreadable(io::Error::other("is being written")));
    }
    Ok(content)
}

/// A file that cannot be read, with the command that mends it where permissions are the reason.
#[derive(Debug, Error)]
#[error("read {}: {error}{}", path.display(), remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default())]
pub(crate) struct UnreadableFile {
    path: PathBuf,
    remedy: Option<Remedy>,
    #[source]
    error: io::Error,
}

/// The first thing on the way to a file that this process may not pass.
#[derive(Debug)]
struct Remedy {
    uid: u32,
    obstacle: Obstacle,
}

#[derive(Debug)]
enum Obstacle {
    Folder(PathBuf),
    File(PathBuf),
    /// Neither: permissions let this uid in, and something else does not.
    Sandbox(PathBuf),
}

impl Remedy {
    fn find(path: &Path) -> Option<Self> {
        let uid = geteuid().as_raw();
        let mut folders: Vec<&Path> = path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
        folders.reverse();
        let blocked = folders.into_iter().find(|folder| access(*folder, Access::EXEC_OK).is_err());
        let obstacle = match blocked {
            Some(folder) => Obstacle::Folder(folder.to_owned()),
            None => {
                // Kubernetes mounts, and many others, put symbolic links here; permissions live on the target.
                let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
                match access(&path, Access::READ_OK) {
                    Err(_) => Obstacle::File(path),
                    Ok(()) => Obstacle::Sandbox(path.parent().unwrap_or(&path).to_owned()),
                }
            }
        };
        Some(Self { uid, obstacle })
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uid, obstacle } = self;
        match obstacle {
            Obstacle::Folder(path) => {
                let path = path.display();
                write!(f, "uid {uid} may not enter {path}: setfacl -m u:{uid}:x {path}")
            }
            Obstacle::File(path) => {
                let path = path.display();
                write!(f, "uid {uid} may not read it: setfacl -m u:{uid}:r {path}, or chown {uid} {path}")
            }
            Obstacle::Sandbox(folder) => {
                let folder = folder.display();
                write!(
                    f,
                    "{folder} was made after this terminator had started, and its sandbox does not reach it: replace the files in a folder instead of the folder, or restart the terminator"
                )
            }
        }
    }
}

/// A Kubernetes Secret holds at most 1 MiB; bundles of all public CAs are about 200 KiB.
const MAX_PEM_BYTES: usize = 1 << 20;
/// `Read::read_to_end` looks for the end in a buffer that has room left.
const ROOM_FOR_THE_END: usize = 64;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("/nonexistent/tls.crt")).unwrap_err().to_string();
        assert_eq!(error, "read /nonexistent/tls.crt: No such file or directory (os error 2)");
    }

    #[test]
    fn a_folder_and_a_file_that_is_too_large_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap_err().to_string().contains("not a regular file"));
        let large = dir.path().join("large");
        fs::write(&large, vec![b'a'; MAX_PEM_BYTES + 1]).unwrap();
        assert!(read(&large).unwrap_err().to_string().contains("larger than 1 MiB"));
    }

    #[test]
    fn the_remedies_are_commands() {
        let folder = Remedy { uid: 61184, obstacle: Obstacle::Folder("/etc/tenants".into()) };
        assert_eq!(folder.to_string(), "uid 61184 may not enter /etc/tenants: setfacl -m u:61184:x /etc/tenants");
        let file = Remedy { uid: 61184, obstacle: Obstacle::File("/k/tls.key".into()) };
        assert!(file.to_string().contains("setfacl -m u:61184:r /k/tls.key, or chown 61184 /k/tls.key"));
    }
}
