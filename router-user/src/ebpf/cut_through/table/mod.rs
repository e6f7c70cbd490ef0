//! The records of flows: of this layout as shared memory, of other layouts by the part that never changes.

mod head;
mod other;
mod raw;

pub(super) use self::head::Head;
pub(super) use self::other::end_of;
pub(super) use self::raw::{FlowTable, field};
