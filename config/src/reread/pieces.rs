//! Reads many tenants a few at a time, which is faster than all at once: what a piece takes while it is read fits into the
//! processor's caches.

use std::sync::Arc;

use super::items::Items;
use crate::model::{Config, Tenant};
use crate::yaml::MAX_TEXT_BYTES;

impl Config {
    /// The same as reading the whole text; `None` where that has to be done.
    pub(crate) fn of_pieces(text: &str) -> Option<Self> {
        if !(WORTHWHILE..=MAX_TEXT_BYTES).contains(&text.len()) {
            return None;
        }
        let items = Items::of(text)?;
        let (surroundings, tenants) = Self::read_in_pieces(&items, &items.list)?;
        surroundings.assemble(tenants)
    }

    /// These of the tenants of a text, and a configuration with what surrounds them and with some tenants, among which are
    /// those that listeners name.
    pub(super) fn read_in_pieces(items: &Items<'_>, wanted: &[&str]) -> Option<(Self, Vec<Arc<Tenant>>)> {
        let companions = items.named_by_listeners();
        if companions.len() > MOST_COMPANIONS {
            return None;
        }
        let mut tenants = Vec::with_capacity(wanted.len());
        let mut surroundings = None;
        for piece in wanted.chunks(PIECE) {
            let mut list = piece.to_vec();
            list.extend(companions.iter().filter(|companion| !piece.contains(companion)));
            let mut read = Self::of_whole(&items.text_of(&list)).ok()?;
            (read.tenants.len() == list.len()).then_some(())?;
            if surroundings.is_none() {
                tenants.extend(read.tenants[..piece.len()].iter().cloned());
                surroundings = Some(read);
            } else {
                tenants.extend(read.tenants.drain(..piece.len()));
            }
        }
        Some((surroundings?, tenants))
    }
}

/// Tenants.
const PIECE: usize = 64;
/// Bytes.
const WORTHWHILE: usize = 256 * 1024;
/// Those that listeners name are few, unless one's name is a word that many tenants' lines have.
const MOST_COMPANIONS: usize = 64;
