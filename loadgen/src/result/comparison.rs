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

/// Two servers, or two results of one, held against each other.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Comparison {
    /// Version of this layout.
    pub schema: u32,
    /// What the file is; a run's has no such key.
    pub kind: ComparisonKind,
    /// What made it.
    pub tool: Tool,
    /// When, RFC 3339 in UTC.
    pub started_at: String,
    /// Whether it was ended before its time.
    pub interrupted: bool,
    /// Where it was made.
    pub host: Host,
    /// What is compared with.
    pub base: ComparedSide,
    /// What is compared.
    pub new: ComparedSide,
    /// How ratios and intervals were made.
    pub method: Method,
    /// A regression is a figure that is worse by more than this share of the base's.
    pub threshold: f64,
    /// The chance that all intervals together, as decisive, contain the truth.
    pub confidence: f64,
    /// Each figure by itself.
    pub metrics: Vec<MetricComparison>,
    /// The rounds that were measured, in their order; empty where stored results were compared.
    pub rounds: Vec<ComparedRound>,
    /// What all figures come to: a regression if one of them is, then too little evidence if that of
    /// one is, then an improvement if one is, else no change.
    pub verdict: ComparisonVerdict,
    /// The same in words.
    pub sentence: String,
    /// Whether the measurements can be believed.
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

/// One of the two that are compared.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ComparedSide {
    /// As the user called it: a file, targets, or a command line.
    pub name: String,
    /// Where its figures come from.
    pub source: Source,
    /// Its runs: those that were made, or that a stored result is of.
    pub runs: usize,
    /// What was asked of each.
    pub plan: Plan,
}

/// Where figures come from.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A stored result.
    Result,
    /// Servers that others run, measured for the comparison.
    Targets,
    /// A server that was started for each round.
    Command,
}

/// How ratios and their intervals were made.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// From rounds in which each side was measured once, in random order: the Hodges-Lehmann
    /// estimate, and the interval of Wilcoxon's signed-rank test.
    PairedRounds,
    /// From the runs of two stored results, by Welch's t.
    Runs,
    /// From single stored runs: what each knows of its own exactness, and an allowance for what runs
    /// differ by.
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
    /// Which way is better.
    pub better: Better,
    /// Median of the base's runs; null if a run does not tell it.
    pub base: Option<f64>,
    /// Median of the new side's runs.
    pub new: Option<f64>,
    /// New over base, as estimated from all runs; null if it cannot be estimated.
    pub ratio: Option<f64>,
    /// Where the ratio lies, by this figure alone; null if nothing is known.
    pub interval: Option<RatioInterval>,
    /// Where it lies so surely that all figures may be judged together: this one decides.
    pub decisive: Option<RatioInterval>,
    /// What it comes to, in words.
    pub sentence: String,
    /// What it comes to.
    pub verdict: ComparisonVerdict,
    /// With too little evidence: about how many rounds more, or runs of each side, would do if things
    /// go on as they did; null if that is not known.
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

/// Which way a figure is better.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More is.
    Higher,
    /// Less is.
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

/// What a figure, or all of them, come to.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ComparisonVerdict {
    /// Worse by more than the threshold: the whole interval is beyond it.
    Regression,
    /// Better by more than the threshold: the whole interval is beyond it.
    Improvement,
    /// Not worse by more than the threshold, and not established to be better by more than it.
    NoChange,
    /// The threshold lies within the interval.
    NotEnoughEvidence,
}

/// Both sides measured once, one after the other.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ComparedRound {
    /// Which side was measured first.
    pub first: Side,
    /// What was found of the base.
    pub base: RoundRun,
    /// What was found of the new side.
    pub new: RoundRun,
}

/// One of the two.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// What is compared with.
    Base,
    /// What is compared.
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
    /// Its figures by the names of the metrics; null if it could not tell one.
    pub values: BTreeMap<String, Option<f64>>,
}
