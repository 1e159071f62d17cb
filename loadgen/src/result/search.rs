//! The result of a search.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::latency::Latency;
use super::objective::Objective;
use super::origin::{Host, Tool};
use super::verdict::Verdict;
use crate::plan::{Plan, seconds};

/// The probability that the interval contains the capacity.
pub const CONFIDENCE: f64 = 0.95;

/// The result of a search: the findings and all trials.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SearchResult {
    /// Version of this layout.
    pub schema: u32,
    /// The kind of the file; the result of a run has no such key.
    pub kind: SearchKind,
    /// The program that made the result.
    pub tool: Tool,
    /// Start of the search, RFC 3339 in UTC.
    pub started_at: String,
    /// Whether the user ended it early.
    pub interrupted: bool,
    /// The host of the client.
    pub host: Host,
    /// The plan of the first trial. The others differ in their load, in the length of their window,
    /// in their seed, one more for each, and in threads where there are fewer connections than these.
    pub plan: Plan,
    /// The unit of a load.
    pub over: Axis,
    /// The limits of the search.
    pub limits: Limits,
    /// The probability that an interval contains the capacity.
    pub confidence: f64,
    /// The goals and their findings.
    pub goals: Vec<GoalResult>,
    /// The lowest load that the client could not offer, for some goal; null if it never failed.
    pub client_limit: Option<f64>,
    /// The reason for the end of the search.
    pub stop: StopReason,
    /// Duration of the search in seconds.
    pub spent_s: f64,
    /// All trials in their order. Each is a run with its own connections.
    pub trials: Vec<TrialResult>,
    /// Latency by load, ascending: for each load, the union of its judged trials.
    pub curve: Vec<CurvePoint>,
}

/// The kind of a result that is not that of a run.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SearchKind {
    /// That of a search.
    Search,
}

/// The unit of the load.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Axis {
    /// Messages per second.
    #[default]
    Rate,
    /// Connections.
    Connections,
}

/// The limits of a search.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Limits {
    /// The load of the first trial.
    pub start: f64,
    /// The lowest load that may be tried.
    pub lowest: f64,
    /// The highest load that may be tried.
    pub highest: f64,
    /// Maximum number of trials.
    pub max_trials: usize,
    /// Maximum duration of the search.
    #[serde(rename = "max_time_s", with = "seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub max_time: Duration,
}

impl Axis {
    /// The unit in words.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Rate => "messages/s",
            Self::Connections => "connections",
        }
    }
}

/// A goal: the highest load at which all objectives hold.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Goal {
    /// Name given by the user.
    pub name: Option<String>,
    /// Conditions on a trial; all must hold.
    pub objectives: Vec<Objective>,
    /// The required evidence.
    pub terms: Terms,
}

/// The evidence required to decide about a load: the attributes of an MLRsearch goal
/// (draft-ietf-bmwg-mlrsearch, section "Search Goal").
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Terms {
    /// Length of the first, coarse trials.
    #[serde(rename = "initial_trial_s", with = "seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub initial_trial: Duration,
    /// Length of the trials that decide.
    #[serde(rename = "final_trial_s", with = "seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub final_trial: Duration,
    /// Total length of trials at a load that always decides about it.
    #[serde(rename = "duration_sum_s", with = "seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub duration_sum: Duration,
    /// Share of that time in which the objectives may be missed.
    pub exceed_ratio: f64,
    /// Maximum distance of the bounds in the end, as a share of the upper one.
    pub precision: f64,
}

/// One goal and what was found for it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct GoalResult {
    /// The goal.
    #[serde(flatten)]
    pub goal: Goal,
    /// The finding.
    pub finding: Finding,
}

impl GoalResult {
    /// Whether the bounds are as close as requested, even if chance is not excluded.
    pub fn has_bounds(&self) -> bool {
        let reached = self.finding.precision;
        reached.is_some_and(|reached| reached <= self.goal.terms.precision)
    }
}

/// The finding for one goal.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Finding {
    /// Relevant lower bound: the highest load that meets the goal below the first that misses it.
    pub lower: Option<f64>,
    /// Relevant upper bound: the lowest load that misses the goal.
    pub upper: Option<f64>,
    /// Their distance, as a share of the upper one.
    pub precision: Option<f64>,
    /// Load at the lower bound, times the share of messages that typically met the objectives there.
    pub conditional_throughput: Option<f64>,
    /// Where the capacity lies, with the chance of `confidence`; an end that could not be shown is
    /// null, and the ends cross if no load fits all that was seen. Null if the goal leaves no room
    /// for chance (an exceed ratio of 0).
    pub interval: Option<CapacityInterval>,
    /// How many of the trials count as one for the interval, because those that follow each other
    /// come out alike: the integrated autocorrelation time, 1 if they don't. Null if the goal leaves
    /// no room for chance.
    #[serde(default)]
    pub dependence: Option<f64>,
    /// The end of the search for the goal.
    #[serde(flatten)]
    pub end: GoalEnd,
}

/// The end of the search for a goal.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum GoalEnd {
    /// The bounds are as close as requested, and chance is excluded.
    Found,
    /// The goal is met at the highest allowed load.
    HighestMeets,
    /// The goal is missed at the lowest allowed load.
    LowestMisses,
    /// The client cannot offer a load above the lower bound.
    ClientLimit {
        /// The lowest load that it could not offer.
        limit: f64,
    },
    /// The capacity changed during the search: no load fits all trials.
    Unsteady,
    /// The search ended before the capacity was known.
    Unfinished,
}

