//! A folder that is filled as the kubelet fills the mount of a Secret: the files are links through `..data`, a link that
//! is swapped when the Secret changes (kubernetes pkg/volume/util/atomic_writer.go).

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::authority::{Identity, Owner};

/// One mount.
pub struct SecretMount {
    folder: PathBuf,
    owner: Option<Owner>,
    generation: u32,
}

impl SecretMount {
    /// Turns a folder into a mount that holds this certificate; a certificate that it held already goes.
    pub fn new(folder: &Path, owner: Option<Owner>, identity: &Identity) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let mut mount = Self { folder: folder.to_owned(), owner, generation: 0 };
        mount.swap(identity)?;
        for file in ["tls.crt", "tls.key"] {
            let link = folder.join(file);
            match fs::remove_file(&link) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("remove {}", link.display()));
                }
                _ => symlink(Path::new("..data").join(file), &link).with_context(|| format!("link {file}"))?,
            }
        }
        Ok(mount)
    }

    /// What the kubelet does when the Secret has changed: a new folder, the link renamed over, the old folder removed.
    pub fn swap(&mut self, identity: &Identity) -> Result<()> {
        let old = self.generation_folder();
        self.generation += 1;
        let new = self.generation_folder();
        identity.write_secret_dir(&new, self.owner)?;
        let (link, temporary) = (self.folder.join("..data"), self.folder.join("..data_tmp"));
        symlink(new.file_name().context("the folder has a name")?, &temporary).context("link ..data_tmp")?;
        fs::rename(&temporary, &link).context("swap ..data")?;
        if old.exists() {
            fs::remove_dir_all(&old).with_context(|| format!("remove {}", old.display()))?;
        }
        Ok(())
    }

    fn generation_folder(&self) -> PathBuf {
        self.folder.join(format!("..2026_01_01_{}", self.generation))
    }
}
