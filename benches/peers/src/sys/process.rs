//! Processes: where they run, what they use, how they end.

use std::ffi::c_int;
use std::io;
use std::mem;

use super::check;

/// The processors that this process may run on, in ascending order.
///
/// # Errors
/// errno.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: a cpu_set_t is an array of integers, for which zero is valid.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: sched_getaffinity(2) writes at most the given size to `set`.
    check(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) } as isize)?;
    Ok((0..libc::CPU_SETSIZE as usize)
        // SAFETY: CPU_ISSET reads the set, and the index is below CPU_SETSIZE.
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect())
}

/// Binds the calling thread, and what it starts from now on, to these processors. Makes one system
/// call and allocates nothing, so it may run between fork(2) and exec(2).
///
/// # Errors
/// errno; EINVAL where none of the processors exists.
pub fn pin(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: a cpu_set_t is an array of integers, for which zero is valid.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    for &cpu in cpus {
        if cpu < libc::CPU_SETSIZE as usize {
            // SAFETY: CPU_SET writes to the exclusively borrowed set; the index is below its size.
            unsafe { libc::CPU_SET(cpu, &mut set) };
        }
    }
    // SAFETY: sched_setaffinity(2) reads the given size from `set`.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) } as isize).map(drop)
}

/// Processor time of a process in nanoseconds, in user mode and in the kernel, over all its threads
/// and those that ended (clock_getcpuclockid(3)).
///
/// # Errors
/// ESRCH where there is no such process.
pub fn process_cpu_ns(pid: u32) -> io::Result<u64> {
    let mut clock = 0;
    // SAFETY: clock_getcpuclockid(3) writes one clock id.
    let error = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    clock_ns(clock)
}

/// Processor time of the calling thread in nanoseconds.
///
/// # Errors
/// errno.
pub fn thread_cpu_ns() -> io::Result<u64> {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock_ns(clock: libc::clockid_t) -> io::Result<u64> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: clock_gettime(2) writes one timespec.
    check(unsafe { libc::clock_gettime(clock, &mut time) } as isize)?;
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Sends `signal` to a process, or to a process group where `pid` is negative (kill(2)).
///
/// # Errors
/// errno.
pub fn signal(pid: i32, signal: c_int) -> io::Result<()> {
    // SAFETY: kill(2) touches no memory of ours.
    check(unsafe { libc::kill(pid, signal) } as isize).map(drop)
}

/// The signal ends the process after its child, so that no server survives a driver that was killed
/// (PR_SET_PDEATHSIG). May run between fork(2) and exec(2).
///
/// # Errors
/// errno.
pub fn die_with_parent() -> io::Result<()> {
    // SAFETY: this prctl(2) takes a number and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } as isize).map(drop)
}

/// Raises the soft limit of descriptors to the hard one and returns it.
///
/// # Errors
/// errno.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit(2) writes one rlimit.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } as isize)?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: setrlimit(2) reads one rlimit.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } as isize)?;
    Ok(limit.rlim_cur)
}

/// Waits for a child to end and returns the processor time of it, in nanoseconds, and whether it
/// exited with 0 (wait4(2)).
///
/// # Errors
/// errno; ECHILD where it was waited for already.
pub fn wait_with_cpu_ns(pid: u32) -> io::Result<(u64, ExitedWell)> {
    let mut status = 0;
    // SAFETY: an rusage is made of integers, for which zero is valid.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    loop {
        // SAFETY: wait4(2) writes one status and one rusage.
        let result = unsafe { libc::wait4(pid as libc::pid_t, &mut status, 0, &mut usage) };
        match check(result as isize) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
            Ok(_) => break,
        }
    }
    let well = match libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
        true => ExitedWell::Yes,
        false => ExitedWell::No,
    };
    Ok((micros(usage.ru_utime) + micros(usage.ru_stime), well))
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitedWell {
    /// With exit code 0.
    Yes,
    /// With another one, or by a signal.
    No,
}

fn micros(time: libc::timeval) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000
}

/// Clock ticks in a second, the unit of some times in /proc.
#[must_use]
pub fn ticks_per_second() -> u64 {
    // SAFETY: sysconf(3) touches no memory of ours.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).ok().filter(|t| *t > 0).unwrap_or(100)
}
