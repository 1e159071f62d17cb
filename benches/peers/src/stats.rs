//! Medians, quartiles and ratios over rounds. Pure.

use serde::Serialize;

/// Where the values of several rounds lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the rounds are below.
    pub median: f64,
    /// A quarter of the rounds is below.
    pub low: f64,
    /// A quarter of the rounds is above.
    pub high: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

impl Spread {
    /// Of these values, or nothing if there are none that are finite. Between two values, quantiles
    /// are interpolated linearly (type 7 of Hyndman and Fan, the default of R and numpy).
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        Some(Self {
            median: quantile(&sorted, 0.5),
            low: quantile(&sorted, 0.25),
            high: quantile(&sorted, 0.75),
            min,
            max,
        })
    }
}

/// The ratios `values[i] / base[i]` of the rounds in which there are both. What disturbs a whole
/// round, such as a slower clock of the processor, cancels in each of them.
#[must_use]
pub fn ratios(values: &[Option<f64>], base: &[Option<f64>]) -> Option<Spread> {
    let pairs = values.iter().zip(base);
    Spread::of(pairs.filter_map(|(value, base)| Some((*value)? / (*base)?)))
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let below = sorted[position.floor() as usize];
    let above = sorted[position.ceil() as usize];
    below + (above - below) * position.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_r_and_numpy() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((spread.min, spread.max), (1.0, 4.0));
        assert_eq!((spread.low, spread.median, spread.high), (1.75, 2.5, 3.25));
        let odd = Spread::of([9.0, 1.0, 5.0]).unwrap();
        assert_eq!((odd.low, odd.median, odd.high), (3.0, 5.0, 7.0));
    }

    #[test]
    fn one_value_is_its_own_spread_and_none_has_no_spread() {
        let one = Spread::of([7.0]).unwrap();
        assert_eq!(
            (one.min, one.low, one.median, one.high, one.max),
            (7.0, 7.0, 7.0, 7.0, 7.0)
        );
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([f64::NAN, f64::INFINITY]), None);
    }

    #[test]
    fn a_ratio_is_taken_within_each_round() {
        // The second round ran at half the speed for both; the ratio does not show it.
        let base = [Some(10.0), Some(20.0), Some(10.0)];
        let values = [Some(12.0), Some(24.0), Some(12.0)];
        let spread = ratios(&values, &base).unwrap();
        assert!((spread.min - 1.2).abs() < 1e-12 && (spread.max - 1.2).abs() < 1e-12);
    }

    #[test]
    fn a_round_that_failed_on_either_side_is_left_out() {
        let base = [Some(10.0), None, Some(10.0)];
        let values = [None, Some(5.0), Some(30.0)];
        assert_eq!(ratios(&values, &base).unwrap().median, 3.0);
        assert_eq!(ratios(&[None], &[Some(1.0)]), None);
    }
}
