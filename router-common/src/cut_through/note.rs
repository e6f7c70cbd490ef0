//! What is kept beside a flow's record for the last line about it, for a router that did not begin it. The programs never
//! look at it, and it is the same in every layout: where in a record of its layout the numbers are, it says itself.

use core::mem::offset_of;

use super::{Direction, Flow};

/// The number of a flow's place to its [`Note`]. Nothing is set aside: an entry is there as long as its flow.
pub const NOTES: &str = "CUT_NOTES";

/// The router's words about a flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// [`Flow::connection`].
    pub connection: u64,
    /// [`Flow::accepted_unix_ms`].
    pub accepted_unix_ms: u64,
    /// [`Flow::generation`]: the note is of no other flow.
    pub generation: u32,
    /// How long the hello took, in microseconds; the largest number is "not known".
    pub hello_us: u32,
    /// How long the dial took, in the same way.
    pub connect_us: u32,
    /// Of the flow's record.
    pub numbers_at: NumbersAt,
    /// Strings, each behind a byte with its length, in an order that the router alone has to know.
    pub text: [u8; TEXT_BYTES],
}

/// Where the numbers are that a router of any version needs at the end of a flow. Those of a direction are the client's; the
/// backend's are as far behind them as in [`Flow::last_at`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NumbersAt {
    /// [`Flow::stream_starts`].
    pub stream_starts: u16,
    /// [`Direction::acknowledged`].
    pub acknowledged: u16,
    /// [`Direction::fin_acknowledged`].
    pub fin_acknowledged: u16,
    /// [`Direction::reset`].
    pub reset: u16,
}

impl NumbersAt {
    /// Of this layout.
    pub const OURS: Self = {
        let client = offset_of!(Flow, directions);
        Self {
            stream_starts: offset_of!(Flow, stream_starts) as u16,
            acknowledged: (client + offset_of!(Direction, acknowledged)) as u16,
            fin_acknowledged: (client + offset_of!(Direction, fin_acknowledged)) as u16,
            reset: (client + offset_of!(Direction, reset)) as u16,
        }
    };
}

impl Default for Note {
    fn default() -> Self {
        Self {
            connection: 0,
            accepted_unix_ms: 0,
            generation: 0,
            hello_us: u32::MAX,
            connect_us: u32::MAX,
            numbers_at: NumbersAt::OURS,
            text: [0; TEXT_BYTES],
        }
    }
}

/// With key and head (kernel/bpf/hashtab.c, struct htab_elem, 48 bytes) and the allocator's link (kernel/bpf/memalloc.c, 8
/// bytes) an entry is what kmalloc(9) has in 512 bytes and not in 1024.
pub const TEXT_BYTES: usize = 512 - 48 - 8 - 8 - 36;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_has_no_padding_and_never_moves() {
        assert_eq!((size_of::<Note>(), align_of::<Note>()), (448, 8));
        assert_eq!((offset_of!(Note, generation), offset_of!(Note, numbers_at), offset_of!(Note, text)), (16, 28, 36));
        assert_eq!((size_of::<NumbersAt>(), offset_of!(NumbersAt, reset)), (8, 6));
    }
}
