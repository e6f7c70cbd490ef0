//! The way to the prober: the router tells what names stand for and asks what was seen; a successor asks the same once.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use config::BackendName;
use connection::handoff::{HandoffListener, HandoffReceiver, Received, ResolvedName};
use tokio::task::spawn_local;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::Probed;
use super::board::Board;

/// Who may ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peers {
    /// The router's uid.
    pub(super) router: u32,
    /// That of this process, and of its successor.
    pub(super) own: u32,
}

/// Takes everybody who may ask, for ever; the error is the listening socket's.
pub(super) async fn accept_all(
    listener: HandoffListener,
    peers: Peers,
    probed: Vec<Rc<Probed>>,
    board: Rc<Board>,
) -> io::Error {
    let probed: Rc<[Rc<Probed>]> = probed.into();
    loop {
        match listener.accept().await {
            Ok(peer) if peers.is_one(&peer) => {
                spawn_local(serve(peer, Rc::clone(&probed), Rc::clone(&board)));
            }
            Ok(_stranger) => {}
            Err(error) => return error,
        }
    }
}

impl Peers {
    /// SO_PEERCRED is the kernel's word, from the moment of connect(2).
    fn is_one(self, peer: &HandoffReceiver) -> bool {
        match peer.peer_uid() {
            Ok(uid) if uid == self.router || uid == self.own => true,
            uid => {
                warn!(target: "audit", ?uid, expected = self.router, "refused a channel: its peer is not the router");
                false
            }
        }
    }
}

async fn serve(peer: HandoffReceiver, probed: Rc<[Rc<Probed>]>, board: Rc<Board>) {
    loop {
        match peer.recv().await {
            Ok(Some(Received::Addresses(resolved))) => learn(&probed, &resolved),
            Ok(Some(Received::ProbedRequest(from))) => {
                match timeout(ANSWER_LIMIT, peer.send_probed(board.page(from))).await {
                    Ok(Ok(())) => {}
                    failed => debug!(?failed, "what was seen was not told"),
                }
            }
            // Not for a prober. A descriptor that came along is closed.
            Ok(Some(Received::Connection(..) | Received::StatusRequest)) => {}
            Ok(None) => return,
            Err(error) if error.is_about_one_message() => warn!(%error, "a message of the router was lost"),
            Err(error) => return warn!(%error, "the channel of a router failed"),
        }
    }
}

/// Only names that the tenants' own configuration has lead anywhere, and only to the ports that it has.
fn learn(probed: &[Rc<Probed>], resolved: &ResolvedName) {
    match BackendName::parse(&resolved.name) {
        Some(name) => probed.iter().for_each(|tenant| tenant.backends.resolve(&name, &resolved.addresses)),
        None => warn!(name = resolved.name, "the router tells of what is no name"),
    }
}

/// Meanwhile nothing else of this peer is heard.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);
