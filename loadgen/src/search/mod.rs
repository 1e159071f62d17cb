//! The search for the highest load that meets service-level objectives: the next trial, the bounds
//! from the trials made so far, and their certainty. Pure: trials are given as figures, and time as
//! their cost.
//!
//! After MLRsearch (draft-ietf-bmwg-mlrsearch, "Multiple Loss Ratio Search"): loads are classified
//! by goals, several goals share the trials, and the results are the relevant bounds and the
//! conditional throughput. The draft leaves two parts to implementations: `strategy` selects loads,
//! and `evidence` computes the certainty that the capacity lies between the bounds. Trials that
//! failed because of the client never count against the server; they limit the range of the search.
//! `attribution` decides whether the server or the client failed.

use std::time::Duration;

mod attribution;
mod axis;
mod classify;
mod client;
mod dependence;
mod evidence;
mod history;
mod judgement;
mod preset;
#[cfg(test)]
mod simulation;
mod strategy;
#[cfg(test)]
mod tests;

pub use crate::result::objective::{Objective, parse_ratio};
pub use crate::result::search::{
    Axis, CONFIDENCE, CapacityInterval, Class, Finding, Goal, GoalEnd, Judgement, Limits,
    StopReason, Terms,
};
pub use attribution::{ClientPart, Outcome, is_about_the_client};
pub use classify::{Judged, Requirement, classify, typical_failure};
pub use judgement::{MIN_MESSAGES, TrialMessages};
pub use preset::Preset;

use client::ClientRecord;
use history::{History, Trial};
use strategy::{GoalSearch, TrialRange};

/// A search in progress.
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
///     search.record(load, duration, duration, &[Outcome::Judged(judgement)]);
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
    axis: Axis,
    limits: Limits,
    goal_searches: Vec<GoalSearch>,
    /// The client's limits for each goal.
    client: Vec<ClientRecord>,
    history: History,
    trials: usize,
    spent: Duration,
}

/// The next step.
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

impl Search {
    /// A search for `goals` within `limits`, which must be loads that can be tried.
    pub fn new(goals: Vec<Goal>, axis: Axis, limits: Limits) -> Self {
        let lowest = axis.round(limits.lowest);
        let highest = axis.round(limits.highest).max(lowest);
        let limits = Limits {
            lowest,
            highest,
            ..limits
        };
        Self {
            goal_searches: goals
                .iter()
                .enumerate()
                .map(|(index, goal)| GoalSearch::new(index, &goal.terms))
                .collect(),
            client: vec![ClientRecord::default(); goals.len()],
            goals,
            axis,
            limits,
            history: History::default(),
            trials: 0,
            spent: Duration::ZERO,
        }
    }

    /// The next step.
    ///
    /// Of the trials that help the goals, the shortest is chosen, and of these the one at the
    /// lowest load: its result may make the others unnecessary.
    pub fn next_step(&mut self) -> Step {
        let (history, axis, limits) = (&self.history, self.axis, self.limits);
        let next = self
            .goal_searches
            .iter_mut()
            .zip(&self.client)
            .filter_map(|(goal_search, client)| {
                let range = TrialRange::new(axis, limits, client.limit());
                goal_search
                    .next_trial(history, &range)
                    .or_else(|| client.limit_trial(goal_search, history))
            })
            .min_by(|a, b| {
                let by_length = a.seconds.total_cmp(&b.seconds);
                by_length.then(a.load.total_cmp(&b.load))
            });
        let Some(next) = next else {
            return Step::Stop(StopReason::Finished);
        };
        let duration = Duration::from_secs_f64(next.seconds);
        if self.trials >= limits.max_trials {
            Step::Stop(StopReason::TrialsExhausted)
        } else if self.spent + duration > limits.max_time {
            Step::Stop(StopReason::TimeExhausted)
        } else {
            Step::Measure {
                load: next.load,
                duration,
            }
        }
    }

    /// Records a trial requested by [`Self::next_step`]: its outcome for each goal, in the goals'
    /// order. `cost` is its total time, with all overhead.
    pub fn record(&mut self, load: f64, duration: Duration, cost: Duration, outcomes: &[Outcome]) {
        self.trials += 1;
        self.spent += cost;
        let seconds = duration.as_secs_f64();
        let goals = self.goal_searches.iter_mut().zip(&mut self.client);
        for ((goal_search, client), outcome) in goals.zip(outcomes) {
            client.note(load, outcome);
            if let Outcome::Judged(judgement) = outcome {
                goal_search.record(load, seconds, judgement.is_met);
            }
        }
        let judgements: Vec<_> = outcomes.iter().map(Outcome::judgement).collect();
        if judgements.iter().any(Option::is_some) {
            self.history.add(Trial {
                load,
                seconds,
                judgements,
            });
        }
    }

    /// The findings so far, for each goal.
    pub fn findings(&self) -> Vec<Finding> {
        self.goal_searches
            .iter()
            .zip(&self.client)
            .enumerate()
            .map(|(goal, (goal_search, client))| {
                let range = TrialRange::new(self.axis, self.limits, client.limit());
                let target = goal_search.target();
                let bounds = goal_search.bounds(&self.history);
                // The search continues on a copy, so the real search is unchanged.
                let is_over = goal_search
                    .clone()
                    .next_trial(&self.history, &range)
                    .is_none()
                    && client.limit_trial(goal_search, &self.history).is_none();
                let end = client.end(goal_search, &self.history);
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
                    interval: goal_search.interval(),
                    dependence: goal_search.dependence(),
                    end: if is_over || end == GoalEnd::Unsteady {
                        end
                    } else {
                        GoalEnd::Unfinished
                    },
                }
            })
            .collect()
    }

    /// The class of a load for goal number `goal`, by the trials made there.
    pub fn class(&self, goal: usize, load: f64) -> Class {
        self.history
            .class(goal, self.goal_searches[goal].target(), load)
    }

    /// The goals of the search.
    pub fn goals(&self) -> &[Goal] {
        &self.goals
    }

    /// The unit of the load.
    pub fn axis(&self) -> Axis {
        self.axis
    }

    /// The limits of the search.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The lowest load that the client could not offer for some goal.
    pub fn client_limit(&self) -> Option<f64> {
        let limits = self.client.iter().filter_map(ClientRecord::limit);
        limits.reduce(f64::min)
    }

    /// The total cost of the trials.
    pub fn spent(&self) -> Duration {
        self.spent
    }
}
