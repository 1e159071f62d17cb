//! Whether one server is worse than another: from rounds in which both were measured in turn, or
//! from two stored results, to intervals and a verdict. Pure.
//!
//! Figures are compared by their ratios, so all is computed on logarithms. Several figures are
//! judged, and each could be wrong by chance; so the interval that decides errs with the chance that
//! all may err together, divided by their number (Bonferroni; Dunn, "Multiple Comparisons Among
//! Means", JASA 56, 1961). Where rounds are looked at several times, to end early, the looks share the
//! chance in the same way. So two sides that are alike are told apart in at most one comparison of
//! twenty, whatever number of figures and looks there is.

use crate::analysis::statistics::median;
use crate::analysis::statistics::signed_rank;
use crate::result::Verdict;
use crate::result::comparison::{
    ComparedRound, ComparedSide, Comparison, ComparisonKind, ComparisonVerdict, Method,
    MetricComparison, RoundRun, Side,
};
use crate::result::{Host, RunResult, Tool};

mod judge;
mod metric;
mod stored;
mod validity;

pub use judge::{Criteria, ERROR, MAX_ROUNDS, change};
pub use metric::{Metric, Reading};
pub use stored::{Stored, of_results};

use judge::{Findings, judge};

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
    started_at: String,
    verdict: Verdict,
    readings: Vec<(Metric, Option<Reading>)>,
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

    fn reading(&self, metric: Metric) -> Option<Reading> {
        let (_, reading) = self.readings.iter().find(|(other, _)| *other == metric)?;
        *reading
    }

    fn to_run(&self) -> RoundRun {
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

/// What is known of a comparison besides its figures.
#[derive(Clone, Debug)]
pub struct Setting {
    /// When it was begun, RFC 3339 in UTC.
    pub started_at: String,
    /// Where it was made.
    pub host: Host,
    /// Whether it was ended before its time.
    pub interrupted: bool,
    /// Why no further round could be made.
    pub failure: Option<String>,
    /// What is compared with: name, source and plan.
    pub base: ComparedSide,
    /// What is compared.
    pub new: ComparedSide,
}

/// Compares by rounds that were measured.
pub fn of_rounds(setting: Setting, rounds: &[Round], criteria: &Criteria) -> Comparison {
    let metrics = Metric::of_plan(&setting.base.plan);
    let known: Vec<(Metric, Vec<f64>)> = metrics
        .iter()
        .filter_map(|&metric| Some((metric, log_ratios(rounds, metric)?)))
        .collect();
    let error = ERROR / criteria.looks.max(1) as f64;
    let decisive_error = error / known.len().max(1) as f64;
    let judged = metrics
        .iter()
        // Nobody asked the server.
        .filter(|&&metric| {
            metric != Metric::ServerCpu || known.iter().any(|(other, _)| *other == metric)
        })
        .map(|&metric| {
            let ratios = known.iter().find(|(other, _)| *other == metric);
            let shift = |error| signed_rank::shift(&ratios?.1, error);
            let side = |side: fn(&Round) -> &Measured| {
                let values: Option<Vec<f64>> = rounds
                    .iter()
                    .map(|round| side(round).reading(metric).map(Reading::value))
                    .collect();
                median(&values?)
            };
            let findings = Findings {
                base: side(|round| &round.base),
                new: side(|round| &round.new),
                shifts: shift(error).zip(shift(decisive_error)),
                method: Method::PairedRounds,
                runs: rounds.len(),
                decisive_error,
            };
            judge(metric, &findings, criteria.threshold)
        })
        .collect();
    let validity = validity::of_rounds(rounds, setting.interrupted, setting.failure.as_deref());
    let rounds = rounds.iter().map(|round| ComparedRound {
        first: round.first,
        base: round.base.to_run(),
        new: round.new.to_run(),
    });
    conclude(
        setting,
        Method::PairedRounds,
        criteria,
        judged,
        rounds.collect(),
        validity,
    )
}

/// Whether every figure that is known is decided, so that more rounds are of no use.
pub fn is_decided(comparison: &Comparison) -> bool {
    comparison.verdict != ComparisonVerdict::NotEnoughEvidence
}

/// The logarithm of new over base in each round; `None` if one can't tell.
fn log_ratios(rounds: &[Round], metric: Metric) -> Option<Vec<f64>> {
    let ratio = |round: &Round| {
        let (base, new) = (round.base.reading(metric)?, round.new.reading(metric)?);
        Some(Reading::log_ratio(base, new))
    };
    let ratios: Option<Vec<f64>> = rounds.iter().map(ratio).collect();
    ratios.filter(|ratios| !ratios.is_empty())
}

fn conclude(
    setting: Setting,
    method: Method,
    criteria: &Criteria,
    metrics: Vec<MetricComparison>,
    rounds: Vec<ComparedRound>,
    validity: Verdict,
) -> Comparison {
    let verdict = overall(&metrics);
    Comparison {
        schema: 1,
        kind: ComparisonKind::Comparison,
        tool: Tool::this(),
        started_at: setting.started_at,
        interrupted: setting.interrupted,
        host: setting.host,
        base: setting.base,
        new: setting.new,
        method,
        threshold: criteria.threshold,
        confidence: 1.0 - ERROR,
        sentence: sentence(verdict, &metrics, criteria.threshold),
        verdict,
        metrics,
        rounds,
        validity,
    }
}

/// What all figures come to. A tail that no run could tell says nothing, if others do; without the
/// rate or the median nothing is known to be as it was.
fn overall(metrics: &[MetricComparison]) -> ComparisonVerdict {
    use ComparisonVerdict::{Improvement, NoChange, NotEnoughEvidence, Regression};
    [Regression, NotEnoughEvidence, Improvement, NoChange]
        .into_iter()
        .find(|&verdict| metrics.iter().any(|metric| makes(metric, verdict)))
        .unwrap_or(NotEnoughEvidence)
}

/// Whether a figure makes the whole come to that verdict.
fn makes(metric: &MetricComparison, verdict: ComparisonVerdict) -> bool {
    metric.verdict == verdict && (metric.ratio.is_some() || is_essential(&metric.name))
}

fn is_essential(name: &str) -> bool {
    [
        Metric::AchievedRate,
        Metric::Throughput,
        Metric::ResponseP50,
    ]
    .into_iter()
    .any(|metric| metric.name() == name)
}

/// The overall verdict in words: the sentences that make it.
fn sentence(verdict: ComparisonVerdict, metrics: &[MetricComparison], threshold: f64) -> String {
    if verdict == ComparisonVerdict::NoChange {
        let percent = (threshold * 1e4).round() / 100.0;
        return format!("No figure is worse by more than {percent} %.");
    }
    let sentences: Vec<&str> = metrics
        .iter()
        .filter(|metric| makes(metric, verdict))
        .map(|metric| metric.sentence.as_str())
        .collect();
    if sentences.is_empty() {
        "Nothing was measured.".to_owned()
    } else {
        sentences.join(" ")
    }
}

#[cfg(test)]
mod tests;
