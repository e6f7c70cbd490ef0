//! Flows that a former process left: they go on, and end, when the router is not what it was.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::Ordering;
use std::thread;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use rustix::mount::{MountFlags, mount};
use tests::patience::{PATIENCE, eventually};
use tests::router_process::{RouterProcess, send_signal};
use tests::scratch::Scratch;
use tests::setup::Setup;

use super::lines;
use super::plan::{self, Plan, Turn};
use super::site::{NAME, NAME_IPV6, PATHS, Site};
use super::suite::plans;

#[test]
fn transfers_go_on_when_cut_through_is_switched_off_and_are_logged() {
    let Some(mut site) = site("switching away") else { return };
    let plans = transfers_over_a_restart(&mut site, |folder| edit(folder, "dataPath: CutThrough", "dataPath: Splice"));
    assert_eq!(site.metrics().sum(PATHS, &[("path", "cut_through")]), 0.0);
    lines::expect(|| site.router.stdout(), &plans);
    site.router.log().wait_for(PATIENCE, &["cut-through: the last flow has ended"]).unwrap();
    // Nobody needs what is pinned any more.
    let network = &site.network;
    let router = &mut site.router;
    network.router.run(|| router.start_again(|_| Ok(()))).unwrap();
    assert_eq!(pinned(site.router.folder()).unwrap(), [] as [PathBuf; 0]);
    assert!(!site.metrics().has("sni_router_cut_through_flows", &[]));
}

#[test]
fn transfers_go_on_beside_programs_of_another_version() {
    let Some(mut site) = site("another layout") else { return };
    let plans = transfers_over_a_restart(&mut site, |folder| {
        let [own] = &pinned(folder)?[..] else { bail!("one layout") };
        fs::rename(own, own.with_file_name("cut_through-00000001")).context("another layout's name")
    });
    assert_eq!(site.metrics().sum(PATHS, &[("path", "cut_through")]), 10.0, "new connections have the new programs");
    let others = || site.metrics().sum("sni_router_cut_through_other_version_flows", &[]);
    eventually(PATIENCE, "the other version's flows are gone", || (others() == 0.0).then_some(())).unwrap();
    site.router.log().wait_for(PATIENCE, &["another version's flows have ended"]).unwrap();
    lines::expect(|| site.router.stdout(), &plans);
    let up: u64 = plans.iter().map(|plan| plan.client_to_backend).sum();
    let counted =
        site.metrics().sum("sni_router_bytes_total", &[("tenant", "four"), ("direction", "client_to_backend")]);
    assert!(counted >= up as f64, "{counted} of {up} bytes are counted");
    let network = &site.network;
    let router = &mut site.router;
    network.router.run(|| router.start_again(|_| Ok(()))).unwrap();
    assert_eq!(pinned(site.router.folder()).unwrap().len(), 1);
}

#[test]
fn adopted_flows_have_the_idle_timeout_that_they_were_configured_with() {
    let setup = |setup: Setup| setup.line("dataPath: CutThrough").line_of_each_tenant("idleTimeout: 3s");
    let Some(site) = Site::with("idle time-out of adopted flows", setup, |_| ()) else { return };
    let client = held(&site);
    let killed = site.router.router_pid().unwrap();
    send_signal(killed, Signal::SIGKILL).unwrap();
    expect_reset(&client);
    eventually(PATIENCE, "a line", || (logged(&site, "idle_timeout") == 1).then_some(())).unwrap();
}

#[test]
fn flows_of_a_tenant_that_is_gone_are_ended_at_both_ends() {
    let Some(mut site) = Site::new("a tenant that is gone", "CutThrough") else { return };
    let client = held(&site);
    let network = &site.network;
    let router = &mut site.router;
    let renamed = |folder: &Path| edit(folder, "name: four", "name: another");
    network.router.run(|| router.start_again(renamed)).unwrap();
    expect_reset(&client);
    // By the name that it had.
    eventually(PATIENCE, "a line", || (logged(&site, "drained") == 1).then_some(())).unwrap();
    let lines = site.router.stdout().unwrap();
    lines::whole(&serde_json::from_str(lines.lines().next().unwrap()).unwrap());
    let at_the_backend = || site.failures.lock().unwrap().iter().any(|failure| failure.contains("reset")).then_some(());
    eventually(PATIENCE, "the backend is reset", at_the_backend).unwrap();
}

#[test]
fn a_command_shows_and_ends_what_the_kernel_carries_with_and_without_a_router() {
    let Some(mut site) = Site::new("the command flows", "CutThrough") else { return };
    let client = held(&site);
    let shown = flows(&site, &[]);
    let address = client.local_addr().unwrap().to_string();
    assert!(shown.contains(&address) && shown.contains(&format!("{NAME}, tenant four,")), "{shown}");
    assert_eq!(flows(&site, &["--tenant", "six"]), "");
    assert_eq!(flows(&site, &["--tenant", "six", "--end"]), "0 ended\n");
    assert_eq!(flows(&site, &["--end"]), "1 ended\n");
    expect_reset(&client);
    eventually(PATIENCE, "a line", || (logged(&site, "drained") == 1).then_some(())).unwrap();

    let client = held(&site);
    site.router.signal(Signal::SIGTERM).unwrap();
    site.router.wait_for_exit(PATIENCE).unwrap();
    assert_eq!(flows(&site, &["--end"]), "1 ended\n");
    expect_reset(&client);
    assert_eq!(flows(&site, &[]), "");
    let resets = || site.failures.lock().unwrap().iter().filter(|failure| failure.contains("reset")).count();
    eventually(PATIENCE, "the backends are reset", || (resets() == 2).then_some(())).unwrap();
}

