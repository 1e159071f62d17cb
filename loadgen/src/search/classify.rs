//! Whether a load meets a goal, by its trials: load classification and conditional throughput of
//! draft-ietf-bmwg-mlrsearch, appendices A and B.

use crate::result::search::{Class, Judgement};

/// Sums of seconds are compared with this tolerance for rounding errors.
const ROUNDING_S: f64 = 1e-9;

/// The requirements of a goal, or of a coarser stage, on a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Requirement {
    /// Trials of at least this many seconds are full. Shorter trials only hint.
    pub trial_s: f64,
    /// Full trials with this total number of seconds always decide.
    pub sum_s: f64,
    /// The share of that time in which the goal may be missed.
    pub exceed_ratio: f64,
}

/// A trial from the view of one goal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// Its length in seconds.
    pub seconds: f64,
    /// Its outcome.
    pub judgement: Judgement,
}

/// Classifies a load by all its trials.
///
/// Missed short trials count as missed full trials of the same length, reduced by the met short
/// trials. Met short trials prove nothing, because queues take time to build up.
pub fn classify(trials: impl Iterator<Item = Judged>, target: &Requirement) -> Class {
    let [
        mut full_missed,
        mut full_met,
        mut short_missed,
        mut short_met,
    ] = [0.0; 4];
    for trial in trials {
        let sum = match (trial.seconds >= target.trial_s, trial.judgement.is_met) {
            (true, true) => &mut full_met,
            (true, false) => &mut full_missed,
            (false, true) => &mut short_met,
            (false, false) => &mut short_missed,
        };
        *sum += trial.seconds;
    }
    let exceed = target.exceed_ratio;
    let balanced = short_met * exceed / (1.0 - exceed);
    let missed = full_missed + f64::max(0.0, short_missed - balanced);
    let whole = f64::max(full_met + missed, target.sum_s);
    let may_miss = whole * exceed;
    let is_lower_at_worst = whole - full_met <= may_miss;
    let is_lower_at_best = missed <= may_miss;
    match (is_lower_at_worst, is_lower_at_best) {
        (true, true) => Class::Lower,
        (false, false) => Class::Upper,
        _ => Class::Undecided,
    }
}

/// The typical failure ratio of a load: its full trials are ordered by failure ratio, and the one
/// at the required share of time is returned. Time missing from the duration sum counts as failed
/// completely.
pub fn typical_failure(trials: impl Iterator<Item = Judged>, target: &Requirement) -> f64 {
    let mut full: Vec<Judged> = trials
        .filter(|trial| trial.seconds >= target.trial_s)
        .collect();
    full.sort_by(|a, b| a.judgement.failed.total_cmp(&b.judgement.failed));
    let length: f64 = full.iter().map(|trial| trial.seconds).sum();
    let mut remaining = f64::max(length, target.sum_s) * (1.0 - target.exceed_ratio);
    for trial in full {
        remaining -= trial.seconds;
        if remaining <= ROUNDING_S {
            return trial.judgement.failed;
        }
    }
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn target(trial_s: f64, sum_s: f64, exceed_ratio: f64) -> Requirement {
        Requirement {
            trial_s,
            sum_s,
            exceed_ratio,
        }
    }

    /// Trials of one load: their number, their length in seconds, their failure ratio; `allowed` is
    /// the ratio that meets the goal.
    fn trials(made: &[(usize, f64, f64)], allowed: f64) -> Vec<Judged> {
        made.iter()
            .flat_map(|&(count, seconds, failed)| {
                let judgement = Judgement {
                    failed,
                    is_met: failed <= allowed,
                };
                std::iter::repeat_n(Judged { seconds, judgement }, count)
            })
            .collect()
    }

    /// The example of the draft's appendix C: four goals at one load, at six points of a search.
    #[test]
    fn loads_are_classified_as_in_the_drafts_example() {
        use Class::{Lower, Undecided, Upper};
        let goals = [
            (target(60.0, 60.0, 0.0), 0.0),
            (target(60.0, 120.0, 0.5), 0.0),
            (target(1.0, 120.0, 0.5), 0.005),
            (target(60.0, 60.0, 0.2), 0.005),
        ];
        let mut made = Vec::new();
        for (added, expected) in [
            ((59, 1.0, 0.0), [Undecided, Undecided, Undecided, Undecided]),
            ((1, 1.0, 0.01), [Upper, Undecided, Undecided, Undecided]),
            ((59, 1.0, 0.01), [Upper, Undecided, Undecided, Upper]),
            ((1, 1.0, 0.0), [Upper, Undecided, Lower, Upper]),
            ((1, 60.0, 0.001), [Upper, Undecided, Lower, Upper]),
            ((1, 60.0, 0.0), [Upper, Lower, Lower, Upper]),
        ] {
            made.push(added);
            let classes = goals
                .map(|(target, allowed)| classify(trials(&made, allowed).into_iter(), &target));
            assert_eq!(classes, expected, "after {added:?}");
        }
    }

    #[test]
    fn a_load_without_trials_is_undecided() {
        let nothing = std::iter::empty();
        assert_eq!(classify(nothing, &target(1.0, 5.0, 0.5)), Class::Undecided);
    }

    #[test]
    fn the_typical_failure_is_a_quantile_of_the_full_trials() {
        let typical = |made: &[(usize, f64, f64)], target| {
            typical_failure(trials(made, 0.0).into_iter(), &target)
        };
        // Half of five seconds: the third best of the trials.
        let half = target(1.0, 5.0, 0.5);
        let five = [
            (1, 1.0, 0.5),
            (1, 1.0, 0.1),
            (1, 1.0, 0.3),
            (1, 1.0, 0.2),
            (1, 1.0, 0.4),
        ];
        assert_eq!(typical(&five, half), 0.3);
        assert_eq!(typical(&[(3, 1.0, 0.1)], half), 0.1);
        assert_eq!(
            typical(&[(2, 1.0, 0.1)], half),
            1.0,
            "half a second is missing"
        );
        assert_eq!(
            typical(&[(9, 0.5, 0.1)], half),
            1.0,
            "short trials prove nothing"
        );
        assert_eq!(typical(&[(1, 60.0, 0.0)], target(60.0, 60.0, 0.0)), 0.0);
    }

    proptest! {
        #[test]
        fn full_trials_of_the_duration_sum_always_decide(
            met in proptest::collection::vec(any::<bool>(), 5..40),
            exceed in 0.0..0.95,
        ) {
            let made = met.into_iter().map(|is_met| Judged {
                seconds: 1.0,
                judgement: Judgement { failed: 0.0, is_met },
            });
            prop_assert_ne!(classify(made, &target(1.0, 5.0, exceed)), Class::Undecided);
        }

        #[test]
        fn a_lower_bound_typically_meets_its_goal(
            failed in proptest::collection::vec(0.0..0.02, 0..30),
            exceed in 0.0..0.95,
        ) {
            let made: Vec<(usize, f64, f64)> = failed.iter().map(|&failed| (1, 1.0, failed)).collect();
            let made = trials(&made, 0.01);
            let target = target(1.0, 8.0, exceed);
            if classify(made.iter().copied(), &target) == Class::Lower {
                prop_assert!(typical_failure(made.into_iter(), &target) <= 0.01);
            }
        }
    }
}
