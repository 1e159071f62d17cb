//! Comparison by rounds in which both sides were measured in turn.

use super::judge::{Criteria, ERROR, Evidence, Findings, judge};
use super::measured::{Measured, Round};
use super::metric::{Metric, Reading};
use super::summarize::{Setting, summarize};
use super::validity;
use crate::analysis::statistics::{median, signed_rank};
use crate::result::comparison::{ComparedRound, Comparison, ComparisonVerdict, Method};

/// Compares by measured rounds.
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
        // The server was not asked.
        .filter(|&&metric| {
            metric != Metric::ServerCpu || known.iter().any(|(other, _)| *other == metric)
        })
        .map(|&metric| {
            let ratios = known.iter().find(|(other, _)| *other == metric);
            let shift = |error| signed_rank::shift(&ratios?.1, error);
            let evidence = match shift(error).zip(shift(decisive_error)) {
                Some(_) if counts_nothing(rounds, metric) => Evidence::NothingCounted,
                Some((own, decisive)) => Evidence::Intervals { own, decisive },
                None => Evidence::Unknown,
            };
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
                evidence,
                method: Method::PairedRounds,
                runs: rounds.len(),
                decisive_error,
            };
            (metric, judge(metric, &findings, criteria.threshold))
        })
        .collect();
    let validity = validity::of_rounds(rounds, &setting.end);
    let rounds = rounds.iter().map(|round| ComparedRound {
        first: round.first,
        base: round.base.to_run(),
        new: round.new.to_run(),
    });
    summarize(
        setting,
        Method::PairedRounds,
        criteria,
        judged,
        rounds.collect(),
        validity,
    )
}

/// Whether every known figure is decided, so that more rounds are useless.
pub fn is_decided(comparison: &Comparison) -> bool {
    comparison.verdict != ComparisonVerdict::NotEnoughEvidence
}

/// Whether no run of either side counted anything of the figure.
fn counts_nothing(rounds: &[Round], metric: Metric) -> bool {
    let mut runs = rounds.iter().flat_map(|round| [&round.base, &round.new]);
    runs.all(|run| run.reading(metric).is_some_and(Reading::is_nothing))
}

/// The logarithm of new over base in each round; `None` if a round lacks the figure.
fn log_ratios(rounds: &[Round], metric: Metric) -> Option<Vec<f64>> {
    let ratio = |round: &Round| {
        let (base, new) = (round.base.reading(metric)?, round.new.reading(metric)?);
        Some(Reading::log_ratio(base, new))
    };
    let ratios: Option<Vec<f64>> = rounds.iter().map(ratio).collect();
    ratios.filter(|ratios| !ratios.is_empty())
}
