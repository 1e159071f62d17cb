//! Rates of events: token buckets that all workers share without a lock.
//!
//! A bucket follows the generic cell rate algorithm (ITU-T I.371 annex A, virtual scheduling): it
//! is one time, at which it will be full again. Granting an event moves it by the interval between
//! two events, and an event is refused while it lies further ahead than the burst allows. That is a
//! token bucket (RFC 2697 section 3, with one colour) in a single atomic word that needs no
//! refilling.
//!
//! Nothing here reads a clock. Times are nanoseconds from any origin that all callers share.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::net::cidr::SourcePrefix;

/// How far one worker's clock may be behind another's: each reads it once per turn of its loop. A
/// bucket whose time lies further ahead than the rate and this lag allow was charged at a lower
/// rate before a reload, and that charge is dropped.
const STALE_NS: u64 = 1_000_000_000;

/// Events per second, with a burst of one second's worth, at least one event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Rate {
    /// The interval between two events; rounded up, so that the rate is never exceeded.
    interval_ns: u64,
    /// How far ahead the bucket's time may lie when an event is granted: the interval times one
    /// less than the burst.
    tolerance_ns: u64,
}

impl Rate {
    /// The lowest rate: one event in about thirty years.
    pub(crate) const MIN_PER_SECOND: f64 = 1e-9;
    /// The highest rate: an event every nanosecond.
    pub(crate) const MAX_PER_SECOND: f64 = 1e9;

    /// The nearest rate to `events` per second; the lowest if `events` is not a number. Rounded to
    /// whole nanoseconds between two events, a million per second is at most a thousandth lower
    /// than asked for, and ten million a hundredth.
    pub(crate) fn per_second(events: f64) -> Self {
        let events = if events.is_nan() {
            Self::MIN_PER_SECOND
        } else {
            events.clamp(Self::MIN_PER_SECOND, Self::MAX_PER_SECOND)
        };
        let interval_ns = (1e9 / events).ceil() as u64;
        let burst = events.floor().max(1.0) as u64;
        Self {
            interval_ns,
            tolerance_ns: interval_ns * (burst - 1),
        }
    }

    /// The most events granted at once.
    #[cfg(test)]
    fn burst(&self) -> u64 {
        self.tolerance_ns / self.interval_ns + 1
    }

    /// How many of `wanted` events a bucket that is full at `full_ns` grants.
    fn grants(&self, full_ns: u64, now_ns: u64, wanted: u32) -> u32 {
        let latest_ns = now_ns.saturating_add(self.tolerance_ns);
        match latest_ns.checked_sub(full_ns.max(now_ns)) {
            Some(room_ns) => {
                let room = room_ns / self.interval_ns + 1;
                wanted.min(u32::try_from(room).unwrap_or(u32::MAX))
            }
            None => 0,
        }
    }

    /// When a bucket will be full after `events` were taken from it.
    fn charge(&self, full_ns: u64, now_ns: u64, events: u32) -> u64 {
        let cost_ns = self.interval_ns.saturating_mul(events.into());
        full_ns.max(now_ns).saturating_add(cost_ns)
    }

    /// The latest that a bucket at this rate can be full: now, if it is empty.
    fn empty_ns(&self, now_ns: u64) -> u64 {
        now_ns
            .saturating_add(self.tolerance_ns)
            .saturating_add(self.interval_ns)
    }
}

/// A bucket that starts full. The rate is not part of it, so that a reload can change the rate and
/// keep the bucket.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    /// The theoretical arrival time of I.371.
    full_ns: AtomicU64,
}

impl Bucket {
    /// Takes up to `wanted` events and returns how many were granted: in any span of time, over all
    /// threads, at most the burst plus the rate times the span.
    pub(crate) fn take(&self, rate: Rate, now_ns: u64, wanted: u32) -> u32 {
        let mut full_ns = self.full_ns.load(Ordering::Relaxed);
        // The loop repeats only when another thread changed the bucket meanwhile.
        loop {
            let granted = rate.grants(full_ns, now_ns, wanted);
            if granted == 0 {
                forget_old_rate(&self.full_ns, full_ns, rate, now_ns);
                return 0;
            }
            let charged_ns = rate.charge(full_ns, now_ns, granted);
            match replace(&self.full_ns, full_ns, charged_ns) {
                Ok(()) => return granted,
                Err(current) => full_ns = current,
            }
        }
    }

