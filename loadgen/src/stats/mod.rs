//! The statistics of a latency benchmark: how exactly a run knows its figures, whether it had
//! settled, whether connections were served alike, and how repeats differ. Pure.
//!
//! Latencies that follow each other are alike: a slow moment hits many messages. Taken for
//! independent, a million samples promise an exactness that they don't have. So a run is kept in
//! [`blocks`] of equal time as well, and what differs between blocks says how much the samples tell.
//!
//! - [`blocks`]: the samples of a run, in a bounded number of blocks.
//! - [`fairness`]: how evenly connections were served.
//! - [`spread`]: repeats of a run.

pub mod blocks;
pub mod fairness;
#[cfg(test)]
mod simulation;
pub mod spread;
mod student;

/// The median; `None` if there are no values. Those that are no numbers sort last.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    Some(if sorted.len() % 2 == 1 {
        upper
    } else {
        f64::midpoint(sorted[sorted.len() / 2 - 1], upper)
    })
}

/// The mean; not a number if there are no values.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
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
}
