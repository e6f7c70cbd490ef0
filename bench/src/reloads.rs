//! Reloads of a router with very many tenants, from the change of the file to the first connection that is served by it, alone
//! and while other connections come and go. Prints what it measured and judges nothing but failed connections.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use nix::sys::signal::Signal;
use tests::fakes::Echo;
use tests::hello::Hello;
use tests::patience::eventually;
use tests::ports::free_address;
use tests::processes;
use tests::raw_client::RawClient;
use tests::router_process::RouterProcess;
use tests::scratch::Scratch;
use tests::setup::Written;

/// Measures reloads of many tenants on a running router.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
pub struct ReloadOptions {
    /// How many tenants the configuration has
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(20..=1_000_000))]
    pub tenants: u32,
    /// How often each kind of change is made
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
}

/// Runs all of it and prints the table.
pub fn reloads(options: &ReloadOptions) -> Result<()> {
    let echo = Echo::start()?;
    let scratch = Scratch::new()?;
    let (address, admin) = (free_address()?, free_address()?);
    let mut file = File {
        run: scratch.join("run").display().to_string(),
        address,
        admin,
        echo: echo.address(),
        tenants: options.tenants,
        workers: 2,
        version: 0,
        idle: [600; 2],
    };
    let path = scratch.write("config.yaml", &file.text())?;
    let bytes = file.text().len();
    let written = Written { terminated: Vec::new(), path, admin, listeners: vec![("tls".to_owned(), address)] };
    let began = Instant::now();
    let router = RouterProcess::launch(scratch, written, "info")?;
    eventually(PATIENCE, "the router serves", || connect(address, &file.first()).ok())?;
    println!("{} tenants, {:.1} MiB of YAML, ready after {:?}", options.tenants, bytes as f64 / MEBI, began.elapsed());
    println!(
        "From the change of the file (and SIGHUP) to the first connection by it, {} times each, ms:",
        options.rounds
    );
    for change in Change::ALL {
        let mut all = || (0..options.rounds).map(|_| reload(&router, &mut file, change)).collect::<Result<Vec<_>>>();
        let mut times = all()?;
        println!("  {:<24} {}", change.name(), percentiles(&mut times));
        let (mut times, mut load) = under_load(address, all)?;
        println!("  {:<24} {} under load", "", percentiles(&mut times));
        println!("  {:<24} {} for {} other connections meanwhile", "", percentiles(&mut load.times), load.times.len());
        if let Some(error) = load.failed.pop() {
            return Err(error.context(format!("{} other connections failed, such as", load.failed.len() + 1)));
        }
    }
    // The former process goes before it has written so large a page.
    let scrape = || {
        let began = Instant::now();
        Some((router.admin_get("/metrics").ok()?.body, began.elapsed()))
    };
    let (page, took) = eventually(PATIENCE, "the router writes its metrics", scrape)?;
    println!("A scrape: {:.1} MiB in {took:?}", page.len() as f64 / MEBI);
    for line in page.lines().filter(|line| line.starts_with("sni_router_config_reloads_total")) {
        println!("  {line}");
    }
    for (name, pid) in [("supervisor", router.supervisor_pid()?), ("router", router.router_pid()?)] {
        println!("  {name}: PSS {:.1} MiB", processes::proportional_set_size(pid)? as f64 / MEBI);
    }
    Ok(())
}

/// What differs from one version of the file to the next, besides the first tenant's name.
#[derive(Clone, Copy)]
enum Change {
    Ten,
    All,
    Added,
    Process,
}

impl Change {
    const ALL: [Self; 4] = [Self::Ten, Self::Added, Self::All, Self::Process];

    fn name(self) -> &'static str {
        match self {
            Self::Ten => "ten tenants changed",
            Self::All => "all tenants changed",
            Self::Added => "one tenant added",
            Self::Process => "another router process",
        }
    }
}

struct File {
    run: String,
    address: SocketAddr,
    admin: SocketAddr,
    echo: SocketAddr,
    tenants: u32,
    workers: u32,
    /// The first tenant's name tells the version.
    version: u32,
    /// Seconds of the tenants' idleTimeout: of the first ten, and of all others.
    idle: [u32; 2],
}

