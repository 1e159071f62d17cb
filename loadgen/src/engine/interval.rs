//! The division of a run's time.

use std::time::Duration;

use crate::plan::Plan;

/// The number of slices that the statistics need in a window,
const SLICES_OF_WINDOW: u64 = 60;
/// and the minimum length of a slice: each slice costs CPU time of the coordinator.
const MIN_SLICE_NS: u64 = 50_000_000;
/// The length of slices if the length of the window is unknown.
const UNKNOWN_SLICE_NS: u64 = 100_000_000;

/// A part of the run.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Interval {
    /// The interval with this number in the ramp, while connections are made.
    Ramp(u64),
    /// The warm-up.
    Before,
    /// The slice with this number in the window.
    Within(u64),
    /// The wait for outstanding echoes after the window.
    Drain,
}

/// The division of the window into the intervals of the time series, and of each interval into
/// slices for the statistics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Division {
    interval_ns: u64,
    slices: u64,
}

impl Division {
    /// The division for a plan.
    pub(crate) fn of(plan: &Plan) -> Self {
        let interval_ns = nanoseconds(plan.interval);
        let wanted = match plan.duration {
            Some(duration) => nanoseconds(duration) / SLICES_OF_WINDOW,
            None => UNKNOWN_SLICE_NS,
        };
        let slice_ns = wanted.clamp(MIN_SLICE_NS, interval_ns.max(MIN_SLICE_NS));
        Self {
            interval_ns,
            slices: (interval_ns / slice_ns).max(1),
        }
    }

    /// Length of an interval of the time series.
    pub(crate) fn interval_ns(self) -> u64 {
        self.interval_ns
    }

    /// Slices of one interval.
    pub(crate) fn slices(self) -> u64 {
        self.slices
    }

    /// Nanoseconds from the start of the window to the start of slice `number`.
    pub(crate) fn begin_of(self, number: u64) -> u64 {
        let (interval, slice) = (number / self.slices, number % self.slices);
        interval
            .saturating_mul(self.interval_ns)
            .saturating_add(self.interval_ns * slice / self.slices)
    }
}

/// A duration on the clock of the measuring threads.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
