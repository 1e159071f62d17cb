//! CPU time, scheduling delays and priority of a thread.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use rustix::process::setpriority_process;

use super::check;

/// Resource usage of the calling thread (getrusage(2) with `RUSAGE_THREAD`).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ThreadUsage {
    /// CPU time, in user mode and in the kernel.
    pub(crate) cpu_time: Duration,
    /// Involuntary context switches.
    pub(crate) involuntary_switches: u64,
}

/// Reads the resource usage of the calling thread.
pub(crate) fn thread_usage() -> ThreadUsage {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: getrusage(2) writes a rusage to the pointer, which is valid for writes.
    let result = unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
    check(result).expect("RUSAGE_THREAD exists since Linux 2.6.26");
    // SAFETY: the call succeeded, so the rusage is written.
    let usage = unsafe { usage.assume_init() };
    let duration = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    ThreadUsage {
        cpu_time: duration(usage.ru_utime) + duration(usage.ru_stime),
        involuntary_switches: usage.ru_nivcsw as u64,
    }
}

/// Scheduler statistics of one thread since its start (the kernel's
/// Documentation/scheduler/sched-stats.rst, `/proc/<pid>/schedstat`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct SchedulerStatistics {
    /// CPU time.
    pub(crate) on_cpu: Duration,
    /// Time spent runnable but waiting for a CPU.
    pub(crate) run_delay: Duration,
    /// Number of times it got a CPU.
    pub(crate) timeslices: u64,
}

impl SchedulerStatistics {
    /// The statistics of the calling thread. The time since it last got a CPU may be missing.
    /// `None` if the kernel keeps no statistics.
    pub(crate) fn of_this_thread() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/thread-self/schedstat").ok()?)
    }

    /// Parses the three numbers: nanoseconds run, nanoseconds waited, timeslices.
    ///
    /// A kernel without statistics (`sched_info_on` in kernel/sched) reports three zeros, which is
    /// impossible for a running thread.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        let sched = Self {
            on_cpu: Duration::from_nanos(next()?),
            run_delay: Duration::from_nanos(next()?),
            timeslices: next()?,
        };
        (sched != Self::default()).then_some(sched)
    }
}

/// Sets the niceness of the calling thread, from -20 (highest priority) to 19 (lowest).
///
/// In POSIX, niceness belongs to the process; on Linux, to the thread. Threads that it starts
/// inherit it.
///
/// # Errors
/// The error of setpriority(2): EACCES when lowering the niceness without CAP_SYS_NICE.
pub(crate) fn set_thread_nice(nice: i32) -> io::Result<()> {
    Ok(setpriority_process(None, nice)?)
}

/// Puts the calling thread into the real-time class SCHED_FIFO, with the lowest priority of that
/// class (sched(7)): before all threads of normal classes, and behind the kernel's own real-time
/// threads.
///
/// # Errors
/// The error of sched_setscheduler(2): EPERM without CAP_SYS_NICE and RLIMIT_RTPRIO.
pub(crate) fn set_thread_realtime() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: sched_setscheduler(2) reads a sched_param from the pointer, which is valid for reads.
    // The id 0 is the calling thread.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) })?;
    Ok(())
}

/// Keeps the memory that this process uses now from being paged out.
///
/// Memory that is mapped later is not locked: beyond RLIMIT_MEMLOCK, its allocation would fail.
///
/// # Errors
/// The error of mlockall(2): ENOMEM or EPERM beyond RLIMIT_MEMLOCK.
pub(crate) fn lock_memory() -> io::Result<()> {
    // SAFETY: mlockall(2) takes flags only. Locked pages stay valid.
    check(unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_ONFAULT) })?;
    Ok(())
}

/// Lets this process's memory be paged out again.
pub(crate) fn unlock_memory() {
    // SAFETY: munlockall(2) takes nothing. It fails only if there is nothing to unlock.
    unsafe { libc::munlockall() };
}

#[cfg(test)]
mod tests {
    use echomark::net::clock::monotonic_ns;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_thread_gives_way_for_itself_alone() {
        fn nice() -> String {
            let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
            // proc_pid_stat(5): the 19th field. The second is a name in parentheses.
            let (_, behind_name) = stat.rsplit_once(')').unwrap();
            behind_name.split_whitespace().nth(16).unwrap().to_owned()
        }
        let before = nice();
        std::thread::spawn(|| {
            set_thread_nice(19).unwrap();
            assert_eq!(nice(), "19");
        })
        .join()
        .unwrap();
        assert_eq!(nice(), before);
    }

    #[test]
    fn a_busy_thread_uses_processor_time() {
        let before = thread_usage();
        let deadline = monotonic_ns() + 10_000_000_000;
        let used = loop {
            let now = thread_usage();
            if now.cpu_time > before.cpu_time || monotonic_ns() > deadline {
                break now;
            }
        };
        assert!(used.cpu_time > before.cpu_time);
    }

    #[test]
    fn the_three_numbers_are_read() {
        assert_eq!(
            SchedulerStatistics::parse("1500000000 20 7\n"),
            Some(SchedulerStatistics {
                on_cpu: Duration::from_millis(1500),
                run_delay: Duration::from_nanos(20),
                timeslices: 7,
            })
        );
    }

    #[test]
    fn what_the_kernel_does_not_keep_is_none() {
        for text in ["", "0 0 0\n", "1 2\n", "1 2 x\n", "-1 2 3\n"] {
            assert_eq!(SchedulerStatistics::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_busy_thread_is_seen_to_run() {
        let Some(before) = SchedulerStatistics::of_this_thread() else {
            // This kernel keeps no statistics.
            return;
        };
        assert!(before.timeslices > 0);
        let deadline = monotonic_ns() + 60_000_000_000;
        let after = loop {
            let now = SchedulerStatistics::of_this_thread().unwrap();
            if now.on_cpu > before.on_cpu || monotonic_ns() > deadline {
                break now;
            }
        };
        assert!(after.on_cpu > before.on_cpu);
        assert!(after.run_delay >= before.run_delay && after.timeslices >= before.timeslices);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "([0-9]{1,21}[ \n]){0,4}|\\PC{0,20}") {
            if let Some(sched) = SchedulerStatistics::parse(&text) {
                prop_assert_ne!(sched, SchedulerStatistics::default());
            }
        }
    }
}
