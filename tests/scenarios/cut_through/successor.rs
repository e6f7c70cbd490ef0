//! Two routers of one runtime folder at the same time: one of them has the flows.

use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::thread;

use anyhow::Result;
use nix::sys::signal::Signal;
use tests::log::Log;
use tests::metrics::Metrics;
use tests::network::Network;
use tests::patience::{PATIENCE, eventually};
use tests::ports::free_address;
use tests::router_process::RouterProcess;
use tests::tls_client::tcp;
use tests::{binaries, http};

use super::lines;
use super::plan::{self, Plan, Turn};
use super::site::{FALLBACKS, NAME, NAME_IPV6, PATHS, Site};
use super::suite::plans;

#[test]
fn the_next_process_relays_until_the_first_has_left_and_then_has_its_flows() {
    let Some(mut site) = Site::new("a successor", "CutThrough") else { return };
    let begin = Barrier::new(FLOWS + 1);
    let (address, address_ipv6) = (site.address(), site.address_ipv6());
    let plans: Vec<_> = plans(FLOWS as u64, &[Turn::Together], 1_000_000..=2_000_000).collect();
    thread::scope(|scope| {
        let network = &site.network;
        let transfer = |plan: Plan| {
            let begin = &begin;
            scope.spawn(move || {
                network.client.run(|| Ok(plan::client_with_pause(address, NAME, plan, || _ = begin.wait())?))
            })
        };
        let transfers: Vec<_> = plans.iter().copied().map(transfer).collect();
        let handed_over = hand_over(&site.network, &mut site.router, address_ipv6);
        begin.wait();
        let next = handed_over.unwrap();
        for (transfer, plan) in transfers.into_iter().zip(&plans) {
            transfer.join().unwrap().unwrap_or_else(|error| panic!("{plan:?}: {error}"));
        }
        lines::expect(|| Ok(fs::read_to_string(&next.stdout)?), &plans);
    });
}

/// Everything but the end of the transfers.
fn hand_over(network: &Network, router: &mut RouterProcess, address_ipv6: SocketAddr) -> Result<Next> {
    eventually(PATIENCE, "the kernel has all connections", || {
        let metrics = network.router.run(|| router.metrics()).ok()?;
        let all = metrics.sum(PATHS, &[("path", "cut_through")]) == FLOWS as f64;
        (all && metrics.sum("sni_router_cut_through_opening", &[]) == 0.0).then_some(())
    })?;
    let next = network.router.run(|| Next::start(router))?;
    next.log.wait_for(PATIENCE, &["another process has the flows"])?;
    let to = SocketAddr::new(address_ipv6.ip(), next.port);
    let metrics = || network.router.run(|| next.metrics());
    let connect = || network.client.run(|| Ok(plan::client(to, NAME_IPV6, SHORT)?));
    connect()?;
    eventually(PATIENCE, "the connection is counted", || {
        let metrics = metrics().ok()?;
        (metrics.sum(FALLBACKS, &[("reason", "another_process")]) == 1.0).then_some(())
    })?;

    router.signal(Signal::SIGTERM)?;
    router.wait_for_exit(PATIENCE)?;
    next.log.wait_for(PATIENCE, &["cut-through", &format!("adopted={FLOWS}")])?;
    connect()?;
    eventually(PATIENCE, "the kernel has the connection", || {
        (metrics().ok()?.sum(PATHS, &[("path", "cut_through")]) == 1.0).then_some(())
    })?;
    Ok(next)
}

/// A router on the same runtime folder, with ports of its own.
struct Next {
    process: Child,
    log: Log,
    stdout: std::path::PathBuf,
    port: u16,
    admin: SocketAddr,
}

impl Next {
    fn start(first: &RouterProcess) -> Result<Self> {
        let folder: &Path = first.folder();
        let (port, admin) = (free_address()?.port(), free_address()?);
        let yaml = fs::read_to_string(folder.join("config.yaml"))?
            .replace(&format!("[::]:{}", first.address().port()), &format!("[::]:{port}"))
            .replace(&first.admin().to_string(), &admin.to_string());
        let (path, stdout) = (folder.join("next.yaml"), folder.join("next.stdout"));
        File::create(&path)?.write_all(yaml.as_bytes())?;
        let (log, stderr) = Log::begin_in(folder)?;
        let process = Command::new(binaries::sni_router()?)
            .args(["router", "--config"])
            .arg(&path)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(File::create(&stdout)?)
            .stderr(stderr)
            .spawn()?;
        let next = Self { process, log, stdout, port, admin };
        eventually(PATIENCE, "the next router is ready", || {
            http::get(&mut next.tcp().ok()?, "localhost", "/readyz").ok().filter(|page| page.status == 200)
        })?;
        Ok(next)
    }

    fn metrics(&self) -> Result<Metrics> {
        Metrics::parse(&http::get(&mut self.tcp()?, "localhost", "/metrics")?.body)
    }

    fn tcp(&self) -> Result<TcpStream> {
        tcp(self.admin)
    }
}

impl Drop for Next {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const FLOWS: usize = 5;
const SHORT: Plan = Plan { number: 1, turn: Turn::BackendFirst, client_to_backend: 1000, backend_to_client: 1000 };
