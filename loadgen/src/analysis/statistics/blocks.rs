//! The samples of a run in consecutive blocks of equal time.
//!
//! Memory does not grow with the run: when there are too many blocks, neighbours are merged in
//! pairs, and each later block is twice as long.

use std::cmp::Ordering;

use hdrhistogram::Histogram;

/// The samples of a run, cut into blocks of equal time.
///
/// Time slices that do not fill a block yet are in no block, because blocks of unequal length are
/// not comparable. The loss is less than two parts in `limit`.
#[derive(Clone, Debug)]
pub(crate) struct Blocks {
    limit: usize,
    slices_per_block: usize,
    complete: Vec<Block>,
    open: Block,
    /// Slices in `open`.
    gathered: usize,
}

/// Maximum of distinct values in a block. A block with more becomes coarse.
const MAX_VALUES: usize = 1024;
/// Leading bits of a value that a coarse block keeps: a precision of one percent. Blocks only show
/// how much their shares differ; the values come from the whole histogram.
const COARSE_BITS: u32 = 8;

/// The samples of one block.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Block {
    /// Values and their counts, smallest first.
    values: Vec<(u64, u64)>,
    count: u64,
    /// Messages completed in its time. They need not have samples: those of the warm-up do not
    /// count, and a one-way stream has no latency.
    completed: u64,
    is_coarse: bool,
}

impl Blocks {
    /// No blocks. `limit` is their maximum, rounded up to an even number, at least 2.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(2).next_multiple_of(2),
            slices_per_block: 1,
            complete: Vec::new(),
            open: Block::default(),
            gathered: 0,
        }
    }

    /// Adds the samples of the next time slice, and the number of messages completed in it. Slices
    /// must have equal length, and all histograms the same bounds. Empty slices must be added too.
    pub(crate) fn push(&mut self, samples: &Histogram<u64>, completed: u64) {
        self.add(Block {
            completed,
            ..Block::of(samples)
        });
    }

    /// The complete blocks, in time order.
    pub(crate) fn complete(&self) -> &[Block] {
        &self.complete
    }

    /// Number of time slices in a block.
    pub(crate) fn slices_per_block(&self) -> usize {
        self.slices_per_block
    }

    /// The `quantile` of each block's samples, in time order. Blocks without samples are left out.
    pub(crate) fn quantiles(&self, quantile: f64) -> Vec<u64> {
        self.complete
            .iter()
            .filter_map(|block| block.quantile(quantile))
            .collect()
    }

    pub(super) fn add(&mut self, slice: Block) {
        self.open = if self.gathered == 0 {
            slice
        } else {
            self.open.merged(&slice)
        };
        self.gathered += 1;
        if self.gathered < self.slices_per_block {
            return;
        }
        if self.complete.len() == self.limit {
            self.complete = self
                .complete
                .chunks_exact(2)
                .map(|pair| pair[0].merged(&pair[1]))
                .collect();
            self.slices_per_block *= 2;
        }
        if self.gathered == self.slices_per_block {
            self.complete.push(std::mem::take(&mut self.open));
            self.gathered = 0;
        }
    }
}

