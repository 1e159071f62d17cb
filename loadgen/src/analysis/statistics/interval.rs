//! Confidence intervals of a percentile or a rate.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::blocks::Blocks;
use super::student::t_975;
use crate::result::latency::supports;
use crate::result::statistics::{QuantileEstimate, RateEstimate};

/// Minimum of effective samples beyond a percentile for its interval. With fewer, the interval
/// would extend to the largest sample.
const EFFECTIVE_SAMPLES_BEYOND: f64 = 5.0;
/// Minimum of blocks for estimating how much blocks differ.
const MIN_BLOCKS: usize = 8;
/// Minimum of blocks after merging.
const MIN_MERGED: usize = 10;

/// The 95 % confidence interval of the quantile of `total`, whose samples lie in `blocks` in time
/// order. `None` if there are too few samples, or too few independent ones.
///
/// Each block gives the share of its samples beyond the estimated quantile. The differences between
/// these shares give the standard error of the whole share (batch means; for quantiles Heidelberger
/// and Lewis, "Quantile Estimation in Dependent Sequences", Operations Research 32, 1984), and with
/// it the ranks of the interval's ends (Woodruff, "Confidence Intervals for Medians and Other
/// Position Measures", JASA 47, 1952). No distribution is assumed.
///
/// The interval can't include events that the run did not see. If a few slow periods determine the
/// percentile, a run with fewer of them than usual has too narrow an interval. `effective_samples`
/// shows how few there were.
pub(crate) fn quantile_interval(
    blocks: &Blocks,
    total: &Histogram<u64>,
    quantile: f64,
) -> Option<QuantileEstimate> {
    let is_inner = quantile > 0.0 && quantile < 1.0;
    if !is_inner || !supports(total.len(), quantile) {
        return None;
    }
    let value = total.value_at_quantile(quantile);
    let beyond: Vec<(u64, u64)> = blocks
        .complete()
        .iter()
        .map(|block| block.beyond(value))
        .collect();
    let (above, equal) = beyond
        .iter()
        .fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
    let in_blocks: u64 = blocks.complete().iter().map(|block| block.count()).sum();
    // Histogram buckets and clock resolution give many samples the same value. A part of them
    // counts as beyond, so that the whole share is exact.
    let part = if equal == 0 {
        0.0
    } else {
        (((1.0 - quantile) * in_blocks as f64 - above as f64) / equal as f64).clamp(0.0, 1.0)
    };
    let shares = blocks
        .complete()
        .iter()
        .zip(&beyond)
        .map(|(block, &(above, equal))| (above as f64 + part * equal as f64, block.count() as f64))
        .collect();
    let agreement = Agreement::of(shares)?;

    let variance_of_one = quantile * (1.0 - quantile);
    let effective_samples =
        (variance_of_one / agreement.standard_error.powi(2)).min(total.len() as f64);
    let margin = t_975(agreement.batches - 1) * (variance_of_one / effective_samples).sqrt();
    let (low, high) = (quantile - margin, quantile + margin);
    let beyond = effective_samples * quantile.min(1.0 - quantile);
    if beyond < EFFECTIVE_SAMPLES_BEYOND || low <= 0.0 || high >= 1.0 {
        return None;
    }
    Some(QuantileEstimate {
        quantile,
        value,
        low: total.lowest_equivalent(total.value_at_quantile(low)),
        high: total.value_at_quantile(high),
        samples: total.len(),
        effective_samples,
        batches: agreement.batches,
    })
}

/// The 95 % confidence interval of the rate of completed messages, by batch means, if each slice pushed to
/// `blocks` took `slice`. `None` if there are too few blocks, or no time.
pub(crate) fn rate_interval(blocks: &Blocks, slice: Duration) -> Option<RateEstimate> {
    let block_s = slice.as_secs_f64() * blocks.slices_per_block() as f64;
    if block_s == 0.0 {
        return None;
    }
    let counts: Vec<(f64, f64)> = blocks
        .complete()
        .iter()
        .map(|block| (block.completed() as f64, block_s))
        .collect();
    let rate = quotient(&counts);
    let agreement = Agreement::of(counts)?;
    let margin = t_975(agreement.batches - 1) * agreement.standard_error;
    Some(RateEstimate {
        rate,
        low: (rate - margin).max(0.0),
        high: rate + margin,
        batches: agreement.batches,
    })
}

/// The sum of the first numbers over the sum of the second.
fn quotient(parts: &[(f64, f64)]) -> f64 {
    let (dividend, divisor) = parts
        .iter()
        .fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
    dividend / divisor
}

