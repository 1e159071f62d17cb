//! The charts of a comparison: a forest plot of the ratios with their intervals, and ratios over
//! the rounds.

use super::words::{figure, name};
use crate::compare::change;
use crate::report::chart::{Axis, Chart, Forest, ForestRow, Line, Stop, without_zeros};
use crate::report::format::{grouped, known};
use crate::report::scale::Scale;
use crate::result::comparison::{
    Better, ComparedRound, Comparison, ComparisonVerdict, MetricComparison, RatioInterval,
};

/// Ratios further from 1 than this factor are drawn at the edge.
const MAX_RATIO: f64 = 8.0;
/// Candidate ticks of the forest plot.
const TICKS: [f64; 19] = [
    0.125, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0, 1.01, 1.02, 1.05, 1.1, 1.25, 1.5, 2.0,
    4.0, 8.0,
];

/// The intervals of all ratios on one axis.
pub(super) fn forest(comparison: &Comparison) -> Forest {
    let scale = ratio_scale(comparison);
    // An unknown end is at the edge.
    let ends = |interval: RatioInterval| {
        (
            interval.low.unwrap_or_else(|| scale.low()),
            interval.high.unwrap_or_else(|| scale.high()),
        )
    };
    let rows = comparison.metrics.iter().map(|metric| ForestRow {
        class: class(metric.verdict),
        description: metric.sentence.clone(),
        worse: match metric.better {
            Better::Lower => (1.0 + comparison.threshold, scale.high()),
            Better::Higher => (scale.low(), 1.0 - comparison.threshold),
        },
        ratio: metric.ratio,
        decisive: metric.decisive.map(ends),
        interval: metric.interval.map(ends),
    });
    Forest {
        scale,
        ticks: named_ticks(scale),
        rows: rows.collect(),
    }
}

fn class(verdict: ComparisonVerdict) -> &'static str {
    match verdict {
        ComparisonVerdict::Regression => "regression",
        ComparisonVerdict::Improvement => "improvement",
        ComparisonVerdict::NoChange => "nochange",
        ComparisonVerdict::NotEnoughEvidence => "undecided",
    }
}

/// Symmetric around 1 on a logarithmic scale.
fn ratio_scale(comparison: &Comparison) -> Scale {
    let ends = comparison.metrics.iter().flat_map(|metric| {
        let intervals = [metric.interval, metric.decisive].into_iter().flatten();
        intervals
            .flat_map(|interval| [interval.low, interval.high])
            .chain([metric.ratio])
            .collect::<Vec<_>>()
    });
    let farthest = ends
        .flatten()
        .filter(|ratio| ratio.is_finite() && *ratio > 0.0)
        .map(|ratio| ratio.max(1.0 / ratio))
        .fold(1.0 + comparison.threshold.clamp(0.01, 1.0) * 2.0, f64::max)
        .min(MAX_RATIO);
    Scale::between(1.0 / farthest, farthest)
}

/// Ticks with their labels.
fn named_ticks(scale: Scale) -> Vec<(f64, String)> {
    let ticks = ticks(scale).into_iter();
    ticks.map(|tick| (tick, tick_name(tick))).collect()
}

/// `+10 %`, `×2`, and 0 for no change.
fn tick_name(ratio: f64) -> String {
    match without_zeros(change(ratio)).as_str() {
        "+0 %" => "0".to_owned(),
        name => name.to_owned(),
    }
}

/// A few ticks whose labels do not touch.
fn ticks(scale: Scale) -> Vec<f64> {
    let mut ticks = vec![1.0];
    let is_inside = |tick: f64| tick > scale.low() * 1.001 && tick < scale.high() * 0.999;
    // From 1 outwards, so that both sides look alike.
    let (less, more): (Vec<f64>, Vec<f64>) = TICKS.into_iter().partition(|&tick| tick < 1.0);
    for side in [less.into_iter().rev().collect::<Vec<f64>>(), more] {
        let mut last = 1.0;
        for tick in side {
            let distance = (scale.place(tick) - scale.place(last)).abs();
            if is_inside(tick) && distance > 0.17 {
                ticks.push(tick);
                last = tick;
            }
        }
    }
    ticks
}

/// A figure's ratio in each round; `None` if fewer than two rounds have it. Longer than other
/// functions, because it lists the parts of a chart.
pub(super) fn course(comparison: &Comparison, metric: &MetricComparison) -> Option<Chart> {
    let ratios: Vec<(f64, f64)> = comparison
        .rounds
        .iter()
        .enumerate()
        .filter_map(|(index, round)| Some((index as f64 + 1.0, ratio(round, metric)?)))
        .collect();
    let last = comparison.rounds.len() as f64;
    let farthest = ratios
        .iter()
        .map(|&(_, ratio)| ratio.max(1.0 / ratio))
        .fold(1.0 + comparison.threshold.clamp(0.01, 1.0), f64::max);
    if ratios.len() < 2 {
        return None;
    }
    let limit = match metric.better {
        Better::Lower => 1.0 + comparison.threshold,
        Better::Higher => 1.0 - comparison.threshold,
    };
    let whole = |ratio: f64| vec![(0.5, ratio), (last + 0.5, ratio)];
    let stops = comparison.rounds.iter().enumerate().map(|(index, round)| {
        let at = index as f64 + 1.0;
        let of = |values: Option<&Option<f64>>| {
            known(
                values
                    .copied()
                    .flatten()
                    .map(|value| figure(metric.unit, value)),
            )
        };
        let key = metric.name.as_ref();
        Stop {
            from: at - 0.5,
            to: at + 0.5,
            at,
            dots: Vec::new(),
            text: format!(
                "round {}: {}\nbase {}\nnew {}",
                index + 1,
                known(ratio(round, metric).map(change)),
                of(round.base.values.get(key)),
                of(round.new.values.get(key))
            ),
        }
    });
    let ratios_scale = Scale::between(1.0 / farthest, farthest);
    let rounds = Scale::linear(0.5, last + 0.5);
    Some(Chart {
        title: name(metric),
        description: format!("New over base, round by round. {}", metric.sentence),
        height: 110.0,
        x: Axis {
            scale: rounds,
            ticks: rounds
                .ticks(8)
                .into_iter()
                .filter(|tick| tick.fract().abs() < 1e-9)
                .map(|tick| (tick, grouped(tick as u64)))
                .collect(),
            title: "round",
        },
        y: Axis {
            scale: ratios_scale,
            ticks: named_ticks(ratios_scale),
            title: "new over base",
        },
        lines: vec![
            Line::new("no change", "one", vec![whole(1.0)]),
            Line::new("threshold", "limit", vec![whole(limit)]),
            Line::dots("a round", "response", ratios),
        ],
        stops: stops.collect(),
        ..Chart::default()
    })
}

fn ratio(round: &ComparedRound, metric: &MetricComparison) -> Option<f64> {
    let key = metric.name.as_ref();
    let base = round.base.values.get(key).copied().flatten()?;
    let new = round.new.values.get(key).copied().flatten()?;
    let ratio = new / base;
    (ratio.is_finite() && ratio > 0.0).then_some(ratio)
}