/// Confidence interval of the capacity.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CapacityInterval {
    /// Lower end; `None` if no load is proven to be below the capacity.
    pub lower: Option<f64>,
    /// Upper end; `None` if no load is proven to be above the capacity.
    pub upper: Option<f64>,
}

impl CapacityInterval {
    /// The interval's width as a share of its upper end.
    pub fn width(&self) -> Option<f64> {
        let (lower, upper) = self.lower.zip(self.upper)?;
        Some((upper - lower) / upper)
    }

    /// Whether every load is excluded: the capacity changed during the search, or trials were not
    /// independent.
    pub fn is_empty(&self) -> bool {
        self.width().is_some_and(|width| width <= 0.0)
    }
}

/// The reason for the end of a search.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Nothing is left to find for any goal; each goal has its own end.
    Finished,
    /// The maximum number of trials was reached.
    TrialsExhausted,
    /// Another trial would exceed the maximum duration.
    TimeExhausted,
    /// The user ended it.
    Interrupted,
    /// The target could be measured at first, and later not.
    TargetLost,
}

/// A trial: a run with its own connections.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TrialResult {
    /// Its start in seconds from the start of the search.
    pub start_s: f64,
    /// Its total time in seconds, with connecting, warm-up and waiting for late responses.
    pub cost_s: f64,
    /// The planned load.
    pub load: f64,
    /// Planned length of its window in seconds.
    pub planned_s: f64,
    /// Its outcome.
    pub outcome: TrialOutcome,
    /// The judgement on each goal, in the goals' order: null if the client was the limit or disturbed;
    /// empty if the user ended the trial.
    pub judgements: Vec<Option<Judgement>>,
    /// The reason why it has no figures.
    pub error: Option<String>,
    /// Its figures; null if no connection could be made.
    pub measured: Option<TrialFigures>,
}

/// The outcome of a trial.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TrialOutcome {
    /// It says something about the server for at least one goal.
    Judged,
    /// The client could not offer the load, or may be the reason for the missed objectives.
    ClientFailed,
    /// The user ended it.
    Interrupted,
}

/// The judgement of a trial on a goal.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Judgement {
    /// The largest ratio of messages that failed an objective.
    pub failed: f64,
    /// Whether every objective was met.
    pub is_met: bool,
}

/// The figures of a trial.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TrialFigures {
    /// Length of the window.
    pub duration_s: f64,
    /// Messages that became due in the window, over its length.
    pub offered: f64,
    /// Echoes complete in the window, over its length.
    pub achieved: f64,
    /// Messages that became due in the window.
    pub due: u64,
    /// Share of the due messages that never came back: lost, timed out, unfinished or unsent.
    pub lost_ratio: f64,
    /// Share of the due messages that came back changed.
    pub corrupt_ratio: f64,
    /// Share of the planned connections that were not open at the end; null with a connection per
    /// message.
    pub missing_connections_ratio: Option<f64>,
    /// Response times of those that came back; a percentile is null if fewer than ten samples lie
    /// beyond it. Null if none came back.
    pub response_ns: Option<TrialLatency>,
    /// The verdict on the trial as a run.
    pub verdict: Verdict,
}

/// The main figures of a distribution of nanoseconds; a percentile is null if fewer than ten samples
/// lie beyond it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TrialLatency {
    /// Number of samples.
    pub count: u64,
    /// Minimum.
    pub min: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: Option<u64>,
    /// 90th percentile.
    pub p90: Option<u64>,
    /// 95th percentile.
    pub p95: Option<u64>,
    /// 99th percentile.
    pub p99: Option<u64>,
    /// 99.9th percentile.
    pub p99_9: Option<u64>,
    /// Maximum.
    pub max: u64,
}

/// All judged trials at one load.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CurvePoint {
    /// The load.
    pub load: f64,
    /// Number of trials.
    pub trials: u64,
    /// Total length of their windows in seconds.
    pub duration_s: f64,
    /// Messages that became due in the windows, over their length.
    pub offered: f64,
    /// Echoes complete in the windows, over their length.
    pub achieved: f64,
    /// The class of the load for each goal, in the goals' order.
    pub classes: Vec<Class>,
    /// Response times of all these trials; null if none came back.
    pub response_ns: Option<Latency>,
}

/// The class of a load for a goal.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// It meets the goal in enough of its trials' time, whatever further trials within the duration
    /// sum may find.
    Lower,
    /// It misses the goal in too much of its trials' time, whatever further trials may find.
    Upper,
    /// More trials are needed.
    Undecided,
}

impl fmt::Display for Goal {
    /// The objectives.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, objective) in self.objectives.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{objective}")?;
        }
        Ok(())
    }
}

impl From<&Latency> for TrialLatency {
    fn from(latency: &Latency) -> Self {
        Self {
            count: latency.count(),
            min: latency.min(),
            mean: latency.mean(),
            p50: latency.quantile(0.5),
            p90: latency.quantile(0.9),
            p95: latency.quantile(0.95),
            p99: latency.quantile(0.99),
            p99_9: latency.quantile(0.999),
            max: latency.max(),
        }
    }
}
