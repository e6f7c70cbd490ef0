//! Which uid and gid each terminator runs under, and that no two share one.

use hashbrown::{HashMap, HashSet};

use super::context::Context;
use super::seen::Seen;
use crate::DEFAULT_ROUTER_UID;
use crate::error::Position;
use crate::file::{ConfigFile, MAX_ID, ModeFile, TenantFile, UID_RANGE, UserFile};
use crate::model::{Config, Identity, Sandbox, UidRange};
use crate::uid::allot;

/// The uids that the file leaves to the router to choose.
pub(super) struct Identities<'f> {
    allotted: HashMap<&'f str, u32>,
}

impl Identities<'_> {
    /// The identity of the tenant of this name; `None` when an error kept it from getting one.
    pub(super) fn of(&self, name: &str, sandbox: Sandbox) -> Option<Identity> {
        let uid = match sandbox.uid {
            Some(uid) => uid,
            None => *self.allotted.get(name)?,
        };
        Some(Identity { uid, gid: sandbox.gid.unwrap_or(uid) })
    }
}

pub(super) fn uid_range(context: &Context<'_>, file: &ConfigFile) -> Option<UidRange> {
    let field = &file.uid_range;
    let (first, last) = if field.is_missing() {
        (UID_RANGE[0], UID_RANGE[1])
    } else {
        let (first, last) = field.value()?;
        (*first.value()?, *last.value()?)
    };
    let message = if first == 0 {
        "contains 0, which is root: begin at 1 or above".to_owned()
    } else if last > MAX_ID {
        format!("goes beyond {MAX_ID}, the highest uid")
    } else if first > last {
        format!("is inverted: write [{last}, {first}]")
    } else {
        return Some(UidRange { first, last });
    };
    context.error(field, "uidRange", message);
    None
}

/// Checks the uids and gids that the file gives, and chooses the others.
pub(super) fn identities<'f>(context: &Context<'_>, file: &'f ConfigFile, range: Option<UidRange>) -> Identities<'f> {
    let mut owners = Owners::new(file);
    let mut names = HashSet::new();
    context.list(&file.tenants, "tenants", |context, tenant| -> Option<()> {
        if !matches!(tenant.mode.value(), Some(ModeFile::Terminate)) {
            return None;
        }
        let name = tenant.name.value().map(|name| name.0.0.as_str());
        let uid = explicit(&context, tenant, name, &mut owners);
        if let (Some(name), true) = (name, uid) {
            names.insert(name);
        }
        None
    });
    let wanted = names.len();
    let allotted = range.and_then(|range| {
        let allotted = allot(range, &owners.uids(), names);
        if allotted.is_none() {
            let UidRange { first, last } = range;
            let message =
                format!("[{first}, {last}] is too small for the {wanted} tenants of mode Terminate without sandbox.uid: widen it");
            let at = if file.uid_range.is_missing() { context.at } else { file.uid_range.at() };
            context.report.error(at, &context.path.field("uidRange"), message);
        }
        allotted
    });
    Identities { allotted: allotted.unwrap_or_default() }
}

/// That there is a uid for the process that probes certificates, where there is to be one.
pub(super) fn of_the_prober(context: &Context<'_>, file: &ConfigFile, config: &Config) -> Option<()> {
    if config.probed().next().is_none() || config.prober_identity().is_some() {
        return Some(());
    }
    let UidRange { first, last } = config.uid_range;
    let message = format!("[{first}, {last}] has no uid left for the process behind certificateProbe: widen it");
    let at = if file.uid_range.is_missing() { context.at } else { file.uid_range.at() };
    context.report.error(at, &context.path.field("uidRange"), message);
    None
}

/// Checks one tenant's own uid and gid; says whether a uid is left to choose.
fn explicit<'f>(context: &Context<'_>, tenant: &'f TenantFile, name: Option<&'f str>, owners: &mut Owners<'f>) -> bool {
    if tenant.sandbox.is_missing() {
        return true;
    }
    let Some(sandbox) = tenant.sandbox.value() else {
        return false;
    };
    let path = context.path.field("sandbox");
    let context = Context { path: &path, at: tenant.sandbox.at(), report: context.report };
    for (field, id) in [(&sandbox.uid, "uid"), (&sandbox.gid, "gid")] {
        let message = match field.value() {
            Some(0) => format!("is 0, which is root: a terminator's {id} is 1 or above"),
            Some(&number) if number > MAX_ID => format!("is {number}, beyond the highest {id} {MAX_ID}"),
            Some(number) if Some(*number) == owners.router => {
                format!(
                    "is {number}, the router's own: choose another, so that the router cannot reach this tenant's keys"
                )
            }
            Some(number) if id == "uid" => match owners.claim(*number, name, field.at()) {
                Some(message) => message,
                None => continue,
            },
            _ => continue,
        };
        context.error(field, id, message);
    }
    sandbox.uid.is_missing()
}

/// Who has which uid by the file's own words.
struct Owners<'f> {
    /// `None` when `user` is a name: its uid is the system's knowledge.
    router: Option<u32>,
    tenants: Seen<u32, Option<&'f str>>,
}

impl<'f> Owners<'f> {
    fn new(file: &ConfigFile) -> Self {
        let router = match file.user.value() {
            Some(UserFile::Id(uid)) => Some(*uid),
            Some(UserFile::Name(_)) => None,
            None => Some(DEFAULT_ROUTER_UID),
        };
        Self { router, tenants: Seen::new() }
    }

    /// What is wrong with this tenant's having this uid.
    fn claim(&mut self, uid: u32, name: Option<&'f str>, at: Position) -> Option<String> {
        let (owner, place) = self.tenants.before(uid, name, at)?;
        let owner = owner.unwrap_or("?");
        Some(format!("is {uid}, which is also the uid of tenant `{owner}` at {place}: each tenant needs its own"))
    }

    fn uids(&self) -> HashSet<u32> {
        self.tenants.keys().chain(self.router).collect()
    }
}
