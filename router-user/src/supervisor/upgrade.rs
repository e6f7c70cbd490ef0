//! Upgrades: the programs that are on disk take the places of those that run, this process's own in the end.

use config::Parts;
use tokio::time::{Instant, timeout};
use tracing::{error, info, warn};

use super::child::Retirement;
use super::reload::{Reloader, Wishes};
use super::seat::NotReplaced;
use super::succession::Succession;
use super::successor::{Coming, TERMINATOR_PATIENCE};
use super::terminator;
use crate::supervision::Order;

impl Reloader {
    /// Has the programs that are on disk now take the places of those that run: first the router, because it is the one
    /// that may refuse, then the terminators, one after the other, and in the end this process itself.
    pub(super) async fn upgrade(&mut self, wishes: &Wishes) {
        let began = Instant::now();
        info!("upgrading to the programs that are on disk now");
        let handing_over = match self.seat.upgrade(&self.news).await {
            Ok(handing_over) => handing_over,
            Err(error) => {
                error!("not upgraded, the former router goes on serving: {error}");
                let order = Order::NotUpgraded(error.to_string());
                if !matches!(error, NotReplaced::Stopped) && self.give(&order).await.is_ok() {
                    let _ = self.answer().await;
                }
                return;
            }
        };
        let config = self.config.clone();
        let names: Vec<_> = config.terminator_settings().into_keys().map(str::to_owned).collect();
        if let Ok(program) = terminator::program_for(&config).inspect_err(|error| error!("terminators stay: {error}")) {
            let parts = Parts::of(&config);
            for name in &names {
                let (started, former) = match self.start_successor(&config, &parts, &program, name) {
                    Coming::Now { started, former } => (started, former),
                    Coming::OnDemand => continue,
                };
                let mut taking_over = tokio::spawn(started.takes_over(former));
                match timeout(TERMINATOR_PATIENCE, &mut taking_over).await {
                    Ok(former) => former.into_iter().flatten().for_each(Retirement::retire),
                    Err(_elapsed) => {
                        warn!(tenant = name, "the new terminator does not start: the former one goes on serving");
                        tokio::spawn(
                            async move { taking_over.await.into_iter().flatten().for_each(Retirement::retire) },
                        );
                    }
                }
            }
        }
        if let Ok(program) = terminator::program_for(&config) {
            self.replace_prober(&config, &program).await;
        }
        let _ = handing_over.await;
        info!(terminators = names.len(), took = ?began.elapsed(), "upgraded; the supervisor follows");
        let succession = Succession {
            program: &self.program,
            config_file: &self.file,
            runtime_dir: &self.config.runtime_dir,
            config_in_force: self.runtime_dir.config(),
            seat: &self.seat,
            lock: self.runtime_dir.lock(),
            demand_socket: &self.demand_socket,
            roster: &self.roster,
            memory_groups: self.groups.base(),
        };
        let Err(error) = succession.succeed(|| wishes.take()).await;
        error!("the supervisor goes on as the program that it was: {error}");
    }
}
