//! Changes during a run: an incomplete warm-up, or a drift.
//!
//! A change must be both certain and large: with enough blocks any change is certain, and with
//! enough noise any is large. The limits come from simulations: fewer than 1 % of steady runs,
//! whose blocks may have a lag-1 correlation of up to 0.5, are flagged.

use super::blocks::Blocks;
use super::fit::{Decay, Line, curbed};
use crate::result::statistics::Trend;

/// Minimum of blocks for telling a trend from chance.
const MIN_BLOCKS: usize = 10;
/// Smaller relative differences of levels do not matter, however certain they are.
const MIN_CHANGE: f64 = 0.1;
/// Required difference of the beginning in standard errors. It is larger than for a single test,
/// because the best of several lengths is chosen.
const MIN_TRANSIENT_Z: f64 = 3.0;
/// Required size of a rise or fall in standard deviations.
const MIN_DRIFT_Z: f64 = 2.5;

impl Trend {
    /// The trend of the blocks' medians; `None` as in [`Trend::of`]. Blocks without samples are
    /// skipped.
    pub(crate) fn of_medians(blocks: &Blocks) -> Option<Self> {
        let medians: Vec<f64> = blocks
            .quantiles(0.5)
            .into_iter()
            .map(|median| median as f64)
            .collect();
        Self::of(&medians)
    }

    /// The trend of figures of consecutive blocks. `None` with fewer than ten, or if one is not
    /// above 0.
    ///
    /// With 32 blocks or more and 5 % scatter, it finds 95 % of the warm-ups that begin at 1.5
    /// times the level and last a fifth of the window, and of drifts by 30 %.
    pub fn of(series: &[f64]) -> Option<Self> {
        if series.len() < MIN_BLOCKS
            || !series.iter().all(|&value| value > 0.0 && value.is_finite())
        {
            return None;
        }
        // Ratios matter, and with logarithms a few slow blocks have less weight.
        let logarithms = curbed(&series.iter().map(|value| value.ln()).collect::<Vec<f64>>())?;
        let decay = Decay::fit(&logarithms)?;
        let line = Line::fit(&logarithms)?;
        if decay.squares <= line.squares && decay.z >= MIN_TRANSIENT_Z {
            let (until, from, to) = decay.levels(series)?;
            if differ(from, to) {
                return Some(Self::Transient { until, from, to });
            }
        }
        let (from, to) = line.ends(series.len());
        Some(if line.z >= MIN_DRIFT_Z && differ(from, to) {
            Self::Drift { from, to }
        } else {
            Self::Steady
        })
    }
}

fn differ(from: f64, to: f64) -> bool {
    from.max(to) >= from.min(to) * (1.0 + MIN_CHANGE)
}

#[cfg(test)]
mod tests {
    use super::super::simulation::Random;
    use super::*;
    use crate::result::histogram;

    const RUNS: u64 = 300;
    const BLOCKS: usize = 48;

    /// A shape with noise: `level` maps shares of the window to levels, `noise` gives logarithms.
    fn series(
        blocks: usize,
        level: impl Fn(f64) -> f64,
        noise: impl Iterator<Item = f64>,
    ) -> Vec<f64> {
        (0..blocks)
            .zip(noise)
            .map(|(block, noise)| {
                level((block as f64 + 0.5) / blocks as f64) * 1000.0 * noise.exp()
            })
            .collect()
    }

    fn steady(_: f64) -> f64 {
        1.0
    }

    fn warm_up(share: f64) -> f64 {
        1.0 + 0.5 * (-share / (0.2 / 3.0)).exp()
    }

    fn drift(share: f64) -> f64 {
        1.0 + 0.3 * share
    }

    /// How often `is_such` holds.
    fn rate(is_such: impl Fn(Trend) -> bool, simulate: impl Fn(&mut Random) -> Vec<f64>) -> f64 {
        let such = (0..RUNS)
            .filter(|&seed| is_such(Trend::of(&simulate(&mut Random::new(seed))).unwrap()))
            .count();
        such as f64 / RUNS as f64
    }

    fn is_accused(trend: Trend) -> bool {
        trend != Trend::Steady
    }

    /// Student's t with three degrees of freedom and correlated neighbours: occasional outliers.
    fn heavy_tailed(random: &mut Random, rho: f64, size: f64) -> Vec<f64> {
        let scales: Vec<f64> = (0..BLOCKS)
            .map(|_| (0..3).map(|_| random.normal().powi(2)).sum::<f64>() / 3.0)
            .collect();
        let waves = random.correlated_normals(rho);
        waves
            .zip(scales)
            .map(|(wave, scale)| size * wave / scale.sqrt())
            .collect()
    }

