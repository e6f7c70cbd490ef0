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

/// Binds the socket beside its place, where an earlier router's may be.
pub fn bind_socket(runtime_dir: &Path) -> io::Result<UnixListener> {
    let beside = beside(runtime_dir);
    if let Err(error) = remove_file(&beside)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let socket = UnixListener::bind(&beside)?;
    // Before anybody can know the name.
    set_permissions(&beside, Permissions::from_mode(0o600))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Puts the socket that was bound last in its place: from here on its router is asked. Needs the right to write to the
/// folder, which a router that has dropped its privileges does not have.
pub fn put_socket_in_place(runtime_dir: &Path) -> io::Result<()> {
    rename(beside(runtime_dir), admin_socket(runtime_dir))
}

fn beside(runtime_dir: &Path) -> PathBuf {
    admin_socket(runtime_dir).with_extension("sock.new")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_socket_of_an_earlier_router_is_replaced_and_only_its_user_may_open_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = admin_socket(folder.path());
        let earlier = bind_socket(folder.path()).unwrap();
        put_socket_in_place(folder.path()).unwrap();
        let later = bind_socket(folder.path()).unwrap();
        // Not before that one serves.
        let _client = UnixStream::connect(&path).unwrap();
        assert!(earlier.accept().is_ok());
        put_socket_in_place(folder.path()).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let _client = UnixStream::connect(&path).unwrap();
        later.set_nonblocking(true).unwrap();
        assert!(later.accept().is_ok());
    }
}
