//! The search for the highest load that meets service-level objectives: which trial comes next, what
//! the trials made so far say, and how sure that is. Pure: trials go in as figures, time as their cost.
//!
//! After MLRsearch (draft-ietf-bmwg-mlrsearch, "Multiple Loss Ratio Search"): loads are classified by
//! goals, several goals share the trials, and the results are the relevant bounds and the conditional
//! throughput. What the draft leaves to implementations is here: `strategy` selects loads, and
//! `evidence` says with what certainty the capacity lies between them. Trials that failed because
//! of the client are never held against the server; they limit how far the search can go.

use std::time::Duration;

use serde::{Deserialize, Serialize};

mod axis;
mod classify;
mod evidence;
mod goal;
mod history;
mod objective;
#[cfg(test)]
mod simulation;
mod strategy;
#[cfg(test)]
mod tests;

pub use axis::{Axis, Limits};
pub use classify::{Class, Judged, Target, classify, typical_failure};
pub use evidence::{CONFIDENCE, Interval};
pub use goal::{Goal, Judgement, Preset, Terms};
pub use objective::{Objective, Tally, parse_ratio};

use history::{History, Trial};
use strategy::{Field, Pursuit};

/// So many trials in a row at one load must fail because of the client before it counts as its limit:
/// one may be an accident.
const CLIENT_ATTEMPTS: usize = 3;

/// A search under way.
///
/// ```
/// use std::time::Duration;
/// use loadgen::search::{Axis, Goal, GoalEnd, Judgement, Limits, Outcome, Preset, Search, Step};
///
/// let goal = Goal {
///     name: None,
///     objectives: vec!["p99<1ms".parse().expect("is an objective")],
///     terms: Preset::Quick.terms(),
/// };
/// let limits = Limits {
///     start: 1e3,
///     lowest: 10.0,
///     highest: 1e9,
///     max_trials: 200,
///     max_time: Duration::from_secs(300),
/// };
/// let mut search = Search::new(vec![goal], Axis::Rate, limits);
/// while let Step::Measure { load, duration } = search.next_step() {
///     // A server that takes 54 321 messages per second, and not one more.
///     let is_met = load <= 54_321.0;
///     let judgement = Judgement { failed: 0.0, is_met };
///     search.record(load, duration, duration, Outcome::Judged(vec![judgement]));
/// }
/// let findings = search.findings();
/// assert_eq!(findings[0].end, GoalEnd::Found);
/// let interval = findings[0].interval.expect("chance was ruled out");
/// assert!(interval.lower.is_some_and(|lower| lower <= 54_321.0));
/// assert!(interval.upper.is_some_and(|upper| upper > 54_321.0));
/// ```
#[derive(Clone, Debug)]
pub struct Search {
    goals: Vec<Goal>,
    pursuits: Vec<Pursuit>,
    field: Field,
    history: History,
    /// Trials that the client failed: at which load the last one was, and how many in a row.
    client_failures: Option<(f64, usize)>,
    trials: usize,
    spent: Duration,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Make a trial, and record it.
    Measure {
        /// Messages per second or connections.
        load: f64,
        /// Length of the measured window.
        duration: Duration,
    },
    /// The search is over.
    Stop(StopReason),
}

/// Why a search is over.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
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

/// How a trial came out.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// What it says about each goal, in their order.
    Judged(Vec<Judgement>),
    /// The client did not do what the trial asked for: nothing is learnt about the server.
    ClientFailed,
}

/// What was found for one goal.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Finding {
    /// Relevant lower bound: the highest load that meets the goal below the first that misses it.
    pub lower: Option<f64>,
    /// Relevant upper bound: the lowest load that misses the goal.
    pub upper: Option<f64>,
    /// How far apart they are, as a share of the upper one.
    pub precision: Option<f64>,
    /// Load at the lower bound times the ratio of messages that typically met the objectives there.
    pub conditional_throughput: Option<f64>,
    /// Where the capacity lies with a chance of [`CONFIDENCE`]; null if the goal leaves no room for
    /// chance.
    pub interval: Option<Interval>,
    /// How the search for the goal ended.
    #[serde(flatten)]
    pub end: GoalEnd,
}

/// How the search for a goal ended.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum GoalEnd {
    /// The bounds are as close as was asked for, and chance is ruled out.
    Found,
    /// The goal is met at the highest load that was to be tried.
    HighestMeets,
    /// The goal is missed at the lowest load that was to be tried.
    LowestMisses,
    /// The client can't offer more than it took to find the lower bound.
    ClientLimit {
        /// The lowest load that it could not offer.
        limit: f64,
    },
    /// The capacity moved while it was searched for: no load fits all that was seen.
    Unsteady,
    /// The search was over before.
    Unfinished,
}

