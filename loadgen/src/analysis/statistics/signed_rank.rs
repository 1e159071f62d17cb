//! The difference between two sides measured in pairs.
//!
//! In each pair, chance decided which side was measured first. Without a difference between the
//! sides, each pair's difference is as likely to have the opposite sign, whatever the noise: long
//! tails, drift and disturbances over several pairs change nothing (Fisher, "The Design of
//! Experiments", 1935; Ernst, "Permutation Methods: A Basis for Exact Inference", Statistical
//! Science 19, 2004). So the null distribution of Wilcoxon's signed-rank statistic is known
//! exactly, and its interval has exactly the stated error. Student's t has that property only for
//! normal noise; a few disturbed pairs make its interval too wide to be useful, as the simulations
//! below show.

/// An estimate of the difference, and its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shift {
    /// The Hodges-Lehmann estimate: the median of the means of all pairs of differences, including
    /// each difference with itself.
    pub estimate: f64,
    /// Lower end; minus infinity with too few pairs.
    pub low: f64,
    /// Upper end; infinity with too few pairs.
    pub high: f64,
}

/// The difference from `differences`, one per pair. `error` is the chance that it lies outside the
/// interval. `None` without pairs, or if a difference is not finite.
///
/// Hodges and Lehmann, "Estimates of Location Based on Rank Tests", Annals of Mathematical Statistics
/// 34, 1963; the interval after Hollander, Wolfe, Chicken, "Nonparametric Statistical Methods", 2014,
/// 3.3.
pub(crate) fn shift(differences: &[f64], error: f64) -> Option<Shift> {
    if differences.iter().any(|difference| !difference.is_finite()) {
        return None;
    }
    let means = walsh_averages(differences);
    let estimate = super::median(&means)?;
    let outside = max_outside(differences.len(), error);
    let (low, high) = match outside {
        0 => (f64::NEG_INFINITY, f64::INFINITY),
        outside => (means[outside - 1], means[means.len() - outside]),
    };
    Some(Shift {
        estimate,
        low,
        high,
    })
}

/// The minimum of pairs for a bounded interval with this chance of an error.
pub(crate) fn min_pairs(error: f64) -> usize {
    (1 - error.log2().floor() as i32).max(1) as usize
}

/// The means of all pairs of differences, including each with itself, smallest first.
fn walsh_averages(differences: &[f64]) -> Vec<f64> {
    let mut means = Vec::with_capacity(differences.len() * (differences.len() + 1) / 2);
    for (index, &first) in differences.iter().enumerate() {
        let others = differences[index..].iter();
        means.extend(others.map(|&second| f64::midpoint(first, second)));
    }
    means.sort_unstable_by(f64::total_cmp);
    means
}

/// How many of the smallest and largest means lie at or outside the interval's ends: the largest
/// `k` such that the statistic is below `k` with a chance of at most `error` / 2. 0 if there is
/// none.
fn max_outside(pairs: usize, error: f64) -> usize {
    let mut below = 0.0;
    null_distribution(pairs)
        .iter()
        .take_while(|&&chance| {
            below += chance;
            below <= error / 2.0
        })
        .count()
}

/// The probability of every value of the signed-rank statistic under random signs: the number of
/// subsets of the ranks with that sum, over the number of all subsets.
fn null_distribution(pairs: usize) -> Vec<f64> {
    let mut chances = vec![1.0];
    for rank in 1..=pairs {
        let mut next = vec![0.0; chances.len() + rank];
        for (sum, chance) in chances.iter().enumerate() {
            next[sum] += chance / 2.0;
            next[sum + rank] += chance / 2.0;
        }
        chances = next;
    }
    chances
}

#[cfg(test)]
mod tests {
    use super::super::simulation::Random;
    use super::super::student::t_quantile;
    use super::*;

    #[test]
    fn critical_values_are_those_of_the_tables() {
        // Hollander, Wolfe, Chicken, table A.4: P(T+ <= 8) = 0.0244 for ten pairs, and so on.
        let below =
            |pairs, value: usize| -> f64 { null_distribution(pairs)[..=value].iter().sum() };
        assert!((below(10, 8) - 0.0244).abs() < 1e-4);
        assert!((below(7, 2) - 0.0234).abs() < 1e-4);
        assert_eq!(max_outside(10, 0.05), 9);
        assert_eq!(max_outside(7, 0.05), 3);
        assert_eq!((max_outside(5, 0.05), max_outside(6, 0.05)), (0, 1));
    }

    #[test]
    fn too_few_pairs_have_no_interval() {
        for error in [0.05, 0.01, 0.05 / 7.0, 0.05 / 24.0, 0.25, 0.5] {
            let least = min_pairs(error);
            assert_eq!(max_outside(least - 1, error), 0, "{error}");
            assert!(max_outside(least, error) >= 1, "{error}");
        }
        let few = shift(&[1.0, 2.0, 4.0], 0.05).unwrap();
        assert_eq!((few.estimate, few.low), (2.25, f64::NEG_INFINITY));
        assert_eq!(shift(&[], 0.05), None);
        assert_eq!(shift(&[1.0, f64::NAN], 0.05), None);
    }

