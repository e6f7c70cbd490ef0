//! Landlock (landlock(7)): the files and TCP ports that are left, whatever the uid could reach.

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, NetPort, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use super::{Needs, Part};

/// Restricts this thread and those that it starts. What the kernel does not know yet is left out, and told.
pub(super) fn restrict(needs: &Needs) -> [(Part, Result<(), String>); 3] {
    let status = ruleset(needs).and_then(RulesetCreated::restrict_self);
    let state = |since: ABI, what: &str| match &status {
        Ok(RestrictionStatus { landlock: LandlockStatus::Available { effective_abi, .. }, .. }) => {
            if *effective_abi >= since { Ok(()) } else { Err(format!("this kernel's Landlock knows no {what} yet")) }
        }
        Ok(_) => Err("this kernel has no Landlock, or it is not in its list of LSMs".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    [
        (Part::LandlockFiles, state(ABI::V1, "files")),
        (Part::LandlockNetwork, state(ABI::V4, "TCP")),
        (Part::LandlockScopes, state(ABI::V6, "scopes")),
    ]
}

/// By default the crate takes what the kernel has and leaves out the rest.
fn ruleset(needs: &Needs) -> Result<RulesetCreated, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for folder in &needs.read {
        // A folder that is not there is reported by whoever reads its files.
        if let Ok(folder) = PathFd::new(folder) {
            rules = rules.add_rule(PathBeneath::new(folder, AccessFs::ReadFile | AccessFs::ReadDir))?;
        }
    }
    let write = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::RemoveFile;
    for folder in &needs.write {
        if let Ok(folder) = PathFd::new(folder) {
            rules = rules.add_rule(PathBeneath::new(folder, write))?;
        }
    }
    if let Ok(folder) = PathFd::new(&needs.socket_folder) {
        rules = rules.add_rule(PathBeneath::new(folder, AccessFs::MakeSock | AccessFs::RemoveFile))?;
    }
    for port in &needs.connect {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    Ok(rules)
}

/// The version whose rights are known here.
const NEWEST: ABI = ABI::V7;
