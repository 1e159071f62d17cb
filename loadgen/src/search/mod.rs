//! The search for the highest load that meets service-level objectives: which trial comes next, what
//! the trials made so far say, and how sure that is. Pure: trials go in as figures, time as their cost.
//!
//! After MLRsearch (draft-ietf-bmwg-mlrsearch, "Multiple Loss Ratio Search"): loads are classified by
//! goals, several goals share the trials, and the results are the relevant bounds and the conditional
//! throughput. What the draft leaves to implementations is here: `strategy` selects loads, and
//! `evidence` says with what certainty the capacity lies between them. Trials that failed because
//! of the client are never held against the server; they limit how far the search can go.
//! `attribution` tells whose failure it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

mod attribution;
mod axis;
mod classify;
mod dependence;
mod evidence;
mod goal;
mod history;
mod objective;
#[cfg(test)]
mod simulation;
mod strategy;
#[cfg(test)]
mod tests;

pub use attribution::{ClientPart, is_about_the_client};
pub use axis::{Axis, Limits};
pub use classify::{Class, Judged, Target, classify, typical_failure};
pub use evidence::{CONFIDENCE, Interval};
pub use goal::{Goal, Judgement, LEAST_MESSAGES, Preset, Terms};
pub use objective::{Objective, Tally, parse_ratio};

use history::{History, Trial};
use strategy::{Field, Nomination, Pursuit};

/// So many trials in a row at one load must fail because of the client before the search looks for
/// bounds below it: one may be an accident.
const CLIENT_ATTEMPTS: usize = 3;
/// The same where some of them were only disturbed, which may pass.
const DISTURBED_ATTEMPTS: usize = 10;
/// So many more in a row must fail there before the search ends at it: the spell that made the first
/// ones fail may be over.
const LIMIT_ATTEMPTS: usize = 5;
/// How often the client may turn out to offer more than it seemed to. Where it is a matter of chance
/// whether it does, the search would go on for long.
const MOST_RECOVERIES: usize = 8;

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
    pursuits: Vec<Pursuit>,
    /// What the client has to do with each of them.
    client: Vec<ClientRecord>,
    history: History,
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

/// How a trial came out for a goal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// What it says about it.
    Judged(Judgement),
    /// The client could not do what the trial asked for: nothing is learnt about the server.
    ClientFailed,
    /// The client's host kept it from doing so: nothing is learnt about the server, and little about
    /// the client.
    Disturbed,
}

