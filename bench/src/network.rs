//! Where client, router and backend run: each in a network namespace of its own, in a row with veth pairs between
//! them, or all on loopback where that is not permitted. The namespaces have no names and vanish with this process.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns, unshare};
use tests::ports::free_address;

/// The three places.
pub(crate) struct Network {
    pub(crate) client: Place,
    pub(crate) router: Place,
    pub(crate) backend: Place,
    /// For the report.
    pub(crate) description: String,
}

impl Network {
    /// Namespaces if we may, else loopback with the reason in the description.
    pub(crate) fn new() -> Result<Self> {
        match isolated() {
            Ok(network) => Ok(network),
            Err(error) => Ok(Self {
                client: Place::loopback(),
                router: Place::loopback(),
                backend: Place::loopback(),
                description: format!("all on loopback, because there are no network namespaces ({error:#})"),
            }),
        }
    }
}

/// One host of the network.
pub(crate) struct Place {
    address: Ipv4Addr,
    namespace: Option<File>,
}

impl Place {
    fn loopback() -> Self {
        Self { address: Ipv4Addr::LOCALHOST, namespace: None }
    }

    fn isolated(address: [u8; 4]) -> Result<Self> {
        let namespace = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("unshare(CLONE_NEWNET)")?;
            File::open("/proc/thread-self/ns/net").context("open the namespace")
        });
        let namespace = namespace.join().map_err(|_| anyhow!("the thread panicked"))??;
        Ok(Self { address: address.into(), namespace: Some(namespace) })
    }

    /// An address that nobody listens on yet.
    pub(crate) fn free_address(&self) -> Result<SocketAddr> {
        Ok(SocketAddr::from((self.address, free_address()?.port())))
    }

    /// Runs `work` on a thread of this place. Sockets, threads and processes that it makes stay here.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let enter_and_work = || {
            if let Some(namespace) = &self.namespace {
                setns(namespace, CloneFlags::CLONE_NEWNET).context("enter the network namespace")?;
            }
            work()
        };
        thread::scope(|scope| scope.spawn(enter_and_work).join().unwrap_or_else(|_| bail!("the thread panicked")))
    }

    /// A path by which ip(8) finds it.
    fn path(&self) -> Option<String> {
        self.namespace.as_ref().map(|namespace| format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd()))
    }
}

fn isolated() -> Result<Network> {
    let client = Place::isolated([10, 0, 1, 2])?;
    let router = Place::isolated([10, 0, 1, 1])?;
    let backend = Place::isolated([10, 0, 2, 2])?;
    let (to_client, to_backend) = (client.path().unwrap_or_default(), backend.path().unwrap_or_default());
    let lines = format!(
        "link set lo up
         link add to-client type veth peer name to-router netns {to_client}
         link add to-backend type veth peer name to-router netns {to_backend}
         addr add 10.0.1.1/24 dev to-client
         addr add 10.0.2.1/24 dev to-backend
         link set to-client up
         link set to-backend up"
    );
    router.run(|| ip(&lines).and_then(|()| set("ip_forward", "1")))?;
    client.run(|| ip(&end_host("10.0.1.2/24", "10.0.1.1")))?;
    backend.run(|| ip(&end_host("10.0.2.2/24", "10.0.2.1")))?;
    for place in [&client, &router, &backend] {
        // Tens of thousands of connections to one address within seconds would run out of ports otherwise.
        place.run(|| set("ip_local_port_range", "1024 65535").and_then(|()| set("tcp_tw_reuse", "1")))?;
    }
    let description = "client, router and backend each in a network namespace of its own, veth between them".to_owned();
    Ok(Network { client, router, backend, description })
}

fn end_host(address: &str, gateway: &str) -> String {
    format!(
        "link set lo up
         addr add {address} dev to-router
         link set to-router up
         route add default via {gateway}"
    )
}

fn ip(lines: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("start ip")?;
    child.stdin.take().context("the standard input is a pipe")?.write_all(lines.as_bytes()).context("write to ip")?;
    let done = child.wait_with_output().context("wait for ip")?;
    if !done.status.success() {
        bail!("ip: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}

/// A setting of IPv4 in the namespace of the calling thread.
fn set(name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/ipv4/{name}");
    fs::write(&path, value).with_context(|| format!("write {path}"))
}
