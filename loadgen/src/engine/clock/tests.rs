//! Intervals follow one another without a gap, wherever the window ends.

use super::*;
use crate::analysis::samples;
use proptest::prelude::*;

/// A clock whose ramp is over and whose window is known.
fn clock(start: u64, end: u64) -> Clock {
    let mut clock = Clock::new(&samples::plan(1));
    clock.begin_ramp();
    clock.end_ramp();
    clock.set_window(start, end);
    clock.now = 0;
    clock
}

proptest! {
    #[test]
    fn slices_fill_the_window(
        length in 1_u64..3_000_000_000,
        steps in prop::collection::vec(1_u64..300_000_000, 0..40),
        ended_at in prop::option::of(0_u64..4_000_000_000),
    ) {
        let start = 1_000_000_000;
        let mut clock = clock(start, start + length);
        let mut left = Vec::new();
        for step in steps {
            clock.now += step;
            left.extend(std::iter::from_fn(|| clock.leave_interval()));
        }
        if let Some(ended_at) = ended_at {
            let now = clock.now.max(ended_at);
            if !clock.is_draining() {
                clock.end_window(now);
                left.extend(std::iter::from_fn(|| clock.leave_interval()));
                prop_assert!(clock.is_draining());
            }
        }
        let mut expected = Interval::Before;
        let mut end = 0;
        for elapsed in left {
            prop_assert_eq!(elapsed.interval, expected);
            prop_assert!(elapsed.end >= end);
            prop_assert!(elapsed.end <= clock.window_end.max(clock.window_start));
            end = elapsed.end;
            expected = match expected {
                Interval::Within(number) => Interval::Within(number + 1),
                _ => Interval::Within(0),
            };
        }
        let is_reached = clock.now >= clock.window_end;
        prop_assert_eq!(clock.is_draining(), is_reached);
        prop_assert!(!is_reached || end == clock.window_end);
    }
}
