//! How long an idle worker stays awake for the next event. Time is a parameter.
//!
//! A worker that is awake answers sooner, because it need not be woken, but occupies a CPU. That
//! pays if the next event comes soon. [`Spin::Auto`] predicts the next event from the last ones, as
//! KVM does before it halts a virtual CPU (the kernel's Documentation/virt/kvm/halt-polling.rst):
//! - The event came while the worker was awake: the window stays.
//! - It came later, but within [`MAX_AUTO`]: the window grows.
//! - It came after [`MAX_AUTO`]: next time the worker sleeps at once.
//!
//! So a server whose requests come less often than every [`MAX_AUTO`] sleeps as with
//! [`Spin::Never`], and the cost of a wrong prediction is bounded.

use std::time::Duration;

use crate::config::Spin;

/// The longest window of [`Spin::Auto`]. A client that waits for each answer sends its next message
/// after 23 µs if both sides are awake, and after 50 to 85 µs if both have to be woken. With a
/// bound of 50 µs such a client often found the server asleep; with 200 µs a rate of 10 000 per
/// second kept a whole CPU busy (docs/performance.md).
pub(crate) const MAX_AUTO: Duration = Duration::from_micros(100);

/// The first window after none: KVM's value (halt_poll_ns_grow_start).
const MIN_AUTO: Duration = Duration::from_micros(10);

/// The policy of an idle worker.
#[derive(Clone, Debug)]
pub(crate) enum SpinPolicy {
    /// Sleep at once.
    Never,
    /// Stay awake for this time after the last event.
    For(Window),
    /// The same, with an adaptive time.
    Auto(Window),
    /// Never sleep.
    Always,
}

/// How long a worker stays awake, and the time of the last event.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    length_ns: u64,
    last_event_ns: u64,
}

impl SpinPolicy {
    /// A policy that starts at `now_ns`, as after an event.
    pub(crate) fn new(spin: Spin, now_ns: u64) -> Self {
        let window = |length_ns| Window {
            length_ns,
            last_event_ns: now_ns,
        };
        match spin {
            Spin::Never => Self::Never,
            Spin::For(duration) => Self::For(window(whole_ns(duration))),
            Spin::Auto => Self::Auto(window(0)),
            Spin::Always => Self::Always,
        }
    }

    /// Records events. Reads the time only if it matters.
    pub(crate) fn note_event(&mut self, now_ns: impl FnOnce() -> u64) {
        match self {
            Self::Never | Self::Always => {}
            Self::For(window) => window.last_event_ns = now_ns(),
            Self::Auto(window) => {
                let now_ns = now_ns();
                let after_ns = now_ns.saturating_sub(window.last_event_ns);
                window.length_ns = adapted(window.length_ns, after_ns);
                window.last_event_ns = now_ns;
            }
        }
    }

    /// Whether to stay awake. Reads the time only if it matters.
    pub(crate) fn stays_awake(&self, now_ns: impl FnOnce() -> u64) -> bool {
        match self {
            Self::Never => false,
            Self::For(window) | Self::Auto(window) => {
                now_ns().saturating_sub(window.last_event_ns) < window.length_ns
            }
            Self::Always => true,
        }
    }
}

/// The next window, after a window of `lasted_ns` and an event that came `after_ns`.
fn adapted(lasted_ns: u64, after_ns: u64) -> u64 {
    let (first_ns, max_ns) = (whole_ns(MIN_AUTO), whole_ns(MAX_AUTO));
    if after_ns > max_ns {
        0
    } else if after_ns < lasted_ns {
        lasted_ns
    } else {
        (2 * lasted_ns).clamp(first_ns, max_ns)
    }
}

fn whole_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX_NS: u64 = MAX_AUTO.as_nanos() as u64;

    fn last_event_ns(policy: &SpinPolicy) -> u64 {
        match policy {
            SpinPolicy::Never | SpinPolicy::Always => 7,
            SpinPolicy::For(window) | SpinPolicy::Auto(window) => window.last_event_ns,
        }
    }

    /// Records events at these distances, and returns for each whether the worker was awake.
    fn awake_at_each(policy: &mut SpinPolicy, distances_ns: &[u64]) -> Vec<bool> {
        let distances = distances_ns.iter();
        distances
            .map(|distance_ns| {
                let now_ns = last_event_ns(policy) + distance_ns;
                let awake = policy.stays_awake(|| now_ns);
                policy.note_event(|| now_ns);
                awake
            })
            .collect()
    }

    #[test]
    fn a_fixed_time_counts_from_the_last_event() {
        let mut policy = SpinPolicy::new(Spin::For(Duration::from_nanos(50)), 1000);
        assert!(policy.stays_awake(|| 1049) && !policy.stays_awake(|| 1050));
        policy.note_event(|| 5000);
        assert!(policy.stays_awake(|| 5049) && !policy.stays_awake(|| 5050));
    }

    #[test]
    fn never_and_always_are_meant() {
        for (spin, awake) in [(Spin::Never, false), (Spin::Always, true)] {
            let mut policy = SpinPolicy::new(spin, 7);
            assert_eq!(
                awake_at_each(&mut policy, &[0, 1, u64::MAX / 2]),
                [awake; 3]
            );
        }
    }

    #[test]
    fn events_in_quick_succession_soon_find_it_awake() {
        let mut policy = SpinPolicy::new(Spin::Auto, 0);
        // 10, 20, 40 and 80 microseconds are not enough.
        let expected = [false, false, false, false, false, true, true];
        assert_eq!(awake_at_each(&mut policy, &[MAX_NS - 1; 7]), expected);
    }

    #[test]
    fn one_event_that_is_late_ends_it() {
        let mut policy = SpinPolicy::new(Spin::Auto, 0);
        awake_at_each(&mut policy, &[MAX_NS / 2; 20]);
        assert!(policy.stays_awake(|| last_event_ns(&policy)));
        awake_at_each(&mut policy, &[MAX_NS + 1]);
        assert!(!policy.stays_awake(|| last_event_ns(&policy)));
    }

    proptest! {
        /// After any history.
        #[test]
        fn it_is_never_awake_for_longer_than_the_bound(
            distances in prop::collection::vec(0..2 * MAX_NS, 0..50),
        ) {
            let mut policy = SpinPolicy::new(Spin::Auto, 0);
            awake_at_each(&mut policy, &distances);
            prop_assert!(!policy.stays_awake(|| last_event_ns(&policy) + MAX_NS));
        }

        #[test]
        fn rare_events_find_it_asleep(
            before in prop::collection::vec(0..2 * MAX_NS, 0..50),
            seldom in prop::collection::vec(MAX_NS + 1..u64::MAX / 100, 1..50),
        ) {
            let mut policy = SpinPolicy::new(Spin::Auto, 0);
            awake_at_each(&mut policy, &before);
            for distance in seldom {
                awake_at_each(&mut policy, &[distance]);
                prop_assert!(!policy.stays_awake(|| last_event_ns(&policy)));
            }
        }

        /// With any intervals within the bound.
        #[test]
        fn frequent_events_find_it_awake(
            before in prop::collection::vec(0..2 * MAX_NS, 0..50),
            often in prop::collection::vec(0..MAX_NS, 10..50),
        ) {
            let mut policy = SpinPolicy::new(Spin::Auto, 0);
            awake_at_each(&mut policy, &before);
            let awake = awake_at_each(&mut policy, &often);
            // Each event that finds it asleep grows the window: 10, 20, 40, 80, 100 microseconds.
            let asleep = awake.iter().filter(|&&awake| !awake).count();
            prop_assert!(asleep <= 5, "{:?}", awake);
        }
    }
}
