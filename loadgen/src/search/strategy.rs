//! Selects the next load for one goal.
//!
//! Three stages, each with longer trials and closer bounds than the one before. The first finds the
//! neighbourhood with single short trials, growing geometrically from a small load; the last
//! applies the goal's terms. A stage first tries the bounds of the previous stage, and widens them
//! if they do not hold. After the last stage, both bounds are tried again until chance is excluded.

use std::time::Duration;

use super::classify::Requirement;
use super::evidence::Evidence;
use super::history::{Bounds, History};
use crate::result::search::{Axis, CapacityInterval, Class, Limits, Terms};

/// Growth factor while the capacity is unknown.
const GROWTH: f64 = 2.0;
/// The ratio between the widths of a stage and the next.
const COARSER: f64 = 2.0;
/// Trials at a load before one farther out is tried, if chance is not excluded yet.
const TRIALS_PER_RUNG: usize = 8;
/// Trials that disagree with the others. This many are enough to go farther out, too.
const DISSENTERS: usize = 2;
/// If a smaller share of them agrees, more trials at this load would take too long.
const MIN_AGREEMENT: f64 = 0.6;
/// How often a load farther out is tried: 0, 1, 2.5, 4.75, 8.1, 13 ... widths from the bound.
const RUNGS: i32 = 9;
const SPACING: f64 = 1.5;
const FIRST_RUNGS: f64 = 2.0;
/// Loads within this distance, in widths, count as the same if one of them was tried.
const SAME: f64 = 0.3;

/// The range of loads that can be tried now.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrialRange {
    pub(super) axis: Axis,
    pub(super) limits: Limits,
    /// The lowest load that the client could not offer.
    pub(super) ceiling: Option<f64>,
}

/// The search for one goal.
#[derive(Clone, Debug)]
pub(super) struct GoalSearch {
    goal: usize,
    stages: [Stage; 3],
    stage: usize,
    /// The bounds of the previous stage.
    hints: Bounds,
    /// `None` if the goal allows no misses.
    evidence: Option<Evidence>,
}

#[derive(Clone, Copy, Debug)]
struct Stage {
    target: Requirement,
    /// The maximum distance of the bounds, as a share of the upper one.
    width: f64,
}

/// A useful trial.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) load: f64,
    pub(super) seconds: f64,
}

/// The bound that it concerns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Side {
    Lower,
    Upper,
}

impl GoalSearch {
    pub(super) fn new(goal: usize, terms: &Terms) -> Self {
        let (initial, sum) = (terms.initial_trial, terms.duration_sum);
        let geometric_mean_s = (initial.as_secs_f64() * sum.as_secs_f64()).sqrt();
        // In whole milliseconds, so that the duration and the number of seconds are equal.
        let between = Duration::from_millis((geometric_mean_s * 1e3).round() as u64);
        let between = between.clamp(initial, sum);
        let stage = |sum: Duration, width: f64| Stage {
            target: Requirement {
                trial_s: sum.min(terms.final_trial).as_secs_f64(),
                sum_s: sum.as_secs_f64(),
                exceed_ratio: terms.exceed_ratio,
            },
            width,
        };
        let widths =
            [COARSER * COARSER, COARSER, 1.0].map(|times| (times * terms.precision).min(0.5));
        Self {
            goal,
            stages: [
                stage(initial, widths[0]),
                stage(between, widths[1]),
                stage(sum, widths[2]),
            ],
            stage: 0,
            hints: Bounds::default(),
            evidence: (terms.exceed_ratio > 0.0).then(|| Evidence::new(terms.exceed_ratio)),
        }
    }

    /// Records a trial.
    pub(super) fn record(&mut self, load: f64, seconds: f64, is_met: bool) {
        // Longer trials of other goals may also meet this one.
        let is_final = seconds == self.target().trial_s;
        if let Some(evidence) = self.evidence.as_mut().filter(|_| is_final) {
            evidence.record(load, is_met);
        }
    }

