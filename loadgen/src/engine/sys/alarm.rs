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

/// A timerfd(2) on CLOCK_MONOTONIC. It wakes a [`mio::Poll`] with nanosecond resolution; the
/// timeout of epoll_wait(2) has milliseconds.
#[derive(Debug)]
pub(crate) struct Alarm {
    fd: OwnedFd,
}

impl Alarm {
    /// Creates an unset alarm.
    ///
    /// # Errors
    /// What timerfd_create(2) reports.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { fd })
    }

    /// Fires once at `deadline_ns` on the clock of
    /// [`monotonic_ns`](echomark::net::clock::monotonic_ns), or at once if that time is past.
    ///
    /// Setting it again replaces the deadline. With mio's edge-triggered registration, each expiry
    /// is a separate event, and the descriptor need not be read.
    ///
    /// # Errors
    /// What timerfd_settime(2) reports.
    pub(crate) fn set(&self, deadline_ns: u64) -> io::Result<()> {
        // A deadline of zero would disarm the timer. One nanosecond is in the past too.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use echomark::net::clock::monotonic_ns;
    use mio::{Events, Poll};

    use super::*;

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
}
