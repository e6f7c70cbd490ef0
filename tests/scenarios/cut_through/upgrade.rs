//! An upgrade while the kernel carries connections: it goes on carrying them, and the new router has them at once.

use std::process::Command;
use std::sync::Barrier;
use std::thread;

use anyhow::{Result, ensure};
use tests::binaries;
use tests::patience::{PATIENCE, eventually};

use super::lines;
use super::plan::{self, Plan, Turn};
use super::site::{FALLBACKS, NAME, PATHS, Site};
use super::suite::plans;

#[test]
fn carried_and_relayed_connections_go_on_through_upgrades() {
    for data_path in ["CutThrough", "Splice", "Copy"] {
        let Some(site) = Site::new("an upgrade", data_path) else { return };
        let (address, network, router) = (site.address(), &site.network, &site.router);
        let (begin, middle) = (Barrier::new(FLOWS + 1), Barrier::new(FLOWS + 1));
        let plans: Vec<_> = plans(FLOWS as u64, &[Turn::Together], 1_000_000..=2_000_000).collect();
        thread::scope(|scope| {
            let transfer = |plan: Plan| {
                let (begin, middle) = (&begin, &middle);
                scope.spawn(move || {
                    let pause = || {
                        begin.wait();
                        middle.wait();
                    };
                    network.client.run(|| Ok(plan::client_with_pause(address, NAME, plan, pause)?))
                })
            };
            let transfers: Vec<_> = plans.iter().copied().map(transfer).collect();
            begin.wait();
            let path = if data_path == "CutThrough" { Some("cut_through") } else { None };
            let carried = || site.metrics().sum(PATHS, &[("path", "cut_through")]) == FLOWS as f64;
            let is_carried =
                path.is_none() || eventually(PATIENCE, "the kernel has all", || carried().then_some(())).is_ok();
            let upgraded = upgrade(&site);
            // First, so that nobody waits for a test that has failed.
            middle.wait();
            assert!(is_carried);
            upgraded.unwrap();
            // In the midst of it, too.
            upgrade(&site).unwrap();
            for (transfer, plan) in transfers.into_iter().zip(&plans) {
                transfer.join().unwrap().unwrap_or_else(|error| panic!("{data_path} {plan:?}: {error}"));
            }
            let lines = || {
                let text = router.stdout().ok()?;
                let ours = |line: &&str| line.contains("\"tenant\":\"four\"") && line.contains("\"outcome\":\"ok\"");
                let right = |line: &&str| ours(line) && path.is_none_or(|path| line.contains(path));
                (text.lines().filter(right).count() == FLOWS).then_some(())
            };
            eventually(PATIENCE, "each connection has its line", lines)
                .unwrap_or_else(|error| panic!("{data_path}: {error}\n{}", router.stdout().unwrap_or_default()));
            if path.is_some() {
                lines::expect(|| router.stdout(), &plans);
            }
        });
        if data_path == "CutThrough" {
            // The new router has the flows, and so new connections are carried again.
            eventually(PATIENCE, "a new connection is carried", || {
                network.client.run(|| Ok(plan::client(address, NAME, SHORT)?)).ok()?;
                let metrics = site.metrics();
                assert!(metrics.sum(FALLBACKS, &[("reason", "no_port")]) == 0.0);
                (metrics.sum(PATHS, &[("path", "cut_through")]) > 0.0).then_some(())
            })
            .unwrap();
        }
    }
}

fn upgrade(site: &Site) -> Result<()> {
    let former = site.router.log().with(&["the former router has ended"]).len();
    let mut command = Command::new(binaries::sni_router()?);
    let done = command.args(["upgrade", "--config"]).arg(site.router.config_file()).output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    eventually(PATIENCE, "the former router has gone", || {
        (site.router.log().with(&["the former router has ended"]).len() > former).then_some(())
    })?;
    ensure!(site.router.log().with(&["connections left"]).is_empty(), "the former router drains");
    Ok(())
}

const FLOWS: usize = 6;
const SHORT: Plan = Plan { number: 1, turn: Turn::BackendFirst, client_to_backend: 1000, backend_to_client: 1000 };
