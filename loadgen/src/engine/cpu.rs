//! The CPU time that a measuring thread uses within the window.

use echomark::net::clock::monotonic_ns;

use super::interval::nanoseconds;
use super::sys::{self, SchedulerStatistics, ThreadUsage};

/// The longest duration of an empty poll on a running thread. If a poll took longer, the thread was
/// descheduled, and the time does not count as spinning.
const MAX_EMPTY_POLL_NS: u64 = 10_000;

/// The CPU time of a thread.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuUse {
    /// The length of the period.
    pub(crate) wall_ns: u64,
    /// CPU time.
    pub(crate) cpu_ns: u64,
    /// The part of the CPU time spent spinning until the next message was due.
    pub(crate) spin_ns: u64,
    pub(crate) involuntary_switches: u64,
    /// Time spent runnable but without a CPU, and the number of times the thread then got one.
    /// `None` if the kernel does not report it.
    pub(crate) run_delay: Option<(u64, u64)>,
}

/// Measures the CPU time of the calling thread.
#[derive(Debug)]
pub(crate) struct CpuAccount {
    began: u64,
    usage: ThreadUsage,
    sched: Option<SchedulerStatistics>,
    spin_ns: u64,
}

impl CpuAccount {
    /// Starts measuring.
    pub(crate) fn begin() -> Self {
        Self {
            usage: sys::thread_usage(),
            began: monotonic_ns(),
            sched: SchedulerStatistics::of_this_thread(),
            spin_ns: 0,
        }
    }

    /// Notes that the thread spun for a poll of `poll_ns`.
    pub(crate) fn note_spin(&mut self, poll_ns: u64) {
        self.spin_ns += poll_ns.min(MAX_EMPTY_POLL_NS);
    }

    /// The CPU time since the start.
    pub(crate) fn end(&self) -> CpuUse {
        let usage = sys::thread_usage();
        let sched = self.sched.zip(SchedulerStatistics::of_this_thread());
        CpuUse {
            wall_ns: monotonic_ns() - self.began,
            cpu_ns: nanoseconds(usage.cpu_time - self.usage.cpu_time),
            spin_ns: self.spin_ns,
            involuntary_switches: usage.involuntary_switches - self.usage.involuntary_switches,
            run_delay: sched.map(|(before, now)| {
                let delay = now.run_delay.saturating_sub(before.run_delay);
                let times = now.timeslices.saturating_sub(before.timeslices);
                (delay.as_nanos() as u64, times)
            }),
        }
    }
}