/// Where the client failed a goal.
#[derive(Clone, Debug, Default)]
struct ClientRecord {
    /// Trials in a row at this load that say nothing of the server.
    load: f64,
    failed: usize,
    disturbed: usize,
    /// The loads that it could not offer, increasing.
    limits: Vec<f64>,
    /// The lowest of them, if it could not offer that later either.
    established: Option<f64>,
    /// How often it could after all.
    recoveries: usize,
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
    /// How many of the trials count as one for the interval, because those that follow each other come
    /// out alike: the integrated autocorrelation time, 1 if they don't. Null if the goal leaves no room
    /// for chance.
    #[serde(default)]
    pub dependence: Option<f64>,
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
            client: vec![ClientRecord::default(); goals.len()],
            goals,
            axis,
            limits,
            history: History::default(),
            trials: 0,
            spent: Duration::ZERO,
        }
    }

    /// What to do next.
    ///
    /// Of the trials that would help the goals, the shortest comes first, and of these the one at the
    /// lowest load: what is learnt there may save the others.
    pub fn next_step(&mut self) -> Step {
        let (history, axis, limits) = (&self.history, self.axis, self.limits);
        let next = self
            .pursuits
            .iter_mut()
            .zip(&self.client)
            .filter_map(|(pursuit, client)| {
                let field = Field::new(axis, limits, client.limit());
                pursuit
                    .nominate(history, &field)
                    .or_else(|| client.doubt(pursuit, history))
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

    /// Takes a trial into account that [`Self::next_step`] asked for: how it came out for each goal, in
    /// their order. `cost` is the time that it took with all that surrounds it.
    pub fn record(&mut self, load: f64, duration: Duration, cost: Duration, outcomes: &[Outcome]) {
        self.trials += 1;
        self.spent += cost;
        let seconds = duration.as_secs_f64();
        let goals = self.pursuits.iter_mut().zip(&mut self.client);
        for ((pursuit, client), outcome) in goals.zip(outcomes) {
            client.note(load, outcome);
            if let Outcome::Judged(judgement) = outcome {
                pursuit.record(load, seconds, judgement.is_met);
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

    /// What was found so far, for each goal.
    pub fn findings(&self) -> Vec<Finding> {
        self.pursuits
            .iter()
            .zip(&self.client)
            .enumerate()
            .map(|(goal, (pursuit, client))| {
                let field = Field::new(self.axis, self.limits, client.limit());
                let target = pursuit.target();
                let bounds = pursuit.bounds(&self.history);
                // Asking a copy changes nothing of the pursuit's own course.
                let is_over = pursuit.clone().nominate(&self.history, &field).is_none()
                    && client.doubt(pursuit, &self.history).is_none();
                let end = client.end(pursuit, &self.history);
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
                    dependence: pursuit.dependence(),
                    end: if is_over || end == GoalEnd::Unsteady {
                        end
                    } else {
                        GoalEnd::Unfinished
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
        self.axis
    }

    /// Within which limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The lowest load that the client could not offer for some goal.
    pub fn client_limit(&self) -> Option<f64> {
        let limits = self.client.iter().filter_map(ClientRecord::limit);
        limits.reduce(f64::min)
    }

    /// What the trials took altogether.
    pub fn spent(&self) -> Duration {
        self.spent
    }
}

impl ClientRecord {
    /// The lowest load that it could not offer.
    fn limit(&self) -> Option<f64> {
        self.limits.first().copied()
    }

    /// Counts a trial that says nothing of the server. Enough of them in a row are a limit, which holds
    /// until the client offers as much after all.
    fn note(&mut self, load: f64, outcome: &Outcome) {
        if self.load != load {
            (self.failed, self.disturbed) = (0, 0);
        }
        self.load = load;
        match outcome {
            Outcome::Judged(_) => {
                (self.failed, self.disturbed) = (0, 0);
                if self.recoveries < MOST_RECOVERIES {
                    let before = self.limits.len();
                    self.limits.retain(|&limit| limit > load);
                    if self.limits.len() < before {
                        self.established = None;
                        self.recoveries += 1;
                    }
                }
                return;
            }
            Outcome::ClientFailed => self.failed += 1,
            Outcome::Disturbed => self.disturbed += 1,
        }
        let index = self.limits.partition_point(|&limit| limit < load);
        let is_known = self.limits.get(index) == Some(&load);
        let enough = if is_known {
            LIMIT_ATTEMPTS
        } else {
            CLIENT_ATTEMPTS
        };
        if self.failed < enough && self.failed + self.disturbed < DISTURBED_ATTEMPTS {
            return;
        }
        (self.failed, self.disturbed) = (0, 0);
        if !is_known {
            self.limits.insert(index, load);
        } else if index == 0 {
            // Trials for another goal may fail at a higher one, which says nothing of the lowest.
            self.established = Some(load);
        }
    }

    /// The trial that would show whether the search for a goal has to end at the client's limit.
    fn doubt(&self, pursuit: &Pursuit, history: &History) -> Option<Nomination> {
        let GoalEnd::ClientLimit { limit } = self.end(pursuit, history) else {
            return None;
        };
        let is_settled = self.established == Some(limit) || self.recoveries >= MOST_RECOVERIES;
        (!is_settled).then(|| Nomination {
            load: limit,
            seconds: pursuit.target().trial_s,
        })
    }

    /// How the search for a goal ends if nothing more is tried.
    fn end(&self, pursuit: &Pursuit, history: &History) -> GoalEnd {
        if pursuit.interval().is_some_and(|known| known.is_empty()) {
            return GoalEnd::Unsteady;
        }
        let bounds = pursuit.bounds(history);
        match (bounds.lower, bounds.upper, self.limit()) {
            (None, Some(_), _) => GoalEnd::LowestMisses,
            (Some(_), Some(upper), limit) if limit.is_none_or(|limit| upper <= limit) => {
                GoalEnd::Found
            }
            (_, _, Some(limit)) => GoalEnd::ClientLimit { limit },
            (_, _, None) => GoalEnd::HighestMeets,
        }
    }
}

impl Outcome {
    /// What is said about the server, if anything is.
    pub fn judgement(&self) -> Option<Judgement> {
        match self {
            Self::Judged(judgement) => Some(*judgement),
            Self::ClientFailed | Self::Disturbed => None,
        }
    }
}
