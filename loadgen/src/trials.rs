//! A search with real trials. Each trial is a run with its own connections.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant, SystemTime};

use crate::error::RunError;
use crate::host;
use crate::observer::{Control, Unobserved};
use crate::plan::{Load, Plan};
use crate::profile::Profile;
use crate::result::{
    Code, CurvePoint, GoalResult, Latency, Messages, RunResult, SearchKind, SearchResult,
    ThreadResult, Tool, TrialFigures, TrialLatency, TrialOutcome, TrialResult,
};
use crate::run::run;
use crate::search::{
    Axis, CONFIDENCE, ClientPart, Goal, Limits, Outcome, Search, Step, StopReason, TrialMessages,
};

/// Consecutive trials without a connection after which the target counts as lost. An overloaded
/// server may refuse connections for a while.
const MAX_UNREACHABLE: usize = 3;

mod exchange;
mod trial;

pub use exchange::Exchange;

use trial::{Cause, Trial};

/// A search with every option resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchPlan {
    /// The common plan of the trials. The search sets their load and window.
    pub trial: Plan,
    /// The unit of the load.
    pub over: Axis,
    /// The limits of the search.
    pub limits: Limits,
    /// The goals; at least one.
    pub goals: Vec<Goal>,
}

/// Receives the progress of a search, on the thread that makes the trials.
pub trait SearchObserver {
    /// A trial begins at `load`, with a window of this length, after `trials` earlier ones.
    fn trial(&mut self, _search: &Search, _trials: &[TrialResult], _load: f64, _window: Duration) {}
}

impl SearchObserver for Unobserved {}

/// Searches, trial by trial, and returns the result. `control` ends it early; then the result
/// contains the findings so far.
///
/// # Errors
/// [`RunError`] if the first trial fails. Later failures are part of the result.
pub fn find(
    plan: &SearchPlan,
    control: &Control,
    observer: &mut dyn SearchObserver,
) -> Result<SearchResult, RunError> {
    search(plan, control, observer, None)
}

/// The same, by several processes: each makes its part of every trial, and all judge the union.
///
/// # Errors
/// As [`find`], and [`RunError::Apart`] if another process is missing or has ended the search.
pub fn find_together(
    plan: &SearchPlan,
    exchange: &mut Exchange,
    control: &Control,
    observer: &mut dyn SearchObserver,
) -> Result<SearchResult, RunError> {
    let result = search(plan, control, observer, Some(exchange));
    match &result {
        Ok(result) if !result.interrupted => {}
        Ok(_) => exchange.leave("it was interrupted"),
        Err(error) => exchange.leave(&error.to_string()),
    }
    result
}

fn search(
    plan: &SearchPlan,
    control: &Control,
    observer: &mut dyn SearchObserver,
    mut exchange: Option<&mut Exchange>,
) -> Result<SearchResult, RunError> {
    let mut log = Log::new(plan);
    let mut search = Search::new(plan.goals.clone(), plan.over, plan.limits);
    let mut first_plan = None;
    let stop = loop {
        if control.is_stopped() {
            break StopReason::Interrupted;
        }
        let (load, window) = match search.next_step() {
            Step::Measure { load, duration } => (load, duration),
            Step::Stop(stop) => break stop,
        };
        observer.trial(&search, &log.trials, load, window);
        let trial_plan = plan.at(load, window, log.trials.len() as u64)?;
        let began = Instant::now();
        let trial = match exchange.as_deref_mut() {
            None => Some(Trial::of(run(&trial_plan, control, &mut Unobserved), began)),
            Some(exchange) => exchange.measure(&trial_plan, log.trials.len(), control)?,
        };
        first_plan.get_or_insert(trial_plan);
        let Some(trial) = trial else {
            break StopReason::Interrupted;
        };
        let cost = trial.cost;
        let Some(outcomes) = log.add(plan, load, window, began, trial)? else {
            break StopReason::Interrupted;
        };
        search.record(load, window, cost, &outcomes);
        if log.unreachable >= MAX_UNREACHABLE {
            break StopReason::TargetLost;
        }
    };
    let first_plan = match first_plan {
        Some(plan) => plan,
        None => plan.at(search.limits().start, plan.goals[0].terms.initial_trial, 0)?,
    };
    Ok(log.into_result(&search, first_plan, stop))
}

