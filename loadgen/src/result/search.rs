//! The result of a search.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::latency::Latency;
use super::objective::Objective;
use super::origin::{Host, Tool};
use super::verdict::Verdict;
use crate::plan::{Plan, seconds};

/// The chance that the interval contains the capacity.
pub const CONFIDENCE: f64 = 0.95;

/// Everything that a search found, and every trial that it was found by.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SearchResult {
    /// Version of this layout.
    pub schema: u32,
    /// What tells it from the result of a run, which has no such key.
    pub kind: SearchKind,
    /// What made the result.
    pub tool: Tool,
    /// Start of the search, RFC 3339 in UTC.
    pub started_at: String,
    /// Whether the user ended it before it was over.
    pub interrupted: bool,
    /// Where the client ran.
    pub host: Host,
    /// The plan of the first trial. The others differ in their load, in the length of their window,
    /// in their seed, one more for each, and in threads where there are fewer connections than these.
    pub plan: Plan,
    /// What a load is a number of.
    pub over: Axis,
    /// Where the search was allowed to go, and for how long.
    pub limits: Limits,
    /// With what chance an interval contains the capacity.
    pub confidence: f64,
    /// What was searched for, and what was found.
    pub goals: Vec<GoalResult>,
    /// The lowest load that the client could not offer, for some goal; null if it never failed.
    pub client_limit: Option<f64>,
    /// Why the search is over.
    pub stop: StopReason,
    /// How long the search took.
    pub spent_s: f64,
    /// Every trial, in the order in which they were made. Each is a run of its own, with connections
    /// of its own.
    pub trials: Vec<TrialResult>,
    /// Latency by load: for each load at which a trial was judged the union of these trials, by
    /// increasing load.
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

/// What the load is a number of.
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

/// Where the search may go, and for how long.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Limits {
    /// The load of the first trial.
    pub start: f64,
    /// The lowest load that may be tried.
    pub lowest: f64,
    /// The highest load that may be tried.
    pub highest: f64,
    /// The most trials.
    pub max_trials: usize,
    /// The longest that the search may take.
    #[serde(rename = "max_time_s", with = "seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub max_time: Duration,
}

impl Axis {
    /// What the number counts, for people.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Rate => "messages/s",
            Self::Connections => "connections",
        }
    }
}

/// One thing to find: the highest load at which all objectives hold.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Goal {
    /// What the user calls the goal.
    pub name: Option<String>,
    /// Conditions on a trial; all must hold.
    pub objectives: Vec<Objective>,
    /// On what evidence.
    pub terms: Terms,
}

/// On what evidence a load counts as meeting its objectives: the attributes of an MLRsearch goal
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
    /// Trials of this length together always decide about a load.
    #[serde(rename = "duration_sum_s", with = "seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub duration_sum: Duration,
    /// The share of that time in which the objectives may be missed.
    pub exceed_ratio: f64,
    /// How far apart the bounds may be in the end, as a share of the upper one.
    pub precision: f64,
}

/// One goal and what was found for it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct GoalResult {
    /// What was searched for.
    #[serde(flatten)]
    pub goal: Goal,
    /// What was found.
    pub finding: Finding,
}

impl GoalResult {
    /// Whether the bounds are as close as was asked for, even if chance is not ruled out.
    pub fn has_bounds(&self) -> bool {
        let reached = self.finding.precision;
        reached.is_some_and(|reached| reached <= self.goal.terms.precision)
    }
}

/// What was found for one goal.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Finding {
    /// Relevant lower bound: the highest load that meets the goal below the first that misses it.
    pub lower: Option<f64>,
    /// Relevant upper bound: the lowest load that misses the goal.
    pub upper: Option<f64>,
    /// How far apart they are, as a share of the upper one.
    pub precision: Option<f64>,
    /// Load at the lower bound times the ratio of messages that typically met the objectives there.
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
    /// How the search for the goal ended.
    #[serde(flatten)]
    pub end: GoalEnd,
}

