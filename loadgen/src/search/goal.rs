//! What is searched for: objectives, and on what evidence a load counts as meeting them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::objective::{Objective, Tally};
use crate::plan::seconds;

/// A trial of fewer messages than these tells nothing of any goal.
pub const LEAST_MESSAGES: f64 = 10.0;

/// One thing to find: the highest load at which all objectives hold.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Goal {
    /// What the user calls it.
    pub name: Option<String>,
    /// All of them must hold.
    pub objectives: Vec<Objective>,
    /// On what evidence.
    pub terms: Terms,
}

/// On what evidence a load counts as meeting its objectives: the attributes of an MLRsearch goal
/// (draft-ietf-bmwg-mlrsearch, section "Search Goal").
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Terms {
    /// Length of the first, coarse trials.
    #[serde(rename = "initial_trial_s", with = "seconds")]
    pub initial_trial: Duration,
    /// Length of the trials that decide.
    #[serde(rename = "final_trial_s", with = "seconds")]
    pub final_trial: Duration,
    /// Trials of this length together always decide about a load.
    #[serde(rename = "duration_sum_s", with = "seconds")]
    pub duration_sum: Duration,
    /// The share of that time in which the objectives may be missed.
    pub exceed_ratio: f64,
    /// How far apart the bounds may be in the end, as a share of the upper one.
    pub precision: f64,
}

/// Terms that go together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Preset {
    /// Trials of a second, in half of which the objectives must hold.
    #[default]
    Quick,
    /// The same with trials of five seconds and a higher precision.
    Thorough,
    /// One trial of a minute decides, as RFC 2544, section 24, asks; nothing is repeated, so nothing
    /// can be said about chance.
    Rfc2544,
}

/// What a trial says about a goal.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Judgement {
    /// The largest ratio of messages that failed an objective.
    pub failed: f64,
    /// Whether every objective was met.
    pub is_met: bool,
}

impl Goal {
    /// What a trial with these figures says about the goal.
    pub fn judge(&self, tally: &Tally<'_>) -> Judgement {
        let ratios = self.objectives.iter().map(|objective| {
            let failed = objective.failed(tally);
            (failed, objective.is_met(failed))
        });
        ratios.fold(
            Judgement {
                failed: 0.0,
                is_met: true,
            },
            |all, (failed, is_met)| Judgement {
                failed: all.failed.max(failed),
                is_met: all.is_met && is_met,
            },
        )
    }
}

impl Goal {
    /// The fewest messages of which a trial can tell whether it meets the goal: so many that one of
    /// them may fail where a ratio of failures is allowed.
    pub fn least_messages(&self) -> f64 {
        let allowed = self.objectives.iter().map(Objective::allowed);
        allowed
            .filter(|&allowed| allowed > 0.0)
            .map(|allowed| (1.0 / allowed).round())
            .fold(LEAST_MESSAGES, f64::max)
    }
}

impl Preset {
    /// The terms themselves.
    pub fn terms(self) -> Terms {
        let terms = |initial_ms, final_ms, sum_ms, exceed_ratio, precision| Terms {
            initial_trial: Duration::from_millis(initial_ms),
            final_trial: Duration::from_millis(final_ms),
            duration_sum: Duration::from_millis(sum_ms),
            exceed_ratio,
            precision,
        };
        match self {
            Self::Quick => terms(500, 1_000, 5_000, 0.5, 0.05),
            Self::Thorough => terms(1_000, 5_000, 25_000, 0.5, 0.02),
            Self::Rfc2544 => terms(1_000, 60_000, 60_000, 0.0, 0.01),
        }
    }
}

impl Terms {
    /// Says what is wrong with terms that contradict each other.
    ///
    /// # Errors
    /// One line for the user.
    pub fn check(&self) -> Result<(), String> {
        if self.initial_trial.is_zero() || self.initial_trial > self.final_trial {
            Err("the first trials must not be longer than the last ones, nor empty".to_owned())
        } else if self.final_trial > self.duration_sum {
            Err("the duration sum must hold one of the last trials at least".to_owned())
        } else if !(self.exceed_ratio >= 0.0 && self.exceed_ratio < 1.0) {
            Err("the exceed ratio must be at least 0 and below 100%".to_owned())
        } else if !(self.precision > 0.0 && self.precision < 1.0) {
            Err("the precision must lie between 0 and 100%".to_owned())
        } else {
            Ok(())
        }
    }
}

impl FromStr for Preset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "quick" => Ok(Self::Quick),
            "thorough" => Ok(Self::Thorough),
            "rfc2544" => Ok(Self::Rfc2544),
            _ => Err("must be quick, thorough or rfc2544".to_owned()),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_objectives_must_hold() {
        let goal = |texts: &[&str]| Goal {
            name: None,
            objectives: texts
                .iter()
                .map(|text| text.parse().expect("is well-formed"))
                .collect(),
            terms: Preset::Quick.terms(),
        };
        let tally = Tally {
            due: 1000,
            lost: 5,
            corrupt: 0,
            completed: 1000,
            missing_connections: 0.0,
            response: None,
        };
        let judged = |texts: &[&str]| goal(texts).judge(&tally).is_met;
        assert!(judged(&["p99<1ms"]));
        assert!(judged(&["p99<1ms", "errors<1%"]));
        assert!(!judged(&["p99<1ms", "errors<0.1%"]));
        assert!(!judged(&["errors<0.1%", "p99<1ms"]));
        assert_eq!(goal(&["p99<1ms", "lost<1%"]).judge(&tally).failed, 0.005);
    }

    #[test]
    fn small_ratios_need_many_messages() {
        let least = |texts: &[&str]| {
            let objectives = texts
                .iter()
                .map(|text| text.parse().expect("is well-formed"));
            Goal {
                name: None,
                objectives: objectives.collect(),
                terms: Preset::Quick.terms(),
            }
            .least_messages()
        };
        assert_eq!(least(&["p99<1ms", "errors<0.1%"]), 1000.0);
        assert_eq!(least(&["p99<1ms"]), 100.0);
        assert_eq!(least(&["p50<1ms"]), 10.0);
        assert_eq!(least(&["lost<=0"]), 10.0);
    }

    #[test]
    fn presets_do_not_contradict_themselves() {
        for text in ["quick", "thorough", "rfc2544"] {
            let terms = text.parse::<Preset>().expect("exists").terms();
            assert_eq!(terms.check(), Ok(()), "{text}");
        }
        let quick = Preset::Quick.terms();
        let is_refused = |terms: Terms| terms.check().is_err();
        assert!(is_refused(Terms {
            precision: 0.0,
            ..quick
        }));
        assert!(is_refused(Terms {
            exceed_ratio: 1.0,
            ..quick
        }));
        assert!(is_refused(Terms {
            duration_sum: Duration::from_millis(1),
            ..quick
        }));
        assert!(is_refused(Terms {
            initial_trial: Duration::from_secs(9),
            ..quick
        }));
    }
}
