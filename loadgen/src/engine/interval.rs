//! How a run is divided in time.

use std::time::Duration;

use crate::plan::Plan;

/// Into how many slices the statistics want a window to be cut,
const SLICES_OF_WINDOW: u64 = 60;
/// but none shorter than this: each costs the coordinator some time, and with it the machine.
const MIN_SLICE_NS: u64 = 50_000_000;
/// The length of slices when the window's is not known.
const UNKNOWN_SLICE_NS: u64 = 100_000_000;

/// A stretch of the run.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Interval {
    /// The number-th interval of the time in which all connections are made.
    Ramp(u64),
    /// Warming up.
    Before,
    /// The number-th slice of the window.
    Within(u64),
    /// After the window, waiting for what is still out.
    Drain,
}

/// How the window is divided: into the intervals of the time series, and each of these into as many
/// slices as the statistics want.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Division {
    interval_ns: u64,
    slices: u64,
}

impl Division {
    /// The division that suits a plan.
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

    /// Nanoseconds from the start of the window to that of its slice `number`.
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
