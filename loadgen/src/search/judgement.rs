//! The judgement of a trial for a goal.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::result::objective::Objective;
use crate::result::search::{Goal, Judgement};

/// Minimum of messages for a judgement.
pub const MIN_MESSAGES: f64 = 10.0;
/// Share of messages that may be outstanding when the window ends. If more did not come back within
/// it, they count as failed.
const MAX_SHORT: f64 = 0.01;
/// Ratios are compared with this tolerance for rounding errors.
const ROUNDING: f64 = 1e-9;

/// The outcomes of a trial's messages, as objectives need them.
#[derive(Clone, Copy, Debug)]
pub struct TrialMessages<'a> {
    /// Due messages.
    pub due: u64,
    /// Messages that did not come back: lost, timed out, unfinished or unsent.
    pub lost: u64,
    /// Messages that came back changed.
    pub corrupt: u64,
    /// Echoes completed within the window.
    pub completed: u64,
    /// If the load is a number of connections, the share of them that was not open at the end.
    pub missing_connections: f64,
    /// Response times of the messages that came back, in nanoseconds.
    pub response: Option<&'a Histogram<u64>>,
}

/// A bound on the delay that the client added to response times: at most `delay`, except for a
/// share of the messages.
///
/// A thread writes and reads in turn, so it reads as late as it writes. If a share p of the
/// messages was sent later than l, then at most a share 2p was delayed by more than 2l, once by the
/// write and once by the read. So if a share f was later than limit + 2l, the server was late for
/// at least f - 2p.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lateness {
    pub(super) delay: Duration,
    pub(super) share_beyond: f64,
    /// The delay as a share of the window. The client may have kept messages that were due so
    /// shortly before the window's end from coming back within it.
    pub(super) share_of_window: f64,
}

impl Goal {
    /// The judgement of a trial with these messages.
    pub fn judge(&self, messages: &TrialMessages<'_>) -> Judgement {
        let mut judgement = Judgement {
            failed: 0.0,
            is_met: true,
        };
        for objective in &self.objectives {
            let failed = objective.failed(messages);
            judgement.failed = judgement.failed.max(failed);
            judgement.is_met &= objective.is_met(failed);
        }
        judgement
    }

    /// The minimum of messages for a judgement on the goal. If a failure ratio is allowed, one
    /// failure must be possible within it.
    pub fn min_messages(&self) -> f64 {
        let allowed = self.objectives.iter().map(Objective::allowed);
        allowed
            .filter(|&allowed| allowed > 0.0)
            .map(|allowed| (1.0 / allowed).round())
            .fold(MIN_MESSAGES, f64::max)
    }
}

impl Objective {
    /// Whether a trial with the share `failed` of failed messages meets the objective.
    pub fn is_met(&self, failed: f64) -> bool {
        failed <= self.allowed() + ROUNDING
    }

    /// The share of messages that failed the objective; 1 if none was due.
    ///
    /// An overloaded server may still answer everything in the end. So if more than 1 % of the
    /// messages did not come back within the window, they count as failed even if they came later.
    pub fn failed(&self, messages: &TrialMessages<'_>) -> f64 {
        if messages.due == 0 {
            return 1.0;
        }
        let lost_or_late =
            messages.share(self.lost_count(messages) + self.late_count(messages, Duration::ZERO));
        lost_or_late
            .max(beyond_tolerance(messages.short()))
            .max(messages.missing_connections)
            .min(1.0)
    }

    /// The part of [`Self::failed`] that is independent of when messages came back.
    pub(super) fn lost(&self, messages: &TrialMessages<'_>) -> f64 {
        let lost = messages.share(self.lost_count(messages));
        lost.max(messages.missing_connections)
    }

    /// The share of messages that failed the objective even if the client added `lateness` to the
    /// response times.
    pub(super) fn failed_despite(&self, messages: &TrialMessages<'_>, lateness: &Lateness) -> f64 {
        let late = messages.share(self.late_count(messages, lateness.delay));
        let short = beyond_tolerance(messages.short() - lateness.share_of_window);
        (self.lost(messages) + late).max(short) - lateness.share_beyond
    }

    /// Messages that did not come back as the objective asks, at any time.
    fn lost_count(&self, messages: &TrialMessages<'_>) -> u64 {
        match self {
            Self::Late { .. } | Self::Errors { .. } => messages.lost + messages.corrupt,
            Self::Lost { .. } => messages.lost,
        }
    }

