//! `sni-terminator check`: what one tenant's TLS is, and what is wrong with its files, each with the command that shows the
//! same. Reads them exactly as a terminator does, as the tenant's user and confined; serves nothing.

mod certificates;
mod notes;
mod policy;
mod trust;

use std::path::Path;

use config::{Config, SandboxPolicy};

use self::notes::Notes;
use crate::confinement::{Confinement, forbid_new_privileges};
use crate::start::{StartError, find, identity, input, needs, system};

/// Prints the policy and what was found; whether nothing of it is a problem.
pub(crate) fn check(config: &Path, tenant: &str, as_json: bool) -> Result<bool, StartError> {
    forbid_new_privileges().map_err(system)?;
    let config = Config::load(config).map_err(input)?;
    let (index, terminate) = find(&config, tenant)?;
    let settings = &config.tenants[index];
    let mut confinement =
        Confinement::begin(identity(&config, tenant)?, SandboxPolicy::BestEffort, true).map_err(system)?;
    confinement.restrict_access(&needs(settings, terminate, None, Path::new("")));

    let mut notes = Notes::default();
    policy::describe(terminate, &mut notes);
    certificates::check(&config, index, terminate, &mut notes);
    trust::check_clients(&terminate.client_validation, &mut notes);
    if let Some(backend) = &terminate.backend_tls {
        trust::check_backend(backend, &mut notes);
    }
    let printed = if as_json { notes.print_json() } else { notes.print() };
    printed.map_err(system)?;
    Ok(!notes.any_problem())
}
