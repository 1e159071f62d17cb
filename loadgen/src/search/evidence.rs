//! The certainty of the bounds: an interval that contains the capacity with a probability of 95 %,
//! however the search chooses its trials and whenever it ends.
//!
//! The capacity of a goal is the load up to which a trial of the final length meets the objectives
//! with a probability of at least 1 − exceed ratio. It is assumed that this probability does not
//! grow with the load, and for now that trials are independent. For each candidate capacity, a
//! gambler bets against it on every trial, at odds that are fair if the candidate is true: that
//! trials above it meet the goal, and that trials up to it miss it. For the true capacity, the
//! gambler's wealth is a non-negative supermartingale, and the probability that it ever reaches 20
//! times its start is at most 1/20 (Ville's inequality; Ramdas and others, "Game-theoretic
//! statistics and safe anytime-valid inference", 2023, sections 2 and 4). So candidates against
//! which the gambler has won that much are excluded. The bets may depend on all earlier trials, so
//! stopping and choosing loads by the results is harmless.
//!
//! With dependent trials, the gambler wins too often: the variance of sums of outcomes grows by the
//! integrated autocorrelation time, and so does the logarithm of the wealth. So the threshold grows
//! by the same factor; `dependence` estimates the time. This part is an approximation: it is as
//! good as the estimate of the time.

use super::dependence::autocorrelation_time;
use crate::result::search::{CONFIDENCE, CapacityInterval};

/// The weight of the prior in a prediction, in trials.
const PRIOR_WEIGHT: f64 = 0.4;
/// The maximum weight of trials at other loads.
const MAX_OTHERS: f64 = 2.0;
/// The maximum certainty of a prediction, so that one odd trial does not cost everything won
/// before.
const MAX_CERTAINTY: f64 = 0.93;

/// The bets on the trials of one goal.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    /// The probability to meet the goal at the capacity: 1 − exceed ratio.
    chance: f64,
    /// By ascending load.
    loads: Vec<Tried>,
    /// The candidate capacities: below all loads, then from each load to the next.
    ranges: Vec<Range>,
    /// Load and outcome of each trial, in time order.
    trials: Vec<(f64, bool)>,
    /// How many trials count as one.
    dependence: f64,
    interval: CapacityInterval,
}

/// The trials at one load.
#[derive(Clone, Copy, Debug)]
struct Tried {
    load: f64,
    met: f64,
    missed: f64,
}

/// Candidate capacities without a tried load between them.
#[derive(Clone, Copy, Debug, Default)]
struct Range {
    /// Logarithm of the wealth won by betting against them,
    won: f64,
    /// and its maximum so far.
    most: f64,
}

impl Evidence {
    /// No trials. `exceed_ratio` lies strictly between 0 and 1.
    pub(super) fn new(exceed_ratio: f64) -> Self {
        Self {
            chance: 1.0 - exceed_ratio,
            loads: Vec::new(),
            ranges: vec![Range::default()],
            trials: Vec::new(),
            dependence: 1.0,
            interval: CapacityInterval::default(),
        }
    }

    /// Adds a trial of the final length.
    pub(super) fn record(&mut self, load: f64, is_met: bool) {
        let predicted = self.predict(load);
        let gain = if is_met {
            predicted / self.chance
        } else {
            (1.0 - predicted) / (1.0 - self.chance)
        };
        let index = self.loads.partition_point(|tried| tried.load < load);
        if self.loads.get(index).is_none_or(|tried| tried.load != load) {
            self.loads.insert(index, Tried::new(load));
            self.ranges.insert(index + 1, self.ranges[index]);
        }
        let tried = &mut self.loads[index];
        if is_met {
            tried.met += 1.0;
        } else {
            tried.missed += 1.0;
        }
        self.trials.push((load, is_met));
        self.dependence = autocorrelation_time(&self.deviations());
        // A bet on an outcome that the candidate makes likely anyway would be no bet. Betting that
        // the goal is met is betting against the capacities below.
        let (below, above) = self.ranges.split_at_mut(index + 1);
        let doubted = if predicted > self.chance {
            below
        } else {
            above
        };
        for range in doubted {
            range.won += gain.ln();
            range.most = range.most.max(range.won);
        }
        self.rule_out();
    }

    /// The interval of the capacity by all trials so far.
    pub(super) fn interval(&self) -> CapacityInterval {
        self.interval
    }

    /// How many trials count as one because consecutive trials are dependent.
    pub(super) fn dependence(&self) -> f64 {
        self.dependence
    }

    /// The deviation of each trial from the average at its load: by how much it met the goal more.
    fn deviations(&self) -> Vec<f64> {
        let deviation = |&(load, is_met): &(f64, bool)| {
            let index = self.loads.partition_point(|tried| tried.load < load);
            let Tried { met, missed, .. } = self.loads[index];
            f64::from(u8::from(is_met)) - met / (met + missed)
        };
        self.trials.iter().map(deviation).collect()
    }

