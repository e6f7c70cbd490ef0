//! The terminator's end of the path: binds the socket that routers connect to.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, SocketFlags, accept_with, bind, connect, listen};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::HandoffReceiver;
use crate::seqpacket::{register, seqpacket};

/// A bound hand-off socket; its file goes away with it.
#[derive(Debug)]
pub struct HandoffListener {
    socket: AsyncFd<OwnedFd>,
    path: PathBuf,
    /// Device and inode of the file that we made: a successor's file at the same path is not ours to remove.
    file: (u64, u64),
}

impl HandoffListener {
    /// Binds `path` and gives the file `mode`. A socket file that nobody listens on any more is replaced; anything
    /// else at that path is an error. Needs a tokio runtime with I/O.
    pub fn bind(path: &Path, mode: u32) -> io::Result<Self> {
        refuse_if_in_use(path)?;
        Self::succeed(path, mode)
    }

    /// The same in the place of whoever listens there: at no moment is there nobody, and the former listener keeps
    /// the connections that it has.
    pub fn succeed(path: &Path, mode: u32) -> io::Result<Self> {
        if fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.file_type().is_socket()) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the path exists and is no socket"));
        }
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = seqpacket()?;
        bind(&socket, &SocketAddrUnix::new(&new)?)?;
        // Nobody looks for it there, so nobody gets in under the mode that the umask left.
        fs::set_permissions(&new, fs::Permissions::from_mode(mode))?;
        listen(&socket, BACKLOG)?;
        let metadata = fs::symlink_metadata(&new)?;
        fs::rename(&new, path)?;
        Ok(Self {
            socket: register(socket, Interest::READABLE)?,
            path: path.to_path_buf(),
            file: (metadata.dev(), metadata.ino()),
        })
    }

    /// The next router's connection. Without descriptors or memory it waits and tries again. Cancel-safe.
    pub async fn accept(&self) -> io::Result<HandoffReceiver> {
        let mut is_told = false;
        loop {
            let accepted = self
                .socket
                .async_io(Interest::READABLE, |socket| {
                    Ok(accept_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?)
                })
                .await;
            match accepted {
                Ok(router) => return HandoffReceiver::new(router),
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::CONNABORTED | Errno::INTR) => {}
                    Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                        if !std::mem::replace(&mut is_told, true) {
                            tracing::warn!(%error, path = %self.path.display(), "cannot accept a router; waiting");
                        }
                        tokio::time::sleep(OUT_OF_RESOURCES_PAUSE).await;
                    }
                    _ => return Err(error),
                },
            }
        }
    }
}

impl Drop for HandoffListener {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.file);
        if ours {
            // A file that stays behind is replaced by the next bind.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn refuse_if_in_use(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        return Ok(());
    }
    match connect(seqpacket()?, &SocketAddrUnix::new(path)?) {
        // EAGAIN: somebody listens whose queue is full.
        Ok(()) | Err(Errno::AGAIN) => Err(Errno::ADDRINUSE.into()),
        Err(_) => Ok(()),
    }
}

/// Routers connect once per worker; twice the largest usual core count.
const BACKLOG: i32 = 512;

/// Descriptors come back when connections end, which is a matter of tens of milliseconds on a busy terminator.
const OUT_OF_RESOURCES_PAUSE: Duration = Duration::from_millis(100);