impl File {
    fn change(&mut self, change: Change) {
        self.version += 1;
        match change {
            Change::Ten => self.idle[0] += 1,
            Change::All => self.idle = self.idle.map(|idle| idle + 1),
            Change::Added => self.tenants += 1,
            Change::Process => self.workers = 5 - self.workers,
        }
    }

    fn first(&self) -> String {
        format!("version-{}.bench.test", self.version)
    }

    fn text(&self) -> String {
        let Self { run, address, admin, echo, workers, .. } = self;
        let mut text = format!(
            "runtimeDir: {run}\nworkers: {workers}\nadmin: {{ address: \"{admin}\" }}\nlisteners: [{{ name: tls, address: \"{address}\" }}]\ntenants:\n"
        );
        for number in 0..self.tenants {
            let idle = self.idle[usize::from(number >= 10)];
            let hostname = if number == 0 { self.first() } else { hostname(number) };
            let _ = write!(
                text,
                "  - name: t{number}\n    hostnames: [{hostname}]\n    mode: Passthrough\n    idleTimeout: {idle}s\n    backends: [{{ address: \"{echo}\" }}]\n"
            );
        }
        text
    }
}

fn hostname(number: u32) -> String {
    format!("h{number}.bench.test")
}

fn reload(router: &RouterProcess, file: &mut File, change: Change) -> Result<Duration> {
    file.change(change);
    let new = router.folder().join("config.edited");
    fs::write(&new, file.text()).context("write the next version")?;
    // What the one before has left behind is cleared away by then.
    thread::sleep(REST);
    let began = Instant::now();
    fs::rename(&new, router.config_file()).context("put the next version in its place")?;
    router.signal(Signal::SIGHUP)?;
    let first = file.first();
    while connect(file.address, &first).is_err() {
        if began.elapsed() > PATIENCE {
            bail!("not reloaded; the log:\n{}", router.log().lines().join("\n"));
        }
        thread::sleep(PAUSE);
    }
    Ok(began.elapsed())
}

/// A connection whose hello comes back.
fn connect(address: SocketAddr, name: &str) -> Result<()> {
    let client = RawClient::connect(address)?;
    let hello = Hello::named(name).records();
    client.send(&hello)?;
    ensure!(client.read(hello.len())? == hello, "{name}: not its echo");
    Ok(())
}

/// What became of other clients meanwhile.
#[derive(Default)]
struct Load {
    times: Vec<Duration>,
    failed: Vec<anyhow::Error>,
}

/// Short connections to a tenant that stays, one after the other, for as long as the work takes.
fn under_load<T>(address: SocketAddr, work: impl FnOnce() -> Result<T>) -> Result<(T, Load)> {
    let done = AtomicBool::new(false);
    let connect_all = || {
        let mut load = Load::default();
        while !done.load(Ordering::Relaxed) {
            let began = Instant::now();
            match connect(address, &hostname(15)) {
                Ok(()) => load.times.push(began.elapsed()),
                Err(error) => load.failed.push(error),
            }
        }
        load
    };
    let (result, load) = thread::scope(|scope| {
        let connecting = scope.spawn(connect_all);
        let result = work();
        done.store(true, Ordering::Relaxed);
        (result, connecting.join())
    });
    Ok((result?, load.map_err(|_| anyhow::anyhow!("the load ended"))?))
}

fn percentiles(times: &mut [Duration]) -> String {
    times.sort();
    let at = |share: f64| {
        let index = (times.len().saturating_sub(1) as f64 * share).round() as usize;
        times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    format!("p50 {:.1}, p99 {:.1}, max {:.1}", at(0.5), at(0.99), at(1.0))
}

const MEBI: f64 = 1024.0 * 1024.0;
/// Before each reload.
const REST: Duration = Duration::from_secs(1);
/// Between two looks whether a reload is done, so that looking takes no processor time from it.
const PAUSE: Duration = Duration::from_millis(5);
/// The first start of many tenants in a build that is not optimized.
const PATIENCE: Duration = Duration::from_secs(120);
