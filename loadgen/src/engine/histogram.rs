//! How often each latency occurred, as a measuring thread counts it.
//!
//! The buckets are those of HdrHistogram, by its own arithmetic, so that a tally adds to a histogram
//! exactly. It leaves out what a histogram keeps besides, its extremes among it: the counts tell, and a
//! measuring thread need not look for them with every message.

use hdrhistogram::Histogram;

use crate::result::histogram::MAX_NS;

/// Values below this have a bucket each: the power of two from which on three digits need no more. Every
/// further power of two has half as many buckets, each twice as wide as those of the one before.
const SINGLE: u64 = 2048;
const HALF: usize = SINGLE as usize / 2;
const HALF_BITS: u32 = HALF.ilog2();
/// Buckets up to the power of two above [`MAX_NS`].
const BUCKETS: usize = (MAX_NS.ilog2() - HALF_BITS + 2) as usize * HALF;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::histogram;
    use proptest::prelude::*;

    #[test]
    fn there_are_as_many_buckets_as_in_a_histogram() {
        assert_eq!(histogram::empty().distinct_values(), BUCKETS);
    }

    /// Both, with the same values in them.
    #[track_caller]
    fn adds_up(values: &[u64]) {
        let (mut tally, mut direct, mut sum) = (
            BucketCounts::default(),
            histogram::empty(),
            histogram::empty(),
        );
        for &value in values {
            tally.record(value);
            direct.saturating_record(value);
        }
        assert_eq!(tally.len(), values.len() as u64);
        tally.add_to(&mut sum);
        assert_eq!(sum, direct);
        assert_eq!((sum.min(), sum.max()), (direct.min(), direct.max()));
        assert_eq!((sum.mean(), sum.stdev()), (direct.mean(), direct.stdev()));
        for quantile in [0.01, 0.5, 0.9, 0.999] {
            assert_eq!(
                sum.value_at_quantile(quantile),
                direct.value_at_quantile(quantile)
            );
        }
        tally.clear();
        let before = sum.clone();
        tally.add_to(&mut sum);
        assert!(tally.is_empty());
        assert_eq!(sum, before);
    }

    #[test]
    fn the_edges_of_buckets_are_those_of_a_histogram() {
        let mut values = vec![0, u64::MAX, MAX_NS, MAX_NS - 1, MAX_NS + 1];
        for bits in 0..64 {
            let power = 1_u64 << bits;
            values.extend([power - 1, power, power + 1, power | (power >> 1)]);
        }
        for &value in &values {
            adds_up(&[value]);
        }
        adds_up(&values);
    }

    proptest! {
        #[test]
        fn a_tally_adds_to_what_a_histogram_would_have_recorded(
            values in prop::collection::vec((any::<u64>(), 0_u32..64), 0..100),
        ) {
            let values: Vec<u64> = values.iter().map(|(value, shift)| value >> shift).collect();
            adds_up(&values);
        }
    }
}
