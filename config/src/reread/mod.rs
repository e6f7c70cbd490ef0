//! Reads the next version of a configuration file: tenants whose lines have not changed are taken over as they are, so
//! that a change of a few among 100,000 takes no longer than finding them. The result is that of reading it as a whole;
//! what is not certain to be, and every text that is wrong, is left to that.

mod assemble;
mod items;
mod pieces;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use hashbrown::HashMap;

pub(crate) use self::items::{Items, mentions};
use crate::error::LoadError;
use crate::model::{Config, Tenant};
use crate::yaml::MAX_TEXT_BYTES;

impl Config {
    /// Checks the text of the file at `path`, of which `former` is the version that this configuration was read from.
    pub fn of_next_version(&self, former: &str, path: &Path, text: &str) -> Result<Self, LoadError> {
        self.reread(former, text).map_or_else(|| Self::of_file(path, text), Ok)
    }

    /// `None` when the text has to be read as a whole.
    fn reread(&self, former: &str, text: &str) -> Option<Self> {
        if text.len() > MAX_TEXT_BYTES {
            return None;
        }
        let (before, after) = (Items::of(former)?, Items::of(text)?);
        if !before.has_same_surroundings(&after) || before.list.len() != self.tenants.len() {
            return None;
        }
        let mut tenants = taken_over(&before.list, &self.tenants, &after.list);
        let is_new = tenants.iter().zip(&after.list).filter(|(known, _)| known.is_none());
        let mut changed: Vec<&str> = is_new.map(|(_, item)| *item).collect();
        // The surroundings are read again, and take a tenant.
        if changed.is_empty() {
            changed.extend(after.list.first());
            tenants.first_mut()?.take();
        }
        let (surroundings, read) = Self::read_in_pieces(&after, &changed)?;
        let mut read = read.into_iter();
        for tenant in tenants.iter_mut().filter(|tenant| tenant.is_none()) {
            *tenant = read.next();
        }
        surroundings.assemble(tenants.into_iter().collect::<Option<_>>()?)
    }
}

/// The tenants of `after` whose lines are among those of `before`; what is at the same place, counted from the beginning or
/// from the end, is found without asking a table.
fn taken_over(before: &[&str], tenants: &[Arc<Tenant>], after: &[&str]) -> Vec<Option<Arc<Tenant>>> {
    let is_same = |(one, other): &(&&str, &&str)| one == other;
    let front = before.iter().zip(after).take_while(is_same).count();
    let (rest_before, rest_after) = (&before[front..], &after[front..]);
    let back = rest_before.iter().rev().zip(rest_after.iter().rev()).take_while(is_same).count();
    let middle_before = front..before.len() - back;
    let known: HashMap<&str, &Arc<Tenant>> =
        before[middle_before.clone()].iter().copied().zip(&tenants[middle_before]).collect();
    let middle = after[front..after.len() - back].iter().map(|item| known.get(item).map(|tenant| Arc::clone(tenant)));
    let (first, last) = (&tenants[..front], &tenants[tenants.len() - back..]);
    let all = first.iter().cloned().map(Some).chain(middle);
    all.chain(last.iter().cloned().map(Some)).collect()
}
