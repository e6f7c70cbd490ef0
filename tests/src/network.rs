//! Where client, router and backend run: each in a network namespace of its own, in a row with veth pairs between
//! them, or all on loopback. The namespaces have no names and vanish with this process.

mod reordering;

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns, unshare};

pub use self::reordering::Reordering;
use crate::ports::free_address;

/// The three places.
pub struct Network {
    /// Reaches the router alone, which forwards what is not its own.
    pub client: Place,
    /// Between the two others: `to-client` and `to-backend` are its interfaces.
    pub router: Place,
    /// Reaches the router alone.
    pub backend: Place,
    /// For reports.
    pub description: String,
    _gateways: Vec<Place>,
}

impl Network {
    /// Three network namespaces; needs root.
    pub fn isolated() -> Result<Self> {
        let client = Place::isolated([10, 0, 1, 2], 0x0102)?;
        let router = Place::isolated([10, 0, 1, 1], 0x0101)?;
        let backend = Place::isolated([10, 0, 2, 2], 0x0202)?;
        let (to_client, to_backend) = (client.path().unwrap_or_default(), backend.path().unwrap_or_default());
        router.ip(&format!(
            "link set lo up
             link add to-client type veth peer name to-router netns {to_client}
             link add to-backend type veth peer name to-router netns {to_backend}
             addr add 10.0.1.1/24 dev to-client
             addr add 10.0.2.1/24 dev to-backend
             addr add fd00::101/120 dev to-client nodad
             addr add fd00::201/120 dev to-backend nodad
             link set to-client up
             link set to-backend up"
        ))?;
        router.set("ipv4/ip_forward", "1")?;
        router.set("ipv6/conf/all/forwarding", "1")?;
        client.ip(&end_host(["10.0.1.2/24", "fd00::102/120"], ["10.0.1.1", "fd00::101"]))?;
        backend.ip(&end_host(["10.0.2.2/24", "fd00::202/120"], ["10.0.2.1", "fd00::201"]))?;
        for place in [&client, &router, &backend] {
            // Tens of thousands of connections to one address within seconds would run out of ports otherwise.
            place.set("ipv4/ip_local_port_range", "1024 65535")?;
            place.set("ipv4/tcp_tw_reuse", "1")?;
        }
        let description =
            "client, router and backend each in a network namespace of its own, veth between them".to_owned();
        Ok(Self { client, router, backend, description, _gateways: Vec::new() })
    }

    /// Five network namespaces: between the router and each end is a gateway, and the links behind the gateways take
    /// packets of so many bytes. The ends say that they take Ethernet's 1500.
    pub fn behind_gateways(client_mtu: u32, backend_mtu: u32) -> Result<Self> {
        let client = Place::isolated([10, 0, 11, 2], 0x0b02)?;
        let backend = Place::isolated([10, 0, 12, 2], 0x0c02)?;
        let Self { client: client_gateway, router, backend: backend_gateway, .. } = Self::isolated()?;
        for (gateway, end, net, mtu) in
            [(&client_gateway, &client, 11, client_mtu), (&backend_gateway, &backend, 12, backend_mtu)]
        {
            let there = end.path().unwrap_or_default();
            gateway.set("ipv4/ip_forward", "1")?;
            gateway.set("ipv6/conf/all/forwarding", "1")?;
            gateway.ip(&format!(
                "link add to-end mtu {mtu} type veth peer name to-router mtu {mtu} netns {there}
                 addr add 10.0.{net}.1/24 dev to-end
                 addr add fd00::{net:x}01/120 dev to-end nodad
                 link set to-end up"
            ))?;
            end.ip(&format!(
                "link set lo up
                 addr add 10.0.{net}.2/24 dev to-router
                 addr add fd00::{net:x}02/120 dev to-router nodad
                 link set to-router up
                 route add default via 10.0.{net}.1 advmss 1460
                 route add default via fd00::{net:x}01 advmss 1440"
            ))?;
        }
        router.ip("route add 10.0.11.0/24 via 10.0.1.2
             route add 10.0.12.0/24 via 10.0.2.2
             route add fd00::b00/120 via fd00::102
             route add fd00::c00/120 via fd00::202")?;
        let description = "as above, behind gateways".to_owned();
        Ok(Self { client, router, backend, description, _gateways: vec![client_gateway, backend_gateway] })
    }

    /// All three on 127.0.0.1 of this process's own namespace, because of `reason`.
    pub fn loopback(reason: &anyhow::Error) -> Self {
        Self {
            client: Place::loopback(),
            router: Place::loopback(),
            backend: Place::loopback(),
            description: format!("all on loopback, because there are no network namespaces ({reason:#})"),
            _gateways: Vec::new(),
        }
    }
}

/// One host of the network.
pub struct Place {
    address: Ipv4Addr,
    address_ipv6: Ipv6Addr,
    namespace: Option<File>,
}

impl Place {
    /// Whether it is a host of its own.
    pub fn is_isolated(&self) -> bool {
        self.namespace.is_some()
    }

