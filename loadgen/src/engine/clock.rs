//! A measuring thread's time: the last reading of the clock, the window, and the current interval.

use echomark::net::clock::monotonic_ns;

use super::interval::{Division, Interval};
use crate::plan::Plan;

/// The time of a thread.
///
/// Only [`Clock::leave_interval`] changes the current interval; reading the clock does not. So
/// every record is handed over with the interval that it belongs to.
#[derive(Debug)]
pub(crate) struct Clock {
    now: u64,
    ramp_began: u64,
    window_start: u64,
    window_end: u64,
    division: Division,
    interval: Interval,
    /// The end of the current interval.
    boundary: u64,
}

/// A completed interval.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elapsed {
    pub(crate) interval: Interval,
    /// Its end. In the ramp, relative to the first connect.
    pub(crate) end: u64,
}

impl Clock {
    /// A clock without a window.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            now: 0,
            ramp_began: 0,
            window_start: u64::MAX,
            window_end: u64::MAX,
            division: Division::of(plan),
            interval: Interval::Ramp(0),
            boundary: u64::MAX,
        }
    }

    /// Begins the ramp.
    pub(crate) fn begin_ramp(&mut self) {
        self.tick();
        self.ramp_began = self.now;
        self.boundary = self.now.saturating_add(self.division.interval_ns());
    }

    /// Ends the ramp now. The time until the window follows.
    pub(crate) fn end_ramp(&mut self) -> Elapsed {
        self.boundary = self.now;
        let elapsed = self.elapsed();
        self.interval = Interval::Before;
        self.boundary = u64::MAX;
        elapsed
    }

    /// Sets the window.
    pub(crate) fn set_window(&mut self, start: u64, end: u64) {
        self.window_start = start;
        self.window_end = end;
        self.boundary = start;
        self.tick();
    }

    /// Changes the end of the window, unless the window is over. Returns whether it changed.
    pub(crate) fn set_window_end(&mut self, end: u64) -> bool {
        if self.is_draining() || end == self.window_end {
            return false;
        }
        self.window_end = end;
        if let Interval::Within(number) = self.interval {
            self.boundary = self.slice_begin(number + 1).min(end);
        }
        true
    }

    /// Ends the window at `now`, unless it has ended before.
    pub(crate) fn end_window(&mut self, now: u64) {
        self.window_start = self.window_start.min(now);
        self.window_end = self.window_end.min(now);
        self.boundary = self.boundary.min(now);
        self.now = now;
    }

    /// Reads the clock.
    #[inline]
    pub(crate) fn tick(&mut self) {
        self.now = monotonic_ns();
    }

    /// The last reading of the clock.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Whether the current interval is over.
    #[inline]
    pub(crate) fn is_interval_over(&self) -> bool {
        self.now >= self.boundary
    }

    /// Enters the next interval if the current one is over, and returns the one left.
    pub(crate) fn leave_interval(&mut self) -> Option<Elapsed> {
        if !self.is_interval_over() {
            return None;
        }
        let elapsed = self.elapsed();
        let number = match self.interval {
            Interval::Ramp(number) => {
                self.interval = Interval::Ramp(number + 1);
                self.boundary = self.boundary.saturating_add(self.division.interval_ns());
                return Some(elapsed);
            }
            Interval::Before => 0,
            Interval::Within(number) => number + 1,
            Interval::Drain => return None,
        };
        if self.slice_begin(number) >= self.window_end {
            self.interval = Interval::Drain;
            self.boundary = u64::MAX;
        } else {
            self.interval = Interval::Within(number);
            self.boundary = self.slice_begin(number + 1).min(self.window_end);
        }
        Some(elapsed)
    }

    fn slice_begin(&self, number: u64) -> u64 {
        let begin = self.division.begin_of(number);
        self.window_start.saturating_add(begin)
    }

    /// The current interval, as if it ended at its boundary.
    pub(crate) fn elapsed(&self) -> Elapsed {
        Elapsed {
            interval: self.interval,
            end: match self.interval {
                Interval::Ramp(_) => self.boundary - self.ramp_began,
                _ => self.boundary,
            },
        }
    }

    /// The end of the current interval.
    #[inline]
    pub(crate) fn boundary(&self) -> u64 {
        self.boundary
    }

    /// The end of the window.
    pub(crate) fn window_end(&self) -> u64 {
        self.window_end
    }

    /// Whether a message due at `intended` counts.
    #[inline]
    pub(crate) fn counts(&self, intended: u64) -> bool {
        intended >= self.window_start
    }

    /// Whether the end of the window has passed.
    pub(crate) fn is_window_over(&self) -> bool {
        self.now >= self.window_end
    }

    /// Whether the window has ended and its last interval was handed over.
    pub(crate) fn is_draining(&self) -> bool {
        self.interval == Interval::Drain
    }

    /// Whether events recorded now belong to the window. The current interval decides, not the
    /// clock: events settled at the end of an interval belong to it.
    #[inline]
    pub(crate) fn is_within_window(&self) -> bool {
        matches!(self.interval, Interval::Within(_))
    }
}

#[cfg(test)]
mod tests;
