//! Which folders to watch for a file that may be replaced in every way that people replace files: written in place,
//! renamed over, behind symbolic links that are swapped (Kubernetes' `..data`, certbot's `live`), or with its folder.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The folders in which something must change before this path can lead to another file: the folder of every symbolic
/// link on the way, the folder of the file at the end, and the folder that holds the configured one.
pub(super) fn folders_on_the_way(path: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let Ok(absolute) = std::path::absolute(path) else { return folders };
    folders.extend(absolute.ancestors().skip(1).take(2).map(Path::to_owned));
    let mut rest: Vec<OsString> = names(&absolute);
    let mut current = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = rest.pop() {
        if name == ".." {
            current.pop();
            continue;
        }
        let next = current.join(&name);
        match fs::read_link(&next) {
            Ok(target) if links < MAX_LINKS => {
                links += 1;
                folders.insert(current.clone());
                if target.is_absolute() {
                    current = PathBuf::from("/");
                }
                rest.extend(names(&target));
            }
            _ if rest.is_empty() => {
                folders.insert(current.clone());
            }
            _ => current = next,
        }
    }
    folders
}

/// The folders whose content belongs to the configured path itself, that is without the one that holds its folder.
pub fn folders_with_content(path: &Path) -> BTreeSet<PathBuf> {
    let mut folders = folders_on_the_way(path);
    if let Ok(absolute) = std::path::absolute(path)
        && let Some(outer) = absolute.ancestors().nth(2)
    {
        folders.remove(outer);
    }
    folders
}

/// The names of a path, the last one first.
fn names(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

/// What the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_layout_of_a_mounted_secret_is_watched_at_each_link() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let secret = root.join("secret");
        fs::create_dir_all(secret.join("..2026_01")).unwrap();
        fs::write(secret.join("..2026_01/tls.crt"), "").unwrap();
        symlink("..2026_01", secret.join("..data")).unwrap();
        symlink("..data/tls.crt", secret.join("tls.crt")).unwrap();
        let all = folders_on_the_way(&secret.join("tls.crt"));
        assert_eq!(all, BTreeSet::from([root.clone(), secret.clone(), secret.join("..2026_01")]));
        let content = folders_with_content(&secret.join("tls.crt"));
        assert_eq!(content, BTreeSet::from([secret.clone(), secret.join("..2026_01")]));
    }

    #[test]
    fn links_out_of_the_folder_and_missing_files_are_followed_as_far_as_they_go() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for folder in ["live", "archive"] {
            fs::create_dir(root.join(folder)).unwrap();
        }
        fs::write(root.join("archive/cert1.pem"), "").unwrap();
        symlink("../archive/cert1.pem", root.join("live/cert.pem")).unwrap();
        let all = folders_on_the_way(&root.join("live/cert.pem"));
        assert_eq!(all, BTreeSet::from([root.clone(), root.join("live"), root.join("archive")]));
        let missing = folders_on_the_way(&root.join("live/none.pem"));
        assert_eq!(missing, BTreeSet::from([root.clone(), root.join("live")]));
    }

    #[test]
    fn a_loop_of_links_ends() {
        let root = tempfile::tempdir().unwrap();
        symlink("b", root.path().join("a")).unwrap();
        symlink("a", root.path().join("b")).unwrap();
        assert!(folders_on_the_way(&root.path().join("a")).contains(&root.path().canonicalize().unwrap()));
    }
}
