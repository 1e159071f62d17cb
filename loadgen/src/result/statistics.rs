//! How exact figures are and how they differ, as `analysis::statistics` computes it.

use serde::{Deserialize, Serialize};

/// A percentile and its 95 % confidence interval, in the unit of the histogram.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct QuantileEstimate {
    /// Which percentile, as a share.
    pub quantile: f64,
    /// Its value in nanoseconds.
    pub value: u64,
    /// Lower end in nanoseconds.
    pub low: u64,
    /// Upper end in nanoseconds.
    pub high: u64,
    /// Number of samples.
    pub samples: u64,
    /// How many independent samples would tell as much.
    pub effective_samples: f64,
    /// Blocks that tell this.
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
    /// Blocks of equal time that tell this, merged until they hardly depended on each other.
    pub batches: usize,
}

/// How a figure went along in a run.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Trend {
    /// Nothing but chance, or a change too small to matter.
    Steady,
    /// The beginning differs from the rest: the warm-up was not over.
    Transient {
        /// Share of the window until the difference is gone but for a twentieth.
        until: f64,
        /// Level at the beginning.
        from: f64,
        /// Level of the rest.
        to: f64,
    },
    /// It rose or fell all along.
    Drift {
        /// Level at the beginning of the window.
        from: f64,
        /// Level at its end.
        to: f64,
    },
}

/// How one figure differs between repeats of a run, in the figure's unit.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Spread {
    /// Number of runs.
    pub n: usize,
    /// Median.
    pub median: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
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

/// How evenly connections were served.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Fairness {
    /// Number of connections.
    pub connections: usize,
    /// Jain's index over the connections: 1 if all were served alike, 1/n if one of n had everything.
    pub jain_index: f64,
    /// What the slowest 1 % of the connections, at least one, had on average, over what all had on
    /// average.
    pub slowest_ratio: f64,
    /// What the fastest 1 % had, over what all had on average.
    pub fastest_ratio: f64,
}