/// The precision of a quotient of two sums, by the differences between blocks.
struct Agreement {
    standard_error: f64,
    batches: usize,
}

impl Agreement {
    /// Statistics of the [`quotient`], with the standard error of a ratio estimate (Cochran,
    /// "Sampling Techniques", 1977, 6.4). `None` with too few blocks.
    fn of(mut batches: Vec<(f64, f64)>) -> Option<Self> {
        batches.retain(|&(_, weight)| weight > 0.0);
        if batches.len() < MIN_BLOCKS {
            return None;
        }
        loop {
            let mean = quotient(&batches);
            let deviations: Vec<f64> = batches
                .iter()
                .map(|(part, weight)| part - mean * weight)
                .collect();
            let n = batches.len() as f64;
            let correlation = super::lag_one_correlation(&deviations);
            // For independent blocks, this is 0 ± 1 / sqrt(n). One case in six is merged
            // unnecessarily, which only widens the interval a little.
            if correlation * n.sqrt() > 1.0 && batches.len() / 2 >= MIN_MERGED {
                batches = batches
                    .chunks_exact(2)
                    .map(|pair| (pair[0].0 + pair[1].0, pair[0].1 + pair[1].1))
                    .collect();
                continue;
            }
            // The first-order effect of dependence. It matters where merging had to stop.
            let left = 1.0 + 2.0 * correlation.max(0.0);
            let squares: f64 = deviations.iter().map(|deviation| deviation.powi(2)).sum();
            let weight: f64 = batches.iter().map(|batch| batch.1).sum();
            return Some(Self {
                standard_error: (squares * n / (n - 1.0) * left).sqrt() / weight,
                batches: batches.len(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulation::Random;
    use super::*;
    use crate::result::histogram;

    /// Nanoseconds in one time unit of the simulations.
    const UNIT: f64 = 100_000.0;
    /// Simulated runs; with 200, a coverage of 0.95 has a standard deviation of 0.015.
    const RUNS: u64 = 200;
    const SAMPLES: usize = 20_000;
    const SLICES: usize = 50;
    const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];

    /// A run of samples at an even rate.
    fn run(samples: impl Iterator<Item = f64>) -> (Blocks, Histogram<u64>) {
        let (mut blocks, mut total) = (Blocks::new(64), histogram::empty());
        let samples: Vec<u64> = samples
            .take(SAMPLES)
            .map(|sample| total.highest_equivalent((sample * UNIT) as u64))
            .collect();
        for slice in samples.chunks(SAMPLES / SLICES) {
            for &sample in slice {
                total.record(sample).unwrap();
            }
            blocks.add(slice.iter().copied().collect());
        }
        (blocks, total)
    }

    /// Coverage of the intervals over all runs.
    #[derive(Clone, Copy, Debug, Default)]
    struct Coverage {
        given: u32,
        held: u32,
        /// Truths contained in an interval that assumes independent samples.
        held_naively: u32,
    }

    impl Coverage {
        fn share(self) -> f64 {
            f64::from(self.held) / f64::from(self.given)
        }

        fn naive_share(self) -> f64 {
            f64::from(self.held_naively) / f64::from(self.given)
        }
    }

    /// Simulates runs whose true quantiles are `truths`.
    fn coverage(
        truths: [f64; 3],
        simulate: impl Fn(&mut Random) -> (Blocks, Histogram<u64>),
    ) -> [Coverage; 3] {
        let mut coverage = [Coverage::default(); 3];
        for seed in 0..RUNS {
            let (blocks, total) = simulate(&mut Random::new(seed));
            for ((coverage, quantile), truth) in coverage.iter_mut().zip(QUANTILES).zip(truths) {
                let truth = (truth * UNIT) as u64;
                let Some(estimate) = quantile_interval(&blocks, &total, quantile) else {
                    continue;
                };
                coverage.given += 1;
                coverage.held += u32::from((estimate.low..=estimate.high).contains(&truth));
                let margin = 1.96 * (quantile * (1.0 - quantile) / SAMPLES as f64).sqrt();
                let low = total.value_at_quantile(quantile - margin);
                let high = total.value_at_quantile(quantile + margin);
                coverage.held_naively += u32::from((low..=high).contains(&truth));
            }
        }
        coverage
    }

    fn exponential_quantiles(mean: f64) -> [f64; 3] {
        QUANTILES.map(|quantile| -(1.0 - quantile).ln() * mean)
    }

    #[test]
    fn intervals_of_independent_samples_hold_the_truth() {
        let coverage = coverage(exponential_quantiles(1.0), |random| {
            run(std::iter::from_fn(|| Some(random.exponential())))
        });
        for coverage in coverage {
            assert_eq!(coverage.given, RUNS as u32);
            assert!(coverage.share() >= 0.92, "{coverage:?}");
            assert!(coverage.naive_share() >= 0.92, "{coverage:?}");
        }
    }

    #[test]
    fn intervals_of_samples_that_are_like_their_neighbours_hold_the_truth() {
        let truths = [0.0, 1.644_854, 2.326_348].map(|normal: f64| (0.5 * normal).exp());
        let coverage = coverage(truths, |random| {
            run(random.correlated_normals(0.9).map(|x| (0.5 * x).exp()))
        });
        for coverage in coverage {
            assert!(coverage.given >= RUNS as u32 * 9 / 10, "{coverage:?}");
            assert!(coverage.share() >= 0.9, "{coverage:?}");
            assert!(coverage.naive_share() < 0.7, "{coverage:?}");
        }
    }

    #[test]
    fn intervals_of_the_time_in_a_queue_hold_the_truth() {
        let coverage = coverage(exponential_quantiles(1.0 / 0.3), |random| {
            run(random.sojourns(0.7))
        });
        for coverage in coverage {
            assert!(coverage.given >= RUNS as u32 * 3 / 4, "{coverage:?}");
            assert!(coverage.share() >= 0.9, "{coverage:?}");
            assert!(coverage.naive_share() < 0.6, "{coverage:?}");
        }
    }

    #[test]
    fn what_can_not_be_known_is_not_told() {
        let (blocks, total) = run((1..).map(|sample| f64::from(sample % 100)));
        let estimate = quantile_interval(&blocks, &total, 0.5).unwrap();
        assert_eq!(estimate.samples, SAMPLES as u64);
        assert!((estimate.effective_samples - SAMPLES as f64).abs() < 1e-6);
        assert!(estimate.low < estimate.value && estimate.value < estimate.high);
        // Two samples lie beyond.
        assert_eq!(quantile_interval(&blocks, &total, 0.9999), None);
        assert_eq!(quantile_interval(&blocks, &total, 1.0), None);
        assert_eq!(quantile_interval(&blocks, &total, f64::NAN), None);

        let mut few = Blocks::new(64);
        for _ in 1..MIN_BLOCKS {
            few.push(&total, 0);
        }
        assert_eq!(quantile_interval(&few, &total, 0.5), None);
        assert_eq!(rate_interval(&few, Duration::from_secs(1)), None);
        few.push(&total, 0);
        assert!(quantile_interval(&few, &total, 0.5).is_some());

        // One slow period of two blocks has all slow samples: a single event.
        let (blocks, total) = run((0..SAMPLES).map(|sample| {
            if (4_000..4_800).contains(&sample) {
                100.0
            } else {
                1.0
            }
        }));
        assert_eq!(quantile_interval(&blocks, &total, 0.99), None);
    }

    #[test]
    fn samples_of_one_value_are_known_to_be_that_value() {
        let (blocks, total) = run(std::iter::repeat(1.0));
        let estimate = quantile_interval(&blocks, &total, 0.99).unwrap();
        assert_eq!(estimate.value, total.highest_equivalent(UNIT as u64));
        assert_eq!(estimate.low, total.lowest_equivalent(UNIT as u64));
        assert_eq!(estimate.high, estimate.value);
    }

    #[test]
    fn a_rate_is_known_as_well_as_its_blocks_agree() {
        let (blocks, _) = run(std::iter::repeat(1.0));
        let estimate = rate_interval(&blocks, Duration::from_millis(500)).unwrap();
        let rate = (SAMPLES / SLICES) as f64 * 2.0;
        assert_eq!(
            (estimate.rate, estimate.low, estimate.high),
            (rate, rate, rate)
        );
        assert_eq!(rate_interval(&blocks, Duration::ZERO), None);

        let held = (0..RUNS)
            .filter(|&seed| {
                let mut random = Random::new(seed);
                let mut blocks = Blocks::new(64);
                for wave in random.correlated_normals(0.9).take(500) {
                    let count = 30.0 + 5.0 * wave;
                    blocks.add(std::iter::repeat_n(1, count as usize).collect());
                }
                assert_eq!(blocks.slices_per_block(), 8);
                let estimate = rate_interval(&blocks, Duration::from_secs(2)).unwrap();
                // Truncating a count costs half a sample.
                (estimate.low..=estimate.high).contains(&(29.5 / 2.0))
            })
            .count();
        assert!(held as f64 >= 0.9 * RUNS as f64, "{held}");
    }
}
