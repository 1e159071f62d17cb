//! What a measuring thread uses of the processors within the window.

use echomark::net::clock::monotonic_ns;

use super::interval::nanoseconds;
use super::sys::{self, SchedulerStatistics, ThreadUsage};

/// The longest that a poll which finds nothing can take while it runs. In one that took longer, the
/// thread was not on a processor, and that is no spinning.
const MAX_EMPTY_POLL_NS: u64 = 10_000;

/// What a thread used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuUse {
    /// How long that was.
    pub(crate) wall_ns: u64,
    /// Time on a processor.
    pub(crate) cpu_ns: u64,
    /// The part of it that the thread spun, with nothing to do but wait for the next message's time.
    pub(crate) spin_ns: u64,
    pub(crate) involuntary_switches: u64,
    /// Time that it was ready to run and had no processor, and how often it then got one, where the
    /// kernel tells.
    pub(crate) run_delay: Option<(u64, u64)>,
}

/// Counts what the calling thread uses.
#[derive(Debug)]
pub(crate) struct CpuAccount {
    began: u64,
    usage: ThreadUsage,
    sched: Option<SchedulerStatistics>,
    spin_ns: u64,
}

impl CpuAccount {
    /// Begins to count.
    pub(crate) fn begin() -> Self {
        Self {
            usage: sys::thread_usage(),
            began: monotonic_ns(),
            sched: SchedulerStatistics::of_this_thread(),
            spin_ns: 0,
        }
    }

    /// Notes that the thread spun for a poll that took `poll_ns`.
    pub(crate) fn note_spin(&mut self, poll_ns: u64) {
        self.spin_ns += poll_ns.min(MAX_EMPTY_POLL_NS);
    }

    /// What was used since the beginning.
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