/// How the search for a goal ended.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum GoalEnd {
    /// The bounds are as close as was asked for, and chance is ruled out.
    Found,
    /// The goal is met at the highest load that was to be tried.
    HighestMeets,
    /// The goal is missed at the lowest load that was to be tried.
    LowestMisses,
    /// The client cannot offer a load above the lower bound.
    ClientLimit {
        /// The lowest load that it could not offer.
        limit: f64,
    },
    /// The capacity moved while it was searched for: no load fits all that was seen.
    Unsteady,
    /// The search was over before.
    Unfinished,
}

/// Where the capacity lies.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CapacityInterval {
    /// It is at least this; `None` if no load could be shown to be below it.
    pub lower: Option<f64>,
    /// It is below this; `None` if no load could be shown to be above it.
    pub upper: Option<f64>,
}

impl CapacityInterval {
    /// The interval's width as a share of its upper end.
    pub fn width(&self) -> Option<f64> {
        let (lower, upper) = self.lower.zip(self.upper)?;
        Some((upper - lower) / upper)
    }

    /// Whether every load was ruled out: the capacity moved while it was searched for, or trials were
    /// not independent.
    pub fn is_empty(&self) -> bool {
        self.width().is_some_and(|width| width <= 0.0)
    }
}

/// Why a search is over.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// There is nothing left to find for any goal; each says why.
    Finished,
    /// As many trials were made as were allowed.
    TrialsExhausted,
    /// Another trial would take longer than was allowed.
    TimeExhausted,
    /// The user ended it.
    Interrupted,
    /// The target could be measured at first and then no more.
    TargetLost,
}

/// One trial: a run of its own, with connections of its own.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TrialResult {
    /// When it began, from the start of the search.
    pub start_s: f64,
    /// What it took, with connecting, warm-up and waiting for late answers.
    pub cost_s: f64,
    /// The load as it was to be.
    pub load: f64,
    /// Length that its window was to have.
    pub planned_s: f64,
    /// What it counts as.
    pub outcome: TrialOutcome,
    /// What it says about each goal, in their order: null where the client is in the way; empty if
    /// the user ended it.
    pub judgements: Vec<Option<Judgement>>,
    /// Why it has no figures.
    pub error: Option<String>,
    /// What was measured; null if no connection could be made.
    pub measured: Option<TrialFigures>,
}

/// What a trial counts as.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TrialOutcome {
    /// It says something about the server, for one goal at least.
    Judged,
    /// The client could not do what was asked for, or may have been what failed the objectives.
    ClientFailed,
    /// The user ended it.
    Interrupted,
}

/// What a trial says about a goal.
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
    /// Share of them that never came back: lost, timed out, unfinished, unsent.
    pub lost_ratio: f64,
    /// Share of them that came back changed.
    pub corrupt_ratio: f64,
    /// Share of the connections asked for that did not stand at the end; null where each message had
    /// its own.
    pub missing_connections_ratio: Option<f64>,
    /// Response times of those that came back; a percentile is null if fewer than ten samples lie
    /// beyond it. Null if none came back.
    pub response_ns: Option<TrialLatency>,
    /// Whether the trial can be believed, as a run of its own.
    pub verdict: Verdict,
}

/// A few figures of a distribution of nanoseconds; null where fewer than ten samples lie beyond a
/// percentile.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TrialLatency {
    /// Number of samples.
    pub count: u64,
    /// Smallest.
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
    /// Largest.
    pub max: u64,
}

/// All judged trials at one load.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CurvePoint {
    /// The load.
    pub load: f64,
    /// How many trials there were.
    pub trials: u64,
    /// Length of their windows together.
    pub duration_s: f64,
    /// Messages that became due in the windows, over their length.
    pub offered: f64,
    /// Echoes complete in the windows, over their length.
    pub achieved: f64,
    /// What the load is to each goal, in their order.
    pub classes: Vec<Class>,
    /// Response times of all these trials; null if none came back.
    pub response_ns: Option<Latency>,
}

/// What a load is to a goal.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// It meets the goal, whatever trials may still come within the duration sum.
    Lower,
    /// It misses the goal, whatever may still come.
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
