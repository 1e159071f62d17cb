//! How exact figures are and how they differ, as `analysis::statistics` computes it.

use serde::{Deserialize, Serialize};

/// A percentile and its 95 % confidence interval, in the unit of the histogram.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct QuantileEstimate {
    /// The percentile as a share, such as 0.99.
    pub quantile: f64,
    /// Its value in nanoseconds.
    pub value: u64,
    /// Lower end in nanoseconds.
    pub low: u64,
    /// Upper end in nanoseconds.
    pub high: u64,
    /// Number of samples.
    pub samples: u64,
    /// The number of independent samples with the same information.
    pub effective_samples: f64,
    /// Number of blocks of the estimate.
    pub batches: usize,
}

/// A rate and its 95 % confidence interval, per second.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RateEstimate {
    /// Messages per second on average, over the complete blocks.
    pub rate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Number of blocks of equal time, merged until they were almost independent.
    pub batches: usize,
}

/// The trend of a figure within a run.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Trend {
    /// No change, or one that is due to chance or too small to matter.
    Steady,
    /// The beginning differs from the rest: the warm-up was not over.
    Transient {
        /// Share of the window after which a twentieth of the difference is left.
        until: f64,
        /// Level at the beginning.
        from: f64,
        /// Level of the rest.
        to: f64,
    },
    /// It rose or fell during the whole window.
    Drift {
        /// Level at the beginning of the window.
        from: f64,
        /// Level at its end.
        to: f64,
    },
}

/// The spread of a figure between repeats, in the figure's unit.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Spread {
    /// Number of runs.
    pub n: usize,
    /// Median.
    pub median: f64,
    /// Minimum.
    pub min: f64,
    /// Maximum.
    pub max: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Standard deviation, estimated with n - 1; null for a single run.
    pub stdev: Option<f64>,
    /// Standard deviation over the mean; null for a single run or a mean of 0.
    pub coefficient_of_variation: Option<f64>,
    /// Lower end of the 95 % confidence interval of the mean by Student's t; null for fewer than
    /// three runs.
    pub low: Option<f64>,
    /// Upper end of it.
    pub high: Option<f64>,
}

/// Fairness between connections.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Fairness {
    /// Number of connections.
    pub connections: usize,
    /// Jain's index over the connections: 1 if all were served alike, 1/n if one of n had everything.
    pub jain_index: f64,
    /// Mean of the slowest 1 % of the connections, at least one, over the mean of all.
    pub slowest_ratio: f64,
    /// Mean of the fastest 1 %, over the mean of all.
    pub fastest_ratio: f64,
}