    /// Whether [`Bucket::take`] would grant an event now. Another thread may take it first.
    pub(crate) fn would_grant(&self, rate: Rate, now_ns: u64) -> bool {
        let full_ns = self.full_ns.load(Ordering::Relaxed);
        let grants = rate.grants(full_ns, now_ns, 1) > 0;
        if !grants {
            // After a refusal here the caller never calls `take`.
            forget_old_rate(&self.full_ns, full_ns, rate, now_ns);
        }
        grants
    }
}

/// Cells in a row of [`SourceBuckets`].
const CELLS: usize = 1 << 15;

/// A bucket for every source, in a fixed 512 KiB: no lock, and no allocation for new sources.
///
/// A source has one cell in each of two rows, chosen by a hash with a random key, and its bucket is
/// the fuller of the two: a count-min sketch with conservative update (Cormode and Muthukrishnan
/// 2005; Estan and Varghese 2002) of times instead of counts. A source is never granted more than
/// its rate. It may be granted less only while both its cells are shared with busy sources: with
/// `k` others at their limit that happens to a source with probability `(1 - (1 - 1/32768)^k)^2`,
/// about `(k/32768)^2`: one in 100 000 for a hundred, one in 1 000 for a thousand. Tens of
/// thousands of forged sources can make it likely for all; the total rate limits them.
#[derive(Debug)]
pub(crate) struct SourceBuckets {
    key: RandomState,
    rows: [Box<[AtomicU64]>; 2],
}

impl Default for SourceBuckets {
    fn default() -> Self {
        Self::new()
    }
}

impl SourceBuckets {
    /// Full buckets for all sources.
    pub(crate) fn new() -> Self {
        Self {
            key: RandomState::new(),
            rows: [(); 2].map(|()| (0..CELLS).map(|_| AtomicU64::new(0)).collect()),
        }
    }

    /// Takes up to `wanted` events of `source` and returns how many were granted: for one source,
    /// in any span of time, at most the burst plus the rate times the span.
    pub(crate) fn take(&self, rate: Rate, source: SourcePrefix, now_ns: u64, wanted: u32) -> u32 {
        let cells = self.cells(source);
        // The loop repeats only when another thread charged one of the cells meanwhile.
        loop {
            let [a, b] = cells.map(|cell| cell.load(Ordering::SeqCst));
            let (fuller, full_ns, other, other_ns) = if a <= b {
                (cells[0], a, cells[1], b)
            } else {
                (cells[1], b, cells[0], a)
            };
            let granted = rate.grants(full_ns, now_ns, wanted);
            if granted == 0 {
                forget_old_rate(fuller, full_ns, rate, now_ns);
                return 0;
            }
            let charged_ns = rate.charge(full_ns, now_ns, granted);
            // The other cell is charged first. When the exchange below succeeds, the bucket, which
            // is the minimum of both, steps at that moment from `full_ns` to at least `charged_ns`:
            // no thread can find a cell that was not charged yet. If it fails, the other cell stays
            // charged, as a cell shared with another source would be.
            if other_ns < charged_ns {
                other.fetch_max(charged_ns, Ordering::SeqCst);
            }
            if replace(fuller, full_ns, charged_ns).is_ok() {
                return granted;
            }
        }
    }

    /// Whether [`SourceBuckets::take`] would grant an event now. Another thread may take it first.
    pub(crate) fn would_grant(&self, rate: Rate, source: SourcePrefix, now_ns: u64) -> bool {
        let cells = self.cells(source);
        let [a, b] = cells.map(|cell| cell.load(Ordering::SeqCst));
        let grants = rate.grants(a.min(b), now_ns, 1) > 0;
        if !grants {
            let (fuller, full_ns) = if a <= b { (cells[0], a) } else { (cells[1], b) };
            // After a refusal here the caller never calls `take`.
            forget_old_rate(fuller, full_ns, rate, now_ns);
        }
        grants
    }

    fn cells(&self, source: SourcePrefix) -> [&AtomicU64; 2] {
        let hash = self.key.hash_one(source);
        [
            &self.rows[0][hash as usize % CELLS],
            &self.rows[1][(hash >> 32) as usize % CELLS],
        ]
    }
}

/// Stores `new_ns` if the cell still has `old_ns`, and otherwise returns its value.
fn replace(cell: &AtomicU64, old_ns: u64, new_ns: u64) -> Result<(), u64> {
    cell.compare_exchange_weak(old_ns, new_ns, Ordering::SeqCst, Ordering::Relaxed)
        .map(drop)
}

