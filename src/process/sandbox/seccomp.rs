//! The system calls of a serving echod, by purpose. Every other call fails with EPERM, as if the user
//! were not permitted to make it: no program is executed, no process started or traced, nothing
//! mounted, no socket of another family opened.
//!
//! The calls of the data path have no conditions: of these the kernel knows after the first time that
//! they are allowed, without running the filter (SECCOMP_RET_ALLOW is cached by number since Linux
//! 5.11).

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

/// What serves connections and datagrams.
const DATA: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    libc::SYS_splice,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_epoll_ctl,
    libc::SYS_accept4,
    libc::SYS_shutdown,
    libc::SYS_close,
];

/// Descriptors and sockets beside that: wakers, alarms, pipes, options, the sockets of hand-over and drain.
const DESCRIPTORS: &[c_long] = &[
    libc::SYS_epoll_create1,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
];

/// Files: Landlock says which. The last ones lock, permit and remove socket files.
const FILES: &[c_long] = &[
    libc::SYS_statx,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_flock,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_unlinkat,
];

/// Memory, for the allocator and the stacks of threads; mmap and mprotect have a condition.
const MEMORY: &[c_long] = &[
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
];

/// Threads, signals and the end; clone and tgkill have conditions.
const THREADS: &[c_long] = &[
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Time and questions about the process. Where the vDSO can't read the clock, the kernel is asked.
const QUESTIONS: &[c_long] = &[
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrusage,
    libc::SYS_getcpu,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// The older forms of some, which newer architectures lack.
#[cfg(target_arch = "x86_64")]
const OLDER: &[c_long] = &[
    libc::SYS_epoll_wait,
    libc::SYS_poll,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_readlink,
    libc::SYS_chmod,
    libc::SYS_unlink,
    libc::SYS_dup2,
    libc::SYS_time,
    libc::SYS_getrlimit,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[c_long] = &[];

/// Restricts the calling thread.
///
/// # Errors
/// When the kernel has no seccomp filters, or this architecture has no table of calls.
pub(super) fn restrict() -> Result<(), Error> {
    let target = TargetArch::try_from(ARCH)?;
    // Of two filters that fail a call, the newer one's errno counts; the newer one lets clone3 pass.
    apply_filter(&without_clone3(target)?)?;
    apply_filter(&allowing(target)?)
}

/// Makes clone3 look absent, as in an older kernel: its flags are in memory, where a filter can't read
/// them. The C library then calls clone, which has a condition.
fn without_clone3(target: TargetArch) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(
        BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
        target,
    )?
    .try_into()
}

fn allowing(target: TargetArch) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(
        rules()?,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        target,
    )?
    .try_into()
}

/// All allowed calls, each with the alternatives of its conditions; none means without a condition.
fn rules() -> Result<BTreeMap<c_long, Vec<SeccompRule>>, BackendError> {
    let tables = [DATA, DESCRIPTORS, FILES, MEMORY, THREADS, QUESTIONS, OLDER];
    let mut rules: BTreeMap<_, _> = tables
        .into_iter()
        .flatten()
        .chain(&[libc::SYS_clone3])
        .map(|call| (*call, Vec::new()))
        .collect();
    rules.extend(conditional()?);
    Ok(rules)
}

/// Calls of which only some forms are allowed.
fn conditional() -> Result<Vec<(c_long, Vec<SeccompRule>)>, BackendError> {
    let unix_only = || equal(0, libc::AF_UNIX);
    let not_executable = || masked(2, libc::PROT_EXEC, 0);
    let mut conditional = vec![
        // The service manager's socket, the hand-over, the pipe behind signals.
        (libc::SYS_socket, vec![unix_only()?]),
        (libc::SYS_socketpair, vec![unix_only()?]),
        (libc::SYS_openat, vec![read_only(2)?]),
        (
            libc::SYS_ioctl,
            vec![equal_u64(1, libc::FIONREAD)?, equal_u64(1, libc::FIONBIO)?],
        ),
        (libc::SYS_mmap, vec![not_executable()?]),
        (libc::SYS_mprotect, vec![not_executable()?]),
        // Threads, but no processes.
        (
            libc::SYS_clone,
            vec![masked(0, libc::CLONE_THREAD, libc::CLONE_THREAD)?],
        ),
        (libc::SYS_prctl, vec![equal(0, libc::PR_SET_NAME)?]),
        // The calling thread.
        (libc::SYS_sched_setaffinity, vec![equal(0, 0)?]),
        // Limits can be read.
        (libc::SYS_prlimit64, vec![no_pointer(2)?]),
        // abort(3) signals its own process.
        (libc::SYS_tgkill, vec![equal(0, own_id())?]),
    ];
    #[cfg(target_arch = "x86_64")]
    conditional.push((libc::SYS_open, vec![read_only(1)?]));
    Ok(conditional)
}

/// The flags of open(2) without a way to write.
fn read_only(argument: u8) -> Result<SeccompRule, BackendError> {
    const WRITE: i32 = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC;
    masked(argument, WRITE, libc::O_RDONLY)
}

fn own_id() -> i32 {
    // Process ids are positive C ints.
    i32::try_from(std::process::id()).unwrap_or(0)
}

fn equal(argument: u8, value: i32) -> Result<SeccompRule, BackendError> {
    condition(argument, SeccompCmpOp::Eq, u64::from(value.cast_unsigned()))
}

/// The type of ioctl's request depends on the C library.
fn equal_u64(argument: u8, value: impl Into<u64>) -> Result<SeccompRule, BackendError> {
    condition(argument, SeccompCmpOp::Eq, value.into())
}

fn masked(argument: u8, mask: i32, value: i32) -> Result<SeccompRule, BackendError> {
    let mask = SeccompCmpOp::MaskedEq(u64::from(mask.cast_unsigned()));
    condition(argument, mask, u64::from(value.cast_unsigned()))
}

fn no_pointer(argument: u8) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Qword,
        SeccompCmpOp::Eq,
        0,
    )?])
}

fn condition(argument: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    // These arguments are C ints: the kernel ignores the upper half of the register.
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)?;
    SeccompRule::new(vec![condition])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_path_is_decided_by_numbers_alone() {
        let rules = rules().unwrap();
        for call in DATA.iter().chain(OLDER) {
            assert!(rules[call].is_empty(), "{call}");
        }
        assert!(allowing(TargetArch::try_from(ARCH).unwrap()).is_ok());
    }

    #[test]
    fn no_call_is_in_two_tables() {
        let tables = [DATA, DESCRIPTORS, FILES, MEMORY, THREADS, QUESTIONS, OLDER];
        let count: usize = tables.iter().map(|table| table.len()).sum();
        // clone3 comes from no table.
        assert_eq!(
            rules().unwrap().len(),
            count + 1 + conditional().unwrap().len()
        );
    }
}
