//! The folder of a tenant's generated CA and certificate: its uid alone may enter it. Replaces files whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use crate::identity::Identity;

/// The files of one tenant.
#[derive(Clone, Debug)]
pub(super) struct Store {
    folder: PathBuf,
}

/// What the folder holds. Each file has a certificate and its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The CA that signs.
    Authority,
    /// The CA that will sign.
    Next,
    /// What is served.
    Certificate,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Authority, Self::Next, Self::Certificate];

    fn file(self) -> &'static str {
        match self {
            Self::Authority => "authority.pem",
            Self::Next => "next-authority.pem",
            Self::Certificate => "certificate.pem",
        }
    }
}

impl Store {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(super) fn path(&self, kind: Kind) -> PathBuf {
        self.folder.join(kind.file())
    }

    /// Only its owner can read what is written.
    pub(super) fn write(&self, kind: Kind, pem: &str) -> io::Result<()> {
        replace(&self.path(kind), pem, 0o600)
    }

    /// The next CA takes the place of the one that signs.
    pub(super) fn promote(&self) -> io::Result<()> {
        fs::rename(self.path(Kind::Next), self.path(Kind::Authority))
    }

    /// Removes all files; whether there was one.
    pub(super) fn clear(&self) -> io::Result<bool> {
        let mut any = false;
        for kind in Kind::ALL {
            any |= remove(&self.path(kind))?;
        }
        Ok(any)
    }
}

/// Writes beside the file, then renames: a reader sees the old content or the new one, also after a crash.
pub(crate) fn replace(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    let mut name = path.file_name().ok_or(ErrorKind::InvalidInput)?.to_owned();
    name.push(".new");
    let beside = folder.join(name);
    remove(&beside)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(content.as_bytes())?;
    file.sync_data()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_data()
}

/// Whether there was something to remove.
pub(crate) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes a folder of the tenant's, as whoever starts the process: root gives it away, and does not follow links.
pub(crate) fn make_folder(folder: &Path, mode: u32, owner: Option<Identity>) -> io::Result<()> {
    if let Some(outer) = folder.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(outer)?;
    }
    match DirBuilder::new().mode(mode).create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
        made => made?,
    }
    if let Some(Identity { uid, gid }) = owner {
        lchown(folder, Some(uid), Some(gid))?;
    }
    // The folder may be older, and the umask may have taken something.
    fs::set_permissions(folder, fs::Permissions::from_mode(mode))
}
