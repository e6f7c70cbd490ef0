//! The children that a supervisor begins with.

use std::collections::HashMap;
use std::path::Path;

use config::{Config, Mode, Parts, Startup};
use tokio::sync::mpsc::UnboundedSender;

use super::child::{Child, Retirement, Role};
use super::memory_groups::MemoryGroups;
use super::on_demand::OnDemand;
use super::process::Process;
use super::reload::News;
use super::roster::Roster;
use super::seat::Seat;
use super::succession::Inherited;
use super::terminator;
use crate::demand::Demands;
use crate::failure::Failure;

/// What children are started with.
pub(super) struct Stage<'s> {
    pub(super) program: &'s Path,
    pub(super) config_file: &'s Path,
    pub(super) seat: &'s Seat,
    pub(super) news: &'s UnboundedSender<News>,
    pub(super) demands: &'s Demands,
    pub(super) groups: &'s MemoryGroups,
    pub(super) roster: &'s Roster,
}

impl Stage<'_> {
    /// The router first, then one terminator per Terminate tenant, then the prober; of those that are present no other one.
    pub(super) fn start(
        &self,
        config: &Config,
        router: Option<Process>,
        others: Vec<Inherited>,
    ) -> Result<(HashMap<String, Retirement>, Option<Retirement>), Failure> {
        let child = Child::router(self.program, self.config_file, self.seat.clone(), self.roster);
        let child = match router {
            Some(router) => child.that_runs(router),
            None => child,
        };
        let _ = self.news.send(News::Start(child));
        let (mut serving, mut probing) = (HashMap::new(), None);
        for Inherited { process, role, is_leaving } in others {
            match role {
                Role::Terminator { tenant } if !is_leaving => drop(serving.insert(tenant, process)),
                Role::Prober if !is_leaving => probing = Some(process),
                role => {
                    process.leaves();
                    let _ = self.news.send(match role {
                        Role::Terminator { .. } | Role::Prober => News::SeeOffTerminator(role, process),
                        Role::Router | Role::FormerRouter => News::SeeOff(process),
                    });
                }
            }
        }
        let program = terminator::program_for(config)?;
        let mut terminators = HashMap::new();
        let parts = Parts::of(config);
        for tenant in &config.tenants {
            let Mode::Terminate(terminate) = &tenant.mode else { continue };
            let socket = config.handoff_socket(&tenant.name);
            let (child, retirement) = Child::terminator(&program, self.config_file, &tenant.name, &socket, self.roster);
            let child = child.reading(parts.part(&tenant.name));
            let child = child.in_group(terminate.sandbox.memory_max.and_then(|_| self.groups.of(&tenant.name)));
            let child = match terminate.startup {
                Startup::Always => child,
                Startup::OnDemand { .. } => {
                    child.on_demand(OnDemand::new(self.demands.follow(&tenant.name), socket, self.news.clone()))
                }
            };
            let child = match serving.remove(&tenant.name) {
                Some(process) => child.that_runs(process),
                None => child,
            };
            let _ = self.news.send(News::Start(child));
            terminators.insert(tenant.name.clone(), retirement);
        }
        Ok((terminators, self.start_prober(config, &program, probing)))
    }
}
