//! What the scheduler counts of a thread: how long it ran, and how long it was kept waiting.

use std::fs;
use std::time::Duration;

/// What the scheduler has counted of one thread since it began (the kernel's
/// Documentation/scheduler/sched-stats.rst, `/proc/<pid>/schedstat`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ThreadSched {
    /// Time on a processor.
    pub on_cpu: Duration,
    /// Time during which it could have run and waited for a processor instead. A measuring thread
    /// that has much of this was late for reasons that are not the network's.
    pub run_delay: Duration,
    /// How often it was given a processor.
    pub timeslices: u64,
}

impl ThreadSched {
    /// What was counted of the calling thread until now; the time since it last got the processor
    /// may be missing. `None` where the kernel does not keep it.
    pub fn of_this_thread() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/thread-self/schedstat").ok()?)
    }

    /// Reads the three numbers: nanoseconds run, nanoseconds waited, timeslices.
    ///
    /// A kernel that keeps no statistics (`sched_info_on` in kernel/sched) says three zeroes, which
    /// cannot be true of a thread that runs.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        let sched = Self {
            on_cpu: Duration::from_nanos(next()?),
            run_delay: Duration::from_nanos(next()?),
            timeslices: next()?,
        };
        (sched != Self::default()).then_some(sched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::sys;
    use proptest::prelude::*;

    #[test]
    fn the_three_numbers_are_read() {
        assert_eq!(
            ThreadSched::parse("1500000000 20 7\n"),
            Some(ThreadSched {
                on_cpu: Duration::from_millis(1500),
                run_delay: Duration::from_nanos(20),
                timeslices: 7,
            })
        );
    }

    #[test]
    fn what_the_kernel_does_not_keep_is_none() {
        for text in ["", "0 0 0\n", "1 2\n", "1 2 x\n", "-1 2 3\n"] {
            assert_eq!(ThreadSched::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_busy_thread_is_seen_to_run() {
        let Some(before) = ThreadSched::of_this_thread() else {
            // This kernel keeps none.
            return;
        };
        assert!(before.timeslices > 0);
        let deadline = sys::monotonic_ns() + 60_000_000_000;
        let after = loop {
            let now = ThreadSched::of_this_thread().unwrap();
            if now.on_cpu > before.on_cpu || sys::monotonic_ns() > deadline {
                break now;
            }
        };
        assert!(after.on_cpu > before.on_cpu);
        assert!(after.run_delay >= before.run_delay && after.timeslices >= before.timeslices);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "([0-9]{1,21}[ \n]){0,4}|\\PC{0,20}") {
            if let Some(sched) = ThreadSched::parse(&text) {
                prop_assert_ne!(sched, ThreadSched::default());
            }
        }
    }
}
