//! The statistics of a latency benchmark: the precision of figures, warm-up and drift, fairness
//! between connections, and differences between repeats. Pure.
//!
//! Consecutive latencies are correlated: a slow moment affects many messages. If a million samples
//! were taken as independent, the precision would be overstated. So the samples of a run are also
//! kept in [`blocks`] of equal time, and the differences between blocks show how much the samples
//! tell.
//!
//! - [`blocks`]: the samples of a run in a bounded number of blocks.
//! - [`interval`]: confidence intervals of percentiles and rates.
//! - [`warmup`]: warm-up and drift.
//! - [`backlog`]: whether an open loop's messages wait longer and longer.
//! - [`fairness`]: fairness between connections.
//! - [`spread`]: the spread of repeats.
//! - [`signed_rank`], [`welch`]: the difference between two sides.

pub(crate) mod backlog;
pub(crate) mod binomial;
pub(crate) mod blocks;
pub(crate) mod fairness;
mod fit;
pub(crate) mod interval;
pub(crate) mod signed_rank;
#[cfg(test)]
pub(crate) mod simulation;
pub(crate) mod spread;
mod student;
pub(crate) mod warmup;
pub(crate) mod welch;

/// The median; `None` without values. NaN sorts last.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    Some(if sorted.len() % 2 == 1 {
        upper
    } else {
        f64::midpoint(sorted[sorted.len() / 2 - 1], upper)
    })
}

/// The mean; NaN without values.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Lag-1 autocorrelation of the deviations; 0 if all are zero.
fn lag_one_correlation(deviations: &[f64]) -> f64 {
    let products: f64 = deviations.windows(2).map(|pair| pair[0] * pair[1]).sum();
    let squares: f64 = deviations.iter().map(|deviation| deviation.powi(2)).sum();
    if squares > 0.0 {
        products / squares
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn correlation_tells_waves_from_zigzag() {
        assert!(lag_one_correlation(&[1.0, 1.0, 1.0, -1.0, -1.0, -1.0]) > 0.4);
        assert!(lag_one_correlation(&[1.0, -1.0, 1.0, -1.0, 1.0, -1.0]) < -0.8);
        assert!(lag_one_correlation(&[0.0, 0.0]).abs() < f64::EPSILON);
    }
}