/// What `sni-router flows` prints.
fn flows(site: &Site, arguments: &[&str]) -> String {
    let run = || {
        let program = tests::binaries::sni_router()?;
        let config = site.router.folder().join("config.yaml");
        let mut command = std::process::Command::new(program);
        let done = command.args(["flows", "--config"]).arg(config).args(arguments).output()?;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Ok(String::from_utf8(done.stdout)?)
    };
    site.network.router.run(run).unwrap()
}

/// Begins transfers, restarts the router on files that `between` has changed, and finishes them; new connections work
/// meanwhile.
fn transfers_over_a_restart(site: &mut Site, between: impl FnOnce(&Path) -> Result<()> + Send) -> Vec<Plan> {
    let begin = Barrier::new(TRANSFERS + 1);
    let (address, address_ipv6) = (site.address(), site.address_ipv6());
    let plans: Vec<_> = plans(TRANSFERS as u64, &[Turn::Together], 2_000_000..=5_000_000).collect();
    thread::scope(|scope| {
        let network = &site.network;
        let transfer = |plan: Plan| {
            let begin = &begin;
            scope.spawn(move || {
                let client = || Ok(plan::client_with_pause(address, NAME, plan, || _ = begin.wait())?);
                network.client.run(client)
            })
        };
        let transfers: Vec<_> = plans.iter().copied().map(transfer).collect();
        let carried = wait_until_carried(site, TRANSFERS);
        let router = &mut site.router;
        let restarted = carried.and_then(|()| network.router.run(|| router.start_again(between)));
        begin.wait();
        restarted.unwrap();
        let plan = Plan { number: 1, turn: Turn::BackendFirst, client_to_backend: 1000, backend_to_client: 1000 };
        for _ in 0..10 {
            network.client.run(|| Ok(plan::client(address_ipv6, NAME_IPV6, plan)?)).unwrap();
        }
        for (transfer, plan) in transfers.into_iter().zip(&plans) {
            transfer.join().unwrap().unwrap_or_else(|error| panic!("{plan:?}: {error}"));
        }
    });
    let done = || (site.served.load(Ordering::Relaxed) == TRANSFERS as u64 + 10).then_some(());
    eventually(PATIENCE, "the backend has served all", done).unwrap();
    assert_eq!(*site.failures.lock().unwrap(), [] as [String; 0]);
    plans
}

fn wait_until_carried(site: &Site, connections: usize) -> Result<()> {
    eventually(PATIENCE, "the kernel has all connections", || {
        let metrics = site.metrics();
        let all = metrics.sum(PATHS, &[("path", "cut_through")]) == connections as f64;
        (all && metrics.sum("sni_router_cut_through_opening", &[]) == 0.0).then_some(())
    })
}

/// A connection that the kernel carries and that nobody uses.
fn held(site: &Site) -> TcpStream {
    let plan = Plan { number: 1, turn: Turn::ClientFirst, client_to_backend: 1000, backend_to_client: 1000 };
    let before = site.metrics().sum(PATHS, &[("path", "cut_through")]) as usize;
    let client = site.at_client(|| {
        let mut stream = TcpStream::connect_timeout(&site.address(), PATIENCE).unwrap();
        stream.write_all(&plan::hello(NAME).records()).unwrap();
        stream.write_all(&plan.encode()).unwrap();
        stream
    });
    wait_until_carried(site, before + 1).unwrap();
    client
}

fn expect_reset(mut client: &TcpStream) {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// Lines of the access log about carried connections of the first tenant.
fn logged(site: &Site, outcome: &str) -> usize {
    let lines = site.router.stdout().unwrap();
    let outcome = format!("\"outcome\":\"{outcome}\"");
    let ours =
        |line: &&str| line.contains("\"tenant\":\"four\"") && line.contains("cut_through") && line.contains(&outcome);
    lines.lines().filter(ours).count()
}

fn edit(folder: &Path, from: &str, to: &str) -> Result<()> {
    let path = folder.join("config.yaml");
    let yaml = fs::read_to_string(&path)?;
    assert!(yaml.contains(from), "{yaml}");
    Ok(fs::write(&path, yaml.replace(from, to))?)
}

/// The folders of cut-through's layouts.
fn pinned(folder: &Path) -> Result<Vec<PathBuf>> {
    let folders = fs::read_dir(folder.join(BPFFS))?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    Ok(folders.into_iter().filter(|path| path.to_string_lossy().contains("/cut_through-")).collect())
}

/// A site whose router finds a bpffs of its own, where the scenario can look, also when the host has one.
fn site(scenario: &str) -> Option<Site> {
    let start = |setup: Setup| {
        let scratch = Scratch::new()?;
        let bpffs = scratch.join(BPFFS);
        fs::create_dir_all(&bpffs)?;
        mount("bpf", &bpffs, "bpf", MountFlags::empty(), Some(c"mode=0700")).context("mount a bpffs")?;
        RouterProcess::start_in(scratch, setup)
    };
    Site::started_by(scenario, |setup| setup.line("dataPath: CutThrough"), |_| (), start)
}

/// Below the folder of a router; [`Scratch`] unmounts it.
const BPFFS: &str = "run/bpf";

const TRANSFERS: usize = 40;
