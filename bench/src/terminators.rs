//! What terminators cost: the first connection of a tenant whose terminator it starts, and the memory of many that run.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use tests::authority::{Authority, KeyKind};
use tests::fakes::PlainHttp;
use tests::processes::{self, Pid};
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};
use tests::tls_client::TlsClient;

/// Measures cold starts and memory of terminators.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
pub struct TerminatorOptions {
    /// How many tenants the configuration has
    #[arg(long, default_value_t = 1000)]
    pub configured: usize,
    /// How many of their terminators are started, one after the other
    #[arg(long, default_value_t = 100)]
    pub running: usize,
}

/// Runs all of it and prints the table.
pub fn terminators(options: &TerminatorOptions) -> Result<()> {
    if options.running == 0 || options.running > options.configured {
        bail!("--running must be from 1 to --configured");
    }
    let (router, client, _backend) = start(options.configured)?;
    let supervisor = router.supervisor_pid()?;
    let idle_from = cpu_time(&router.pids()?)?;
    let began = Instant::now();
    std::thread::sleep(IDLE_FOR);
    let idle = (cpu_time(&router.pids()?)? - idle_from).as_secs_f64() / began.elapsed().as_secs_f64();
    println!("{} tenants configured, none asked for:", options.configured);
    println!("  processes {}, CPU {:.2} % of a core", router.pids()?.len(), idle * 100.0);
    for (name, pid) in [("supervisor", supervisor), ("router", router.router_pid()?)] {
        println!("  {name}: PSS {:.1} MiB", mebibytes(pss(pid)?.0));
    }

    let mut cold = Vec::new();
    let mut warm = Vec::new();
    for number in 0..options.running {
        let name = hostname(number);
        cold.push(first_answer(&client, &router, &name)?);
        warm.push(first_answer(&client, &router, &name)?);
    }
    println!("First answer of a tenant, its terminator started by it ({} tenants), ms:", options.running);
    println!("  cold  {}", percentiles(&mut cold));
    println!("  warm  {}", percentiles(&mut warm));

    let terminators: Vec<Pid> = processes::descendants(supervisor)
        .into_iter()
        .filter(|pid| processes::command_line(*pid).iter().any(|word| word == "--tenant"))
        .collect();
    let sizes = terminators.iter().map(|pid| pss(*pid)).collect::<Result<Vec<_>>>()?;
    let mean =
        |of: fn(&(u64, u64, u64)) -> u64| mebibytes(sizes.iter().map(of).sum::<u64>()) / sizes.len().max(1) as f64;
    println!("{} terminators run, each with a connection behind it, mean MiB:", sizes.len());
    println!("  PSS {:.2} (anonymous {:.2}), RSS {:.2}", mean(|s| s.0), mean(|s| s.1), mean(|s| s.2));
    Ok(())
}

fn start(tenants: usize) -> Result<(RouterProcess, TlsClient, PlainHttp)> {
    let authority = Authority::new("bench CA")?;
    let backend = PlainHttp::start("backend")?;
    // One key for all: making a thousand is not what is measured.
    let certificate = authority.server(&["*.bench.test"], KeyKind::Ecdsa)?;
    let mut setup = Setup::new();
    for number in 0..tenants {
        let (name, host) = (format!("tenant-{number}"), hostname(number));
        let tenant = Tenant::terminate(&name, &[&host], backend.address(), &certificate);
        setup = setup.tenant(tenant.line("startup: OnDemand"));
    }
    Ok((RouterProcess::start(setup)?, TlsClient::trusting(&authority)?, backend))
}

fn hostname(number: usize) -> String {
    format!("t{number}.bench.test")
}

fn first_answer(client: &TlsClient, router: &RouterProcess, name: &str) -> Result<Duration> {
    let began = Instant::now();
    let answer = client.get(router.address(), name, "/")?;
    if answer.status != 200 {
        bail!("{name}: status {}", answer.status);
    }
    Ok(began.elapsed())
}

fn percentiles(times: &mut [Duration]) -> String {
    times.sort();
    let at = |share: f64| {
        let index = ((times.len() - 1) as f64 * share).round() as usize;
        times[index].as_secs_f64() * 1e3
    };
    format!("p50 {:.1}, p95 {:.1}, max {:.1}", at(0.5), at(0.95), at(1.0))
}

fn cpu_time(pids: &[Pid]) -> Result<Duration> {
    pids.iter().map(|pid| processes::cpu_time(*pid)).sum()
}

/// Proportional set size, the anonymous part of it, and resident set size, in KiB.
fn pss(pid: Pid) -> Result<(u64, u64, u64)> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("{path}: {name}"))?;
        line.trim().trim_end_matches(" kB").parse().with_context(|| format!("{path}: {name}"))
    };
    Ok((field("Pss:")?, field("Pss_Anon:")?, field("Rss:")?))
}

fn mebibytes(kibibytes: u64) -> f64 {
    kibibytes as f64 / 1024.0
}

const IDLE_FOR: Duration = Duration::from_secs(5);