impl Search {
    /// A search for `goals` within `limits`, which are taken as loads that can be tried.
    pub fn new(goals: Vec<Goal>, axis: Axis, limits: Limits) -> Self {
        let lowest = axis.round(limits.lowest);
        let highest = axis.round(limits.highest).max(lowest);
        let limits = Limits {
            lowest,
            highest,
            ..limits
        };
        Self {
            pursuits: goals
                .iter()
                .enumerate()
                .map(|(index, goal)| Pursuit::new(index, &goal.terms))
                .collect(),
            goals,
            field: Field {
                axis,
                limits,
                ceiling: None,
            },
            history: History::default(),
            client_failures: None,
            trials: 0,
            spent: Duration::ZERO,
        }
    }

    /// What to do next.
    ///
    /// Of the trials that would help the goals, the shortest comes first, and of these the one at the
    /// lowest load: what is learnt there may save the others.
    pub fn next_step(&mut self) -> Step {
        let (history, field) = (&self.history, &self.field);
        let next = self
            .pursuits
            .iter_mut()
            .filter_map(|pursuit| pursuit.nominate(history, field))
            .min_by(|a, b| {
                let by_length = a.seconds.total_cmp(&b.seconds);
                by_length.then(a.load.total_cmp(&b.load))
            });
        let Some(next) = next else {
            return Step::Stop(StopReason::Finished);
        };
        let duration = Duration::from_secs_f64(next.seconds);
        if self.trials >= self.field.limits.max_trials {
            Step::Stop(StopReason::TrialsExhausted)
        } else if self.spent + duration > self.field.limits.max_time {
            Step::Stop(StopReason::TimeExhausted)
        } else {
            Step::Measure {
                load: next.load,
                duration,
            }
        }
    }

    /// Takes a trial into account that [`Self::next_step`] asked for. `cost` is the time that it took
    /// with all that surrounds it.
    pub fn record(&mut self, load: f64, duration: Duration, cost: Duration, outcome: Outcome) {
        self.trials += 1;
        self.spent += cost;
        let seconds = duration.as_secs_f64();
        let judgements = match outcome {
            Outcome::Judged(judgements) => judgements,
            Outcome::ClientFailed => return self.record_client_failure(load),
        };
        self.client_failures = None;
        for (pursuit, judgement) in self.pursuits.iter_mut().zip(&judgements) {
            pursuit.record(load, seconds, judgement.is_met);
        }
        self.history.add(Trial {
            load,
            seconds,
            judgements,
        });
    }

    /// What was found so far, for each goal.
    pub fn findings(&self) -> Vec<Finding> {
        let field = self.field;
        self.pursuits
            .iter()
            .enumerate()
            .map(|(goal, pursuit)| {
                let target = pursuit.target();
                let bounds = self.history.bounds(goal, target);
                // Asking a copy changes nothing of the pursuit's own course.
                let is_over = pursuit.clone().nominate(&self.history, &field).is_none();
                Finding {
                    lower: bounds.lower,
                    upper: bounds.upper,
                    precision: bounds
                        .lower
                        .zip(bounds.upper)
                        .map(|(lower, upper)| (upper - lower) / upper),
                    conditional_throughput: bounds.lower.map(|lower| {
                        let failed = typical_failure(self.history.at(goal, lower), target);
                        lower * (1.0 - failed)
                    }),
                    interval: pursuit.interval(),
                    end: match (bounds.lower, bounds.upper) {
                        _ if pursuit.interval().is_some_and(|known| known.is_empty()) => {
                            GoalEnd::Unsteady
                        }
                        _ if !is_over => GoalEnd::Unfinished,
                        (None, Some(_)) => GoalEnd::LowestMisses,
                        (Some(_), Some(upper))
                            if field.ceiling.is_none_or(|limit| upper <= limit) =>
                        {
                            GoalEnd::Found
                        }
                        (_, _) => field.ceiling.map_or(GoalEnd::HighestMeets, |limit| {
                            GoalEnd::ClientLimit { limit }
                        }),
                    },
                }
            })
            .collect()
    }

    /// What a load is to a goal, by the trials made there; `goal` is its number.
    pub fn class(&self, goal: usize, load: f64) -> Class {
        self.history.class(goal, self.pursuits[goal].target(), load)
    }

    /// What is searched for.
    pub fn goals(&self) -> &[Goal] {
        &self.goals
    }

    /// What the load is a number of.
    pub fn axis(&self) -> Axis {
        self.field.axis
    }

    /// Within which limits.
    pub fn limits(&self) -> &Limits {
        &self.field.limits
    }

    /// The lowest load that the client could not offer.
    pub fn client_limit(&self) -> Option<f64> {
        self.field.ceiling
    }

    /// What the trials took altogether.
    pub fn spent(&self) -> Duration {
        self.spent
    }

    fn record_client_failure(&mut self, load: f64) {
        let before = self
            .client_failures
            .filter(|&(failed, _)| failed == load)
            .map_or(0, |(_, times)| times);
        self.client_failures = Some((load, before + 1));
        if before + 1 >= CLIENT_ATTEMPTS {
            let ceiling = &mut self.field.ceiling;
            *ceiling = Some(ceiling.map_or(load, |ceiling| ceiling.min(load)));
        }
    }
}
