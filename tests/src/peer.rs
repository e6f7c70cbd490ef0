//! haproxy and nginx as senders and receivers of the PROXY protocol: real programs with the configuration that a
//! scenario writes. Ended when dropped.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::patience::{PATIENCE, eventually};

/// A running haproxy or nginx.
pub struct Peer(Child);

impl Peer {
    /// haproxy with this configuration file, once it listens on `address`.
    pub fn haproxy(program: PathBuf, config: &Path, address: SocketAddr) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["-db", "-f"]).arg(config);
        Self::start(command, address)
    }

    /// nginx with this configuration file, once it listens on `address`.
    pub fn nginx(program: PathBuf, config: &Path, address: SocketAddr) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["-e", "stderr", "-g", "daemon off; master_process off;", "-c"]).arg(config);
        Self::start(command, address)
    }

    fn start(mut command: Command, address: SocketAddr) -> Result<Self> {
        let name = command.get_program().display().to_string();
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let peer = Self(command.spawn().with_context(|| format!("start {name}"))?);
        eventually(PATIENCE, &format!("{name} listens on {address}"), || TcpStream::connect(address).ok())?;
        Ok(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
