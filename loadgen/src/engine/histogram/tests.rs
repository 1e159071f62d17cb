//! Counts of buckets add to a histogram what it would have recorded itself.

use super::*;
use proptest::prelude::*;

#[test]
fn there_are_as_many_buckets_as_in_a_histogram() {
    assert_eq!(histogram::empty().distinct_values(), BUCKETS);
}

/// Both, with the same values in them.
#[track_caller]
fn adds_up(values: &[u64]) {
    let (mut counts, mut direct, mut sum) = (
        BucketCounts::default(),
        histogram::empty(),
        histogram::empty(),
    );
    for &value in values {
        counts.record(value);
        direct.saturating_record(value);
    }
    assert_eq!(counts.len(), values.len() as u64);
    counts.add_to(&mut sum);
    assert_eq!(sum, direct);
    assert_eq!((sum.min(), sum.max()), (direct.min(), direct.max()));
    assert_eq!((sum.mean(), sum.stdev()), (direct.mean(), direct.stdev()));
    for quantile in [0.01, 0.5, 0.9, 0.999] {
        assert_eq!(
            sum.value_at_quantile(quantile),
            direct.value_at_quantile(quantile)
        );
    }
    counts.clear();
    let before = sum.clone();
    counts.add_to(&mut sum);
    assert!(counts.is_empty());
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
    fn counts_add_to_what_a_histogram_would_have_recorded(
        values in prop::collection::vec((any::<u64>(), 0_u32..64), 0..100),
    ) {
        let values: Vec<u64> = values.iter().map(|(value, shift)| value >> shift).collect();
        adds_up(&values);
    }
}
