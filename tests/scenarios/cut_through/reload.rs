//! A reload switches cut-through on and off; connections that are there go on as they are.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpStream};

use tests::client_tools::require_root;
use tests::fakes::Echo;
use tests::hello::Hello;
use tests::network::Network;
use tests::patience::{PATIENCE, eventually};
use tests::processes::{Pid, status};
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};

use super::CAP_NET_ADMIN;
use super::site::{FALLBACKS, PATHS, network};
use crate::reload::replace;
use crate::reload_of_the_process::successor;

#[test]
fn another_data_path_is_that_of_new_connections_and_old_ones_go_on() {
    let Some(scene) = Scene::start("another data path", Some("dataPath: Copy")) else { return };
    let mut copied = scene.connect();
    assert_eq!(scene.paths("cut_through"), 0.0);
    scene.change(|text| text.replace("dataPath: Copy", "dataPath: CutThrough"));
    let mut carried = scene.connect();
    scene.wait_for_path("cut_through", 1.0);
    exchange(&mut copied);
    scene.change(|text| text.replace("dataPath: CutThrough", "dataPath: Copy"));
    exchange(&mut carried);
    exchange(&mut copied);
    drop(copied);
    scene.wait_for_path("copy", 1.0);
    drop(scene.connect());
    scene.wait_for_path("copy", 2.0);
    assert_eq!(scene.paths("cut_through"), 0.0);
    exchange(&mut carried);
    drop(carried);
    scene.router.log().wait_for(PATIENCE, &["cut-through: the last flow has ended"]).unwrap();
}

#[test]
fn the_first_backend_that_is_not_on_this_host_starts_cut_through() {
    let Some(scene) = Scene::start("the first remote backend", None) else { return };
    let (local, remote) = (scene.local.address().to_string(), scene.remote.address().to_string());
    let mut connection = scene.connect();
    let metrics = scene.network.router.run(|| scene.router.metrics()).unwrap();
    assert_eq!(metrics.sum(FALLBACKS, &[("reason", "local")]), 1.0);
    let capabilities = |pid| status(pid).unwrap().capabilities("CapEff").unwrap();
    assert_eq!(capabilities(scene.router.router_pid().unwrap()), 0);

    let pid = scene.change(|text| text.replace(&local, &remote));
    assert_eq!(capabilities(pid), CAP_NET_ADMIN);
    exchange(&mut connection);
    let mut carried = scene.connect();
    scene.wait_for_path("cut_through", 1.0);
    exchange(&mut carried);
    // From here on changes are applied by the process that runs.
    scene.edit(|text| text.replace(&remote, &local));
    let applied = || scene.router.log().with(&["the new configuration is in force"]).len() == 1;
    eventually(PATIENCE, "the change is applied", || applied().then_some(())).unwrap();
    assert_eq!(scene.router.router_pid().unwrap(), pid);
    exchange(&mut carried);
}

/// One tenant, whose backend echoes; there is one on the router's host, too.
struct Scene {
    network: Network,
    router: RouterProcess,
    local: Echo,
    remote: Echo,
}

impl Scene {
    /// With the remote backend where the data path is configured, with the local one where it is not. `None` without root,
    /// which CI does not allow.
    fn start(scenario: &str, data_path: Option<&str>) -> Option<Self> {
        if !require_root(scenario).unwrap() {
            return None;
        }
        let network = network();
        let address = (network.backend.address(), 0).into();
        let remote = network.backend.run(|| Echo::start_on(address)).unwrap();
        let local = network.router.run(Echo::start).unwrap();
        let backend = if data_path.is_some() { remote.address() } else { local.address() };
        let setup = Setup::new()
            .listener_address(Ipv6Addr::UNSPECIFIED.into())
            .line(data_path.unwrap_or("# dataPath: Auto"))
            .tenant(Tenant::passthrough("echo", &[NAME], backend));
        let router = network.router.run(|| RouterProcess::start(setup)).unwrap();
        Some(Self { network, router, local, remote })
    }

    /// Waits for nothing.
    fn edit(&self, edit: impl Fn(String) -> String) {
        replace(&self.router, &edit(fs::read_to_string(self.router.config_file()).unwrap()));
    }

    /// The router that comes with it.
    fn change(&self, edit: impl Fn(String) -> String) -> Pid {
        let former = self.router.router_pid().unwrap();
        self.edit(edit);
        successor(&self.router, former)
    }

    /// A connection that the backend has answered.
    fn connect(&self) -> TcpStream {
        let to: SocketAddr = (self.network.router.address(), self.router.address().port()).into();
        let stream = self.network.client.run(|| Ok(TcpStream::connect_timeout(&to, PATIENCE)?)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = stream;
        say(&mut stream, &Hello::named(NAME).records());
        stream
    }

    /// Connections that took this path, of those that this router has accepted.
    fn paths(&self, path: &str) -> f64 {
        self.network.router.run(|| self.router.metrics()).unwrap().sum(PATHS, &[("path", path)])
    }

    /// The router counts a switch when the kernel carries the connection already, and a relayed one at its end.
    fn wait_for_path(&self, path: &str, connections: f64) {
        let found = eventually(PATIENCE, path, || (self.paths(path) == connections).then_some(()));
        found.unwrap_or_else(|error| panic!("{error}: {}\n{}", self.paths(path), self.router.log().lines().join("\n")));
    }
}

fn exchange(stream: &mut TcpStream) {
    say(stream, &[7; 50_000]);
}

fn say(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, bytes);
}

const NAME: &str = "echo.test";
