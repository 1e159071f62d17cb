//! The time of a watch: nanoseconds since its start, those in which the host was suspended included.

use echomark::net::clock::monotonic_ns;
use rustix::time::{ClockId, clock_gettime};

/// CLOCK_BOOTTIME from a start on (clock_gettime(2)).
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: u64,
}

impl Clock {
    /// Starts now.
    pub(super) fn start() -> Self {
        Self { start: boot_ns() }
    }

    pub(super) fn now(self) -> u64 {
        boot_ns().saturating_sub(self.start)
    }

    /// The time on CLOCK_MONOTONIC, for a timer that is to fire at `time`.
    pub(super) fn monotonic(self, time: u64) -> u64 {
        (self.start + time).saturating_sub(Self::suspended())
    }

    /// The time that the host was suspended since it was booted.
    pub(super) fn suspended() -> u64 {
        // In this order the difference is never too large by what passes between the calls.
        let boot = boot_ns();
        boot.saturating_sub(monotonic_ns())
    }
}

fn boot_ns() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
