//! What only a client asks of the kernel.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::process::setpriority_process;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// A timerfd(2) on CLOCK_MONOTONIC: wakes a [`mio::Poll`] with nanosecond deadlines, where the
/// timeout of epoll_wait(2) counts whole milliseconds.
#[derive(Debug)]
pub struct Alarm {
    fd: OwnedFd,
}

impl Alarm {
    /// Makes an alarm that is not set.
    ///
    /// # Errors
    /// What timerfd_create(2) reports.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { fd })
    }

    /// Fires once at `deadline_ns` on the clock of [`monotonic_ns`](crate::net::clock::monotonic_ns), at once if that is past.
    ///
    /// Setting it again replaces the deadline. Registered with mio, which is edge-triggered, each
    /// expiry is an event of its own, and nothing has to be read.
    ///
    /// # Errors
    /// What timerfd_settime(2) reports.
    pub fn set(&self, deadline_ns: u64) -> io::Result<()> {
        // A deadline of zero would disarm the timer; the first nanosecond is as much in the past.
        let deadline_ns = deadline_ns.max(1);
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: (deadline_ns / 1_000_000_000) as _,
                tv_nsec: (deadline_ns % 1_000_000_000) as _,
            },
        };
        timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &once)?;
        Ok(())
    }
}

impl Source for Alarm {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        SourceFd(&self.fd.as_raw_fd()).register(registry, token, interests)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        SourceFd(&self.fd.as_raw_fd()).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.fd.as_raw_fd()).deregister(registry)
    }
}

/// What the calling thread has used so far, after getrusage(2) with `RUSAGE_THREAD`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadUsage {
    /// Time on a processor in user mode.
    pub user: Duration,
    /// Time on a processor in the kernel.
    pub system: Duration,
    /// Times the thread gave the processor up, usually to wait.
    pub voluntary_switches: u64,
    /// Times the thread was taken off the processor.
    pub involuntary_switches: u64,
}

/// Reads what the calling thread has used so far.
pub fn thread_usage() -> ThreadUsage {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: getrusage(2) writes a rusage to the pointer, which is valid for writes.
    let result = unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
    // getrusage(2) fails only for an unknown `who` or a bad pointer.
    assert_eq!(result, 0, "RUSAGE_THREAD exists since Linux 2.6.26");
    // SAFETY: the call succeeded, so the rusage is written.
    let usage = unsafe { usage.assume_init() };
    let duration = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    ThreadUsage {
        user: duration(usage.ru_utime),
        system: duration(usage.ru_stime),
        voluntary_switches: usage.ru_nvcsw as u64,
        involuntary_switches: usage.ru_nivcsw as u64,
    }
}

/// Sets how much the calling thread gives way to others, from -20 for not at all to 19 for always.
///
/// POSIX makes this a property of the process; on Linux it is one of the thread. Threads that it
/// starts inherit it.
///
/// # Errors
/// What setpriority(2) reports: EACCES for a lower value than the present one without CAP_SYS_NICE.
pub fn set_thread_nice(nice: i32) -> io::Result<()> {
    Ok(setpriority_process(None, nice)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::clock::monotonic_ns;
    use mio::{Events, Poll};

    #[test]
    fn an_alarm_wakes_the_poll_at_its_deadline_each_time() {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(4);
        let mut alarm = Alarm::new().unwrap();
        alarm
            .register(poll.registry(), Token(7), Interest::READABLE)
            .unwrap();
        for _ in 0..3 {
            let deadline = monotonic_ns() + 200_000;
            alarm.set(deadline).unwrap();
            poll.poll(&mut events, Some(Duration::from_secs(10)))
                .unwrap();
            assert_eq!(
                events.iter().map(|e| e.token()).collect::<Vec<_>>(),
                [Token(7)]
            );
            assert!(monotonic_ns() >= deadline);
        }
    }

    #[test]
    fn a_thread_gives_way_for_itself_alone() {
        fn nice() -> String {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
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
            if now.user + now.system > before.user + before.system || monotonic_ns() > deadline {
                break now;
            }
        };
        assert!(used.user + used.system > before.user + before.system);
    }
}
