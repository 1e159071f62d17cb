//! The charts of a search: latency by load, and the course of the search.

use echomark::net::units::format_duration_ns;

use super::words::{self, Standing};
use crate::report::chart::{Axis, Band, Chart, Line, Marker, Stop};
use crate::report::format::{count, duration, number, rate, seconds};
use crate::report::scale::Scale;
use crate::result::{CurvePoint, GoalResult, SearchResult, TrialOutcome, TrialResult};
use crate::search::{Class, Objective};

/// Loads that differ by more than this factor are drawn on a logarithmic axis.
const MAX_LINEAR_FACTOR: f64 = 20.0;

/// Draws the response times at each load, and whether a goal was met. Longer than other functions,
/// because it lists the parts of a chart.
pub(super) fn latency_by_load(result: &SearchResult, goal: usize, found: &GoalResult) -> Chart {
    let points = &result.curve;
    let loads = load_axis(result);
    let quantile = |point: &CurvePoint, quantile: f64| {
        let value = point.response_ns.as_ref()?.quantile(quantile)?;
        Some(value.max(1) as f64)
    };
    let max = |point: &CurvePoint| Some(point.response_ns.as_ref()?.max().max(1) as f64);
    let line = |name, class, figure: &dyn Fn(&CurvePoint) -> Option<f64>| {
        let pieces = points.split(|point| figure(point).is_none()).map(|piece| {
            let figures = piece.iter().filter_map(|p| Some((p.load, figure(p)?)));
            figures.collect()
        });
        Line::new(name, class, pieces.collect())
    };
    let standing = |point: &CurvePoint| {
        let class = point.classes.get(goal).copied();
        words::standing(result, goal, point.load, class.unwrap_or(Class::Undecided))
    };
    let dots = |name, class, wanted: &[Standing]| {
        let points = points
            .iter()
            .filter(|point| wanted.contains(&standing(point)))
            .filter_map(|p| Some((p.load, quantile(p, 0.99).or_else(|| max(p))?)));
        Line::dots(name, class, points.collect())
    };
    let limits = found
        .goal
        .objectives
        .iter()
        .filter_map(|objective| match objective {
            Objective::Late { limit, .. } => Some(limit.as_nanos() as f64),
            Objective::Errors { .. } | Objective::Lost { .. } => None,
        });
    let limits: Vec<f64> = limits.collect();
    let figures = points
        .iter()
        .flat_map(|point| [quantile(point, 0.5), quantile(point, 0.99), max(point)])
        .flatten()
        .chain(limits.iter().copied());
    let (least, most) = figures.fold((f64::INFINITY, 1.0_f64), |(least, most), value| {
        (least.min(value), most.max(value))
    });
    let ends = [loads.scale.low(), loads.scale.high()];
    let mut lines = vec![Line::new(
        if limits.is_empty() { "" } else { "objective" },
        "target",
        limits
            .iter()
            .map(|&limit| ends.map(|load| (load, limit)).to_vec())
            .collect(),
    )];
    lines.push(line("max", "max", &max));
    lines.push(line("p99", "p99", &|point| quantile(point, 0.99)));
    lines.push(line("p50", "response", &|point| quantile(point, 0.5)));
    lines.push(dots("met", "met", &[Standing::Met]));
    lines.push(dots("missed", "missed", &[Standing::Missed]));
    lines.push(dots(
        "mixed or undecided",
        "undecided",
        &[Standing::Mixed, Standing::Undecided],
    ));
    Chart {
        title: "Latency by load".to_owned(),
        description: format!(
            "Response times at each load for {}; a table follows",
            found.goal
        ),
        height: 280.0,
        x: loads,
        y: Axis::new(
            Scale::logarithmic(least, most),
            5,
            "response time",
            format_duration_ns,
        ),
        bands: between(found),
        markers: bound_markers(result, found),
        lines,
        stops: curve_stops(result, goal),
        ..Chart::default()
    }
}

