//! The exact binomial test.

use statrs::function::factorial::ln_binomial;

/// The probability, among `trials` that succeed with probability `chance` each, of a number of successes
/// that is at most as likely as this one.
pub(crate) fn two_sided(successes: u64, trials: u64, chance: f64) -> f64 {
    /// What rounding may make of two equal probabilities.
    const EQUAL: f64 = 1.0 + 1e-7;
    let observed = probability(successes, trials, chance);
    let as_unlikely = (0..=trials)
        .map(|number| probability(number, trials, chance))
        .filter(|&it| it <= observed * EQUAL);
    as_unlikely.sum::<f64>().min(1.0)
}

fn probability(successes: u64, trials: u64, chance: f64) -> f64 {
    let failures = trials - successes;
    // The logarithm of a power; of none, 0 however unlikely it is.
    let ln_power = |chance: f64, times: u64| match times {
        0 => 0.0,
        _ => times as f64 * chance.ln(),
    };
    let ln = ln_binomial(trials, successes)
        + ln_power(chance, successes)
        + ln_power(1.0 - chance, failures);
    ln.exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_near(one: f64, other: f64) {
        assert!((one - other).abs() < 1e-9, "{one} and {other}");
    }

    /// binom.test of R.
    #[test]
    fn known_values() {
        assert_near(two_sided(5, 10, 0.5), 1.0);
        assert_near(two_sided(0, 10, 0.5), 2.0 / 1024.0);
        assert_near(two_sided(1, 10, 0.5), 22.0 / 1024.0);
        // binom.test(682, 925, p = 0.75): p-value = 0.3825.
        assert!((two_sided(682, 925, 0.75) - 0.3825).abs() < 5e-5);
    }

    #[test]
    fn what_is_impossible_or_certain() {
        assert_near(two_sided(0, 100, 0.0), 1.0);
        assert_near(two_sided(1, 100, 0.0), 0.0);
        assert_near(two_sided(100, 100, 1.0), 1.0);
        assert_near(two_sided(0, 0, 0.3), 1.0);
    }

    /// A true expectation is refused at most as often as the level says.
    #[test]
    fn the_level_is_exact() {
        for (trials, chance) in [(20, 0.3), (100, 0.7), (57, 0.05)] {
            let refused: f64 = (0..=trials)
                .filter(|&number| two_sided(number, trials, chance) < 0.05)
                .map(|number| probability(number, trials, chance))
                .sum();
            assert!(refused <= 0.05, "{trials} {chance}: {refused}");
        }
    }
}
