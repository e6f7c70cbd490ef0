//! Which connections can be cut through: pure decisions over addresses and TCP_INFO, a reason for each that cannot.

use std::net::SocketAddr;

use router_common::cut_through::{WITHOUT_SACK, WITHOUT_TIMESTAMPS};

use super::fallback::Fallback;
use super::raw::{ConnectionInfo, MICROSECOND_TIMESTAMPS, SACK, TIMESTAMPS};

/// How the backend has to be dialled so that both connections agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DialShape {
    /// Bits of the contract: what the SYN must not offer.
    pub(super) without: u32,
    /// The largest segment that the client takes, options included.
    pub(super) maximum_segment: u32,
}

/// What the address of one end alone rules out.
pub(super) fn address(end: SocketAddr) -> Result<(), Fallback> {
    if end.ip().is_loopback() || end.ip().is_unspecified() { Err(Fallback::Local) } else { Ok(()) }
}

/// What the addresses alone rule out.
pub(super) fn addresses(client: SocketAddr, backend: SocketAddr) -> Result<(), Fallback> {
    if client.is_ipv4() != backend.is_ipv4() {
        return Err(Fallback::Family);
    }
    address(client).and_then(|()| address(backend))
}

/// What the client's connection alone rules out, and how to dial for it.
pub(super) fn client(client: &ConnectionInfo) -> Result<DialShape, Fallback> {
    if !client.established {
        return Err(Fallback::Finished);
    }
    if client.options & MICROSECOND_TIMESTAMPS != 0 {
        return Err(Fallback::MicrosecondTimestamps);
    }
    if client.sent != 0 || client.out_of_order != 0 {
        return Err(Fallback::EarlyData);
    }
    if client.received > MAX_HELLO {
        return Err(Fallback::LongHello);
    }
    let mut without = 0;
    if client.options & TIMESTAMPS == 0 {
        without |= WITHOUT_TIMESTAMPS;
    }
    if client.options & SACK == 0 {
        without |= WITHOUT_SACK;
    }
    Ok(DialShape { without, maximum_segment: client.send_segment + timestamp_bytes(client) })
}

/// What the two connections rule out together.
pub(super) fn both(client: &ConnectionInfo, backend: &ConnectionInfo) -> Result<(), Fallback> {
    if !backend.established {
        return Err(Fallback::Finished);
    }
    self::client(client)?;
    if backend.received != 0 || backend.out_of_order != 0 {
        return Err(Fallback::BackendSpoke);
    }
    if backend.options & MICROSECOND_TIMESTAMPS != 0 {
        return Err(Fallback::MicrosecondTimestamps);
    }
    let differ = client.options ^ backend.options;
    if differ & TIMESTAMPS != 0 {
        return Err(Fallback::Timestamps);
    }
    if differ & SACK != 0 {
        return Err(Fallback::Sack);
    }
    // The client sends what we announced to it; it has to fit the way to the backend. The other way round the dial has
    // seen to it.
    if client.announced_segment > backend.send_segment + timestamp_bytes(backend) {
        return Err(Fallback::SegmentSize);
    }
    Ok(())
}

fn timestamp_bytes(info: &ConnectionInfo) -> u32 {
    if info.options & TIMESTAMPS == 0 { 0 } else { TIMESTAMP_BYTES }
}

/// The option with the NOPs that align it (RFC 7323, appendix A); segment sizes in TCP_INFO are without.
const TIMESTAMP_BYTES: u32 = 12;
/// What a client can have sent into a window that nobody has opened further (net.ipv4.tcp_rmem, 128 KiB).
const MAX_HELLO: u64 = 128 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn usual() -> ConnectionInfo {
        ConnectionInfo {
            established: true,
            options: TIMESTAMPS | SACK,
            send_scale: 7,
            receive_scale: 7,
            send_segment: 1448,
            announced_segment: 1460,
            received: 517,
            sent: 0,
            unsent: 0,
            out_of_order: 0,
            unheard_for: Duration::ZERO,
        }
    }

    fn fresh() -> ConnectionInfo {
        ConnectionInfo { received: 0, ..usual() }
    }

    #[test]
    fn the_usual_connection_is_eligible() {
        let shape = client(&usual()).unwrap();
        assert_eq!(shape, DialShape { without: 0, maximum_segment: 1460 });
        both(&usual(), &fresh()).unwrap();
    }

    #[test]
    fn what_the_client_lacks_is_not_offered_to_the_backend() {
        let plain = ConnectionInfo { options: 0, send_segment: 1460, ..usual() };
        let shape = client(&plain).unwrap();
        assert_eq!(shape, DialShape { without: WITHOUT_TIMESTAMPS | WITHOUT_SACK, maximum_segment: 1460 });
    }

    #[test]
    fn each_reason_of_the_client_is_named() {
        for (info, reason) in [
            (ConnectionInfo { established: false, ..usual() }, Fallback::Finished),
            (
                ConnectionInfo { options: TIMESTAMPS | MICROSECOND_TIMESTAMPS, ..usual() },
                Fallback::MicrosecondTimestamps,
            ),
            (ConnectionInfo { sent: 7, ..usual() }, Fallback::EarlyData),
            (ConnectionInfo { out_of_order: 1, ..usual() }, Fallback::EarlyData),
            (ConnectionInfo { received: MAX_HELLO + 1, ..usual() }, Fallback::LongHello),
        ] {
            assert_eq!(client(&info), Err(reason), "{info:?}");
            assert_eq!(both(&info, &fresh()), Err(reason), "{info:?}");
        }
    }

    #[test]
    fn each_reason_of_the_backend_is_named() {
        for (info, reason) in [
            (ConnectionInfo { established: false, ..fresh() }, Fallback::Finished),
            (ConnectionInfo { received: 1, ..fresh() }, Fallback::BackendSpoke),
            (ConnectionInfo { options: SACK, send_segment: 1460, ..fresh() }, Fallback::Timestamps),
            (ConnectionInfo { options: TIMESTAMPS, ..fresh() }, Fallback::Sack),
            (ConnectionInfo { send_segment: 1440, ..fresh() }, Fallback::SegmentSize),
            (
                ConnectionInfo { options: TIMESTAMPS | SACK | MICROSECOND_TIMESTAMPS, ..fresh() },
                Fallback::MicrosecondTimestamps,
            ),
        ] {
            assert_eq!(both(&usual(), &info), Err(reason), "{info:?}");
        }
    }

    #[test]
    fn a_backend_that_takes_more_is_no_reason() {
        both(&usual(), &ConnectionInfo { send_segment: 8948, announced_segment: 8960, ..fresh() }).unwrap();
    }

    #[test]
    fn local_and_mixed_addresses_are_named() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        addresses(address("10.0.1.2:40000"), address("10.0.2.2:443")).unwrap();
        addresses(address("[2001:db8::1]:40000"), address("[2001:db8::2]:443")).unwrap();
        for (client, backend, reason) in [
            ("10.0.1.2:40000", "[2001:db8::2]:443", Fallback::Family),
            ("10.0.1.2:40000", "127.0.0.1:443", Fallback::Local),
            ("[::1]:40000", "[2001:db8::2]:443", Fallback::Local),
        ] {
            assert_eq!(addresses(address(client), address(backend)), Err(reason));
        }
    }
}
