//! The backends behind all routers: one for each service and mode, in the backend's place. For terminated names each
//! service also exists with TLS of its own, for the clients that take no router.

mod events;
mod stream;

use std::net::SocketAddr;

use anyhow::Result;
use tests::fakes::Server;
use tests::network::Place;

use self::events::Serve;
pub(crate) use self::events::{ANSWER, FLIGHT_BYTES, REQUEST_BYTES, RESPONSE_BYTES};
use crate::cell::{Mode, Service};
use crate::target::Clients;

/// Serves until it is dropped; what answers and echoes until the process ends.
pub(crate) struct Backends {
    addresses: Vec<Entry>,
    _servers: Vec<Server>,
}

struct Entry {
    mode: Mode,
    service: Service,
    /// Where routers go.
    routed: SocketAddr,
    /// Where clients without a router go.
    direct: SocketAddr,
}

impl Backends {
    pub(crate) fn start(place: &Place, clients: &Clients) -> Result<Self> {
        let mut servers = Vec::new();
        let mut addresses = Vec::new();
        for mode in Mode::ALL {
            for service in Service::ALL {
                let preamble = clients.preamble(mode, service)?;
                let mut start = |tls| {
                    let address = place.free_address()?;
                    match service {
                        Service::Answer => place.run(|| events::start(address, preamble, tls, Serve::Answer))?,
                        Service::Echo => place.run(|| events::start(address, preamble, tls, Serve::Echo))?,
                        Service::Exchange => place.run(|| events::start(address, preamble, tls, Serve::Exchange))?,
                        Service::Download => servers.push(place.run(|| stream::start(address, preamble, tls))?),
                    }
                    anyhow::Ok(address)
                };
                let routed = start(None)?;
                let direct = match mode {
                    Mode::Passthrough => routed,
                    Mode::Terminate => start(Some(clients.server_config()?))?,
                };
                addresses.push(Entry { mode, service, routed, direct });
            }
        }
        Ok(Self { addresses, _servers: servers })
    }

    /// Where a router finds a service.
    pub(crate) fn routed(&self, mode: Mode) -> impl Iterator<Item = (Service, SocketAddr)> {
        self.addresses.iter().filter(move |entry| entry.mode == mode).map(|entry| (entry.service, entry.routed))
    }

    /// Where a client without a router finds it.
    pub(crate) fn direct(&self, mode: Mode, service: Service) -> Option<SocketAddr> {
        let mut entries = self.addresses.iter();
        entries.find(|entry| entry.mode == mode && entry.service == service).map(|entry| entry.direct)
    }
}
