//! The map of notes: entries exist as long as their flows, and outlive this process with them.

use std::path::Path;

use aya::maps::{HashMap, Map, MapData, MapError};
use router_common::cut_through::{NOTES, Note};
use tracing::debug;

use super::note::Known;

/// By place. One call for each entry: none for connections that are over before the kernel has them alone.
pub(super) struct Notes(HashMap<MapData, u32, Note>);

impl Notes {
    pub(super) fn new(map: Map) -> Result<Self, MapError> {
        HashMap::try_from(map).map(Self)
    }

    /// Of another layout; `None` when that has none, or others.
    pub(super) fn pinned(folder: &Path) -> Option<Self> {
        let map = MapData::from_pin(folder.join(NOTES)).ok()?;
        Self::new(Map::HashMap(map)).ok()
    }

    /// Without one, a line of the next process lacks what is in it.
    pub(super) fn keep(&mut self, place: u32, generation: u32, mut note: Box<Note>) {
        note.generation = generation;
        if let Err(error) = self.0.insert(place, *note, 0) {
            debug!(%error, "cut-through: the next process will not know the name of a flow");
        }
    }

    /// Of a flow of our own layout.
    pub(super) fn of(&self, place: u32, generation: u32) -> Option<Known> {
        Known::of_flow(&self.at(place)?, generation)
    }

    /// Whose it is, the place's last flow has to tell.
    pub(super) fn at(&self, place: u32) -> Option<Note> {
        self.0.get(&place, 0).ok()
    }

    pub(super) fn forget(&mut self, place: u32) {
        // Few are missing, and nobody needs to know of which.
        let _ = self.0.remove(&place);
    }
}
