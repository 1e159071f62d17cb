//! Latency counts of a measuring thread.
//!
//! The buckets and their arithmetic are those of HdrHistogram, so that the counts add to a
//! histogram exactly. HdrHistogram's other fields, such as minimum and maximum, are left out: they
//! follow from the counts, and updating them would cost time for each message.

use hdrhistogram::Histogram;

use crate::result::histogram::{self, MAX_NS};

/// Each value below this has its own bucket, because three significant digits need no more. Each
/// further power of two has half as many buckets, each twice as wide as the ones before.
const SINGLE: u64 = 2048;
const HALF: usize = SINGLE as usize / 2;
const HALF_BITS: u32 = HALF.ilog2();
/// Buckets for values up to the power of two above [`MAX_NS`].
const BUCKETS: usize = (MAX_NS.ilog2() - HALF_BITS + 2) as usize * HALF;

/// A container for the latencies of an interval.
pub trait Distribution {
    /// An empty container.
    fn empty() -> Self;

    /// Whether it holds no samples.
    fn has_none(&self) -> bool;

    /// Adds the samples to `sum`, exactly.
    fn add_onto(&self, sum: &mut Histogram<u64>);
}

/// Adds `part` to `sum`. An empty part costs nothing.
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

    /// Number of samples.
    pub fn len(&self) -> u64 {
        self.samples
    }

    /// Whether it holds no samples.
    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// Clears all counts and keeps the memory. Writes to every page.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.samples = 0;
    }

    /// Adds all counts to `histogram`, which must have the bounds of
    /// [`empty`](crate::result::histogram::empty).
    pub fn add_to(&self, histogram: &mut Histogram<u64>) {
        if self.is_empty() {
            return;
        }
        for (bucket, &count) in self.counts.iter().enumerate() {
            if count > 0 {
                histogram.saturating_record_n(lower_edge(bucket), count);
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

/// The bucket of a value. The index may be out of range.
#[inline]
fn bucket_of(value: u64) -> usize {
    // Number of halvings until the value has three significant digits.
    let halvings = (value | (SINGLE - 1)).ilog2() - HALF_BITS;
    ((halvings as usize) << HALF_BITS) + (value >> halvings) as usize
}

/// The smallest value of a bucket.
fn lower_edge(bucket: usize) -> u64 {
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
