//! The result of a comparison: schema 1, told from a run's by its key `kind`.
//!
//! Everything is said of the new side by the base: a ratio of 1.1 is a figure that is a tenth larger
//! than the base's.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::origin::{Host, Tool};
use super::verdict::{Code, Status, Verdict};
use crate::plan::Plan;

/// The comparison of two servers, or of two results.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Comparison {
    /// Version of this layout.
    pub schema: u32,
    /// The kind of the file; the result of a run has no such key.
    pub kind: ComparisonKind,
    /// The program that made it.
    pub tool: Tool,
    /// Start time, RFC 3339 in UTC.
    pub started_at: String,
    /// Whether it was ended early.
    pub interrupted: bool,
    /// The host of the client.
    pub host: Host,
    /// The base.
    pub base: ComparedSide,
    /// The new side.
    pub new: ComparedSide,
    /// The statistical method.
    pub method: Method,
    /// A regression is a figure that is worse by more than this share of the base's.
    pub threshold: f64,
    /// The chance that all intervals together, as decisive, contain the truth.
    pub confidence: f64,
    /// The compared figures.
    pub metrics: Vec<MetricComparison>,
    /// The measured rounds in their order; empty for stored results.
    pub rounds: Vec<ComparedRound>,
    /// The overall verdict: a regression if a figure has one; else not enough evidence, if a figure has
    /// too little; else an improvement, if a figure has one; else no change.
    pub verdict: ComparisonVerdict,
    /// The same in words.
    pub sentence: String,
    /// Whether the measurements are reliable.
    pub validity: Verdict,
}

/// The kind of the file.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ComparisonKind {
    /// A comparison.
    Comparison,
}

/// One of the two sides.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ComparedSide {
    /// Its name: a file, targets, or a command line.
    pub name: String,
    /// Source of its figures.
    pub source: Source,
    /// Number of its runs.
    pub runs: usize,
    /// The plan of each run.
    pub plan: Plan,
}

/// Source of figures.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A stored result.
    Result,
    /// Running servers, measured for the comparison.
    Targets,
    /// A server that was started for each round.
    Command,
}

/// The statistical method of ratios and intervals.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// From rounds in which each side was measured once, in random order: the Hodges-Lehmann
    /// estimate, and the interval of Wilcoxon's signed-rank test.
    PairedRounds,
    /// From the runs of two stored results, by Welch's t.
    Runs,
    /// From single stored runs: the precision of each, and an allowance for the variation between
    /// runs.
    SingleRuns,
}

/// One figure of both sides.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MetricComparison {
    /// The figure. A percentile of a stream in one direction, or of the service time in a closed
    /// loop, where it is that of the response time, is left out.
    pub name: Cow<'static, str>,
    /// Its unit.
    pub unit: Unit,
    /// Whether more or less is better.
    pub better: Better,
    /// Median of the base's runs; null if a run lacks it.
    pub base: Option<f64>,
    /// Median of the new side's runs.
    pub new: Option<f64>,
    /// Estimate of new over base from all runs; null if there is none.
    pub ratio: Option<f64>,
    /// Confidence interval of the ratio, of this figure by itself; null if nothing is known.
    pub interval: Option<RatioInterval>,
    /// The wider interval that decides: it allows to judge all figures together.
    pub decisive: Option<RatioInterval>,
    /// The verdict on the figure, in words.
    pub sentence: String,
    /// The verdict on the figure.
    pub verdict: ComparisonVerdict,
    /// With too little evidence: about how many more rounds, or runs of each side, would be enough;
    /// null if that is not known.
    pub rounds_needed: Option<usize>,
    /// With so few rounds that the decisive interval has no ends: the number of rounds below which it
    /// never has; null otherwise. A small difference needs more.
    #[serde(default)]
    pub min_rounds: Option<usize>,
}

/// The unit of a figure.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Messages per second.
    PerSecond,
    /// Nanoseconds.
    Ns,
    /// A share of 1.
    Ratio,
    /// Bits per second.
    BitsPerSecond,
}

/// Whether more or less of a figure is better.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// A confidence interval of a ratio. An end that nothing is known of is null.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RatioInterval {
    /// Lower end; null if nothing is known of it.
    pub low: Option<f64>,
    /// Upper end; null if nothing is known of it.
    pub high: Option<f64>,
    /// The chance that such an interval contains the truth.
    pub confidence: f64,
}

/// The verdict on a figure, or on all of them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ComparisonVerdict {
    /// Worse by more than the threshold: the whole interval is beyond it.
    Regression,
    /// Better by more than the threshold: the whole interval is beyond it.
    Improvement,
    /// Not worse by more than the threshold, and not proven to be better by more than the threshold.
    NoChange,
    /// The threshold lies within the interval.
    NotEnoughEvidence,
}

/// A round: both sides, measured one after the other.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ComparedRound {
    /// The side that was measured first.
    pub first: Side,
    /// The run of the base.
    pub base: RoundRun,
    /// The run of the new side.
    pub new: RoundRun,
}

/// A side of the comparison.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The base.
    Base,
    /// The new side.
    New,
}

/// One run of a round.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RoundRun {
    /// Its start, RFC 3339 in UTC.
    pub started_at: String,
    /// Its own verdict.
    pub status: Status,
    /// The codes of the verdict's reasons.
    pub reasons: Vec<Code>,
    /// Its figures by the names of the metrics; null where one is not known.
    pub values: BTreeMap<String, Option<f64>>,
}
