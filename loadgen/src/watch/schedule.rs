//! When probes are due. Pure: the time is an input.
//!
//! The times are fixed from the start on, whatever the answers are and whenever the client runs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The times of all lanes.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// The next time of each lane.
    next: BinaryHeap<Reverse<(u64, usize)>>,
    periods: Vec<u64>,
}

/// A lane's probe that is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Due {
    pub(super) lane: usize,
    /// When it is due.
    pub(super) at: u64,
    /// How many before it were due and are too old to be sent.
    pub(super) missed: u64,
}

impl Schedule {
    /// Adds the next lane: a probe at `first`, and one each `period` after it.
    pub(super) fn add(&mut self, first: u64, period: u64) {
        self.next.push(Reverse((first, self.periods.len())));
        self.periods.push(period.max(1));
    }

    /// When the next probe is due.
    pub(super) fn next(&self) -> Option<u64> {
        self.next.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes a probe that is due at `now`: of each lane the latest one, and those before it as missed.
    pub(super) fn take(&mut self, now: u64) -> Option<Due> {
        let Reverse((at, lane)) = *self.next.peek()?;
        let behind = now.checked_sub(at)?;
        let period = self.periods[lane];
        let missed = behind / period;
        let at = at + missed * period;
        self.next.pop();
        self.next.push(Reverse((at + period, lane)));
        Some(Due { lane, at, missed })
    }

    /// No more probes are due.
    pub(super) fn end(&mut self) {
        self.next.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_lane_keeps_its_times() {
        let mut schedule = Schedule::default();
        schedule.add(0, 10);
        schedule.add(5, 10);
        let mut taken = Vec::new();
        for now in 0..30 {
            while let Some(due) = schedule.take(now) {
                taken.push((due.at, due.lane, due.missed));
            }
        }
        let expected = [(0, 0), (5, 1), (10, 0), (15, 1), (20, 0), (25, 1)];
        let expected: Vec<_> = expected.map(|(at, lane)| (at, lane, 0)).into();
        assert_eq!(taken, expected);
        schedule.end();
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn what_a_client_slept_through_is_missed_and_the_latest_is_sent() {
        let mut schedule = Schedule::default();
        schedule.add(0, 10);
        let due = |at, missed| {
            Some(Due {
                lane: 0,
                at,
                missed,
            })
        };
        assert_eq!(schedule.take(0), due(0, 0));
        assert_eq!(schedule.take(1009), due(1000, 99));
        assert_eq!(schedule.take(1009), None);
        assert_eq!(schedule.next(), Some(1010));
    }

    proptest! {
        /// Whenever the client looks, each probe is either sent or missed.
        #[test]
        fn no_probe_is_forgotten(steps in prop::collection::vec(0u64..50, 1..200)) {
            let mut schedule = Schedule::default();
            schedule.add(3, 7);
            let (mut now, mut count) = (0, 0);
            for step in steps {
                now += step;
                while let Some(due) = schedule.take(now) {
                    prop_assert!(due.at <= now && now - due.at < 7);
                    prop_assert_eq!((due.at - 3) % 7, 0);
                    count += 1 + due.missed;
                }
            }
            let due = if now < 3 { 0 } else { (now - 3) / 7 + 1 };
            prop_assert_eq!(count, due);
        }
    }
}
