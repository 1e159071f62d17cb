//! The clocks of the kernel.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// CLOCK_MONOTONIC in nanoseconds: the clock of every deadline and measurement.
///
/// It is read in user space (vdso(7)).
#[inline]
pub fn monotonic_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// CLOCK_REALTIME in nanoseconds since the Unix epoch.
pub(crate) fn real_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Realtime))
}

/// The processor time of this thread in nanoseconds.
pub(crate) fn thread_cpu_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::ThreadCPUTime))
}

/// The processor time of all threads of this process, ended ones included.
pub fn process_cpu_time() -> Duration {
    Duration::from_nanos(nanoseconds(clock_gettime(ClockId::ProcessCPUTime)))
}

/// The length of a clock tick, the unit of times in /proc.
pub fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

fn nanoseconds(time: Timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