    /// Messages that came back later than the objective's limit plus `delay`.
    fn late_count(&self, messages: &TrialMessages<'_>, delay: Duration) -> u64 {
        match *self {
            Self::Late { limit, .. } => messages.later_than(limit + delay),
            Self::Errors { .. } | Self::Lost { .. } => 0,
        }
    }
}

impl TrialMessages<'_> {
    /// The share of messages that did not come back within the window.
    fn short(&self) -> f64 {
        self.share(self.due.saturating_sub(self.completed))
    }

    fn share(&self, count: u64) -> f64 {
        count as f64 / self.due.max(1) as f64
    }

    fn later_than(&self, limit: Duration) -> u64 {
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        self.response.map_or(0, |histogram| {
            // The histogram's bucket that contains the limit counts as in time.
            let within = histogram.highest_equivalent(limit.min(histogram.high()));
            histogram.len() - histogram.count_between(0, within)
        })
    }
}

/// `short`, or 0 if the end of the window explains it.
fn beyond_tolerance(short: f64) -> f64 {
    if short > MAX_SHORT { short } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::super::preset::Preset;
    use super::*;
    use crate::result::histogram;

    const NOTHING_LOST: TrialMessages<'static> = TrialMessages {
        due: 1000,
        lost: 0,
        corrupt: 0,
        completed: 1000,
        missing_connections: 0.0,
        response: None,
    };

    fn objective(text: &str) -> Objective {
        text.parse().expect("is well-formed")
    }

    fn goal(texts: &[&str]) -> Goal {
        Goal {
            name: None,
            objectives: texts.iter().map(|text| objective(text)).collect(),
            terms: Preset::Quick.terms(),
        }
    }

    #[test]
    fn all_objectives_must_hold() {
        let messages = TrialMessages {
            lost: 5,
            ..NOTHING_LOST
        };
        let judged = |texts: &[&str]| goal(texts).judge(&messages).is_met;
        assert!(judged(&["p99<1ms"]));
        assert!(judged(&["p99<1ms", "errors<1%"]));
        assert!(!judged(&["p99<1ms", "errors<0.1%"]));
        assert!(!judged(&["errors<0.1%", "p99<1ms"]));
        assert_eq!(goal(&["p99<1ms", "lost<1%"]).judge(&messages).failed, 0.005);
    }

    #[test]
    fn small_ratios_need_many_messages() {
        let min = |texts: &[&str]| goal(texts).min_messages();
        assert_eq!(min(&["p99<1ms", "errors<0.1%"]), 1000.0);
        assert_eq!(min(&["p99<1ms"]), 100.0);
        assert_eq!(min(&["p50<1ms"]), 10.0);
        assert_eq!(min(&["lost<=0"]), 10.0);
    }

    #[test]
    fn late_lost_and_changed_messages_fail_a_percentile_alike() {
        let mut response = histogram::empty();
        response.record_n(400_000, 994).expect("fits");
        response.record_n(3_000_000, 2).expect("fits");
        let messages = TrialMessages {
            lost: 3,
            corrupt: 1,
            response: Some(&response),
            ..NOTHING_LOST
        };
        assert_eq!(objective("p99<1ms").failed(&messages), 0.006);
        assert_eq!(objective("p99<5ms").failed(&messages), 0.004);
        assert_eq!(objective("errors<1%").failed(&messages), 0.004);
        assert_eq!(objective("lost<1%").failed(&messages), 0.003);
        assert!(objective("p99<1ms").is_met(0.006));
        assert!(!objective("p99.9<1ms").is_met(0.006));
    }

    #[test]
    fn a_server_that_falls_behind_fails_even_if_all_comes_back_later() {
        let behind = |completed| TrialMessages {
            completed,
            ..NOTHING_LOST
        };
        assert_eq!(objective("errors<1%").failed(&behind(800)), 0.2);
        assert_eq!(objective("errors<1%").failed(&behind(995)), 0.0);
    }

    #[test]
    fn connections_that_do_not_stand_fail_every_objective() {
        let refused = TrialMessages {
            missing_connections: 0.25,
            ..NOTHING_LOST
        };
        for text in ["p99<1ms", "errors<1%", "lost<1%"] {
            assert_eq!(objective(text).failed(&refused), 0.25);
        }
    }

    #[test]
    fn a_trial_without_messages_meets_nothing() {
        let nothing = TrialMessages {
            due: 0,
            completed: 0,
            ..NOTHING_LOST
        };
        assert_eq!(objective("errors<1%").failed(&nothing), 1.0);
    }
}
