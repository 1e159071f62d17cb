//! The parts of a round's runs that a comparison keeps.

use super::metric::{Metric, Reading};
use crate::result::comparison::{RoundRun, Side};
use crate::result::{RunResult, Verdict};

/// One measurement of each side.
#[derive(Clone, Debug)]
pub struct Round {
    /// The side that was measured first.
    pub first: Side,
    /// The base.
    pub base: Measured,
    /// The new side.
    pub new: Measured,
}

/// The parts of a run that a comparison keeps.
#[derive(Clone, Debug)]
pub struct Measured {
    pub(super) started_at: String,
    pub(super) verdict: Verdict,
    pub(super) readings: Vec<(Metric, Option<Reading>)>,
}

impl Measured {
    /// The parts of `result` to keep.
    pub fn of(result: &RunResult) -> Self {
        let metrics = Metric::of_plan(&result.plan).into_iter();
        Self {
            started_at: result.started_at.clone(),
            verdict: result.verdict.clone(),
            readings: metrics.map(|metric| (metric, metric.of(result))).collect(),
        }
    }

    pub(super) fn reading(&self, metric: Metric) -> Option<Reading> {
        let (_, reading) = self.readings.iter().find(|(other, _)| *other == metric)?;
        *reading
    }

    pub(super) fn to_run(&self) -> RoundRun {
        let reasons = &self.verdict.reasons;
        RoundRun {
            started_at: self.started_at.clone(),
            status: self.verdict.status,
            reasons: reasons.iter().map(|reason| reason.code.clone()).collect(),
            values: self
                .readings
                .iter()
                .map(|(metric, reading)| (metric.name().to_owned(), reading.map(Reading::value)))
                .collect(),
        }
    }
}
