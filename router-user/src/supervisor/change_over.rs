//! How the router comes to serve by another configuration: the one that runs changes over, or another process, which was
//! started for that, takes over from it.

use std::io;

use config::Config;
use tracing::warn;

use super::reload::{NotReloaded, Reloader};
use super::seat::{Aside, NotReplaced};
use crate::identity::Identity;
use crate::listening::{Bound, ListeningSockets, once_free};
use crate::supervision::Order;

/// Who will serve by it. Dropping it changes nothing.
pub(super) enum Change {
    /// The router that runs, with these sockets besides those that it has.
    Here(Vec<Bound>),
    /// Another process, which has all sockets that it needs.
    Aside { aside: Aside, sockets: ListeningSockets, fields: Vec<&'static str> },
}

impl Reloader {
    /// The router that runs can do it.
    pub(super) async fn bind_missing(&self, config: &Config) -> Result<Change, NotReloaded> {
        Ok(Change::Here(once_free(|| self.seat.sockets.with(|bound| bound.bind_missing(config))).await?))
    }

    /// Starts the process that can, because it does not begin with what the one that runs has of `fields`.
    pub(super) async fn start_aside(&self, fields: Vec<&'static str>, config: &Config) -> Result<Change, NotReloaded> {
        let sockets = once_free(|| self.seat.sockets.with(|bound| bound.bind_for(config))).await?;
        let started = self.seat.start_aside(&self.news, self.runtime_dir.next_config(), sockets.share()?).await;
        match started {
            Ok(aside) => Ok(Change::Aside { aside, sockets, fields }),
            Err(reason) => Err(NotReloaded::NotReplaced { fields, reason }),
        }
    }

    /// From here on every router that starts gets the sockets of `config`. Gives what is still to be done.
    pub(super) fn adopt_sockets(&self, config: &Config, change: Change) -> io::Result<Change> {
        let manager = &self.manager;
        self.seat.sockets.with(|bound| {
            bound.without_use_for(config).for_each(|name| manager.forget_listener(name));
            Ok(match change {
                Change::Here(sockets) => {
                    let shared = sockets.iter().map(Bound::share).collect::<io::Result<_>>()?;
                    manager.keep_listeners(&sockets);
                    bound.move_to(config, sockets);
                    Change::Here(shared)
                }
                Change::Aside { aside, sockets, fields } => {
                    if bound.admin.is_some() && (sockets.admin_is_fresh || sockets.admin.is_none()) {
                        manager.forget_admin();
                    }
                    *bound = sockets;
                    Change::Aside { aside, sockets: ListeningSockets::default(), fields }
                }
            })
        })
    }

    /// Has the router serve by the configuration that is in force, as `identity`.
    pub(super) async fn change_over(&mut self, change: Change, identity: Identity) -> Result<(), NotReloaded> {
        match change {
            Change::Here(shared) => {
                let committed = match self.give_commit(&shared).await {
                    Ok(()) => self.answer().await,
                    Err(error) => Err(error),
                };
                if let Err(error) = committed {
                    // It comes up with the new configuration.
                    warn!("the router starts again: {error}");
                }
                Ok(())
            }
            Change::Aside { aside, fields, .. } => {
                let opened = self.runtime_dir.change_router(identity, &self.config);
                if let Err(error) = &opened {
                    warn!("the new router may not get everywhere: {error}");
                }
                let replaced = aside.take_over().await;
                self.router_is_behind = replaced.is_err();
                match replaced {
                    Ok(handing_over) => {
                        // Not earlier: systemd drops a socket that does not listen (EPOLLHUP; sd_pid_notify_with_fds(3), FDPOLL).
                        self.seat.sockets.with(|bound| self.manager.keep(bound));
                        let _ = handing_over.await;
                        self.runtime_dir.add_tenants(&self.config)?;
                        Ok(())
                    }
                    Err(NotReplaced::Stopped) => Ok(()),
                    Err(reason) => Err(NotReloaded::NotReplaced { fields, reason }),
                }
            }
        }
    }

    /// Has the router change over, with these sockets besides those that it has.
    async fn give_commit(&self, sockets: &[Bound]) -> Result<(), NotReloaded> {
        let line = self.seat.line.lock().await;
        let line = line.as_ref().ok_or(io::ErrorKind::NotConnected).map_err(io::Error::from)?;
        line.give_listeners(sockets).await?;
        Ok(line.give(&Order::Commit).await?)
    }
}
