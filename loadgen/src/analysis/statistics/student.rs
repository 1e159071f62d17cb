//! Student's t distribution.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// Beyond this number of degrees of freedom, the normal distribution gives the same three digits,
/// and statrs' inversion becomes imprecise.
const MAX_DEGREES: f64 = 10_000.0;

/// The 0.975 quantile of Student's t distribution: the number of standard errors on each side of a
/// mean for a 95 % interval. Infinite for zero degrees of freedom.
pub(super) fn t_975(degrees: usize) -> f64 {
    t_quantile(0.975, degrees as f64)
}

/// A quantile of Student's t distribution. Infinite for zero degrees of freedom; infinite degrees
/// of freedom give the normal distribution.
pub(super) fn t_quantile(probability: f64, degrees: f64) -> f64 {
    if degrees.is_nan() || degrees <= 0.0 {
        return f64::INFINITY;
    }
    if degrees > MAX_DEGREES {
        return Normal::standard().inverse_cdf(probability);
    }
    StudentsT::new(0.0, 1.0, degrees)
        .map_or(f64::INFINITY, |student| student.inverse_cdf(probability))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (degrees, t) in [
            (1, 12.7062),
            (2, 4.3027),
            (4, 2.7764),
            (5, 2.5706),
            (6, 2.4469),
            (7, 2.3646),
            (9, 2.2622),
            (15, 2.1314),
            (30, 2.0423),
            (63, 1.9983),
            (120, 1.9799),
            (9_999, 1.9602),
            (1_000_000, 1.9600),
        ] {
            assert!((t_975(degrees) - t).abs() < 1e-4, "{degrees}");
        }
        assert!(t_975(0).is_infinite());
        assert!((t_quantile(0.995, 9.0) - 3.2498).abs() < 1e-4);
        assert!((t_quantile(0.995, 4.5) - 4.2838).abs() < 2e-2);
        assert!((t_quantile(0.995, f64::INFINITY) - 2.5758).abs() < 1e-4);
        assert!(t_quantile(0.995, f64::NAN).is_infinite());
    }
}
