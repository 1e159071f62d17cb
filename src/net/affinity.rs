//! How many processors this process may use, and binding threads to them.

use std::io;
use std::num::NonZeroUsize;

use super::sys;

/// The number of CPUs this process may use at once: its affinity mask and its cgroup's quota both
/// count, as [`std::thread::available_parallelism`] documents. One if that can't be told.
pub fn usable_cpus() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Binds the calling thread to the `index`-th CPU that it may run on, counting round.
///
/// # Errors
/// What sched_getaffinity(2) or sched_setaffinity(2) report.
pub fn pin_to_nth_cpu(index: usize) -> io::Result<usize> {
    let cpus = sys::allowed_cpus()?;
    let cpu = *cpus
        .get(index % cpus.len().max(1))
        .ok_or(io::ErrorKind::NotFound)?;
    sys::pin_thread(cpu)?;
    Ok(cpu)
}
