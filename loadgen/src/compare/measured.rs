//! What a comparison keeps of the runs of a round.

use super::metric::{Metric, Reading};
use crate::result::comparison::{RoundRun, Side};
use crate::result::{RunResult, Verdict};

/// Both sides measured once.
#[derive(Clone, Debug)]
pub struct Round {
    /// Which came first.
    pub first: Side,
    /// The base.
    pub base: Measured,
    /// The other.
    pub new: Measured,
}

/// What a comparison keeps of a run.
#[derive(Clone, Debug)]
pub struct Measured {
    pub(super) started_at: String,
    pub(super) verdict: Verdict,
    pub(super) readings: Vec<(Metric, Option<Reading>)>,
}

impl Measured {
    /// What is to be kept of `result`.
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
