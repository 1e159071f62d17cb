//! The processors that this process may use, and the binding of threads to them.

use std::io;
use std::num::NonZeroUsize;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The number of CPUs this process may use at once: its affinity mask and its cgroup's quota both
/// count, as [`std::thread::available_parallelism`] documents. One if the number is unknown.
pub fn usable_cpus() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// The CPUs that the calling thread may run on, in ascending order.
///
/// # Errors
/// What sched_getaffinity(2) reports.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect())
}

/// A CPU for each of `threads` threads, round-robin over the CPUs that the calling thread may use.
///
/// # Errors
/// As [`allowed_cpus`].
pub fn cpus_in_turn(threads: usize) -> io::Result<Vec<usize>> {
    let cpus = allowed_cpus()?;
    Ok(cpus.iter().copied().cycle().take(threads).collect())
}

/// Binds the calling thread to one CPU.
///
/// # Errors
/// `InvalidInput` for a number that no CPU can have, or what sched_setaffinity(2) reports.
pub fn pin_thread(cpu: usize) -> io::Result<()> {
    bind_thread(&[cpu])
}

/// Binds the calling thread to some CPUs.
///
/// # Errors
/// As [`pin_thread`].
pub fn bind_thread(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        if cpu >= CpuSet::MAX_CPU {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        set.set(cpu);
    }
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_run_on_one_cpu() {
        std::thread::spawn(|| {
            let cpus = allowed_cpus().unwrap();
            let last = *cpus.last().unwrap();
            pin_thread(last).unwrap();
            assert_eq!(allowed_cpus().unwrap(), [last]);
            assert!(pin_thread(usize::MAX).is_err());
        })
        .join()
        .unwrap();
    }
}
