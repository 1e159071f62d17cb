//! The difference between two sides that were not measured in pairs.

use super::signed_rank::Shift;
use super::student::t_quantile;

/// One side's data on a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    /// The figure.
    pub value: f64,
    /// Components of the variance of `value`, each with the degrees of freedom of its estimate;
    /// infinite for a known variance.
    pub variances: [(f64, f64); 2],
}

impl Estimate {
    /// The mean of several runs. `None` with fewer than two.
    pub(crate) fn of_runs(values: &[f64]) -> Option<Self> {
        let n = values.len() as f64;
        if values.len() < 2 || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let value = super::mean(values);
        let squares: f64 = values.iter().map(|other| (other - value).powi(2)).sum();
        Some(Self {
            value,
            variances: [(squares / (n - 1.0) / n, n - 1.0), (0.0, f64::INFINITY)],
        })
    }

    /// A single run with its 95 % interval, estimated from `batches`. `between` is the assumed
    /// standard deviation between runs.
    pub(crate) fn of_one_run(
        value: f64,
        interval: (f64, f64),
        batches: usize,
        between: f64,
    ) -> Self {
        let degrees = batches.saturating_sub(1) as f64;
        let error = (interval.1 - interval.0) / 2.0 / t_quantile(0.975, degrees);
        Self {
            value,
            variances: [(error.powi(2), degrees), (between.powi(2), f64::INFINITY)],
        }
    }
}

/// The difference of `new` to `base`, with the chance `error` that it lies outside the interval.
///
/// Welch, "The Generalization of 'Student's' Problem when Several Different Population Variances are
/// Involved", Biometrika 34, 1947, with the degrees of freedom of Satterthwaite, "An Approximate
/// Distribution of Estimates of Variance Components", Biometrics Bulletin 2, 1946.
pub(crate) fn shift(base: &Estimate, new: &Estimate, error: f64) -> Shift {
    let parts = || base.variances.iter().chain(&new.variances);
    let variance: f64 = parts().map(|part| part.0).sum();
    let spread: f64 = parts()
        .map(|(variance, degrees)| variance.powi(2) / degrees)
        .sum();
    let margin = if variance > 0.0 {
        let degrees = if spread > 0.0 {
            variance.powi(2) / spread
        } else {
            f64::INFINITY
        };
        t_quantile(1.0 - error / 2.0, degrees) * variance.sqrt()
    } else {
        0.0
    };
    let estimate = new.value - base.value;
    Shift {
        estimate,
        low: estimate - margin,
        high: estimate + margin,
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulation::Random;
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_textbook() {
        // Means 3 and 6, variances of the means 2.5 / 5 and 10 / 5: 5.88 degrees of freedom.
        let base = Estimate::of_runs(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let new = Estimate::of_runs(&[2.0, 4.0, 6.0, 8.0, 10.0]).unwrap();
        let shift = shift(&base, &new, 0.05);
        assert!((shift.estimate - 3.0).abs() < 1e-12);
        let margin = t_quantile(0.975, 6.25 / (0.25 / 4.0 + 4.0 / 4.0)) * 2.5_f64.sqrt();
        assert!((shift.high - shift.estimate - margin).abs() < 1e-12);
        assert!((shift.estimate - shift.low - margin).abs() < 1e-12);
        assert_eq!(Estimate::of_runs(&[1.0]), None);
    }

    #[test]
    fn runs_that_do_not_differ_have_no_margin() {
        let runs = Estimate::of_runs(&[2.0, 2.0, 2.0]).unwrap();
        let shift = shift(&runs, &runs, 0.05);
        assert_eq!((shift.low, shift.high), (0.0, 0.0));
    }

    #[test]
    fn a_single_run_is_no_surer_than_runs_are_alike() {
        let exact = Estimate::of_one_run(1.0, (0.999, 1.001), 30, 0.1);
        let shift = shift(&exact, &exact, 0.05);
        assert!(shift.high > 1.9 * 0.1 * 2.0_f64.sqrt());
        let blind = Estimate::of_one_run(1.0, (0.9, 1.1), 0, 0.0);
        assert!(blind.variances[0].0.abs() < 1e-12);
    }

    #[test]
    fn false_alarms_are_as_rare_as_claimed() {
        let mut random = Random::new(3);
        let comparisons = 2000;
        let alarms = (0..comparisons)
            .filter(|_| {
                let mut runs =
                    |n, spread| -> Vec<f64> { (0..n).map(|_| spread * random.normal()).collect() };
                let base = Estimate::of_runs(&runs(5, 1.0)).unwrap();
                let new = Estimate::of_runs(&runs(8, 3.0)).unwrap();
                let shift = shift(&base, &new, 0.05);
                shift.low > 0.0 || shift.high < 0.0
            })
            .count();
        // 0.05 with a standard deviation of 0.005.
        assert!(alarms < 130, "{alarms}");
    }
}