impl Block {
    fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        Self {
            values: histogram
                .iter_recorded()
                .map(|step| (step.value_iterated_to(), step.count_at_value()))
                .collect(),
            count: histogram.len(),
            completed: 0,
            is_coarse: false,
        }
        .bounded()
    }

    /// The same block with a limited number of values.
    fn bounded(mut self) -> Self {
        if self.values.len() > MAX_VALUES && !self.is_coarse {
            self.coarsen();
        }
        self.values.shrink_to_fit();
        self
    }

    fn coarsen(&mut self) {
        self.is_coarse = true;
        for (value, _) in &mut self.values {
            *value = coarse(*value);
        }
        self.values.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            kept.1 += if is_same { next.1 } else { 0 };
            is_same
        });
    }

    /// Number of samples.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Number of messages completed in its time.
    pub(crate) fn completed(&self) -> u64 {
        self.completed
    }

    /// Numbers of samples larger than `value`, and equal to it. A value stands for all values that
    /// the histogram does not distinguish from it, as in `Histogram::value_at_quantile`, and in a
    /// coarse block for all that the block does not distinguish.
    pub(crate) fn beyond(&self, value: u64) -> (u64, u64) {
        let value = if self.is_coarse { coarse(value) } else { value };
        let first = self.values.partition_point(|&(other, _)| other < value);
        let mut beyond = (0, 0);
        for &(other, count) in &self.values[first..] {
            if other == value {
                beyond.1 += count;
            } else {
                beyond.0 += count;
            }
        }
        beyond
    }

    /// The `quantile` of the samples; `None` without samples.
    pub(crate) fn quantile(&self, quantile: f64) -> Option<u64> {
        let rank = ((quantile * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        self.values.iter().find_map(|&(value, count)| {
            seen += count;
            (seen >= rank).then_some(value)
        })
    }

    fn merged(&self, other: &Self) -> Self {
        match (self.is_coarse, other.is_coarse) {
            (true, false) => return self.merged(&other.coarsened()),
            (false, true) => return self.coarsened().merged(other),
            _ => {}
        }
        let mut values = Vec::with_capacity(self.values.len().max(other.values.len()));
        let (mut left, mut right) = (self.values.as_slice(), other.values.as_slice());
        while let (Some((&a, left_rest)), Some((&b, right_rest))) =
            (left.split_first(), right.split_first())
        {
            let order = a.0.cmp(&b.0);
            values.push(match order {
                Ordering::Less => a,
                Ordering::Equal => (a.0, a.1 + b.1),
                Ordering::Greater => b,
            });
            if order.is_le() {
                left = left_rest;
            }
            if order.is_ge() {
                right = right_rest;
            }
        }
        values.extend_from_slice(left);
        values.extend_from_slice(right);
        Self {
            values,
            count: self.count + other.count,
            completed: self.completed + other.completed,
            is_coarse: self.is_coarse,
        }
        .bounded()
    }

    fn coarsened(&self) -> Self {
        let mut block = self.clone();
        block.coarsen();
        block
    }
}

/// The largest value with the same leading bits as `value`.
fn coarse(value: u64) -> u64 {
    let dropped = (u64::BITS - value.leading_zeros()).saturating_sub(COARSE_BITS);
    value | ((1 << dropped) - 1)
}

#[cfg(test)]
impl FromIterator<u64> for Block {
    /// A block of samples that a histogram with the crate's bounds would tell apart as they are.
    fn from_iter<I: IntoIterator<Item = u64>>(samples: I) -> Self {
        let mut sorted: Vec<u64> = samples.into_iter().collect();
        sorted.sort_unstable();
        Self {
            values: sorted
                .chunk_by(|a, b| a == b)
                .map(|same| (same[0], same.len() as u64))
                .collect(),
            count: sorted.len() as u64,
            completed: sorted.len() as u64,
            is_coarse: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::histogram;
    use proptest::prelude::*;

    fn histogram(samples: &[u64]) -> Histogram<u64> {
        let mut histogram = histogram::empty();
        for &sample in samples {
            histogram.record(sample).unwrap();
        }
        histogram
    }

    #[test]
    fn a_block_counts_what_lies_beyond() {
        let block = Block::of(&histogram(&[1, 5, 5, 9]));
        assert_eq!(block.count(), 4);
        assert_eq!(block.beyond(5), (1, 2));
        assert_eq!(block.beyond(4), (3, 0));
        assert_eq!(block.beyond(9), (0, 1));
    }

    #[test]
    fn too_many_blocks_become_half_as_many() {
        let mut blocks = Blocks::new(4);
        for slice in 1..=4 {
            blocks.push(&histogram(&[slice]), 0);
        }
        assert_eq!(blocks.quantiles(0.5), [1, 2, 3, 4]);
        blocks.push(&histogram(&[5, 5, 5]), 0);
        assert_eq!(blocks.complete().len(), 2);
        assert_eq!(blocks.slices_per_block(), 2);
        assert_eq!(blocks.quantiles(1.0), [2, 4]);
        blocks.push(&histogram::empty(), 0);
        assert_eq!(blocks.quantiles(1.0), [2, 4, 5]);
    }

    #[test]
    fn a_block_without_samples_is_a_block_all_the_same() {
        let mut blocks = Blocks::new(4);
        blocks.push(&histogram::empty(), 0);
        blocks.push(&histogram(&[7]), 0);
        assert_eq!(blocks.complete().len(), 2);
        assert_eq!(blocks.complete()[0].quantile(0.5), None);
        assert_eq!(blocks.quantiles(0.5), [7]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn blocks_hold_what_their_slices_held(
            limit in 1_usize..10,
            slices in prop::collection::vec(
                prop::collection::vec(1_u64..5_000_000, 0..8),
                0..60,
            ),
        ) {
            let mut blocks = Blocks::new(limit);
            for slice in &slices {
                blocks.push(&histogram(slice), 0);
            }
            prop_assert!(blocks.complete().len() <= limit.max(2).next_multiple_of(2));
            let length = blocks.slices_per_block();
            prop_assert_eq!(blocks.complete().len(), slices.len() / length);
            for (block, slices) in blocks.complete().iter().zip(slices.chunks_exact(length)) {
                prop_assert_eq!(block, &Block::of(&histogram(&slices.concat())));
            }
        }

        #[test]
        fn a_block_has_the_quantiles_of_its_histogram(
            samples in prop::collection::vec(1_u64..5_000_000, 1..50),
            quantile in 0.01_f64..1.0,
        ) {
            let histogram = histogram(&samples);
            let block = Block::of(&histogram);
            prop_assert_eq!(block.quantile(quantile), Some(histogram.value_at_quantile(quantile)));
        }
    }

    #[test]
    fn a_block_of_many_values_gets_coarse_and_says_the_same_within_a_hundredth() {
        let mut blocks = Blocks::new(64);
        let mut exact = histogram::empty();
        for slice in 0..200_u64 {
            let mut histogram = histogram::empty();
            for sample in 0..5_000_u64 {
                // From 10 µs to 10 ms, all over the range.
                let value = 10_000 + (slice * 5_000 + sample) * 7_919 % 9_990_000;
                histogram.record(value).unwrap();
            }
            exact.add(&histogram).unwrap();
            blocks.push(&histogram, 0);
        }
        let value = exact.value_at_quantile(0.9);
        for block in blocks.complete() {
            assert!(
                block.values.len() <= 2 * MAX_VALUES,
                "{}",
                block.values.len()
            );
            assert!(block.is_coarse);
            let (above, equal) = block.beyond(value);
            let share = (above as f64 + 0.5 * equal as f64) / block.count() as f64;
            assert!((share - 0.1).abs() < 0.01, "{share}");
            let quantile = block.quantile(0.9).unwrap() as f64;
            assert!((quantile / value as f64 - 1.0).abs() < 0.02, "{quantile}");
        }
        let held: u64 = blocks.complete().iter().map(Block::count).sum();
        assert_eq!(held % 5_000, 0);
    }
}
