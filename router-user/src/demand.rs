//! How a router asks its supervisor for a terminator that is started by a connection, or passes on what was asked for at
//! the admin socket: a datagram with the tenant's name, or with a command that is no such name, to a socket in the
//! runtimeDir that the router's uid alone may write to. Nothing is answered; who still waits asks again.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram as StdUnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ::connection::label_set;
use tokio::net::UnixDatagram;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::identity::Identity;

label_set! {
    /// What can be asked for at the admin socket.
    pub enum Command {
        /// Reads the configuration again.
        Reload = "reload",
        /// Ends everything in order.
        Drain = "drain",
        /// Starts the programs that are on disk now in the place of those that run.
        Upgrade = "upgrade",
    }
}

/// Where the supervisor listens.
pub fn demand_socket(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("demand.sock")
}

/// Asks for the terminator of a tenant. Whether anybody hears it shows in whether the terminator comes.
pub fn ask(socket: &Path, tenant: &str) {
    let asked = StdUnixDatagram::unbound().and_then(|asking| {
        asking.set_nonblocking(true)?;
        asking.send_to(tenant.as_bytes(), socket)
    });
    if let Err(error) = asked {
        debug!(%error, tenant, "the supervisor cannot be asked for a terminator");
    }
}

/// Passes a command on.
pub fn command(socket: &Path, command: Command) {
    ask(socket, &format!("{COMMAND}{}", command.label()));
}

/// No tenant's name has it (RFC 1035 section 2.3.1).
const COMMAND: char = '!';

/// What was asked for, by the tenants' names. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Demands(Arc<Mutex<HashMap<String, watch::Sender<()>>>>);

/// The demand for one terminator.
#[derive(Debug, Clone)]
pub(crate) struct Demand(watch::Receiver<()>);

impl Demands {
    /// Follows the demand for one tenant's terminator from here on.
    pub(crate) fn follow(&self, tenant: &str) -> Demand {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Demand(all.entry(tenant.to_owned()).or_insert_with(|| watch::Sender::new(())).subscribe())
    }

    fn tell(&self, tenant: &str) {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).get(tenant) {
            Some(demand) => demand.send_replace(()),
            None => warn!(tenant, "the router asks for a terminator that is not started by demand"),
        }
    }

    /// Hears what routers ask for, for ever.
    pub(crate) async fn hear(self, socket: Arc<UnixDatagram>, on_command: impl Fn(Command)) {
        // A tenant's name is a DNS label (RFC 1035 section 2.3.4).
        let mut name = [0; 64];
        loop {
            match socket.recv(&mut name).await {
                Ok(length) => {
                    let Some(asked) = name.get(..length).and_then(|name| str::from_utf8(name).ok()) else { continue };
                    match asked.strip_prefix(COMMAND) {
                        None => self.tell(asked),
                        Some(label) => {
                            Command::ALL.into_iter().find(|command| command.label() == label).map(&on_command);
                        }
                    }
                }
                Err(error) => {
                    warn!(%error, "terminators cannot be asked for any more");
                    return;
                }
            }
        }
    }
}

impl Demand {
    /// Resolves when somebody asks. Cancel-safe.
    pub(crate) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody is left who could tell of it.
            std::future::pending::<()>().await;
        }
    }

    /// Forgets what was asked for until now: it has been met, and whoever still waits asks again.
    pub(crate) fn forget(&mut self) {
        self.0.borrow_and_update();
    }
}

/// Makes the supervisor's socket; of all others only the router may write to it. Needs a tokio runtime.
pub(crate) fn bind_demand(runtime_dir: &Path, router: Identity) -> io::Result<UnixDatagram> {
    let path = demand_socket(runtime_dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixDatagram::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    if nix::unistd::Uid::effective().is_root() {
        chown(&path, Some(router.uid.as_raw()), Some(router.gid.as_raw()))?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::unistd::{Gid, Uid};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_name_reaches_who_follows_it_and_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let socket = bind_demand(folder.path(), Identity { uid: Uid::effective(), gid: Gid::effective() }).unwrap();
        let demands = Demands::default();
        let (mut acme, mut globex) = (demands.follow("acme"), demands.follow("globex"));
        let (commands, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let on_command = move |command| commands.send(command).unwrap();
        let hearing = tokio::spawn(demands.hear(Arc::new(socket), on_command));
        let path = demand_socket(folder.path());
        ask(&path, "unknown");
        ask(&path, "acme");
        timeout(Duration::from_secs(10), acme.next()).await.unwrap();
        assert!(timeout(Duration::from_millis(10), globex.next()).await.is_err());
        assert!(timeout(Duration::from_millis(10), acme.next()).await.is_err(), "one question, one answer");
        ask(&path, "!rubbish");
        command(&path, Command::Upgrade);
        assert_eq!(timeout(Duration::from_secs(10), heard.recv()).await.unwrap(), Some(Command::Upgrade));
        hearing.abort();
    }

    #[test]
    fn nobody_who_listens_is_no_error() {
        ask(Path::new("/nowhere/demand.sock"), "acme");
    }
}
