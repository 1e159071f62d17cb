//! The two shapes of a run's trend, fitted to logarithms of consecutive blocks: an approach to a
//! level, and a straight line.

/// Candidate lengths of a warm-up, as shares of the window. Longer ones count as a drift.
const TRANSIENTS: [f64; 4] = [0.1, 0.15, 0.2, 0.3];
/// Values further from the median than this many standard deviations are moved in, so that a stall
/// counts as only one outlier.
const FARTHEST: f64 = 4.0;
/// But with very little noise, values are moved in only beyond this share, so that relevant changes
/// keep their shape.
const FARTHEST_SHARE: f64 = 0.2;
/// Values have three digits: a scatter below this share is invisible.
const MIN_SCATTER: f64 = 0.001;
/// Minimum of blocks for the median that is the initial level.
const MIN_FIRST: usize = 4;
/// Minimum assumed correlation of neighbouring blocks. A few blocks can't show their correlation,
/// and assuming independence would turn a wave into a trend.
const MIN_CORRELATION: f64 = 0.5;
/// Maximum assumed correlation of neighbouring blocks.
const MAX_CORRELATION: f64 = 0.9;

/// Moves outliers in. Scatter is the median absolute deviation, which is the standard deviation
/// over 1.4826 for a normal distribution.
pub(super) fn curbed(values: &[f64]) -> Option<Vec<f64>> {
    let median = super::median(values)?;
    let distances: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
    let reach = (FARTHEST * 1.4826 * super::median(&distances)?).max(FARTHEST_SHARE);
    Some(
        values
            .iter()
            .map(|value| value.clamp(median - reach, median + reach))
            .collect(),
    )
}

/// The factor by which correlation of neighbours increases the variance of a mean. The residuals of
/// a fit sum to 0, which lowers their estimated correlation; each of the `parameters` fitted costs
/// about one in `n` (Marriott and Pope, "Bias in the Estimation of Autocorrelations", Biometrika
/// 41, 1954).
fn inflation(residuals: &[f64], parameters: f64) -> f64 {
    let seen = super::lag_one_correlation(residuals);
    let correlation = seen + (parameters + 4.0 * seen) / residuals.len() as f64;
    let correlation = correlation.clamp(MIN_CORRELATION, MAX_CORRELATION);
    (1.0 + correlation) / (1.0 - correlation)
}

fn sum_of_squares(values: &[f64]) -> f64 {
    values.iter().map(|value| value.powi(2)).sum()
}

/// An exponential approach to a level, fitted by least squares: the shape of a warm-up. In
/// simulations it found more warm-ups than truncation at the least standard error (MSER: White, "An
/// Effective Truncation Heuristic for Bias Reduction in Simulation Output", Simulation 69, 1997),
/// which noise can move far into the run.
pub(super) struct Decay {
    /// Blocks in which the difference falls to 1 / e.
    constant: f64,
    /// The initial difference over its standard error.
    pub(super) z: f64,
    /// Sum of the squared residuals.
    pub(super) squares: f64,
}

impl Decay {
    /// The best fit over the candidate lengths.
    pub(super) fn fit(values: &[f64]) -> Option<Self> {
        TRANSIENTS
            .iter()
            .map(|share| {
                // After three time constants, one twentieth is left.
                Self::fit_one(values, (share * values.len() as f64 / 3.0).max(1.0))
            })
            .min_by(|a, b| a.squares.total_cmp(&b.squares))
    }

    fn fit_one(values: &[f64], constant: f64) -> Self {
        let shape: Vec<f64> = (0..values.len())
            .map(|block| (-(block as f64) / constant).exp())
            .collect();
        let (shape_mean, mean) = (super::mean(&shape), super::mean(values));
        let shape: Vec<f64> = shape.iter().map(|share| share - shape_mean).collect();
        let shape_squares = sum_of_squares(&shape);
        let products: f64 = shape.iter().zip(values).map(|(s, v)| s * (v - mean)).sum();
        let difference = products / shape_squares;
        let residuals: Vec<f64> = shape
            .iter()
            .zip(values)
            .map(|(share, value)| value - mean - share * difference)
            .collect();
        let squares = sum_of_squares(&residuals);
        let variance = (squares / (values.len() - 3) as f64).max(MIN_SCATTER.powi(2));
        let error = (variance * inflation(&residuals, 1.0) / shape_squares).sqrt();
        Self {
            constant,
            z: difference.abs() / error,
            squares,
        }
    }

    /// Its share of the window, and the levels before and after. These are medians, which a single
    /// stall does not move.
    pub(super) fn levels(&self, series: &[f64]) -> Option<(f64, f64, f64)> {
        let lasts = 3.0 * self.constant;
        let (first, rest) = (
            (self.constant as usize).max(MIN_FIRST),
            lasts.ceil() as usize,
        );
        Some((
            lasts / series.len() as f64,
            super::median(&series[..first])?,
            super::median(&series[rest..])?,
        ))
    }
}

/// A straight line with the median of all slopes between two values (Theil 1950; Sen, "Estimates of
/// the Regression Coefficient Based on Kendall's Tau", JASA 63, 1968).
pub(super) struct Line {
    slope: f64,
    /// Level in the middle of the window.
    middle: f64,
    /// The trend test of Mann ("Nonparametric Tests Against Trend", Econometrica 13, 1945) and
    /// Kendall, its variance corrected for correlation (Yue and Wang, "The Mann-Kendall Test
    /// Modified by Effective Sample Size", Water Resources Management 18, 2004).
    pub(super) z: f64,
    /// Sum of the squared residuals.
    pub(super) squares: f64,
}

impl Line {
    pub(super) fn fit(values: &[f64]) -> Option<Self> {
        let mut slopes = Vec::with_capacity(values.len() * (values.len() - 1) / 2);
        for (index, value) in values.iter().enumerate() {
            for (distance, later) in (1_u32..).zip(&values[index + 1..]) {
                slopes.push((later - value) / f64::from(distance));
            }
        }
        let rising = slopes.iter().filter(|&&slope| slope > 0.0).count();
        let falling = slopes.iter().filter(|&&slope| slope < 0.0).count();
        let slope = super::median(&slopes)?;

        let n = values.len() as f64;
        let level: Vec<f64> = values
            .iter()
            .enumerate()
            .map(|(block, value)| value - slope * (block as f64 - (n - 1.0) / 2.0))
            .collect();
        let mean = super::mean(&level);
        let residuals: Vec<f64> = level.iter().map(|value| value - mean).collect();
        let variance = n * (n - 1.0) * (2.0 * n + 5.0) / 18.0 * inflation(&residuals, 2.0);
        Some(Self {
            slope,
            middle: super::median(&level)?,
            z: (rising.abs_diff(falling) as f64 - 1.0) / variance.sqrt(),
            squares: sum_of_squares(&residuals),
        })
    }

    /// The levels, no longer logarithms, at the ends of a window of this many blocks.
    pub(super) fn ends(&self, blocks: usize) -> (f64, f64) {
        let half = self.slope * blocks as f64 / 2.0;
        ((self.middle - half).exp(), (self.middle + half).exp())
    }
}