impl SearchPlan {
    /// The plan of trial `number`. Each trial has its own seed, so that trials at one load have
    /// different random arrivals.
    fn at(&self, load: f64, window: Duration, number: u64) -> Result<Plan, RunError> {
        let mut plan = Plan {
            duration: Some(window),
            requests: None,
            repeat: NonZeroUsize::MIN,
            seed: self.trial.seed.wrapping_add(number),
            ..self.trial.clone()
        };
        match (self.over, &mut plan.load) {
            (Axis::Rate, Load::Open { rate, .. }) => {
                *rate = Profile::constant(load).map_err(RunError::Rate)?;
            }
            // A closed loop has no rate.
            (Axis::Rate, Load::Closed { .. }) => {}
            (Axis::Connections, _) => {
                plan.connections = NonZeroUsize::new(load as usize).unwrap_or(NonZeroUsize::MIN);
                let own = NonZeroUsize::new(plan.own_connections());
                plan.threads = plan.threads.min(own.unwrap_or(NonZeroUsize::MIN));
            }
        }
        Ok(plan)
    }
}

/// The results of the trials so far.
struct Log {
    started_at: String,
    began: Instant,
    trials: Vec<TrialResult>,
    /// By ascending load. The classes are added at the end.
    curve: Vec<CurvePoint>,
    /// Consecutive trials without any connection.
    unreachable: usize,
}

impl Log {
    fn new(plan: &SearchPlan) -> Self {
        Self {
            started_at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            began: Instant::now(),
            trials: Vec::with_capacity(plan.limits.max_trials.min(1000)),
            curve: Vec::new(),
            unreachable: 0,
        }
    }

    /// Adds a trial and returns its outcome for each goal; `None` if the user ended it.
    fn add(
        &mut self,
        plan: &SearchPlan,
        load: f64,
        window: Duration,
        began: Instant,
        made: Trial,
    ) -> Result<Option<Vec<Outcome>>, RunError> {
        let mut trial = TrialResult {
            start_s: (began - self.began).as_secs_f64(),
            cost_s: made.cost.as_secs_f64(),
            load,
            planned_s: window.as_secs_f64(),
            outcome: TrialOutcome::Interrupted,
            judgements: Vec::new(),
            error: None,
            measured: None,
        };
        let outcomes = match made.measured {
            Ok(result) => {
                self.unreachable = 0;
                let outcomes = (!result.interrupted).then(|| judge(plan, &result));
                if outcomes.as_deref().is_some_and(is_judged) {
                    self.add_to_curve(load, &result);
                }
                trial.measured = Some(TrialFigures::of(&result));
                outcomes
            }
            Err((failure, error)) => {
                // A failed first trial means that the request itself is impossible.
                let was_measured = self.trials.iter().any(|trial| trial.measured.is_some());
                let is_client_limit =
                    plan.over == Axis::Connections && failure.cause == Cause::Descriptors;
                if !was_measured && !is_client_limit {
                    return Err(error.unwrap_or(RunError::Apart(failure.text)));
                }
                self.unreachable = match failure.cause {
                    Cause::Unreachable => self.unreachable + 1,
                    _ => 0,
                };
                let outcome = failure.cause.outcome();
                trial.error = Some(failure.text);
                Some(vec![outcome; plan.goals.len()])
            }
        };
        if let Some(outcomes) = &outcomes {
            trial.outcome = if is_judged(outcomes) {
                TrialOutcome::Judged
            } else {
                TrialOutcome::ClientFailed
            };
            trial.judgements = outcomes.iter().map(Outcome::judgement).collect();
        }
        self.trials.push(trial);
        Ok(outcomes)
    }

    fn add_to_curve(&mut self, load: f64, result: &RunResult) {
        let index = self.curve.partition_point(|point| point.load < load);
        if self.curve.get(index).is_none_or(|point| point.load != load) {
            self.curve.insert(index, CurvePoint::empty(load));
        }
        self.curve[index].add(result);
    }

    fn into_result(mut self, search: &Search, plan: Plan, stop: StopReason) -> SearchResult {
        for point in &mut self.curve {
            let goals = 0..search.goals().len();
            point.classes = goals.map(|goal| search.class(goal, point.load)).collect();
        }
        SearchResult {
            schema: 1,
            kind: SearchKind::Search,
            tool: Tool::this(),
            started_at: self.started_at,
            interrupted: stop == StopReason::Interrupted,
            host: host::describe(),
            plan,
            over: search.axis(),
            limits: *search.limits(),
            confidence: CONFIDENCE,
            goals: search
                .goals()
                .iter()
                .cloned()
                .zip(search.findings())
                .map(|(goal, finding)| GoalResult { goal, finding })
                .collect(),
            client_limit: search.client_limit(),
            stop,
            spent_s: self.began.elapsed().as_secs_f64(),
            trials: self.trials,
            curve: self.curve,
        }
    }
}

