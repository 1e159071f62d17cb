//! Scales of axes.

/// Factors of a power of ten for ticks.
const NICE: [f64; 4] = [1.0, 2.0, 5.0, 10.0];
/// From this number of decades on, a logarithmic axis has ticks only at powers of ten.
const MIN_SPARSE_DECADES: f64 = 2.6;

/// An axis from `low` to `high`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    is_log: bool,
}

impl Scale {
    /// Linear from `low` to `high`.
    pub(super) fn linear(low: f64, high: f64) -> Self {
        let (low, high) = (finite(low), finite(high));
        Self {
            low,
            high: if high > low { high } else { low + 1.0 },
            is_log: false,
        }
    }

    /// Linear from 0 to a round number above `most`.
    pub(super) fn up_to(most: f64) -> Self {
        let most = finite(most);
        if most <= 0.0 {
            return Self::linear(0.0, 1.0);
        }
        // A little room above the maximum.
        let step = nice_step(most * 1.02, 5);
        Self::linear(0.0, (most * 1.02 / step).ceil() * step)
    }

    /// Logarithmic from a round number below `least` to one above `most`. Values not above 0 have
    /// no place on it.
    pub(super) fn logarithmic(least: f64, most: f64) -> Self {
        let least = finite(least).max(f64::MIN_POSITIVE * 1e10);
        let most = finite(most).max(least);
        let mut low = round_down(least);
        let mut high = round_up(most);
        if high <= low {
            (low, high) = (low / 2.0, low * 2.0);
        }
        Self {
            low,
            high,
            is_log: true,
        }
    }

    /// Logarithmic from exactly `low` to exactly `high`.
    pub(super) fn between(low: f64, high: f64) -> Self {
        let low = finite(low).max(f64::MIN_POSITIVE * 1e10);
        Self {
            low,
            high: if high > low { finite(high) } else { low * 2.0 },
            is_log: true,
        }
    }

    /// The position of `value`, from 0 to 1. Values beyond the ends are clamped.
    pub(super) fn place(&self, value: f64) -> f64 {
        let place = if self.is_log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        if place.is_finite() {
            place.clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// Lower end.
    pub(super) fn low(&self) -> f64 {
        self.low
    }

    /// Upper end.
    pub(super) fn high(&self) -> f64 {
        self.high
    }

    /// Round values on the axis, about `about` of them on a linear one.
    pub(super) fn ticks(&self, about: usize) -> Vec<f64> {
        if self.is_log {
            self.logarithmic_ticks()
        } else {
            let step = nice_step(self.high - self.low, about);
            let first = (self.low / step - 1e-9).ceil();
            (0..=2 * about + 2)
                .map(|index| (first + index as f64) * step)
                .take_while(|&tick| tick <= self.high + step * 1e-6)
                .collect()
        }
    }

    fn logarithmic_ticks(&self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let factors: &[f64] = if decades > MIN_SPARSE_DECADES {
            &[1.0]
        } else {
            &[1.0, 2.0, 5.0]
        };
        let (first, last) = (
            self.low.log10().floor() as i32,
            self.high.log10().ceil() as i32,
        );
        // With more ticks, labels would touch.
        let every = ((last - first) / 12 + 1) as usize;
        (first..=last)
            .step_by(every)
            .flat_map(|power| {
                factors
                    .iter()
                    .map(move |factor| factor * 10_f64.powi(power))
            })
            .filter(|&tick| tick >= self.low * 0.999 && tick <= self.high * 1.001)
            .collect()
    }
}

/// Whether a scale can be made for the value: a round number above it must be finite too.
fn finite(value: f64) -> f64 {
    const LARGEST: f64 = 1e300;
    if value.is_finite() {
        value.clamp(-LARGEST, LARGEST)
    } else {
        0.0
    }
}

/// The smallest round step of which at most `most` fit into `length`.
fn nice_step(length: f64, most: usize) -> f64 {
    let least = (length / most.max(1) as f64).max(f64::MIN_POSITIVE * 1e10);
    let decade = 10_f64.powf(least.log10().floor());
    NICE.into_iter()
        .map(|factor| factor * decade)
        .find(|step| *step >= least * (1.0 - 1e-9))
        .unwrap_or(10.0 * decade)
}

fn round_down(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    NICE.into_iter()
        .rev()
        .map(|factor| factor * decade)
        .find(|&round| round <= value * (1.0 + 1e-9))
        .unwrap_or(decade)
}

fn round_up(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    NICE.into_iter()
        .map(|factor| factor * decade)
        .find(|&round| round >= value * (1.0 - 1e-9))
        .unwrap_or(10.0 * decade)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_largest_figures_have_ticks() {
        let scale = Scale::logarithmic(0.0, f64::MAX);
        assert!((1..=100).contains(&scale.ticks(6).len()));
        assert!(scale.high.is_finite());
        assert!(Scale::up_to(f64::MAX).high.is_finite());
    }

    #[test]
    fn ticks_are_round() {
        let near = |found: Vec<f64>, wanted: &[f64]| {
            assert_eq!(found.len(), wanted.len(), "{found:?}");
            for (found, wanted) in found.iter().zip(wanted) {
                assert!((found / wanted - 1.0).abs() < 1e-9 || found == wanted);
            }
        };
        near(
            Scale::up_to(4_800.0).ticks(5),
            &[0.0, 1e3, 2e3, 3e3, 4e3, 5e3],
        );
        near(
            Scale::linear(0.0, 6.0).ticks(6),
            &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        );
        near(
            Scale::logarithmic(9.0, 350.0).ticks(0),
            &[5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0],
        );
        near(
            Scale::logarithmic(1.0, 1e4).ticks(0),
            &[1.0, 10.0, 100.0, 1e3, 1e4],
        );
    }

    proptest! {
        #[test]
        fn every_figure_has_a_place(
            a in any::<f64>(), b in any::<f64>(), value in any::<f64>(),
        ) {
            for scale in [Scale::linear(a, b), Scale::up_to(a), Scale::logarithmic(a, b)] {
                let place = scale.place(value);
                prop_assert!((0.0..=1.0).contains(&place), "{scale:?} {value} {place}");
                prop_assert!(scale.ticks(6).len() <= 100);
            }
        }

        #[test]
        fn what_a_scale_was_made_for_lies_within(least in 1e-3..1e12, factor in 1.0..1e9) {
            let most: f64 = least * factor;
            let scale = Scale::logarithmic(least, most);
            prop_assert!(scale.low <= least * 1.000001 && scale.high >= most * 0.999999);
            prop_assert!(scale.place(least) <= scale.place(most));
            prop_assert!(Scale::up_to(most).place(most) < 1.0);
        }
    }
}