    #[test]
    fn an_interval_is_that_of_the_textbook() {
        // Six pairs at 0.05: the interval is that of all means.
        let six = shift(&[3.0, -1.0, 2.0, 5.0, 4.0, 7.0], 0.05).unwrap();
        assert_eq!((six.low, six.high), (-1.0, 7.0));
        assert_eq!(six.estimate, 3.5);
    }

    /// Rounds that are simulated, and what they are simulated as.
    const COMPARISONS: u64 = 2000;
    const PAIRS: usize = 15;
    const EFFECT: f64 = 0.1;

    /// Logarithms of a figure of both sides in each round; `effect` is what the new side adds.
    fn differences(
        random: &mut Random,
        effect: f64,
        noise: &dyn Fn(&mut Random) -> Vec<f64>,
    ) -> Vec<f64> {
        let noise = noise(random);
        noise
            .chunks_exact(2)
            .map(|pair| {
                // Chance decides which side is measured first.
                let (base, new) = if random.uniform() < 0.5 {
                    (pair[0], pair[1])
                } else {
                    (pair[1], pair[0])
                };
                new + effect - base
            })
            .collect()
    }

    fn student(differences: &[f64], error: f64) -> (f64, f64) {
        let n = differences.len() as f64;
        let mean = super::super::mean(differences);
        let squares: f64 = differences.iter().map(|d| (d - mean).powi(2)).sum();
        let margin = t_quantile(1.0 - error / 2.0, n - 1.0) * (squares / (n - 1.0) / n).sqrt();
        (mean - margin, mean + margin)
    }

    fn cauchy(random: &mut Random) -> f64 {
        random.normal() / random.normal()
    }

    /// Noise of `2 * PAIRS` runs that follow each other.
    type Noise = (&'static str, Box<dyn Fn(&mut Random) -> Vec<f64>>);

    fn noises() -> Vec<Noise> {
        let runs = 2 * PAIRS;
        let each = move |one: fn(&mut Random) -> f64| {
            move |random: &mut Random| (0..runs).map(|_| one(random)).collect()
        };
        vec![
            ("normal", Box::new(each(|r| 0.02 * r.normal()))),
            ("lognormal", Box::new(each(|r| 0.02 * r.normal().exp()))),
            ("Cauchy", Box::new(each(|r| 0.01 * cauchy(r)))),
            (
                "one in ten runs disturbed",
                Box::new(each(|r| {
                    let disturbed = if r.uniform() < 0.1 {
                        r.exponential()
                    } else {
                        0.0
                    };
                    0.02 * r.normal() + disturbed
                })),
            ),
            (
                "weather",
                Box::new(move |r| {
                    r.correlated_normals(0.9)
                        .take(runs)
                        .map(|x| 0.05 * x)
                        .collect()
                }),
            ),
            (
                "drift",
                Box::new(move |r| {
                    (0..runs)
                        .map(|run| 0.01 * run as f64 + 0.02 * r.normal())
                        .collect()
                }),
            ),
            // A three-digit clock makes many figures equal.
            (
                "coarse",
                Box::new(each(|r| (0.02 * r.normal() * 100.0).round() / 100.0)),
            ),
        ]
    }

    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say_whatever_the_noise() {
        for (name, noise) in noises() {
            for error in [0.05, 0.05 / 6.0] {
                let mut random = Random::new(7);
                let held = (0..COMPARISONS)
                    .filter(|_| {
                        let differences = differences(&mut random, EFFECT, &*noise);
                        let shift = shift(&differences, error).unwrap();
                        // Rounded differences reach the ends only up to rounding errors.
                        (shift.low - 1e-9..=shift.high + 1e-9).contains(&EFFECT)
                    })
                    .count();
                let missed = 1.0 - held as f64 / COMPARISONS as f64;
                // Three standard deviations of chance.
                let most = error + 3.0 * (error * (1.0 - error) / COMPARISONS as f64).sqrt();
                assert!(missed <= most, "{name} at {error}: missed {missed}");
            }
        }
    }

    #[test]
    fn disturbed_rounds_cost_less_than_they_cost_student() {
        for (name, noise) in noises() {
            let mut random = Random::new(11);
            let (mut ours, mut students) = (0, 0);
            for _ in 0..COMPARISONS {
                let differences = differences(&mut random, EFFECT, &*noise);
                ours += u64::from(shift(&differences, 0.01).unwrap().low > 0.0);
                students += u64::from(student(&differences, 0.01).0 > 0.0);
            }
            match name {
                "Cauchy" | "one in ten runs disturbed" => assert!(ours > students + 300, "{name}"),
                _ => assert!(ours + 100 >= students, "{name}: {ours}, {students}"),
            }
        }
    }
}
