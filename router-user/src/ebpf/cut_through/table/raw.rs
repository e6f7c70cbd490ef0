//! The table of flows as memory that this process shares with the kernel's programs.
#![expect(unsafe_code, reason = "a shared memory mapping; see the SAFETY comments")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::{Ordering, fence};

use router_common::cut_through::{Direction, Flow};

/// The table of flows as memory that the kernel's programs write at the same time.
#[derive(Debug)]
pub(in crate::ebpf::cut_through) struct FlowTable {
    start: ptr::NonNull<Flow>,
    count: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and is only accessed by volatile reads and writes of
// integers, each of which the kernel's programs may interleave with.
unsafe impl Send for FlowTable {}
// SAFETY: as above.
unsafe impl Sync for FlowTable {}

impl FlowTable {
    /// Maps an array of `count` flows that was made with BPF_F_MMAPABLE.
    pub(in crate::ebpf::cut_through) fn map(map: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses; it fails when the map is smaller.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                count * size_of::<Flow>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = ptr::NonNull::new(start.cast()).ok_or(io::ErrorKind::Other)?;
        Ok(Self { start, count })
    }

    /// How many flows there can be.
    pub(in crate::ebpf::cut_through) fn places(&self) -> usize {
        self.count
    }

    pub(in crate::ebpf::cut_through) fn read(&self, index: u32) -> Flow {
        // SAFETY: `place` is inside the mapping, and every bit pattern is a valid Flow.
        unsafe { self.place(index).read_volatile() }
    }

    /// Replaces a whole record; its keys must not be published.
    pub(in crate::ebpf::cut_through) fn write(&self, index: u32, flow: Flow) {
        // SAFETY: as above.
        unsafe { self.place(index).write_volatile(flow) };
        fence(Ordering::SeqCst);
    }

    /// One field of a direction.
    pub(in crate::ebpf::cut_through) fn direction<T: Copy>(
        &self,
        index: u32,
        which: usize,
        field: fn(*const Direction) -> *const T,
    ) -> T {
        // SAFETY: as above; a field of a valid record.
        unsafe {
            let direction = (&raw const (*self.place(index)).directions).cast::<Direction>().add(which & 1);
            field(direction).read_volatile()
        }
    }

    pub(in crate::ebpf::cut_through) fn pending(&self, index: u32) -> bool {
        // SAFETY: as above.
        unsafe { (&raw const (*self.place(index)).pending).read_volatile() != 0 }
    }

    pub(in crate::ebpf::cut_through) fn client_key_released(&self, index: u32) -> bool {
        // SAFETY: as above.
        unsafe { (&raw const (*self.place(index)).client_key_released).read_volatile() != 0 }
    }

    pub(in crate::ebpf::cut_through) fn release_client_key(&self, index: u32) {
        // SAFETY: as above.
        unsafe { (&raw mut (*self.place(index)).client_key_released).write_volatile(1) };
    }

    /// Whether the programs have reported the end.
    pub(in crate::ebpf::cut_through) fn ended(&self, index: u32) -> bool {
        // SAFETY: as above.
        unsafe { (&raw const (*self.place(index)).ended).read_volatile() != 0 }
    }

    /// The end was none: the programs report the next one.
    pub(in crate::ebpf::cut_through) fn clear_ended(&self, index: u32) {
        // SAFETY: as above.
        unsafe { (&raw mut (*self.place(index)).ended).write_volatile(0) };
    }

    pub(in crate::ebpf::cut_through) fn stage(&self, index: u32) -> u16 {
        // SAFETY: as above.
        unsafe { (&raw const (*self.place(index)).stage).read_volatile() }
    }

    pub(in crate::ebpf::cut_through) fn set_stage(&self, index: u32, stage: u16) {
        // SAFETY: as above.
        unsafe { (&raw mut (*self.place(index)).stage).write_volatile(stage) };
    }

    /// Where the client's stream ends that our own TCP has to bring to the backend: in the client's numbers and in those
    /// that the backend acknowledges.
    pub(in crate::ebpf::cut_through) fn set_owed(&self, index: u32, sent: u32, fin: bool, hello_end: u32) {
        // SAFETY: as above. `pending` comes last, so that the program never compares with an old end.
        unsafe {
            let flow = self.place(index);
            let client = (&raw mut (*flow).directions).cast::<Direction>();
            let known = (&raw const (*client).sent).read_volatile();
            if sent.wrapping_sub(known).cast_signed() > 0 {
                (&raw mut (*client).sent).write_volatile(sent);
            }
            if fin {
                (&raw mut (*client).fin).write_volatile(sent);
                (&raw mut (*client).fin_seen).write_volatile(1);
            }
            (&raw mut (*flow).hello_end).write_volatile(hello_end);
            fence(Ordering::SeqCst);
            (&raw mut (*flow).pending).write_volatile(1);
        }
        fence(Ordering::SeqCst);
    }

    fn place(&self, index: u32) -> *mut Flow {
        let index = index as usize;
        assert!(index < self.count, "flow {index} of {}", self.count);
        // SAFETY: the index is within the mapping.
        unsafe { self.start.as_ptr().add(index) }
    }
}

impl Drop for FlowTable {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and nothing borrows from it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.count * size_of::<Flow>()) };
    }
}

/// Fields of a record for [`FlowTable::direction`].
pub(in crate::ebpf::cut_through) mod field {
    use super::Direction;

    // SAFETY (all): only the place is computed, nothing is read.
    macro_rules! fields {
        ($($name:ident: $kind:ty),*) => {
            $(
                pub(in crate::ebpf::cut_through) fn $name(direction: *const Direction) -> *const $kind {
                    // SAFETY: the place of a field inside the record that the pointer points to.
                    unsafe { &raw const (*direction).$name }
                }
            )*
        };
    }

    fields!(last: u64);
}
