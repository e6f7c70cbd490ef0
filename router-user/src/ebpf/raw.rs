//! The calls of bpf(2) on links that aya does not offer. The only unsafe code of the loader.
#![expect(unsafe_code, reason = "bpf(2) with pointers to its arguments; see the SAFETY comments")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What a link of a network namespace is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NetnsLink {
    /// The program that it runs.
    pub(super) program_id: u32,
    /// The inode of the namespace; 0 once the link is detached or the namespace gone.
    pub(super) netns: u32,
}

/// Opens a link that is pinned at `path`.
pub(super) fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = ObjectGet { path: path.as_ptr() as u64, ..Default::default() };
    // SAFETY: the pointer is to a NUL-terminated path that lives until the call has returned.
    let descriptor = unsafe { bpf(BPF_OBJ_GET, &mut attributes) }?;
    // SAFETY: the kernel has just opened this descriptor for us, with O_CLOEXEC (kernel/bpf/inode.c, bpf_obj_get_user).
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Makes an attached link run another program, with no moment in between when it runs none.
pub(super) fn update_link(link: impl AsFd, program: impl AsFd) -> io::Result<()> {
    let mut attributes = LinkUpdate {
        link: link.as_fd().as_raw_fd() as u32,
        program: program.as_fd().as_raw_fd() as u32,
        ..Default::default()
    };
    // SAFETY: the attributes hold descriptors and numbers alone.
    unsafe { bpf(BPF_LINK_UPDATE, &mut attributes) }.map(drop)
}

/// Takes a link's program off its network namespace; needs no capability but the descriptor (kernel/bpf/syscall.c,
/// link_detach). What is pinned of it is good for nothing afterwards.
pub(super) fn detach_link(link: impl AsFd) -> io::Result<()> {
    let mut attributes = LinkDetach { link: link.as_fd().as_raw_fd() as u32 };
    // SAFETY: the attributes are a descriptor.
    unsafe { bpf(BPF_LINK_DETACH, &mut attributes) }.map(drop)
}

/// What the kernel says about a link; `None` for one that is not of an sk_lookup program.
pub(super) fn netns_link(link: impl AsFd) -> io::Result<Option<NetnsLink>> {
    let mut info = LinkInfo::default();
    let mut attributes = ObjectInfo {
        object: link.as_fd().as_raw_fd() as u32,
        length: size_of::<LinkInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: `info` has the length that the attributes say, any bytes are valid in it, and it outlives the call.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes) }?;
    let found = NetnsLink { program_id: info.program_id, netns: info.netns };
    Ok((info.kind == BPF_LINK_TYPE_NETNS && info.attach_type == BPF_SK_LOOKUP).then_some(found))
}

/// # Safety
/// `attributes` is what `command` takes, and its pointers are valid for what the command does with them.
unsafe fn bpf<A>(command: libc::c_int, attributes: &mut A) -> io::Result<i32> {
    // SAFETY: the caller's promise; the size is that of the attributes, and the kernel takes a shorter union than its
    // own (kernel/bpf/syscall.c, __sys_bpf).
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, (&raw mut *attributes), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

// The structs below are arms of `union bpf_attr` and the head of `struct bpf_link_info` (include/uapi/linux/bpf.h).

#[repr(C)]
#[derive(Default)]
struct ObjectGet {
    path: u64,
    descriptor: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

#[repr(C)]
struct LinkDetach {
    link: u32,
}

#[repr(C)]
struct ObjectInfo {
    object: u32,
    length: u32,
    info: u64,
}

#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program_id: u32,
    hole: u32,
    netns: u32,
    attach_type: u32,
}

const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_UPDATE: libc::c_int = 29;
const BPF_LINK_DETACH: libc::c_int = 34;
const BPF_LINK_TYPE_NETNS: u32 = 5;
const BPF_SK_LOOKUP: u32 = 36;