fn curve_stops(result: &SearchResult, goal: usize) -> Vec<Stop> {
    let points = &result.curve;
    (0..points.len())
        .map(|index| {
            let point = &points[index];
            let response = point.response_ns.as_ref();
            let quantile = |q: f64| duration(response.and_then(|latency| latency.quantile(q)));
            let class = words::class(result, goal, point);
            let before = points[index.saturating_sub(1)].load;
            let after = points[(index + 1).min(points.len() - 1)].load;
            Stop {
                from: f64::midpoint(before, point.load),
                to: f64::midpoint(point.load, after),
                at: point.load,
                dots: Vec::new(),
                text: format!(
                    "{}: {class} trials met\nachieved {}\np50 {}\np99 {}\nmax {}\n{} of {}",
                    words::at(result.over, point.load),
                    rate(point.achieved),
                    quantile(0.5),
                    quantile(0.99),
                    duration(response.map(|latency| latency.max())),
                    count(point.trials, "trial"),
                    format_duration_ns(point.duration_s * 1e9),
                ),
            }
        })
        .collect()
}

/// The range between the bounds.
fn between(found: &GoalResult) -> Vec<Band> {
    let bounds = found.finding.lower.zip(found.finding.upper);
    let band = bounds.map(|(from, to)| Band {
        from,
        to,
        class: "band after",
    });
    band.into_iter().collect()
}

fn bound_markers(result: &SearchResult, found: &GoalResult) -> Vec<Marker> {
    let client = result.client_limit.map(|at| Marker {
        at,
        class: "limit",
        label: "the client's limit".to_owned(),
    });
    let lower = found.finding.lower.map(|at| Marker {
        at,
        class: "limit",
        label: format!("lower bound: {}", words::at(result.over, at)),
    });
    lower.into_iter().chain(client).collect()
}

/// The tried loads.
fn load_axis(result: &SearchResult) -> Axis {
    let loads = || result.curve.iter().map(|point| point.load);
    let least = loads().fold(f64::INFINITY, f64::min);
    let most = loads().fold(0.0, f64::max);
    let scale = if most > least * MAX_LINEAR_FACTOR {
        Scale::logarithmic(least, most)
    } else {
        Scale::linear(least.min(most), most)
    };
    Axis::new(scale, 7, words::short_unit(result.over), number)
}

/// Draws the load of each trial over time. Longer than other functions, because it lists the parts
/// of a chart.
pub(super) fn course(result: &SearchResult) -> Chart {
    let end = |trial: &TrialResult| trial.start_s + trial.cost_s.max(0.0);
    let last = result.trials.iter().map(end).fold(1e-3, f64::max);
    let loads = || result.trials.iter().map(|trial| trial.load);
    let least = loads().fold(f64::INFINITY, f64::min);
    let of = |name, class, is_it: &dyn Fn(&TrialResult) -> bool| {
        let trials = result.trials.iter().filter(|trial| is_it(trial));
        let middle = |trial: &TrialResult| f64::midpoint(trial.start_s, end(trial));
        Line::dots(
            name,
            class,
            trials.map(|trial| (middle(trial), trial.load)).collect(),
        )
    };
    // A trial may say nothing about one goal, because of the client, and something about another.
    let meets_all = |trial: &TrialResult| {
        let mut judgements = trial.judgements.iter();
        trial.outcome == TrialOutcome::Judged
            && judgements.all(|judgement| judgement.is_some_and(|judgement| judgement.is_met))
    };
    let misses_one = |trial: &TrialResult| {
        let mut judgements = trial.judgements.iter().flatten();
        judgements.any(|judgement| !judgement.is_met)
    };
    let unit = words::short_unit(result.over);
    Chart {
        title: "The course of the search".to_owned(),
        description: "The load of each trial, in the order in which they were made".to_owned(),
        height: 200.0,
        x: Axis::new(Scale::linear(0.0, last), 8, "time", seconds),
        y: Axis::new(
            Scale::logarithmic(least, loads().fold(1.0, f64::max)),
            5,
            unit,
            number,
        ),
        lines: vec![
            of("met", "met", &meets_all),
            of("missed", "missed", &misses_one),
            of(
                "disturbed by the client, or not ended",
                "undecided",
                &|trial| !meets_all(trial) && !misses_one(trial),
            ),
        ],
        stops: result
            .trials
            .iter()
            .enumerate()
            .map(|(index, trial)| Stop {
                from: trial.start_s,
                to: end(trial),
                at: f64::midpoint(trial.start_s, end(trial)),
                dots: Vec::new(),
                text: format!(
                    "trial {}: {}\nwindow of {}\n{}",
                    index + 1,
                    words::at(result.over, trial.load),
                    words::planned(trial),
                    words::trial_outcome(trial)
                ),
            })
            .collect(),
        ..Chart::default()
    }
}