    fn loopback() -> Self {
        Self { address: Ipv4Addr::LOCALHOST, address_ipv6: Ipv6Addr::LOCALHOST, namespace: None }
    }

    fn isolated(address: [u8; 4], host: u16) -> Result<Self> {
        let namespace = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("unshare(CLONE_NEWNET)")?;
            File::open("/proc/thread-self/ns/net").context("open the namespace")
        });
        let namespace = namespace.join().map_err(|_| anyhow!("the thread panicked"))??;
        let address_ipv6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host);
        let place = Self { address: address.into(), address_ipv6, namespace: Some(namespace) };
        // Until the link-local address of an interface has passed detection, which takes seconds, a gateway asks nobody
        // where the destination of a packet is that it forwards (ndisc_send_ns, net/ipv6/ndisc.c).
        place.set("ipv6/conf/default/accept_dad", "0")?;
        Ok(place)
    }

    /// Its IPv4 address; the router's is the one that the client sees.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its IPv6 address, as above.
    pub fn address_ipv6(&self) -> Ipv6Addr {
        self.address_ipv6
    }

    /// An address that nobody listens on yet.
    pub fn free_address(&self) -> Result<SocketAddr> {
        Ok(SocketAddr::from((self.address, free_address()?.port())))
    }

    /// Runs `work` on a thread of this place. Sockets, threads and processes that it makes stay here.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let enter_and_work = || self.enter().and_then(|()| work());
        thread::scope(|scope| scope.spawn(enter_and_work).join().unwrap_or_else(|_| bail!("the thread panicked")))
    }

    /// Moves the calling thread here for good.
    pub fn enter(&self) -> Result<()> {
        let Some(namespace) = &self.namespace else { return Ok(()) };
        setns(namespace, CloneFlags::CLONE_NEWNET).context("enter the network namespace")
    }

    /// Runs lines of ip(8) here.
    pub fn ip(&self, lines: &str) -> Result<()> {
        self.run(|| {
            let mut child = Command::new("ip")
                .args(["-batch", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .context("start ip")?;
            let mut input = child.stdin.take().context("the standard input is a pipe")?;
            input.write_all(lines.as_bytes()).context("write to ip")?;
            drop(input);
            let done = child.wait_with_output().context("wait for ip")?;
            if !done.status.success() {
                bail!("ip: {}", String::from_utf8_lossy(&done.stderr).trim());
            }
            Ok(())
        })
    }

    /// Runs a program here.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Result<()> {
        self.run(|| {
            let done = Command::new(program).args(arguments).output().with_context(|| format!("start {program}"))?;
            if !done.status.success() {
                bail!("{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
            }
            Ok(())
        })
    }

    /// Writes a setting below /proc/sys/net, such as `ipv4/ip_forward`.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{name}");
        self.run(|| fs::write(&path, value).with_context(|| format!("write {path}")))
    }

    /// A path by which ip(8) finds it.
    fn path(&self) -> Option<String> {
        self.namespace.as_ref().map(|namespace| format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd()))
    }
}

fn end_host(addresses: [&str; 2], gateways: [&str; 2]) -> String {
    let ([ipv4, ipv6], [gateway_ipv4, gateway_ipv6]) = (addresses, gateways);
    format!(
        "link set lo up
         addr add {ipv4} dev to-router
         addr add {ipv6} dev to-router nodad
         link set to-router up
         route add default via {gateway_ipv4}
         route add default via {gateway_ipv6}"
    )
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, TcpListener, TcpStream};

    use super::*;
    use crate::client_tools::require_root;

    #[test]
    fn the_client_reaches_router_and_backend_by_both_families() {
        if !require_root("network namespaces").unwrap() {
            return;
        }
        let network = Network::isolated().unwrap();
        for place in [&network.router, &network.backend] {
            for address in [IpAddr::from(place.address()), place.address_ipv6().into()] {
                let listener = place.run(|| Ok(TcpListener::bind((address, 0))?)).unwrap();
                let address = listener.local_addr().unwrap();
                network.client.run(|| Ok(TcpStream::connect(address)?)).unwrap();
            }
        }
    }
}
