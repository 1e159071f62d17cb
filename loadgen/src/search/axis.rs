//! The loads that can be tried.

use crate::result::search::Axis;

/// Significant digits of a rate.
const DIGITS: i32 = 5;

impl Axis {
    /// The nearest load that can be tried.
    pub(super) fn round(self, load: f64) -> f64 {
        match self {
            Self::Connections => load.round().max(1.0),
            Self::Rate => {
                let exponent = DIGITS - 1 - load.log10().floor() as i32;
                let scale = 10_f64.powi(exponent.abs());
                if exponent >= 0 {
                    (load * scale).round() / scale
                } else {
                    (load / scale).round() * scale
                }
            }
        }
    }

    /// The load halfway between two on a logarithmic scale; `None` if there is none between them.
    pub(super) fn between(self, lower: f64, upper: f64) -> Option<f64> {
        let middle = self.round((lower * upper).sqrt());
        if middle > lower && middle < upper {
            return Some(middle);
        }
        // Between whole numbers there may still be one, such as 2 between 1 and 3.
        let next = self.round(lower + 1.0);
        (self == Self::Connections && next > lower && next < upper).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates_are_round_numbers_and_connections_whole_ones() {
        assert_eq!(Axis::Rate.round(123_456.7), 123_460.0);
        assert_eq!(Axis::Rate.round(0.123_456_7), 0.123_46);
        assert_eq!(Axis::Rate.round(99_999.9), 100_000.0);
        assert_eq!(Axis::Connections.round(2.4), 2.0);
        assert_eq!(Axis::Connections.round(0.2), 1.0);
    }

    #[test]
    fn between_neighbours_there_is_nothing() {
        assert_eq!(Axis::Connections.between(4.0, 5.0), None);
        assert_eq!(Axis::Connections.between(1.0, 3.0), Some(2.0));
        assert_eq!(Axis::Rate.between(10_000.0, 10_001.0), None);
        assert_eq!(Axis::Rate.between(100.0, 400.0), Some(200.0));
    }

    proptest! {
        #[test]
        fn rounding_again_changes_nothing(load in 1e-3_f64..1e9) {
            for axis in [Axis::Rate, Axis::Connections] {
                let once = axis.round(load);
                prop_assert_eq!(axis.round(once), once);
            }
        }
    }
}
