//! The trials of a search, and the classes of loads.

use super::classify::{Judged, Requirement, classify};
use crate::result::search::{Class, Judgement};

/// A trial that says something about the server for at least one goal.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trial {
    pub(super) load: f64,
    pub(super) seconds: f64,
    /// The judgement for each goal; `None` if the client was the limit or disturbed.
    pub(super) judgements: Vec<Option<Judgement>>,
}

/// All trials, in time order.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    trials: Vec<Trial>,
    /// The tried loads, each once, ascending.
    loads: Vec<f64>,
}

/// The relevant bounds of a goal: the smallest load that misses it, and the largest load below that
/// which meets it. A load that meets the goal although a smaller one misses it counts as chance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bounds {
    pub(super) lower: Option<f64>,
    pub(super) upper: Option<f64>,
}

impl History {
    pub(super) fn add(&mut self, trial: Trial) {
        let index = self.loads.partition_point(|&load| load < trial.load);
        if self.loads.get(index) != Some(&trial.load) {
            self.loads.insert(index, trial.load);
        }
        self.trials.push(trial);
    }

    pub(super) fn bounds(&self, goal: usize, target: &Requirement) -> Bounds {
        let mut bounds = Bounds::default();
        for &load in &self.loads {
            match self.class(goal, target, load) {
                Class::Lower => bounds.lower = Some(load),
                Class::Upper => {
                    bounds.upper = Some(load);
                    break;
                }
                Class::Undecided => {}
            }
        }
        bounds
    }

    pub(super) fn class(&self, goal: usize, target: &Requirement, load: f64) -> Class {
        classify(self.at(goal, load), target)
    }

    /// The trials at a load from the view of one goal.
    pub(super) fn at(&self, goal: usize, load: f64) -> impl Iterator<Item = Judged> {
        self.trials
            .iter()
            .filter(move |trial| trial.load == load)
            .filter_map(move |trial| {
                trial.judgements[goal].map(|judgement| Judged {
                    seconds: trial.seconds,
                    judgement,
                })
            })
    }

    /// The number of trials at loads in the range that are at least that long and judge a goal.
    pub(super) fn count(
        &self,
        goal: usize,
        loads: std::ops::RangeInclusive<f64>,
        seconds: f64,
    ) -> usize {
        self.trials
            .iter()
            .filter(|trial| loads.contains(&trial.load) && trial.seconds >= seconds)
            .filter(|trial| trial.judgements[goal].is_some())
            .count()
    }

    /// The tried load nearest to `load`, if the two differ by a factor of at most `exp(distance)`.
    pub(super) fn nearest(&self, load: f64, distance: f64) -> Option<f64> {
        let apart = |tried: f64| (tried / load).ln().abs();
        self.loads
            .iter()
            .copied()
            .min_by(|&a, &b| apart(a).total_cmp(&apart(b)))
            .filter(|&tried| apart(tried) <= distance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Requirement = Requirement {
        trial_s: 1.0,
        sum_s: 1.0,
        exceed_ratio: 0.5,
    };

    fn history(trials: &[(f64, bool)]) -> History {
        let mut history = History::default();
        for &(load, is_met) in trials {
            history.add(Trial {
                load,
                seconds: 1.0,
                judgements: vec![Some(Judgement {
                    failed: 0.0,
                    is_met,
                })],
            });
        }
        history
    }

    #[test]
    fn a_good_load_above_a_bad_one_is_taken_for_luck() {
        let bounds = |trials| {
            let bounds = history(trials).bounds(0, &TARGET);
            (bounds.lower, bounds.upper)
        };
        assert_eq!(bounds(&[]), (None, None));
        assert_eq!(bounds(&[(10.0, true)]), (Some(10.0), None));
        assert_eq!(
            bounds(&[(10.0, true), (40.0, true), (20.0, false), (50.0, false)]),
            (Some(10.0), Some(20.0))
        );
    }

    #[test]
    fn loads_are_found_again_if_they_are_near() {
        let history = history(&[(100.0, true), (200.0, true)]);
        assert_eq!(history.nearest(101.0, 0.02), Some(100.0));
        assert_eq!(history.nearest(110.0, 0.02), None);
        assert_eq!(history.count(0, 0.0..=150.0, 1.0), 1);
        assert_eq!(history.count(0, 0.0..=500.0, 2.0), 0);
    }
}