    /// The most useful trial; `None` if there is nothing left to find.
    pub(super) fn next_trial(
        &mut self,
        history: &History,
        range: &TrialRange,
    ) -> Option<Candidate> {
        loop {
            let stage = self.stages[self.stage];
            let bounds = history.bounds(self.goal, &stage.target);
            let is_last = self.stage + 1 == self.stages.len();
            let load = self
                .candidate(&stage, bounds, history, range)
                .or_else(|| is_last.then(|| self.confirm(bounds, history, range))?);
            if let Some(load) = load {
                let seconds = stage.target.trial_s;
                return Some(Candidate { load, seconds });
            }
            if is_last {
                return None;
            }
            self.stage += 1;
            self.hints = bounds;
        }
    }

    /// The requirements of the goal itself.
    pub(super) fn target(&self) -> &Requirement {
        &self.stages[self.stages.len() - 1].target
    }

    /// The relevant bounds of the goal.
    pub(super) fn bounds(&self, history: &History) -> Bounds {
        history.bounds(self.goal, self.target())
    }

    /// The interval of the capacity by all trials.
    pub(super) fn interval(&self) -> Option<CapacityInterval> {
        self.evidence.as_ref().map(Evidence::interval)
    }

    /// How many trials count as one in that interval.
    pub(super) fn dependence(&self) -> Option<f64> {
        self.evidence.as_ref().map(Evidence::dependence)
    }

    /// The load that narrows the bounds of a stage; `None` if they are close enough.
    fn candidate(
        &self,
        stage: &Stage,
        bounds: Bounds,
        history: &History,
        range: &TrialRange,
    ) -> Option<f64> {
        // The smaller load first: if it becomes a bound, the larger one may be unnecessary.
        for hint in [self.hints.lower, self.hints.upper].into_iter().flatten() {
            let is_inside = bounds.lower.is_none_or(|lower| lower < hint)
                && bounds.upper.is_none_or(|upper| hint < upper)
                && range.ceiling.is_none_or(|ceiling| hint < ceiling);
            if is_inside && history.class(self.goal, &stage.target, hint) == Class::Undecided {
                return Some(hint);
            }
        }
        let load = match (bounds.lower, bounds.upper) {
            (None, None) => range.clamp(range.limits.start),
            (Some(lower), None) => {
                let load = lower * step(self.hints.lower, lower, stage.width);
                range.above(lower, load, stage.width)
            }
            (None, Some(upper)) => {
                let load = upper / step(self.hints.upper, upper, stage.width);
                let load = range.axis.round(load).max(range.limits.lowest);
                (load < upper).then_some(load)
            }
            (Some(lower), Some(upper)) => {
                let upper = range.ceiling.map_or(upper, |ceiling| ceiling.min(upper));
                if (upper - lower) / upper <= stage.width {
                    return None;
                }
                range.axis.between(lower, upper)
            }
        };
        // A load tried in another stage or for another goal is as good as a neighbour.
        let tried = history.nearest(load?, stage.width * SAME);
        let is_inside = |&tried: &f64| {
            bounds.lower.is_none_or(|lower| lower < tried)
                && bounds.upper.is_none_or(|upper| tried < upper)
                && range.clamp(tried) == Some(tried)
        };
        tried.filter(is_inside).or(load)
    }

