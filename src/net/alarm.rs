//! A timer for an event loop.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// A timerfd(2) on CLOCK_MONOTONIC. It wakes an epoll instance with nanosecond resolution; the timeout
/// of epoll_wait(2) has milliseconds.
#[derive(Debug)]
pub(crate) struct Alarm {
    fd: OwnedFd,
    /// What it was last set to.
    at_ns: u64,
}

impl Alarm {
    /// An unset alarm whose events carry `token`.
    ///
    /// # Errors
    /// What timerfd_create(2) and epoll_ctl(2) report.
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        SourceFd(&fd.as_raw_fd()).register(registry, token, Interest::READABLE)?;
        Ok(Self { fd, at_ns: 0 })
    }

    /// Fires once at this time on the clock of [`monotonic_ns`](crate::net::clock::monotonic_ns), or at
    /// once if it is past. Each expiry is an edge of its own, so the descriptor need not be read.
    ///
    /// # Errors
    /// What timerfd_settime(2) reports.
    pub(crate) fn set(&mut self, at_ns: u64) -> io::Result<()> {
        if self.at_ns == at_ns {
            return Ok(());
        }
        // A deadline of zero would disarm the timer. One nanosecond is in the past too.
        let deadline_ns = at_ns.max(1);
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: (deadline_ns / 1_000_000_000) as _,
                tv_nsec: (deadline_ns % 1_000_000_000) as _,
            },
        };
        timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &once)?;
        self.at_ns = at_ns;
        Ok(())
    }
}
