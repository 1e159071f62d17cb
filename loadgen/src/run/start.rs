//! When a run starts.

use std::time::Duration;

use echomark::net::clock::monotonic_ns;
use rustix::time::{ClockId, clock_getres};

use crate::plan::{Load, Spacing};

/// The least time between the last connect and the start, so that every thread is ready.
pub(super) const DELAY_NS: u64 = 5_000_000;

/// The common start of all threads, on CLOCK_MONOTONIC in nanoseconds.
///
/// A constant schedule starts a quarter of its spacing behind a tick of the kernel's timer. The tick
/// takes the CPU for some microseconds, and its period is often a multiple of the spacing: 4 ms and
/// 200 µs at 250 ticks and 5000 messages per second. A start at random would put every twentieth
/// message of some runs right into it, and no message of the others.
pub(super) fn next_start(load: &Load) -> u64 {
    let earliest = monotonic_ns() + DELAY_NS;
    match gap(load) {
        Some(gap) => after_a_tick(earliest, tick_period(), gap),
        None => earliest,
    }
}

/// The time between two messages of a constant schedule.
fn gap(load: &Load) -> Option<Duration> {
    match load {
        Load::Open {
            rate,
            arrivals: Spacing::Constant,
            ..
        } => rate
            .constant_rate()
            .and_then(|rate| Duration::try_from_secs_f64(rate.recip()).ok()),
        Load::Open { .. } | Load::Closed { .. } => None,
    }
}

/// The period of the kernel's timer tick, which is the resolution of the coarse clocks (time(7)).
/// Since Linux 6.4 a tick is at each multiple of it on CLOCK_MONOTONIC, on every CPU (commit
/// e9523a0d8189). With older kernels, and where ticks are skewed, a start is as good as any other.
fn tick_period() -> Duration {
    let resolution = clock_getres(ClockId::MonotonicCoarse);
    Duration::try_from(resolution).unwrap_or_default()
}

/// The first moment from `earliest` on that is a quarter of `spacing` behind a tick, or of the tick's
/// period if that is shorter.
fn after_a_tick(earliest: u64, period: Duration, spacing: Duration) -> u64 {
    let period_ns = period.as_nanos() as u64;
    if period_ns == 0 {
        return earliest;
    }
    let behind = spacing.min(period).as_nanos() as u64 / 4;
    earliest.saturating_sub(behind).next_multiple_of(period_ns) + behind
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK: Duration = Duration::from_millis(4);

    #[test]
    fn a_start_is_a_quarter_of_the_spacing_behind_a_tick() {
        let start = |earliest, micros| after_a_tick(earliest, TICK, Duration::from_micros(micros));
        assert_eq!(start(1, 200), 50_000, "behind the tick before");
        assert_eq!(start(50_000, 200), 50_000);
        assert_eq!(start(50_001, 200), 4_050_000);
        // Of the tick's period, if the messages are further apart.
        assert_eq!(start(1, 1_000_000), 1_000_000);
    }

    #[test]
    fn without_a_known_tick_it_starts_at_once() {
        assert_eq!(after_a_tick(17, Duration::ZERO, TICK), 17);
    }

    #[test]
    fn the_period_of_the_tick_is_known_here() {
        let period = tick_period();
        assert!(
            (Duration::from_micros(500)..=Duration::from_millis(10)).contains(&period),
            "from 100 to 1000 per second and more: {period:?}"
        );
    }

    proptest! {
        #[test]
        fn it_starts_within_a_period_of_the_earliest(
            earliest in 0..u64::MAX / 4,
            period in 1u64..20_000_000,
            spacing in 0u64..10_000_000_000,
        ) {
            let start = after_a_tick(
                earliest,
                Duration::from_nanos(period),
                Duration::from_nanos(spacing),
            );
            prop_assert!((earliest..=earliest + period).contains(&start));
            let behind = spacing.min(period) / 4;
            prop_assert_eq!(start % period, behind % period);
        }
    }
}
