//! Distributions of times.

use std::f64::consts::TAU;
use std::time::Duration;

/// How long something takes, drawn anew each time.
#[derive(Clone, Debug, PartialEq)]
pub enum Distribution {
    /// Always the same.
    Constant(Duration),
    /// Each time between two, with the same chance.
    Uniform {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// Exponential.
    Exponential {
        /// The mean.
        mean: Duration,
    },
    /// Normal; what would be negative is 0.
    Normal {
        /// The mean.
        mean: Duration,
        /// The standard deviation.
        deviation: Duration,
    },
    /// One of several, each with a weight above 0.
    Mix(Vec<(Duration, f64)>),
}

impl Distribution {
    /// Whether it is not always the same.
    pub(crate) fn is_random(&self) -> bool {
        !matches!(self, Self::Constant(_))
    }

    /// The longest time that it is made of, which a draw may exceed.
    pub(super) fn scale(&self) -> Duration {
        match self {
            Self::Constant(time) => *time,
            Self::Uniform { max, .. } => *max,
            Self::Exponential { mean } => *mean,
            Self::Normal { mean, deviation } => *mean.max(deviation),
            Self::Mix(times) => times.iter().map(|it| it.0).max().unwrap_or_default(),
        }
    }

    /// The time for two independent words of random bits, in nanoseconds.
    pub(crate) fn draw(&self, words: [u64; 2]) -> u64 {
        let [first, second] = words.map(unit);
        let nanoseconds = |time: &Duration| time.as_nanos() as f64;
        let drawn = match self {
            Self::Constant(time) => return time.as_nanos() as u64,
            Self::Uniform { min, max } => {
                let (min, max) = (nanoseconds(min), nanoseconds(max));
                min + first * (max - min)
            }
            // 1 - u is never 0.
            Self::Exponential { mean } => -(1.0 - first).ln() * nanoseconds(mean),
            // Box and Muller.
            Self::Normal { mean, deviation } => {
                let normal = (-2.0 * (1.0 - first).ln()).sqrt() * (TAU * second).cos();
                nanoseconds(mean) + normal * nanoseconds(deviation)
            }
            Self::Mix(times) => {
                let total: f64 = times.iter().map(|(_, weight)| weight).sum();
                let mut left = first * total;
                let chosen = times.iter().find(|(_, weight)| {
                    left -= weight;
                    left < 0.0
                });
                // Rounding may leave a little more than all weights.
                chosen
                    .or_else(|| times.last())
                    .map_or(0.0, |it| nanoseconds(&it.0))
            }
        };
        // A conversion of a negative number is 0.
        drawn.round() as u64
    }
}

/// A number from 0 to below 1 of 53 random bits, each as probable as the others.
pub(super) fn unit(word: u64) -> f64 {
    (word >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Draws;
    use proptest::prelude::*;

    const DRAWS: u64 = 200_000;

    /// Sorted draws of a distribution, as a connection's messages get them.
    fn sorted(distribution: &Distribution, seed: u64) -> Vec<f64> {
        let mut drawn: Vec<_> = (0..DRAWS)
            .map(|message| Draws::of(seed, 3, message).delay(distribution) as f64)
            .collect();
        drawn.sort_unstable_by(f64::total_cmp);
        drawn
    }

    fn quantile(sorted: &[f64], q: f64) -> f64 {
        sorted[(q * sorted.len() as f64) as usize]
    }

    #[test]
    fn quantiles_are_those_of_the_distribution() {
        let ms = Duration::from_millis;
        let exponential = sorted(&Distribution::Exponential { mean: ms(1) }, 1);
        for q in [0.1_f64, 0.25, 0.5, 0.75, 0.9, 0.99] {
            let expected = -(1.0 - q).ln() * 1e6;
            let error = quantile(&exponential, q) / expected - 1.0;
            assert!(error.abs() < 0.01, "exp p{q}: {error}");
        }
        let (min, max) = (ms(1), ms(5));
        let uniform = sorted(&Distribution::Uniform { min, max }, 2);
        for q in [0.01, 0.5, 0.99] {
            let error = quantile(&uniform, q) / (1e6 + q * 4e6) - 1.0;
            assert!(error.abs() < 0.01, "uniform p{q}: {error}");
        }
        assert!(uniform[0] >= 1e6 && *uniform.last().unwrap() <= 5e6);
        let (mean, deviation) = (ms(5), ms(1));
        let normal = sorted(&Distribution::Normal { mean, deviation }, 3);
        for (q, expected) in [(0.5, 5e6), (0.841_344_7, 6e6), (0.977_249_9, 7e6)] {
            let error = quantile(&normal, q) / expected - 1.0;
            assert!(error.abs() < 0.005, "normal p{q}: {error}");
        }
        let mix = sorted(&Distribution::Mix(vec![(ms(1), 90.0), (ms(20), 10.0)]), 4);
        let short = mix.iter().filter(|it| **it < 1.5e6).count() as f64;
        // Of a binomial with 0.9, five standard deviations.
        let tolerance = 5.0 * (0.09 / DRAWS as f64).sqrt();
        assert!((short / DRAWS as f64 - 0.9).abs() < tolerance);
        assert!(mix.iter().all(|it| *it == 1e6 || *it == 2e7));
    }

    proptest! {
        #[test]
        fn a_draw_is_within_what_is_possible(first in any::<u64>(), second in any::<u64>(),
            min in 0_u64..1 << 40, more in 0_u64..1 << 40) {
            let words = [first, second];
            let [low, high] = [min, min + more].map(Duration::from_nanos);
            let constant = Distribution::Constant(low);
            prop_assert_eq!(constant.draw(words), min);
            let uniform = Distribution::Uniform { min: low, max: high }.draw(words);
            prop_assert!((min..=min + more).contains(&uniform));
            // 53 bits reach no further than 37 means.
            let exponential = Distribution::Exponential { mean: high }.draw(words);
            prop_assert!(exponential <= (min + more) * 37);
            let mix = Distribution::Mix(vec![(low, 0.1), (high, 0.2)]).draw(words);
            prop_assert!(mix == min || mix == min + more);
        }
    }
}
