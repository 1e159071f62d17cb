//! Student's t distribution, as far as 95 % intervals need it.

/// The 0.975 quantile of the standard normal distribution.
const NORMAL: f64 = 1.959_963_984_540_054;

/// The 0.975 quantiles for 1 to 6 degrees of freedom, where the expansion below is not exact
/// enough.
const FEW_DEGREES: [f64; 6] = [
    12.706_205, 4.302_653, 3.182_446, 2.776_445, 2.570_582, 2.446_912,
];

/// The 0.975 quantile of Student's t distribution: so many standard errors to both sides of a mean
/// make a 95 % interval. Exact to four decimals. Infinite for no degrees of freedom.
///
/// Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.5.
pub(super) fn t_975(degrees: usize) -> f64 {
    if degrees == 0 {
        return f64::INFINITY;
    }
    if let Some(&t) = FEW_DEGREES.get(degrees - 1) {
        return t;
    }
    let (z, n) = (NORMAL, degrees as f64);
    let power = |exponent| z.powi(exponent);
    z + (power(3) + z) / (4.0 * n)
        + (5.0 * power(5) + 16.0 * power(3) + 3.0 * z) / (96.0 * n.powi(2))
        + (3.0 * power(7) + 19.0 * power(5) + 17.0 * power(3) - 15.0 * z) / (384.0 * n.powi(3))
        + (79.0 * power(9) + 776.0 * power(7) + 1482.0 * power(5) - 1920.0 * power(3) - 945.0 * z)
            / (92_160.0 * n.powi(4))
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
            (1_000_000, 1.9600),
        ] {
            assert!((t_975(degrees) - t).abs() < 1e-4, "{degrees}");
        }
        assert!(t_975(0).is_infinite());
    }
}
