//! The folder on a bpffs where this router's maps and links outlive the process. Found or made as root, before the
//! privileges are dropped; nobody else may write to it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use router_common::ProgramSet;
use rustix::mount::{MountFlags, mount};
use tracing::info;

use super::Unavailable;
use super::unavailable::MOUNT;

/// The folder.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// In this order: a bpffs at `runtime_dir/bpf`, because a former start mounted it; the host's bpffs, in a folder
    /// named after `runtime_dir`, so that several routers share a host; a bpffs that is mounted at `runtime_dir/bpf`.
    pub fn find_or_mount(runtime_dir: &Path) -> Result<Self, Unavailable> {
        let own = runtime_dir.join(OWN_MOUNT);
        if is_bpffs(&own) {
            return Ok(Self { root: own });
        }
        if is_bpffs(Path::new(HOST_MOUNT)) {
            let root = on_the_host(runtime_dir);
            private_folder(&Path::new(HOST_MOUNT).join(FOLDER))?;
            private_folder(&root)?;
            return Ok(Self { root });
        }
        fs::create_dir_all(runtime_dir).map_err(failed("make", runtime_dir))?;
        private_folder(&own)?;
        mount("bpf", &own, "bpf", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, Some(c"mode=0700"))
            .map_err(|error| failed(MOUNT, &own)(error.into()))?;
        info!(path = %own.display(), "bpffs mounted");
        Ok(Self { root: own })
    }

    /// The folder of a former start, if there is one; makes and mounts nothing.
    pub fn find(runtime_dir: &Path) -> Option<Self> {
        let (own, host) = (runtime_dir.join(OWN_MOUNT), on_the_host(runtime_dir));
        [own, host].into_iter().find(|root| is_bpffs(root)).map(|root| Self { root })
    }

    /// For a pinned object that all versions of the router understand.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The folder for pinned objects of `set`, which only routers with the same layout use.
    pub fn folder(&self, set: &ProgramSet) -> Result<PathBuf, Unavailable> {
        let folder = self.root.join(format!("{}-{:08x}", set.name, set.layout));
        private_folder(&folder)?;
        Ok(folder)
    }

    /// The same if it is there.
    pub fn existing_folder(&self, set: &ProgramSet) -> Option<PathBuf> {
        Some(self.root.join(format!("{}-{:08x}", set.name, set.layout))).filter(|folder| folder.is_dir())
    }

    /// The folders of `set` in other layouts, which routers of other versions left.
    pub fn other_layouts(&self, set: &ProgramSet) -> io::Result<Vec<PathBuf>> {
        let (prefix, own) = (format!("{}-", set.name), format!("{}-{:08x}", set.name, set.layout));
        let mut folders = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(&prefix) && name != own.as_str() {
                folders.push(entry.path());
            }
        }
        Ok(folders)
    }
}

/// A bpffs is writable for all with the sticky bit unless it was mounted otherwise (kernel/bpf/inode.c), so somebody
/// else may have made the folder to have a root process open what they put there.
fn private_folder(path: &Path) -> Result<(), Unavailable> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        result => return result.map_err(failed("make", path)),
    }
    let found = fs::symlink_metadata(path).map_err(failed("look at", path))?;
    if !found.is_dir() || found.uid() != Uid::effective().as_raw() || found.mode() & 0o022 != 0 {
        let source = io::Error::other("it belongs to somebody else: remove it");
        return Err(Unavailable::Bpffs { operation: "use", path: path.into(), source });
    }
    Ok(())
}

fn is_bpffs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type as u64 == BPF_FS_MAGIC)
}

fn on_the_host(runtime_dir: &Path) -> PathBuf {
    Path::new(HOST_MOUNT).join(FOLDER).join(instance(runtime_dir))
}

/// The name of the runtime folder and a hash of its whole path. bpffs takes no dots (kernel/bpf/inode.c, bpf_lookup).
fn instance(runtime_dir: &Path) -> String {
    let bytes: Vec<_> = runtime_dir.as_os_str().as_encoded_bytes().iter().map(|byte| usize::from(*byte)).collect();
    let name = runtime_dir.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '-' };
    let name: String = name.chars().map(plain).take(64).collect();
    format!("{name}-{:08x}", router_common::layout(&bytes))
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Unavailable {
    move |source| Unavailable::Bpffs { operation, path: path.into(), source }
}

const OWN_MOUNT: &str = "bpf";
const HOST_MOUNT: &str = "/sys/fs/bpf";
/// Below the host's bpffs.
const FOLDER: &str = "sni-router";
/// include/uapi/linux/magic.h.
const BPF_FS_MAGIC: u64 = 0xCAFE_4A11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routers_with_other_runtime_folders_have_other_folders_without_dots() {
        let names = ["/run/sni-router", "/run/sni.router", "/srv/sni-router"].map(|path| instance(Path::new(path)));
        assert!(names.iter().all(|name| name.starts_with("sni-router-") && !name.contains('.')));
        assert!(names[0] != names[1] && names[0] != names[2] && names[1] != names[2]);
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("folder");
        private_folder(&folder).unwrap();
        private_folder(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(private_folder(&folder).unwrap_err().reason(), "bpffs");
        std::os::unix::fs::symlink("/", scratch.path().join("link")).unwrap();
        assert!(private_folder(&scratch.path().join("link")).is_err());
    }
}
