//! The other end: takes what the former router hands over and gives it to the workers in turn.

use std::collections::HashMap;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ::connection::channel::{Channel, Message};
use tokio::sync::mpsc::UnboundedSender;
use tracing::{info, warn};

use super::{HandedOver, RelayedConnection, UnreadConnection};
use crate::router::policy::{Policy, TenantState};
use crate::router::worker::Instruction;

/// What a worker goes on with.
#[derive(Debug)]
pub(in crate::router) enum Successor {
    /// From the hello on.
    Unread(UnreadConnection, TcpStream),
    /// To the relay's end; client and backend. The tenant may be gone from the configuration.
    Relayed(Box<RelayedConnection>, Option<Arc<TenantState>>, [TcpStream; 2]),
}

/// Until the former router has gone.
pub(in crate::router) async fn take_over(
    channel: Channel,
    policy: Arc<Policy>,
    workers: Vec<UnboundedSender<Instruction>>,
) {
    let tenants = policy.tenants.iter().filter(|tenant| tenant.backends.is_some());
    let tenants: HashMap<_, _> = tenants.map(|tenant| (tenant.settings.name.as_str(), tenant)).collect();
    let (mut unread, mut relayed) = (0_u64, 0_u64);
    let mut turns = workers.iter().cycle();
    loop {
        let message = match channel.receive().await {
            Ok(Some(message)) => message,
            Ok(None) => break,
            Err(error) => {
                warn!(%error, "a connection of the former router is lost");
                continue;
            }
        };
        let Some(successor) = understand(message, &tenants) else { continue };
        match &successor {
            Successor::Unread(..) => unread += 1,
            Successor::Relayed(..) => relayed += 1,
        }
        if let Some(worker) = turns.next() {
            // A worker that has ended is being drained, and so is everything else.
            let _ = worker.send(Instruction::GoOn(successor));
        }
    }
    info!(relayed, unread, "took over from the former router, which has gone");
}

fn understand(message: Message, tenants: &HashMap<&str, &Arc<TenantState>>) -> Option<Successor> {
    let Message { payload, descriptors } = message;
    let decoded = HandedOver::decode(&payload);
    let count = descriptors.len();
    match (decoded, <[OwnedFd; 1]>::try_from(descriptors)) {
        (Ok(HandedOver::Unread(connection)), Ok([client])) => Some(Successor::Unread(connection, client.into())),
        (Ok(HandedOver::Relayed(connection)), Err(descriptors)) => {
            let Ok(sockets) = <[OwnedFd; 2]>::try_from(descriptors) else {
                warn!(count, "a relayed connection has two descriptors");
                return None;
            };
            let tenant = tenants.get(connection.tenant.as_str()).map(|tenant| Arc::clone(tenant));
            Some(Successor::Relayed(connection, tenant, sockets.map(TcpStream::from)))
        }
        (Ok(_), _) => {
            warn!(count, "a connection of the former router with another number of descriptors");
            None
        }
        (Err(error), _) => {
            warn!(%error, "what the former router says of a connection is not understood");
            None
        }
    }
}
