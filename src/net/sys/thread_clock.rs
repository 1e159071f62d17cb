//! The processor time of one thread, read by others.

use std::io;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use super::check;

/// The processor time of one thread. Other threads read it without its help, also after its end. It
/// never decreases.
#[derive(Debug, Default)]
pub(crate) struct ThreadClock {
    /// The CPU clock of the thread while it runs, a negative number; 0 is none.
    clock: AtomicI32,
    /// The highest time read so far.
    spent_ns: AtomicU64,
}

impl ThreadClock {
    /// Makes this the clock of the calling thread, until the guard is dropped on it.
    ///
    /// # Errors
    /// What pthread_getcpuclockid(3) reports.
    pub(crate) fn start(&self) -> io::Result<RunningClock<'_>> {
        let mut clock: libc::clockid_t = 0;
        // SAFETY: pthread_self(3) always succeeds.
        let thread = unsafe { libc::pthread_self() };
        // SAFETY: pthread_getcpuclockid(3) writes a clockid_t to the pointer, which is valid for
        // writes; the thread runs, as it is the calling one.
        let result = unsafe { libc::pthread_getcpuclockid(thread, &raw mut clock) };
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result));
        }
        self.clock.store(clock, Ordering::Relaxed);
        Ok(RunningClock(self))
    }

    /// The time used so far: the total after the thread's end, zero before its start.
    pub(crate) fn time(&self) -> Duration {
        let now_ns = match self.clock.load(Ordering::Relaxed) {
            0 => 0,
            // The thread may have ended since the load: then the clock is gone, or belongs to a new
            // thread with the same number, which has used less time.
            clock => read_ns(clock).unwrap_or(0),
        };
        let before_ns = self.spent_ns.fetch_max(now_ns, Ordering::Relaxed);
        Duration::from_nanos(before_ns.max(now_ns))
    }
}

/// A running [`ThreadClock`]; dropping this on its thread stores the last value.
#[derive(Debug)]
#[must_use = "the clock stops when this is dropped"]
pub(crate) struct RunningClock<'a>(&'a ThreadClock);

impl Drop for RunningClock<'_> {
    fn drop(&mut self) {
        self.0.time();
        self.0.clock.store(0, Ordering::Relaxed);
    }
}

fn read_ns(clock: libc::clockid_t) -> io::Result<u64> {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: clock_gettime(2) writes a timespec to the pointer, which is valid for writes.
    check(unsafe { libc::clock_gettime(clock, &raw mut now) })?;
    Ok(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::clock::{monotonic_ns, process_cpu_time};

    #[test]
    fn the_cpu_time_of_a_thread_is_read_by_others_and_survives_it() {
        let clock = ThreadClock::default();
        assert_eq!(clock.time(), Duration::ZERO);
        let own = std::thread::scope(|scope| {
            let busy = scope.spawn(|| {
                let _running = clock.start().unwrap();
                let deadline = monotonic_ns() + 60_000_000_000;
                // Read by the thread itself: others see the same clock.
                while clock.time().is_zero() && monotonic_ns() < deadline {}
                clock.time()
            });
            busy.join().unwrap()
        });
        let last = clock.time();
        assert!(own > Duration::ZERO && last >= own);
        assert_eq!(clock.time(), last);
        assert!(process_cpu_time() >= last);
    }
}
