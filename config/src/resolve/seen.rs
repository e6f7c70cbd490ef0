//! Remembers what the file has said already, and where.

use std::hash::Hash;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::error::Position;

/// What has been seen, by whom and where.
pub(super) struct Seen<K, V>(HashMap<K, (V, Position)>);

impl<K: Eq + Hash + Copy, V: Copy> Seen<K, V> {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// Notes a sight, and gives the one before it.
    pub(super) fn before(&mut self, key: K, by: V, at: Position) -> Option<(V, Position)> {
        match self.0.entry(key) {
            Entry::Occupied(first) => Some(*first.get()),
            Entry::Vacant(vacant) => {
                vacant.insert((by, at));
                None
            }
        }
    }

    /// All that has been seen.
    pub(super) fn keys(&self) -> impl Iterator<Item = K> {
        self.0.keys().copied()
    }
}
