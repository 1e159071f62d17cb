//! The dependence of consecutive trials, and how many of them count as one.
//!
//! If a host is slower for some seconds, all trials in these seconds miss, and together they say no
//! more than one. The measure is the integrated autocorrelation time of the trials' deviations from
//! the average at their load, truncated by Geyer's initial positive sequence ("Practical Markov
//! Chain Monte Carlo", Statistical Science 7, 1992, section 3.3).

/// Autocorrelations are computed up to a lag of this fraction of the trials. Beyond it, there are
/// too few pairs.
const MIN_PAIRS_PER_LAG: usize = 3;

/// How many trials count as one: 1 if they are independent. `deviations` are in the order of the
/// trials: by how much each met the goal more than the average trial at its load.
pub(super) fn autocorrelation_time(deviations: &[f64]) -> f64 {
    let covariance = |lag: usize| {
        let later = deviations.get(lag..).unwrap_or_default();
        let products = deviations.iter().zip(later).map(|(a, b)| a * b);
        products.sum::<f64>() / later.len().max(1) as f64
    };
    let variance = covariance(0);
    if variance == 0.0 {
        return 1.0;
    }
    let mut time = -1.0;
    for lag in (0..deviations.len() / MIN_PAIRS_PER_LAG).step_by(2) {
        let pair = (covariance(lag) + covariance(lag + 1)) / variance;
        if pair <= 0.0 {
            break;
        }
        time += 2.0 * pair;
    }
    time.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::super::simulation::Random;
    use super::*;

    /// The estimated autocorrelation time if each trial repeats the previous one with this chance;
    /// the average over many series.
    fn mean_time(repeats: f64, trials: usize) -> f64 {
        const SERIES: usize = 200;
        let mut random = Random::new(1);
        let mut all = 0.0;
        for _ in 0..SERIES {
            let mut deviation = 0.5;
            let mut series: Vec<f64> = std::iter::repeat_with(|| {
                if random.uniform() >= repeats {
                    deviation = if random.uniform() < 0.5 { 0.5 } else { -0.5 };
                }
                deviation
            })
            .take(trials)
            .collect();
            let mean = series.iter().sum::<f64>() / trials as f64;
            series.iter_mut().for_each(|deviation| *deviation -= mean);
            all += autocorrelation_time(&series);
        }
        all / SERIES as f64
    }

    #[test]
    fn independent_trials_count_as_they_are() {
        for trials in [20, 100, 400] {
            let time = mean_time(0.0, trials);
            assert!((1.0..1.4).contains(&time), "{trials}: {time}");
        }
    }

    /// With a lag-1 correlation of r, (1 + r) / (1 - r) trials count as one.
    #[test]
    fn trials_in_spells_count_for_less() {
        for (repeats, truth) in [(0.5, 3.0), (0.8, 9.0)] {
            let time = mean_time(repeats, 400);
            assert!(
                (0.7 * truth..1.3 * truth).contains(&time),
                "{truth}: {time}"
            );
        }
    }

    #[test]
    fn trials_that_all_come_out_as_their_load_says_do_not_depend_on_each_other() {
        for trials in 0..40 {
            assert_eq!(autocorrelation_time(&vec![0.0; trials]), 1.0);
        }
    }
}