/// Resets a bucket that a lower rate charged beyond empty: a raised rate should not wait until the
/// old rate would have filled it.
fn forget_old_rate(cell: &AtomicU64, full_ns: u64, rate: Rate, now_ns: u64) {
    let empty_ns = rate.empty_ns(now_ns);
    if full_ns > empty_ns.saturating_add(STALE_NS) {
        // A faster thread did the same.
        let _ = replace(cell, full_ns, empty_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;
    use std::sync::Barrier;
    use std::thread;

    const SECOND_NS: u64 = 1_000_000_000;

    fn source(number: u32) -> SourcePrefix {
        SourcePrefix::new(Ipv4Addr::from_bits(number).into(), 64)
    }

    #[test]
    fn a_burst_is_one_second_s_worth_and_at_least_one() {
        for (events, burst) in [
            (1000.0, 1000),
            (1.5, 1),
            (1.0, 1),
            (0.1, 1),
            (1e6, 1_000_000),
        ] {
            assert_eq!(Rate::per_second(events).burst(), burst, "{events}");
        }
    }

    #[test]
    fn an_invalid_rate_becomes_the_nearest_valid_one() {
        let lowest = Rate::per_second(Rate::MIN_PER_SECOND);
        for events in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY, f64::MIN_POSITIVE] {
            assert_eq!(Rate::per_second(events), lowest, "{events}");
        }
        let highest = Rate::per_second(Rate::MAX_PER_SECOND);
        for events in [f64::INFINITY, f64::MAX, 2e9] {
            assert_eq!(Rate::per_second(events), highest, "{events}");
        }
    }

    #[test]
    fn while_time_stands_still_one_burst_is_granted() {
        let rate = Rate::per_second(10.0);
        let bucket = Bucket::default();
        assert_eq!(bucket.take(rate, 5, 4), 4);
        assert!(bucket.would_grant(rate, 5));
        assert_eq!(bucket.take(rate, 5, 100), 6);
        assert!(!bucket.would_grant(rate, 5));
        assert_eq!(bucket.take(rate, 5, 1), 0);
        // A clock that is behind gains nothing.
        assert_eq!(bucket.take(rate, 0, 1), 0);
        assert_eq!(bucket.take(rate, 5 + SECOND_NS / 10, 2), 1);
    }

    #[test]
    fn a_long_silence_saves_up_one_burst() {
        let rate = Rate::per_second(100.0);
        let bucket = Bucket::default();
        for now_ns in [0, 1 << 40, 1 << 62, u64::MAX - 10 * SECOND_NS] {
            assert_eq!(bucket.take(rate, now_ns, u32::MAX), 100);
            assert_eq!(bucket.take(rate, now_ns, 1), 0);
        }
    }

    #[test]
    fn a_higher_rate_does_not_wait_for_charges_of_a_lower_one() {
        let (slow, fast) = (
            Rate::per_second(Rate::MIN_PER_SECOND),
            Rate::per_second(10.0),
        );
        let bucket = Bucket::default();
        let sources = SourceBuckets::new();
        assert_eq!(bucket.take(slow, 0, 1), 1);
        assert_eq!(sources.take(slow, source(1), 0, 1), 1);
        assert_eq!(bucket.take(fast, 0, 1), 0);
        assert_eq!(sources.take(fast, source(1), 0, 1), 0);
        assert_eq!(bucket.take(fast, SECOND_NS, 100), 10);
        assert_eq!(sources.take(fast, source(1), SECOND_NS, 100), 10);
    }

    /// Many threads want far more than the rate grants, on a clock that all of them move: the rate
    /// must be granted exactly.
    #[track_caller]
    fn check_exact_under_a_storm(take: impl Fn(Rate, u64, u32) -> u32 + Sync) {
        const THREADS: u64 = 8;
        const TURNS: u64 = 5000;
        const TICK_NS: u64 = 10_000;
        let rate = Rate::per_second(1000.0);
        let drained = u64::from(take(rate, 0, u32::MAX));
        let clock_ns = AtomicU64::new(0);
        let barrier = Barrier::new(THREADS as usize);
        let granted: u64 = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        (0..TURNS)
                            .map(|turn| {
                                let now_ns = clock_ns.fetch_add(TICK_NS, Ordering::SeqCst);
                                u64::from(take(rate, now_ns, 1 + turn as u32 % 3))
                            })
                            .sum::<u64>()
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        let end_ns = THREADS * TURNS * TICK_NS;
        let rest = u64::from(take(rate, end_ns, u32::MAX));
        assert_eq!(drained + granted + rest, 1000 + end_ns / 1_000_000);
    }

    #[test]
    fn a_bucket_is_exact_under_a_storm_from_many_threads() {
        let bucket = Bucket::default();
        check_exact_under_a_storm(|rate, now_ns, wanted| bucket.take(rate, now_ns, wanted));
    }

    #[test]
    fn one_source_is_limited_exactly_under_a_storm_from_many_threads() {
        let sources = SourceBuckets::new();
        check_exact_under_a_storm(|rate, now, wanted| sources.take(rate, source(7), now, wanted));
    }

    /// Sources that share cells in every way: none is granted more than its own rate.
    #[test]
    fn sharing_cells_never_grants_more() {
        let sources = SourceBuckets::new();
        let rate = Rate::per_second(4.0);
        let granted = thread::scope(|scope| {
            let mut threads = Vec::with_capacity(4);
            for _ in 0..4 {
                threads.push(scope.spawn(|| -> Vec<u32> {
                    (0..60_000)
                        .map(|n| sources.take(rate, source(n), 0, 2))
                        .collect()
                }));
            }
            let granted = threads.into_iter().map(|thread| thread.join().unwrap());
            granted.reduce(|sum, part| sum.iter().zip(part).map(|(a, b)| a + b).collect())
        });
        let granted = granted.unwrap();
        assert!(granted.iter().all(|&granted| granted <= 4));
        // The table was empty, so some sources got their full burst.
        assert!(granted.contains(&4));
    }

    #[test]
    fn busy_sources_seldom_take_from_others() {
        const BUSY: u32 = 1000;
        const OTHERS: u32 = 10_000;
        let sources = SourceBuckets::new();
        let rate = Rate::per_second(1e6);
        for busy in 0..BUSY {
            sources.take(rate, source(busy), 0, u32::MAX);
        }
        let limited = (BUSY..BUSY + OTHERS)
            .filter(|&other| sources.take(rate, source(other), 0, 1) == 0)
            .count();
        // Nine are expected; more than sixty have a chance of less than one in 10^25.
        assert!(limited <= 60, "{limited} of {OTHERS} are limited");
    }

    /// The textbook's token bucket in whole numbers: its content is counted in the nanoseconds that
    /// it took to fill.
    struct Model {
        level_ns: u64,
        at_ns: u64,
    }

    impl Model {
        fn take(&mut self, rate: Rate, now_ns: u64, wanted: u32) -> u32 {
            let depth_ns = rate.interval_ns * rate.burst();
            let came_in_ns = now_ns - self.at_ns;
            self.level_ns = depth_ns.min(self.level_ns.saturating_add(came_in_ns));
            self.at_ns = now_ns;
            let granted = (self.level_ns / rate.interval_ns).min(wanted.into());
            self.level_ns -= granted * rate.interval_ns;
            granted as u32
        }
    }

    fn rates() -> impl Strategy<Value = Rate> {
        prop_oneof![0.01..10.0, 10.0..1e6, 1e6..1e9].prop_map(Rate::per_second)
    }

    /// From nothing to years.
    fn gaps_ns() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), 1..1000u64, 1..SECOND_NS, 1..1u64 << 55]
    }

    fn requests() -> impl Strategy<Value = u32> {
        prop_oneof![0..4u32, any::<u32>()]
    }

    proptest! {
        #[test]
        fn buckets_grant_as_the_textbook_s(
            rate in rates(),
            steps in vec((gaps_ns(), requests()), 1..100),
        ) {
            let (bucket, sources) = (Bucket::default(), SourceBuckets::new());
            let mut model = Model { level_ns: u64::MAX / 2, at_ns: 0 };
            let mut now_ns = 0;
            for (gap_ns, wanted) in steps {
                now_ns += gap_ns;
                let expected = model.take(rate, now_ns, wanted);
                prop_assert_eq!(bucket.take(rate, now_ns, wanted), expected);
                prop_assert_eq!(sources.take(rate, source(1), now_ns, wanted), expected);
            }
        }

        #[test]
        fn no_time_and_no_rate_overflow(
            steps in vec((any::<f64>(), any::<u64>(), any::<u32>()), 1..20),
        ) {
            let (bucket, sources) = (Bucket::default(), SourceBuckets::new());
            for (events, now_ns, wanted) in steps {
                let rate = Rate::per_second(events);
                prop_assert!(bucket.take(rate, now_ns, wanted) <= wanted);
                prop_assert!(sources.take(rate, source(1), now_ns, wanted) <= wanted);
            }
        }
    }
}
