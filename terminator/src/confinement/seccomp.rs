//! The system calls that are left once all threads run (seccomp(2)). Whatever is not listed fails with EPERM.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};

/// Restricts all threads of the process for good. Only who keeps files of its own may rename them.
pub(super) fn restrict(writes_files: bool) -> Result<(), String> {
    let program = program(writes_files).map_err(|error| error.to_string())?;
    apply_filter_all_threads(&program).map_err(|error| error.to_string())
}

fn program(writes_files: bool) -> Result<BpfProgram, seccompiler::BackendError> {
    let writing = if writes_files { WRITING } else { &[] };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALWAYS.iter().chain(writing).map(|call| (*call, Vec::new())).collect();
    for (call, alternatives) in with_conditions() {
        let alternatives = alternatives
            .into_iter()
            .map(|conditions| {
                let conditions = conditions
                    .into_iter()
                    .map(|(argument, operator, value)| {
                        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
                    })
                    .collect::<Result<_, _>>()?;
                SeccompRule::new(conditions)
            })
            .collect::<Result<_, _>>()?;
        rules.insert(call, alternatives);
    }
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    SeccompFilter::new(rules, refused, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?.try_into()
}

type Conditions = Vec<(u8, SeccompCmpOp, u64)>;

/// Calls that are allowed with some arguments only.
fn with_conditions() -> Vec<(c_long, Vec<Conditions>)> {
    let is = |argument, value: i32| (argument, SeccompCmpOp::Eq, u64::from(value.cast_unsigned()));
    let without = |argument, bits: i32| (argument, SeccompCmpOp::MaskedEq(u64::from(bits.cast_unsigned())), 0);
    let stream = (1, SeccompCmpOp::MaskedEq(SOCKET_TYPE_MASK), u64::from(libc::SOCK_STREAM.cast_unsigned()));
    let tcp = |family| [0, libc::IPPROTO_TCP].map(|protocol| vec![is(0, family), stream.clone(), is(2, protocol)]);
    let own = std::process::id().cast_signed();
    vec![
        // Backends are dialled; no other socket is ever made.
        (libc::SYS_socket, [tcp(libc::AF_INET), tcp(libc::AF_INET6)].concat()),
        // No new code: memory is never both filled and run.
        (libc::SYS_mmap, vec![vec![without(2, libc::PROT_EXEC)]]),
        (libc::SYS_mprotect, vec![vec![without(2, libc::PROT_EXEC)]]),
        (libc::SYS_ioctl, vec![vec![is(1, FIONBIO)], vec![is(1, FIONREAD)]]),
        // The name of a thread that is just starting.
        (libc::SYS_prctl, vec![vec![is(0, libc::PR_SET_NAME)]]),
        // abort(3) after a panic that cannot unwind.
        (libc::SYS_tgkill, vec![vec![is(0, own)]]),
    ]
}

/// include/linux/net.h, SOCK_TYPE_MASK: the rest are flags.
const SOCKET_TYPE_MASK: u64 = 0xf;
/// Both fit an int; their types differ between C libraries.
const FIONBIO: i32 = libc::FIONBIO as i32;
const FIONREAD: i32 = libc::FIONREAD as i32;

/// Calls that are allowed whatever their arguments. None of them makes a process, a thread, a listening socket or a
/// descriptor of another process; files are Landlock's part.
const ALWAYS: &[c_long] = &[
    // The sockets of clients, backends and routers.
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    // Reading, writing and closing what is open.
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    // Looking for new certificates; removing the socket at the end.
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_rm_watch,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_readlinkat,
    libc::SYS_statx,
    libc::SYS_unlinkat,
    // Waiting.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_futex,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    // Memory, randomness, and the threads that exist.
    libc::SYS_brk,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    // The older names that only this architecture has.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];

/// Replacing a file of one's own whole.
const WRITING: &[c_long] = &[
    libc::SYS_renameat,
    libc::SYS_renameat2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_and_fits_the_kernels_limit() {
        // BPF_MAXINSNS (include/uapi/linux/bpf_common.h).
        assert!((100..4096).contains(&program(true).unwrap().len()));
    }

    #[test]
    fn nothing_that_makes_processes_listens_or_traces_is_listed() {
        let conditional: Vec<c_long> = with_conditions().into_iter().map(|(call, _)| call).collect();
        for call in [
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_bind,
            libc::SYS_listen,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_pidfd_getfd,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_kill,
            libc::SYS_setuid,
            libc::SYS_unshare,
            libc::SYS_mount,
            libc::SYS_seccomp,
        ] {
            assert!(
                !ALWAYS.contains(&call) && !WRITING.contains(&call) && !conditional.contains(&call),
                "system call {call}"
            );
        }
    }
}