    #[test]
    fn noise_is_no_trend() {
        for rho in [0.0, 0.5] {
            for size in [0.05, 0.3] {
                let alarms = rate(is_accused, |random| {
                    let noise = random.correlated_normals(rho).map(|wave| size * wave);
                    series(BLOCKS, steady, noise)
                });
                assert!(alarms <= 0.01, "rho {rho}, size {size}: {alarms}");
                let alarms = rate(is_accused, |random| {
                    let noise = heavy_tailed(random, rho, size);
                    series(BLOCKS, steady, noise.into_iter())
                });
                assert!(
                    alarms <= 0.01,
                    "heavy tails, rho {rho}, size {size}: {alarms}"
                );
            }
        }
    }

    #[test]
    fn a_single_stall_is_no_trend() {
        for size in [0.0, 0.01, 0.05] {
            for at in [0, 2, BLOCKS - 1] {
                let alarms = rate(is_accused, |random| {
                    let noise = random.correlated_normals(0.0).map(|wave| size * wave);
                    let mut series = series(BLOCKS, steady, noise);
                    series[at] *= 50.0;
                    series
                });
                assert!(alarms <= 0.01, "size {size}, at {at}: {alarms}");
            }
        }
    }

    #[test]
    fn a_small_change_does_not_matter() {
        let line = series(BLOCKS, |share| 1.0 + 0.09 * share, std::iter::repeat(0.0));
        assert_eq!(Trend::of(&line), Some(Trend::Steady));
        let step = series(
            BLOCKS,
            |share| if share < 0.2 { 1.09 } else { 1.0 },
            std::iter::repeat(0.0),
        );
        assert_eq!(Trend::of(&step), Some(Trend::Steady));
    }

    #[test]
    fn a_warm_up_is_found() {
        for blocks in [32, 64] {
            for size in [0.005, 0.05] {
                let found = rate(
                    |trend| match trend {
                        Trend::Transient { until, from, to } => {
                            (0.1..=0.31).contains(&until)
                                && from > 1100.0
                                && (950.0..1050.0).contains(&to)
                        }
                        _ => false,
                    },
                    |random| {
                        let noise = random.correlated_normals(0.0).map(|wave| size * wave);
                        series(blocks, warm_up, noise)
                    },
                );
                assert!(found >= 0.95, "{blocks} blocks, size {size}: {found}");
            }
        }
    }

    #[test]
    fn a_drift_is_found() {
        for blocks in [32, 64] {
            let found = rate(
                |trend| match trend {
                    Trend::Drift { from, to } => {
                        (900.0..1100.0).contains(&from) && (1200.0..1400.0).contains(&to)
                    }
                    _ => false,
                },
                |random| {
                    let noise = random.correlated_normals(0.0).map(|wave| 0.05 * wave);
                    series(blocks, drift, noise)
                },
            );
            assert!(found >= 0.95, "{blocks} blocks: {found}");
        }
    }

    #[test]
    fn shapes_are_told_apart() {
        let of = |level: fn(f64) -> f64| {
            let mut random = Random::new(1);
            let noise = random.correlated_normals(0.0).map(|wave| 0.02 * wave);
            Trend::of(&series(BLOCKS, level, noise)).unwrap()
        };
        let faster_at_first = of(|share| if share < 0.15 { 0.7 } else { 1.0 });
        assert!(matches!(faster_at_first, Trend::Transient { from, to, .. } if from < to));
        let slower_at_first = of(|share| if share < 0.15 { 2.0 } else { 1.0 });
        assert!(matches!(slower_at_first, Trend::Transient { from, to, .. } if from > to));
        let falling = of(|share| 1.5 - 0.5 * share);
        assert!(matches!(falling, Trend::Drift { from, to } if from > to));
    }

    #[test]
    fn what_can_not_be_judged_is_not() {
        assert_eq!(Trend::of(&[1.0; 9]), None);
        assert_eq!(Trend::of(&[1.0; 10]), Some(Trend::Steady));
        let mut series = [1.0; 20];
        series[3] = 0.0;
        assert_eq!(Trend::of(&series), None);
        series[3] = f64::NAN;
        assert_eq!(Trend::of(&series), None);
        series[3] = f64::INFINITY;
        assert_eq!(Trend::of(&series), None);
    }

    #[test]
    fn blocks_are_judged_by_their_medians() {
        let mut blocks = Blocks::new(64);
        for block in 0..40 {
            let mut histogram = histogram::empty();
            let median = if block < 6 { 2_000_000 } else { 1_000_000 };
            histogram.record_n(median, 60).unwrap();
            histogram.record_n(50_000_000, 40).unwrap();
            blocks.push(&histogram, 100);
        }
        let trend = Trend::of_medians(&blocks).unwrap();
        assert!(matches!(trend, Trend::Transient { from, .. } if from > 1_900_000.0));
        let json = serde_json::to_string(&trend).unwrap();
        assert!(
            json.starts_with(r#"{"kind":"transient","until":"#),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<Trend>(&json).unwrap(), trend);
    }
}