/// The outcome of a trial for each goal.
fn judge(plan: &SearchPlan, result: &RunResult) -> Vec<Outcome> {
    let figures = Figures::of(result);
    let messages = TrialMessages {
        due: figures.due,
        lost: figures.lost,
        corrupt: result.messages.corrupt,
        completed: figures.completed,
        missing_connections: match plan.over {
            Axis::Rate => 0.0,
            Axis::Connections => missing_connections(result).unwrap_or(0.0),
        },
        response: result.latency_ns.response.as_ref().map(Latency::histogram),
    };
    let reasons = &result.verdict.reasons;
    let mut codes: Vec<_> = reasons.iter().map(|reason| &reason.code).collect();
    if has_doubtful_tail(result) {
        codes.push(&Code::Hiccups);
    }
    let client = ClientPart {
        codes: &codes,
        busy: busiest(&result.client.threads),
        lag: result.client.own_send_lag.as_ref().map(Latency::histogram),
        window: Duration::from_secs_f64(result.duration_s),
        threads: result.client.threads.len(),
    };
    let goals = plan.goals.iter();
    goals
        .map(|goal| Outcome::of(goal, &messages, &client))
        .collect()
}

/// Whether the client may have made the p99.9. The verdict has no reason for that, but an objective
/// may be about it.
fn has_doubtful_tail(result: &RunResult) -> bool {
    let response = result.latency_ns.response.as_ref();
    let is_reported = response.is_some_and(|response| response.quantile(0.999).is_some());
    is_reported && result.verdict.vouched_percentile < Some(99.9)
}

/// The busy share of the busiest thread, of the time that it had a CPU.
fn busiest(threads: &[ThreadResult]) -> f64 {
    let shares = threads.iter().map(|thread| {
        let away = thread.run_delay_ratio.unwrap_or(0.0);
        thread.busy_ratio / (1.0 - away).max(f64::MIN_POSITIVE)
    });
    shares.fold(0.0, f64::max)
}

/// Whether the trial says something about the server for at least one goal.
fn is_judged(outcomes: &[Outcome]) -> bool {
    outcomes.iter().any(|outcome| outcome.judgement().is_some())
}

/// The share of the connections that were not open at the end; `None` with one connection per
/// message.
fn missing_connections(result: &RunResult) -> Option<f64> {
    if result.plan.has_connection_per_message() {
        return None;
    }
    let wanted = result.plan.own_connections() as f64;
    Some((1.0 - result.connections.held as f64 / wanted).clamp(0.0, 1.0))
}

/// Counts of a run without keys in the result.
struct Figures {
    due: u64,
    lost: u64,
    completed: u64,
}

impl Figures {
    fn of(result: &RunResult) -> Self {
        let Messages {
            sent,
            lost,
            timed_out,
            abandoned,
            unfinished,
            unsent,
            ..
        } = result.messages;
        Self {
            due: sent + unsent,
            lost: lost + timed_out + abandoned + unfinished + unsent,
            completed: (result.rate.achieved * result.duration_s).round() as u64,
        }
    }
}

impl TrialFigures {
    fn of(result: &RunResult) -> Self {
        let figures = Figures::of(result);
        let share = |count: u64| count as f64 / figures.due.max(1) as f64;
        Self {
            duration_s: result.duration_s,
            offered: result.rate.offered,
            achieved: result.rate.achieved,
            due: figures.due,
            lost_ratio: share(figures.lost),
            corrupt_ratio: share(result.messages.corrupt),
            missing_connections_ratio: missing_connections(result),
            response_ns: result.latency_ns.response.as_ref().map(TrialLatency::from),
            verdict: result.verdict.clone(),
        }
    }
}

impl CurvePoint {
    fn empty(load: f64) -> Self {
        Self {
            load,
            trials: 0,
            duration_s: 0.0,
            offered: 0.0,
            achieved: 0.0,
            classes: Vec::new(),
            response_ns: None,
        }
    }

    fn add(&mut self, result: &RunResult) {
        let (before_s, next_s) = (self.duration_s, result.duration_s);
        let mean = |before: f64, next: f64| {
            (before * before_s + next * next_s) / (before_s + next_s).max(f64::MIN_POSITIVE)
        };
        self.offered = mean(self.offered, result.rate.offered);
        self.achieved = mean(self.achieved, result.rate.achieved);
        self.duration_s = before_s + next_s;
        self.trials += 1;
        match (&mut self.response_ns, &result.latency_ns.response) {
            (Some(sum), Some(next)) => *sum += next,
            (sum @ None, next) => sum.clone_from(next),
            (Some(_), None) => {}
        }
    }
}
