//! How sure the bounds are: an interval that contains the capacity with a chance of 95 %, however the
//! search chose its trials and whenever it ends.
//!
//! The capacity of a goal is the load up to which a trial of the final length meets the objectives
//! with a chance of at least 1 − exceed ratio. It is assumed that this chance does not grow with the
//! load, and for now that trials are independent. For each capacity that might be, a gambler who
//! doubts it bets on every trial at fair odds for that capacity: that trials above it will meet the
//! goal, and that those up to it will miss it. If it is the true one, his wealth is a non-negative
//! supermartingale, and the chance that it ever becomes 20 times what it was is 1/20 at most (Ville's
//! inequality; Ramdas and others, "Game-theoretic statistics and safe anytime-valid inference", 2023,
//! sections 2 and 4). So capacities against which he has won that much are ruled out. The bets may
//! depend on all that came before, which makes stopping and choosing loads by what was seen harmless.
//!
//! Trials that are not independent make him win too often: sums of outcomes then vary by as many times
//! more as their integrated autocorrelation time says, and so does the logarithm of his wealth. So that
//! has to be as many times as large; `dependence` finds the time. This part is no inequality: it holds as
//! far as the time is known.

use super::dependence::autocorrelation_time;
use crate::result::search::{CONFIDENCE, CapacityInterval};

/// How much a prediction leans on no trial at all, in trials.
const PRIOR_WEIGHT: f64 = 0.4;
/// How much it leans on trials at other loads, at most.
const MAX_OTHERS: f64 = 2.0;
/// No prediction is surer than this, so that one odd trial does not cost all that was won.
const MAX_CERTAINTY: f64 = 0.93;

/// The bets on the trials of one goal.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    /// The chance to meet the goal at the capacity: 1 − exceed ratio.
    chance: f64,
    /// By increasing load.
    loads: Vec<Tried>,
    /// Of the capacities that might be: those below all loads, then from each load to the next.
    ranges: Vec<Range>,
    /// Load and outcome, in the order in which they were made.
    trials: Vec<(f64, bool)>,
    /// How many of them count as one.
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

/// Capacities between which no load was tried.
#[derive(Clone, Copy, Debug, Default)]
struct Range {
    /// Logarithm of what was won by doubting them,
    won: f64,
    /// and the most that it ever was.
    most: f64,
}

impl Evidence {
    /// No trial was made yet. `exceed_ratio` lies strictly between 0 and 1.
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
        // A bet on what the capacity in doubt makes likely anyway would not be one. Betting that the goal
        // is met is betting against the capacities below.
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

    /// Where the capacity lies, by all trials so far.
    pub(super) fn interval(&self) -> CapacityInterval {
        self.interval
    }

    /// How many trials count as one, because those that follow each other come out alike.
    pub(super) fn dependence(&self) -> f64 {
        self.dependence
    }

    /// Of each trial, by how much it met the goal more than those at its load do on average.
    fn deviations(&self) -> Vec<f64> {
        let deviation = |&(load, is_met): &(f64, bool)| {
            let index = self.loads.partition_point(|tried| tried.load < load);
            let Tried { met, missed, .. } = self.loads[index];
            f64::from(u8::from(is_met)) - met / (met + missed)
        };
        self.trials.iter().map(deviation).collect()
    }

    /// How likely a trial at `load` meets the goal: by the trials made there, and with a little weight
    /// by what met it at a higher load or missed it at a lower one. Those lean to one side, because
    /// nothing is said of what went the other way.
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

    /// Goes through the capacities that might be, and takes the ends of what is left.
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
            // With nothing left, the ends cross.
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

    /// The chance that the truth is ever ruled out, by a gambler who tries as hard as he can: trials
    /// are made where they may mislead, and it is looked at after each.
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
                        // All that is allowed to those above, no more than is asked of those below.
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