    /// The predicted probability that a trial at `load` meets the goal: from the trials at that
    /// load and, with a small weight, from goals met at a higher load or missed at a lower one.
    /// Trials with the opposite outcome are ignored, so the latter are biased.
    fn predict(&self, load: f64) -> f64 {
        let (mut met, mut missed) = (
            PRIOR_WEIGHT * self.chance,
            PRIOR_WEIGHT * (1.0 - self.chance),
        );
        let (mut met_above, mut missed_below) = (0.0, 0.0);
        for tried in &self.loads {
            if tried.load == load {
                met += tried.met;
                missed += tried.missed;
            } else if tried.load > load {
                met_above += tried.met;
            } else {
                missed_below += tried.missed;
            }
        }
        let others = met_above + missed_below;
        let scale = f64::min(1.0, MAX_OTHERS / f64::max(others, 1.0));
        met += met_above * scale;
        missed += missed_below * scale;
        let predicted = met / (met + missed);
        predicted.clamp(
            f64::min(1.0 - MAX_CERTAINTY, self.chance),
            f64::max(MAX_CERTAINTY, self.chance),
        )
    }

    /// The ends of the candidates that are not excluded.
    fn rule_out(&mut self) {
        let enough = -(1.0 - CONFIDENCE).ln() * self.dependence;
        let is_left = |range: &Range| range.most < enough;
        let load = |tried: &Tried| tried.load;
        let first = self.ranges.iter().position(is_left);
        let last = self.ranges.iter().rposition(is_left);
        self.interval = match first.zip(last) {
            Some((first, last)) => CapacityInterval {
                lower: self.loads[..first].last().map(load),
                upper: self.loads.get(last).map(load),
            },
            // If no candidate is left, the ends cross.
            None => CapacityInterval {
                lower: self.loads.last().map(load),
                upper: self.loads.first().map(load),
            },
        };
    }
}

impl Tried {
    fn new(load: f64) -> Self {
        Self {
            load,
            met: 0.0,
            missed: 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulation::Random;
    use super::*;

    fn evidence(trials: &[(f64, bool)]) -> Evidence {
        let mut evidence = Evidence::new(0.5);
        for &(load, is_met) in trials {
            evidence.record(load, is_met);
        }
        evidence
    }

    #[test]
    fn six_trials_of_one_mind_make_a_bound() {
        let five = evidence(&[(100.0, true); 5]);
        assert_eq!(five.interval(), CapacityInterval::default());
        let six = evidence(&[(100.0, true); 6]);
        assert_eq!(six.interval().lower, Some(100.0));
        assert_eq!(six.interval().upper, None);
        let six = evidence(&[(100.0, false); 6]);
        assert_eq!(six.interval().upper, Some(100.0));
        assert_eq!(six.interval().lower, None);
    }

    #[test]
    fn both_bounds_make_an_interval() {
        let trials = [[(100.0, true); 6], [(102.0, false); 6]].concat();
        let interval = evidence(&trials).interval();
        assert_eq!((interval.lower, interval.upper), (Some(100.0), Some(102.0)));
        assert_eq!(interval.width(), Some(2.0 / 102.0));
        assert!(!interval.is_empty());
    }

    #[test]
    fn trials_at_higher_loads_speak_for_lower_ones() {
        // At no single load were there enough of them.
        let trials: Vec<_> = (0..9)
            .map(|index| (109.0 - f64::from(index), true))
            .collect();
        let lower = evidence(&trials).interval().lower;
        assert!(lower.is_some_and(|lower| lower > 100.0), "{lower:?}");
    }

    #[test]
    fn a_capacity_that_moved_leaves_nothing() {
        let trials = [&[(100.0, true); 10][..], &[(90.0, false); 40]].concat();
        assert!(evidence(&trials).interval().is_empty());
    }

    /// The probability that the truth is ever excluded by an adversarial choice of trials: trials
    /// are made where they may mislead, and the interval is checked after each.
    #[test]
    fn the_truth_is_ruled_out_as_rarely_as_claimed() {
        const CAPACITY: f64 = 100.0;
        let mut random = Random::new(1);
        for exceed_ratio in [0.5, 0.2] {
            let misled = (0..1000)
                .filter(|_| {
                    let mut evidence = Evidence::new(exceed_ratio);
                    (0..100).any(|_| {
                        let load = 90.0 + 20.0 * random.uniform();
                        // The worst allowed case: trials above meet as often as trials below must.
                        let is_met = random.uniform() < 1.0 - exceed_ratio;
                        evidence.record(load, is_met);
                        let interval = evidence.interval();
                        interval.lower.is_some_and(|lower| lower > CAPACITY)
                            || interval.upper.is_some_and(|upper| upper <= CAPACITY)
                    })
                })
                .count();
            assert!(misled <= 50, "{misled} of 1000");
        }
    }
}
