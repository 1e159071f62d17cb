//! What a search found: the other kind of stored result.

use serde::{Deserialize, Serialize};

use super::{Host, Latency, Tool};
use crate::analysis::verdict::Verdict;
use crate::plan::Plan;
use crate::search::{Axis, Class, Finding, Goal, Judgement, Limits, StopReason};

/// Everything that a search found, and every trial that it was found by.
#[derive(Clone, Debug, Deserialize, Serialize)]
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
    /// What the load is a number of.
    pub over: Axis,
    /// Where the search was allowed to go.
    pub limits: Limits,
    /// With what chance an interval contains the capacity.
    pub confidence: f64,
    /// What was searched for, and what was found.
    pub goals: Vec<GoalResult>,
    /// The lowest load that the client could not offer; null if it never failed.
    pub client_limit: Option<f64>,
    /// Why the search is over.
    pub stop: StopReason,
    /// How long it took.
    pub spent_s: f64,
    /// Every trial, in the order in which they were made.
    pub trials: Vec<TrialResult>,
    /// Latency by load: for each load at which a trial was judged the union of these trials, by
    /// increasing load.
    pub curve: Vec<CurvePoint>,
}

/// The kind of a result that is not that of a run.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchKind {
    /// That of a search.
    Search,
}

/// One goal and what was found for it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
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

/// One trial: a run of its own, with connections of its own.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TrialResult {
    /// When it began, from the start of the search.
    pub start_s: f64,
    /// What it took, with connecting, warm-up and waiting for late answers.
    pub cost_s: f64,
    /// Messages per second or connections, as it was to be.
    pub load: f64,
    /// Length that its window was to have.
    pub planned_s: f64,
    /// What it counts as.
    pub outcome: TrialOutcome,
    /// What it says about each goal, in their order: null where the client is in the way; empty if the
    /// user ended it.
    pub judgements: Vec<Option<Judgement>>,
    /// Why it has no figures.
    pub error: Option<String>,
    /// What was measured; null if no connection could be made.
    pub measured: Option<TrialFigures>,
}

/// What a trial counts as.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialOutcome {
    /// It says something about the server, for one goal at least.
    Judged,
    /// The client could not do what was asked for, or may have been what failed the objectives.
    ClientFailed,
    /// The user ended it.
    Interrupted,
}

/// The figures of a trial.
#[derive(Clone, Debug, Deserialize, Serialize)]
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
    /// Response times of those that came back.
    pub response_ns: Option<TrialLatency>,
    /// Whether the trial can be believed, as a run of its own.
    pub verdict: Verdict,
}

/// A few figures of a distribution of nanoseconds; null where fewer than ten samples lie beyond a
/// percentile.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct TrialLatency {
    pub count: u64,
    pub min: u64,
    pub mean: f64,
    pub p50: Option<u64>,
    pub p90: Option<u64>,
    pub p95: Option<u64>,
    pub p99: Option<u64>,
    pub p99_9: Option<u64>,
    pub max: u64,
}

/// All judged trials at one load.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CurvePoint {
    /// Messages per second or connections.
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
    /// Response times of all these trials.
    pub response_ns: Option<Latency>,
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
