//! The loads that the client can't offer.

use super::attribution::Outcome;
use super::history::History;
use super::strategy::{Candidate, GoalSearch};
use crate::result::search::GoalEnd;

/// Consecutive trials at one load that must fail because of the client before the search looks for
/// bounds below it. One failure may be chance.
const MIN_FAILED: usize = 3;
/// The same limit if some of the trials were only disturbed, because a disturbance may pass.
const MIN_DISTURBED: usize = 10;
/// Consecutive trials that must fail at a known limit before the search ends there. The first
/// failures may have been temporary.
const MIN_FAILED_AT_LIMIT: usize = 5;
/// Maximum of times that a limit of the client may be withdrawn. If failures are random, the search
/// would not end otherwise.
const MAX_RECOVERIES: usize = 8;

/// The loads at which the client failed a goal.
#[derive(Clone, Debug, Default)]
pub(super) struct ClientRecord {
    /// Consecutive trials at this load that say nothing about the server.
    load: f64,
    failed: usize,
    disturbed: usize,
    /// The loads that it could not offer, ascending.
    limits: Vec<f64>,
    /// The lowest of them, if it failed there later again.
    established: Option<f64>,
    /// Number of withdrawn limits.
    recoveries: usize,
}

impl ClientRecord {
    /// The lowest load that the client could not offer.
    pub(super) fn limit(&self) -> Option<f64> {
        self.limits.first().copied()
    }

    /// Counts a trial that says nothing about the server. Enough consecutive ones make a limit,
    /// which is withdrawn if the client offers that load later.
    pub(super) fn note(&mut self, load: f64, outcome: &Outcome) {
        if self.load != load {
            (self.failed, self.disturbed) = (0, 0);
        }
        self.load = load;
        match outcome {
            Outcome::Judged(_) => {
                (self.failed, self.disturbed) = (0, 0);
                if self.recoveries < MAX_RECOVERIES {
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
            MIN_FAILED_AT_LIMIT
        } else {
            MIN_FAILED
        };
        if self.failed < enough && self.failed + self.disturbed < MIN_DISTURBED {
            return;
        }
        (self.failed, self.disturbed) = (0, 0);
        if !is_known {
            self.limits.insert(index, load);
        } else if index == 0 {
            // Trials for another goal may fail at a higher load, which says nothing about the
            // lowest.
            self.established = Some(load);
        }
    }

    /// The trial that would show whether the search for a goal must end at the client's limit.
    pub(super) fn limit_trial(
        &self,
        goal_search: &GoalSearch,
        history: &History,
    ) -> Option<Candidate> {
        let GoalEnd::ClientLimit { limit } = self.end(goal_search, history) else {
            return None;
        };
        let is_settled = self.established == Some(limit) || self.recoveries >= MAX_RECOVERIES;
        (!is_settled).then(|| Candidate {
            load: limit,
            seconds: goal_search.target().trial_s,
        })
    }

    /// The end of the search for a goal if no further trial is made.
    pub(super) fn end(&self, goal_search: &GoalSearch, history: &History) -> GoalEnd {
        if goal_search.interval().is_some_and(|known| known.is_empty()) {
            return GoalEnd::Unsteady;
        }
        let bounds = goal_search.bounds(history);
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
