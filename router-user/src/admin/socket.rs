//! The admin endpoint's socket in the runtimeDir: for whoever started the router, and nobody else.

use std::fs::{Permissions, remove_file, rename, set_permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Where the socket is.
pub fn admin_socket(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("admin.sock")
}

/// Binds the socket and puts it in the place of one of an earlier router, which may still be draining.
pub fn bind_socket(runtime_dir: &Path) -> io::Result<UnixListener> {
    let path = admin_socket(runtime_dir);
    let beside = path.with_extension("sock.new");
    if let Err(error) = remove_file(&beside)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let socket = UnixListener::bind(&beside)?;
    // Before anybody can know the name.
    set_permissions(&beside, Permissions::from_mode(0o600))?;
    rename(&beside, &path)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_socket_of_an_earlier_router_is_replaced_and_only_its_user_may_open_it() {
        let folder = tempfile::tempdir().unwrap();
        let _earlier = bind_socket(folder.path()).unwrap();
        let later = bind_socket(folder.path()).unwrap();
        let path = admin_socket(folder.path());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let _client = UnixStream::connect(&path).unwrap();
        later.set_nonblocking(true).unwrap();
        assert!(later.accept().is_ok());
    }
}
