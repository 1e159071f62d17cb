//! How often each latency occurred, as a measuring thread counts it.
//!
//! The buckets are those of HdrHistogram, by its own arithmetic, so that the counts add to a
//! histogram exactly. It leaves out what a histogram keeps besides, its extremes among it: the counts tell, and a
//! measuring thread need not look for them with every message.

use hdrhistogram::Histogram;

use crate::result::histogram::{self, MAX_NS};

/// Values below this have a bucket each: the power of two from which on three digits need no more. Every
/// further power of two has half as many buckets, each twice as wide as those of the one before.
const SINGLE: u64 = 2048;
const HALF: usize = SINGLE as usize / 2;
const HALF_BITS: u32 = HALF.ilog2();
/// Buckets up to the power of two above [`MAX_NS`].
const BUCKETS: usize = (MAX_NS.ilog2() - HALF_BITS + 2) as usize * HALF;

/// What latencies of an interval are kept in.
pub trait Distribution {
    /// One without a sample.
    fn empty() -> Self;

    /// Whether there is no sample.
    fn has_none(&self) -> bool;

    /// Adds the samples to `sum`, exactly.
    fn add_onto(&self, sum: &mut Histogram<u64>);
}

/// Adds `part` to `sum`; an empty one at no cost.
pub(super) fn add(sum: &mut Histogram<u64>, part: &Histogram<u64>) {
    if !part.is_empty() {
        sum.add(part).expect("all histograms have the same bounds");
    }
}

/// Counts of latencies in nanoseconds.
#[derive(Clone, Debug)]
pub struct BucketCounts {
    counts: Box<[u64; BUCKETS]>,
    samples: u64,
}

impl BucketCounts {
    /// Counts a latency. More than an hour counts as an hour.
    #[inline]
    pub fn record(&mut self, latency_ns: u64) {
        self.samples += 1;
        match self.counts.get_mut(bucket_of(latency_ns)) {
            Some(count) => *count += 1,
            None => self.counts[bucket_of(MAX_NS)] += 1,
        }
    }

    /// Number of latencies.
    pub fn len(&self) -> u64 {
        self.samples
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// Forgets all, keeping the memory. Every page of it is written to.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.samples = 0;
    }

    /// Adds everything to `histogram`, which has to have the bounds of
    /// [`empty`](crate::result::histogram::empty).
    pub fn add_to(&self, histogram: &mut Histogram<u64>) {
        if self.is_empty() {
            return;
        }
        for (bucket, &count) in self.counts.iter().enumerate() {
            if count > 0 {
                histogram.saturating_record_n(least_of(bucket), count);
            }
        }
    }
}

impl Default for BucketCounts {
    fn default() -> Self {
        let counts = vec![0; BUCKETS].into_boxed_slice();
        Self {
            counts: counts.try_into().expect("it has this length"),
            samples: 0,
        }
    }
}

/// The bucket of a value; there may be no such bucket.
#[inline]
fn bucket_of(value: u64) -> usize {
    // How often the value has to be halved to be told apart to three digits.
    let halvings = (value | (SINGLE - 1)).ilog2() - HALF_BITS;
    ((halvings as usize) << HALF_BITS) + (value >> halvings) as usize
}

/// The least value of a bucket.
fn least_of(bucket: usize) -> u64 {
    let halvings = (bucket >> HALF_BITS).saturating_sub(1);
    ((bucket - (halvings << HALF_BITS)) as u64) << halvings
}

impl Distribution for Histogram<u64> {
    fn empty() -> Self {
        histogram::empty()
    }

    fn has_none(&self) -> bool {
        self.is_empty()
    }

    fn add_onto(&self, sum: &mut Histogram<u64>) {
        add(sum, self);
    }
}

impl Distribution for BucketCounts {
    fn empty() -> Self {
        Self::default()
    }

    fn has_none(&self) -> bool {
        self.is_empty()
    }

    fn add_onto(&self, sum: &mut Histogram<u64>) {
        self.add_to(sum);
    }
}

#[cfg(test)]
mod tests;
