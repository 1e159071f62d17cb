//! The spread of a figure over repeats of a run.

use super::student::t_975;
use crate::result::statistics::Spread;

/// Minimum of repeats for an interval of the mean. With two, the interval would be too wide to be
/// useful.
const MIN_REPEATS: usize = 3;

impl Spread {
    /// `None` without values, or if one of them is not finite.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let median = super::median(values)?;
        let (n, mean) = (values.len(), super::mean(values));
        let stdev = (n >= 2).then(|| {
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            (squares / (n - 1) as f64).sqrt()
        });
        let margin = stdev
            .filter(|_| n >= MIN_REPEATS)
            .map(|stdev| t_975(n - 1) * stdev / (n as f64).sqrt());
        Some(Self {
            n,
            median,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            mean,
            stdev,
            coefficient_of_variation: stdev
                .filter(|_| mean != 0.0)
                .map(|stdev| stdev / mean.abs()),
            low: margin.map(|margin| mean - margin),
            high: margin.map(|margin| mean + margin),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulation::Random;
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_textbook() {
        // The mean is 5 and the squared deviations add up to 10: s = sqrt(10 / 4), t(4) = 2.7764.
        let spread = Spread::of(&[7.0, 3.0, 5.0, 4.0, 6.0]).unwrap();
        assert_eq!(
            (spread.n, spread.median, spread.min, spread.max, spread.mean),
            (5, 5.0, 3.0, 7.0, 5.0)
        );
        let stdev = 2.5_f64.sqrt();
        assert!((spread.stdev.unwrap() - stdev).abs() < 1e-12);
        assert!((spread.coefficient_of_variation.unwrap() - stdev / 5.0).abs() < 1e-12);
        let margin = 2.7764 * stdev / 5.0_f64.sqrt();
        assert!((spread.low.unwrap() - (5.0 - margin)).abs() < 1e-3);
        assert!((spread.high.unwrap() - (5.0 + margin)).abs() < 1e-3);
    }

    #[test]
    fn few_repeats_promise_nothing() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[1.0, f64::NAN]), None);
        let one = Spread::of(&[2.0]).unwrap();
        assert_eq!((one.median, one.stdev, one.low), (2.0, None, None));
        let two = Spread::of(&[1.0, 3.0]).unwrap();
        assert!(two.stdev.is_some() && two.low.is_none() && two.high.is_none());
        let zero = Spread::of(&[-1.0, 0.0, 1.0]).unwrap();
        assert!(zero.coefficient_of_variation.is_none() && zero.low.is_some());
    }

    #[test]
    fn intervals_hold_the_mean_as_often_as_they_say() {
        let mut random = Random::new(1);
        let runs = 2000;
        let covered = (0..runs)
            .filter(|_| {
                let values: Vec<f64> = (0..5).map(|_| 10.0 + random.normal()).collect();
                let spread = Spread::of(&values).unwrap();
                (spread.low.unwrap()..=spread.high.unwrap()).contains(&10.0)
            })
            .count();
        // 0.95 with a standard deviation of 0.005.
        let coverage = covered as f64 / f64::from(runs);
        assert!((0.93..0.97).contains(&coverage), "{coverage}");
    }

    #[test]
    fn a_spread_survives_json() {
        let spread = Spread::of(&[1.0, 3.0]).unwrap();
        let json = serde_json::to_string(&spread).unwrap();
        assert!(json.contains("\"coefficient_of_variation\":"));
        assert!(json.contains("\"low\":null"));
        assert_eq!(serde_json::from_str::<Spread>(&json).unwrap(), spread);
    }
}
