//! Which processors this process may use, and how many at once.

use std::io;
use std::num::NonZeroUsize;

use super::sys;

/// The number of CPUs this process may use at once: its affinity mask and its cgroup's quota both
/// count, as [`std::thread::available_parallelism`] documents. One if that can't be told.
pub fn usable_cpus() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// A CPU for each of so many threads: those that the calling thread may run on, in turn.
///
/// # Errors
/// What sched_getaffinity(2) reports.
pub fn cpus_in_turn(threads: usize) -> io::Result<Vec<usize>> {
    let cpus = sys::allowed_cpus()?;
    Ok(cpus.iter().copied().cycle().take(threads).collect())
}
