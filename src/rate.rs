//! Rates of events: token buckets that all workers share without a lock.
//!
//! A bucket is kept as the generic cell rate algorithm has it (ITU-T I.371 annex A, the virtual
//! scheduling algorithm): one time, at which the bucket will be full again. Granting an event moves
//! it by the interval between two events, and an event is refused while it lies further ahead than
//! the burst allows. That is a token bucket (RFC 2697 section 3, with one colour) in a single
//! atomic word, which needs no one to refill it.
//!
//! Nothing here reads a clock. Times are nanoseconds from any origin that all callers share.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::net::cidr::SourcePrefix;

/// How far the clock of one worker may be behind another's: each reads it once in a turn of its
/// loop. A bucket that is full later than any grant within this can explain was charged at a lower
/// rate, before a reload, and is not held to it.
const STALE_NS: u64 = 1_000_000_000;

/// Events per second, and a burst of as many as one second brings, at least one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Between two events at this rate; rounded up, so that the rate is never exceeded.
    interval_ns: u64,
    /// How far ahead the bucket's time may lie when an event is granted: the interval times one
    /// less than the burst.
    tolerance_ns: u64,
}

impl Rate {
    /// The lowest rate: one event in about thirty years.
    pub const MIN_PER_SECOND: f64 = 1e-9;
    /// The highest rate: an event every nanosecond.
    pub const MAX_PER_SECOND: f64 = 1e9;

    /// A rate of `events` per second, or the nearest that there is; the lowest if it is not a
    /// number. Above a million per second it may be a few per mille lower than asked for.
    pub fn per_second(events: f64) -> Self {
        // In this order, because `max` returns the other number in place of NaN.
        let events = events.max(Self::MIN_PER_SECOND).min(Self::MAX_PER_SECOND);
        let interval_ns = (1e9 / events).ceil() as u64;
        let burst = events.floor().max(1.0) as u64;
        Self {
            interval_ns,
            tolerance_ns: interval_ns * (burst - 1),
        }
    }

    /// The most events granted at once.
    pub fn burst(&self) -> u64 {
        self.tolerance_ns / self.interval_ns + 1
    }

    /// How many of `wanted` events a bucket grants that will be full at `full_ns`.
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

    /// When a bucket will be full of which `events` were taken.
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

/// A bucket that starts full. The rate is not part of it, so that it may change while the bucket
/// stays.
#[derive(Debug, Default)]
pub struct Bucket {
    /// The theoretical arrival time of I.371.
    full_ns: AtomicU64,
}

impl Bucket {
    /// Takes up to `wanted` events and returns how many were granted: in any span of time, over all
    /// threads, at most the burst and what the rate brings in that span.
    pub fn take(&self, rate: Rate, now_ns: u64, wanted: u32) -> u32 {
        let mut full_ns = self.full_ns.load(Ordering::Relaxed);
        // A turn is repeated only when another thread changed the bucket in between.
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

    /// Whether [`Bucket::take`] would grant an event, as far as can be known before asking.
    pub fn would_grant(&self, rate: Rate, now_ns: u64) -> bool {
        let full_ns = self.full_ns.load(Ordering::Relaxed);
        let grants = rate.grants(full_ns, now_ns, 1) > 0;
        if !grants {
            // Who is told no here never asks to take.
            forget_old_rate(&self.full_ns, full_ns, rate, now_ns);
        }
        grants
    }
}

/// Cells in a row of [`SourceBuckets`].
const CELLS: usize = 1 << 15;

/// A bucket for every source, in a fixed 512 KiB: no lock and no allocation, whatever sources
/// appear.
///
/// A source has one cell in each of two rows, chosen by a hash with a random key, and its bucket is
/// the fuller of the two: a count-min sketch with conservative update (Cormode and Muthukrishnan
/// 2005; Estan and Varghese 2002) of times instead of counts. A source is never granted more than
/// its rate. It may be granted less only while both its cells are shared with busy sources: with
/// `k` others at their limit that happens to a source with probability
/// `(1 - (1 - 1/32768)^k)^2`, about `(k/32768)^2`: one in 100 000 for a hundred, one in 1 000 for a
/// thousand. Who forges sources by the ten thousand can make it likely for all, and meets the total
/// rate instead.
#[derive(Debug)]
pub struct SourceBuckets {
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
    pub fn new() -> Self {
        Self {
            key: RandomState::new(),
            rows: [(); 2].map(|()| (0..CELLS).map(|_| AtomicU64::new(0)).collect()),
        }
    }

    /// Takes up to `wanted` events of `source` and returns how many were granted: for one source,
    /// in any span of time, at most the burst and what the rate brings in that span.
    pub fn take(&self, rate: Rate, source: SourcePrefix, now_ns: u64, wanted: u32) -> u32 {
        let cells = self.cells(source);
        // A turn is repeated only when another thread charged one of the cells in between.
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
            // charged in vain, which is no more than a shared cell may be anyway.
            if other_ns < charged_ns {
                other.fetch_max(charged_ns, Ordering::SeqCst);
            }
            if replace(fuller, full_ns, charged_ns).is_ok() {
                return granted;
            }
        }
    }

    fn cells(&self, source: SourcePrefix) -> [&AtomicU64; 2] {
        let hash = self.key.hash_one(source);
        [
            &self.rows[0][hash as usize % CELLS],
            &self.rows[1][(hash >> 32) as usize % CELLS],
        ]
    }
}

/// Stores `new_ns` if the cell still has `old_ns`, and else returns what it has.
fn replace(cell: &AtomicU64, old_ns: u64, new_ns: u64) -> Result<(), u64> {
    cell.compare_exchange_weak(old_ns, new_ns, Ordering::SeqCst, Ordering::Relaxed)
        .map(drop)
}

/// Empties a bucket that is emptier than empty: a lower rate charged it, and whoever raised the
/// rate should not wait until the old one would have filled it.
fn forget_old_rate(cell: &AtomicU64, full_ns: u64, rate: Rate, now_ns: u64) {
    let empty_ns = rate.empty_ns(now_ns);
    if full_ns > empty_ns.saturating_add(STALE_NS) {
        // If another thread was faster, it did the same.
        let _ = replace(cell, full_ns, empty_ns);
    }
}