    /// The load whose trial helps to exclude that a bound is due to chance; `None` if that is
    /// excluded, or can't be.
    fn confirm(&self, bounds: Bounds, history: &History, range: &TrialRange) -> Option<f64> {
        let known = self.evidence.as_ref()?.interval();
        let (lower, upper) = bounds.lower.zip(bounds.upper)?;
        let width = self.stages[self.stage].width;
        let is_close = known.width().is_some_and(|known| known <= width);
        let holds_lower = known.lower.is_some_and(|known| known >= lower);
        let holds_upper = known.upper.is_some_and(|known| known <= upper);
        let is_confirmed = is_close || (holds_lower && holds_upper);
        if known.is_empty() || is_confirmed {
            return None;
        }
        let made = |loads| history.count(self.goal, loads, self.target().trial_s);
        let side = match (holds_lower, holds_upper) {
            (true, _) => Side::Upper,
            (_, true) => Side::Lower,
            _ if made(0.0..=lower) <= made(upper..=f64::INFINITY) => Side::Lower,
            _ => Side::Upper,
        };
        let (bound, sign, known) = match side {
            Side::Lower => (lower, -1.0, known.lower),
            Side::Upper => (upper, 1.0, known.upper),
        };
        let rung = |index: i32| {
            let widths = FIRST_RUNGS * (SPACING.powi(index) - 1.0);
            let out = bound * (sign * width * widths).exp();
            let load = match index {
                0 => Some(bound),
                _ => history.nearest(out, width * SAME),
            };
            range.clamp(load.unwrap_or(out)).unwrap_or(bound)
        };
        let is_within = |load: f64| known.is_none_or(|known| sign * load < sign * known);
        // From the bound outwards, to a load so far from the capacity that few trials exclude
        // chance. Then back inwards, each time from the best known bound.
        let mut loads: Vec<f64> = (0..=RUNGS)
            .map(rung)
            .take_while(|&load| is_within(load))
            .collect();
        // The last step may be the capacity itself, where no number of trials decides.
        let last = loads.last().copied().unwrap_or(bound);
        if let Some(known) = known.filter(|_| self.is_undecidable(side, last, history)) {
            let beyond = range.axis.between(last.min(known), last.max(known));
            let beyond = beyond.map(|load| history.nearest(load, width * SAME).unwrap_or(load));
            let is_apart = |load: &f64| (load / last).ln().abs() > width * SAME;
            loads.extend(beyond.filter(|load| is_apart(load) && is_within(*load)));
        }
        let is_promising = |&&load: &&f64| !self.is_contested(side, load, history);
        loads
            .iter()
            .find(is_promising)
            .or_else(|| loads.last())
            .copied()
    }

    /// Whether the trials at a load agree so little on its side of the capacity that more trials
    /// would not soon decide.
    fn is_contested(&self, side: Side, load: f64, history: &History) -> bool {
        let (agreeing, dissenting) = self.votes(side, load, history);
        dissenting >= DISSENTERS || agreeing + dissenting >= TRIALS_PER_RUNG
    }

    /// Whether a load has many trials, and almost as many speak for one side of the capacity as for
    /// the other.
    fn is_undecidable(&self, side: Side, load: f64, history: &History) -> bool {
        let (agreeing, dissenting) = self.votes(side, load, history);
        let made = agreeing + dissenting;
        made >= TRIALS_PER_RUNG && (agreeing as f64) < made as f64 * MIN_AGREEMENT
    }

    /// The numbers of trials that put a load on a side of the capacity, and on the other.
    fn votes(&self, side: Side, load: f64, history: &History) -> (usize, usize) {
        let full = history
            .at(self.goal, load)
            .filter(|trial| trial.seconds == self.target().trial_s);
        let (mut agreeing, mut dissenting) = (0, 0);
        for trial in full {
            if trial.judgement.is_met == (side == Side::Lower) {
                agreeing += 1;
            } else {
                dissenting += 1;
            }
        }
        (agreeing, dissenting)
    }
}

impl TrialRange {
    pub(super) fn new(axis: Axis, limits: Limits, ceiling: Option<f64>) -> Self {
        Self {
            axis,
            limits,
            ceiling,
        }
    }

    /// `load` as it can be tried; `None` if the client can't offer it.
    fn clamp(&self, load: f64) -> Option<f64> {
        let load = self
            .axis
            .round(load)
            .clamp(self.limits.lowest, self.limits.highest);
        self.ceiling
            .is_none_or(|ceiling| load < ceiling)
            .then_some(load)
    }

    /// A load above `lower`: `load` if that can be tried, otherwise a load between `lower` and the
    /// client's limit.
    fn above(&self, lower: f64, load: f64, width: f64) -> Option<f64> {
        match (self.clamp(load), self.ceiling) {
            (Some(load), _) => (load > lower).then_some(load),
            (None, Some(ceiling)) if (ceiling - lower) / ceiling > width => {
                self.axis.between(lower, ceiling)
            }
            (None, _) => None,
        }
    }
}

/// The growth factor from a bound that did not hold: as far again as it is from where the stage
/// began, or one width; without such a place, a large factor.
fn step(begin: Option<f64>, bound: f64, width: f64) -> f64 {
    begin.map_or(GROWTH, |begin| {
        let gone = f64::max(begin / bound, bound / begin);
        gone.max(1.0 / (1.0 - width))
    })
}
