//! The page of a comparison: the verdict, each figure's ratio with its interval as a forest plot, and
//! the rounds.

use super::markup::Html;
use super::plot::{Axis, Line, Plot, Shape, Stop, percent as place, without_zeros};
use super::scale::Scale;
use super::{details, known, run};
use crate::compare::change;
use crate::report::format::{grouped, percent};
use crate::report::text::comparison as words;
use crate::report::words::load;
use crate::result::comparison::{
    Better, ComparedRound, ComparedSide, Comparison, ComparisonVerdict, Method, MetricComparison,
    RatioInterval, Side, Source, Unit,
};

/// Ratios farther from 1 than this factor are drawn at the edge.
const FARTHEST: f64 = 8.0;
/// Height of a row of the forest plot in pixels.
const ROW: f64 = 26.0;
/// Ratios at which the forest plot may have ticks.
const TICKS: [f64; 19] = [
    0.125, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0, 1.01, 1.02, 1.05, 1.1, 1.25, 1.5, 2.0,
    4.0, 8.0,
];

/// The page's title.
pub(super) fn title(comparison: &Comparison) -> String {
    format!(
        "{}: {} against {}",
        words::verdict(comparison.verdict),
        comparison.new.name,
        comparison.base.name
    )
}

/// Adds the whole page.
pub(super) fn write(comparison: &Comparison, out: &mut Html) {
    out.fill(
        "<header>\n<p class=\"kind\">loadgen compare · {}",
        &[&comparison.started_at],
    );
    if comparison.interrupted {
        out.put(" · <b>interrupted</b>");
    }
    out.fill(
        "</p>\n<h1>{} against {}</h1>\n<p class=\"load\">{}, {}</p>\n</header>\n",
        &[
            &comparison.new.name,
            &comparison.base.name,
            &load(&comparison.base.plan),
            &words::effort(comparison),
        ],
    );
    let class = match comparison.verdict {
        ComparisonVerdict::Regression => "invalid",
        ComparisonVerdict::NotEnoughEvidence => "suspect",
        ComparisonVerdict::Improvement | ComparisonVerdict::NoChange => "valid",
    };
    out.fill(
        "<section id=\"verdict\" class=\"verdict {}\"><h2><span class=\"badge\">{}</span></h2>\n\
         <p>{}</p></section>\n",
        &[
            &class,
            &words::verdict(comparison.verdict),
            &comparison.sentence,
        ],
    );
    forest(comparison, out);
    run::verdict(
        &comparison.validity,
        "Nothing speaks against the measurements",
        out,
    );
    rounds(comparison, out);
    sides(comparison, out);
    how_to_read(out);
}

/// A row for each figure, with the intervals of all ratios on one axis.
fn forest(comparison: &Comparison, out: &mut Html) {
    let scale = ratio_scale(comparison);
    out.put(
        "<section id=\"figures\"><h2>New over base</h2>\n<div class=\"scroll\" tabindex=\"0\">\
         <table class=\"forest\">\n<thead><tr><th scope=\"col\">figure</th>\
         <th scope=\"col\" class=\"wide\">less ← ratio → more</th><th scope=\"col\">change</th>\
         <th scope=\"col\">95 % sure</th><th scope=\"col\">base</th><th scope=\"col\">new</th>\
         <th scope=\"col\">verdict</th></tr>\
         </thead>\n<tbody>\n",
    );
    for metric in &comparison.metrics {
        row(comparison, metric, scale, out);
    }
    out.put("<tr aria-hidden=\"true\"><th></th><td class=\"wide\">");
    out.put("<svg class=\"ratio\" height=\"18\">");
    for tick in ticks(scale) {
        out.fill(
            "<text x=\"{}\" y=\"13\">{}</text>",
            &[&place(scale.place(tick)), &tick_name(tick)],
        );
    }
    out.put(
        "</svg></td><td></td><td></td><td></td><td></td><td></td></tr>\n</tbody></table></div>\n",
    );
    out.fill(
        "<p class=\"note\">Thick: the 95 % interval of the figure by itself. Thin: the interval that \
         decides, wide enough that all figures together hold with {}. Red is worse than the base by \
         more than {}, the threshold. – : not known.</p>\n",
        &[&percent(comparison.confidence), &percent(comparison.threshold)],
    );
    out.put("<details><summary>In words</summary><ul class=\"reading\">\n");
    for metric in &comparison.metrics {
        out.fill("<li>{}</li>\n", &[&metric.sentence]);
    }
    out.put("</ul></details>\n</section>\n");
}

fn row(comparison: &Comparison, metric: &MetricComparison, scale: Scale, out: &mut Html) {
    let figure = |value: Option<f64>| known(value.map(|value| words::figure(metric.unit, value)));
    out.fill(
        "<tr><th scope=\"row\">{}</th><td class=\"wide\">",
        &[&name(metric)],
    );
    out.fill(
        "<svg class=\"ratio\" height=\"{}\" role=\"img\" aria-label=\"{}\">",
        &[&ROW, &metric.sentence],
    );
    let worse = match metric.better {
        Better::Lower => (1.0 + comparison.threshold, scale.high()),
        Better::Higher => (scale.low(), 1.0 - comparison.threshold),
    };
    let (from, to) = (scale.place(worse.0), scale.place(worse.1));
    out.fill(
        "<rect class=\"band stall\" x=\"{}\" width=\"{}\" height=\"{}\"/>",
        &[&place(from), &place((to - from).max(0.0)), &ROW],
    );
    let one = place(scale.place(1.0));
    out.fill(
        "<line class=\"one\" x1=\"{}\" x2=\"{}\" y2=\"{}\"/>",
        &[&one, &one, &ROW],
    );
    if let Some(ratio) = metric.ratio {
        bar(metric.decisive.as_ref(), scale, "decisive", out);
        bar(metric.interval.as_ref(), scale, "interval", out);
        out.fill(
            "<circle class=\"{}\" cx=\"{}\" cy=\"13\" r=\"5\"/>",
            &[&class(metric.verdict), &place(scale.place(ratio))],
        );
    }
    out.fill(
        "</svg></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"{}\">{}</td></tr>\n",
        &[
            &known(metric.ratio.map(change)),
            &known(metric.interval.as_ref().map(words::interval)),
            &figure(metric.base),
            &figure(metric.new),
            &class(metric.verdict),
            &words::metric_verdict(metric),
        ],
    );
}

/// An interval; an end that nothing is known of is at the edge.
fn bar(interval: Option<&RatioInterval>, scale: Scale, class: &'static str, out: &mut Html) {
    let Some(interval) = interval else { return };
    let low = scale.place(interval.low.unwrap_or_else(|| scale.low()));
    let high = scale.place(interval.high.unwrap_or_else(|| scale.high()));
    out.fill(
        "<line class=\"{}\" x1=\"{}\" x2=\"{}\" y1=\"13\" y2=\"13\"/>",
        &[&class, &place(low), &place(high)],
    );
}

fn class(verdict: ComparisonVerdict) -> &'static str {
    match verdict {
        ComparisonVerdict::Regression => "regression",
        ComparisonVerdict::Improvement => "improvement",
        ComparisonVerdict::NoChange => "nochange",
        ComparisonVerdict::NotEnoughEvidence => "undecided",
    }
}

fn name(metric: &MetricComparison) -> String {
    metric.name.replace('_', " ")
}

/// Even around 1, so that twice and half are as far from it.
fn ratio_scale(comparison: &Comparison) -> Scale {
    let ends = comparison.metrics.iter().flat_map(|metric| {
        let of = |interval: Option<&RatioInterval>| {
            interval.map_or([None, None], |interval| [interval.low, interval.high])
        };
        [
            [metric.ratio, None],
            of(metric.interval.as_ref()),
            of(metric.decisive.as_ref()),
        ]
        .concat()
    });
    let farthest = ends
        .flatten()
        .filter(|ratio| ratio.is_finite() && *ratio > 0.0)
        .map(|ratio| ratio.max(1.0 / ratio))
        .fold(1.0 + comparison.threshold.clamp(0.01, 1.0) * 2.0, f64::max)
        .min(FARTHEST);
    Scale::between(1.0 / farthest, farthest)
}

/// `+10 %`, `×2`, and 0 for no change.
fn tick_name(ratio: f64) -> String {
    match without_zeros(change(ratio)).as_str() {
        "+0 %" => "0".to_owned(),
        name => name.to_owned(),
    }
}

/// A few ticks that do not touch each other.
fn ticks(scale: Scale) -> Vec<f64> {
    let mut ticks = vec![1.0];
    let is_inside = |tick: f64| tick > scale.low() * 1.001 && tick < scale.high() * 0.999;
    // From 1 outwards, so that it looks alike on both sides.
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

/// What each round found, as ratios over the rounds and as a table.
fn rounds(comparison: &Comparison, out: &mut Html) {
    if comparison.rounds.is_empty() {
        return;
    }
    out.put("<section id=\"rounds\"><h2>Rounds</h2>\n");
    for metric in comparison
        .metrics
        .iter()
        .filter(|metric| metric.unit != Unit::Ratio)
    {
        if let Some(plot) = course(comparison, metric) {
            plot.draw(out);
        }
    }
    out.put("<details><summary>Rounds as a table</summary>\n");
    let names: Vec<String> = comparison.metrics.iter().map(name).collect();
    let mut head = vec!["round", "first", "side", "verdict"];
    head.extend(names.iter().map(String::as_str));
    let rows = comparison
        .rounds
        .iter()
        .enumerate()
        .flat_map(|(index, round)| {
            [("base", &round.base), ("new", &round.new)].map(|(side, measured)| {
                let first = match round.first {
                    Side::Base => "base",
                    Side::New => "new",
                };
                let mut row = vec![
                    grouped(index as u64 + 1),
                    first.to_owned(),
                    side.to_owned(),
                    crate::report::words::status(measured.status).to_lowercase(),
                ];
                row.extend(comparison.metrics.iter().map(|metric| {
                    let value = measured.values.get(metric.name.as_ref()).copied().flatten();
                    known(value.map(|value| words::figure(metric.unit, value)))
                }));
                row
            })
        });
    out.table(&head, rows);
    out.put("</details>\n</section>\n");
}

/// A figure's ratio, round by round; none if fewer than two rounds know it.
fn course(comparison: &Comparison, metric: &MetricComparison) -> Option<Plot> {
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
    let line = |name, class, shape, piece| Line {
        name,
        class,
        shape,
        pieces: vec![piece],
    };
    let stops = comparison.rounds.iter().enumerate().map(|(index, round)| {
        let at = index as f64 + 1.0;
        let of = |values: Option<&Option<f64>>| {
            known(
                values
                    .copied()
                    .flatten()
                    .map(|value| words::figure(metric.unit, value)),
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
    let rounds = Scale::linear(0.5, last + 0.5);
    Some(Plot {
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
            scale: Scale::between(1.0 / farthest, farthest),
            ticks: ticks(Scale::between(1.0 / farthest, farthest))
                .into_iter()
                .map(|tick| (tick, tick_name(tick)))
                .collect(),
            title: "new over base",
        },
        bands: Vec::new(),
        markers: Vec::new(),
        lines: vec![
            line("no change", "one", Shape::Open, whole(1.0)),
            line("threshold", "limit", Shape::Open, whole(limit)),
            line("a round", "response", Shape::Dots, ratios),
        ],
        whiskers: Vec::new(),
        stops: stops.collect(),
    })
}

fn ratio(round: &ComparedRound, metric: &MetricComparison) -> Option<f64> {
    let key = metric.name.as_ref();
    let base = round.base.values.get(key).copied().flatten()?;
    let new = round.new.values.get(key).copied().flatten()?;
    let ratio = new / base;
    (ratio.is_finite() && ratio > 0.0).then_some(ratio)
}

/// What was compared, and how each side was measured.
fn sides(comparison: &Comparison, out: &mut Html) {
    out.put("<section id=\"plan\"><h2>Plan and host</h2>\n<div class=\"columns\">\n");
    for (title, side) in [("base", &comparison.base), ("new", &comparison.new)] {
        out.table(&[title, ""], side_rows(side));
    }
    let mut host = details::flat(&comparison.host);
    host.extend([
        vec![
            "tool".to_owned(),
            format!("{} {}", comparison.tool.name, comparison.tool.version),
        ],
        vec!["started_at".to_owned(), comparison.started_at.clone()],
        vec!["method".to_owned(), method(comparison.method).to_owned()],
        vec!["threshold".to_owned(), percent(comparison.threshold)],
    ]);
    out.table(&["host and method", ""], host);
    out.put("</div>\n<p class=\"note\">Every option as it was resolved. – : not set, or not known.</p>\n");
    out.put("</section>\n");
}

fn side_rows(side: &ComparedSide) -> Vec<Vec<String>> {
    let source = match side.source {
        Source::Result => "a stored result",
        Source::Targets => "servers that ran already",
        Source::Command => "a server started for each round",
    };
    let mut rows = vec![
        vec!["name".to_owned(), side.name.clone()],
        vec!["source".to_owned(), source.to_owned()],
        vec!["runs".to_owned(), grouped(side.runs as u64)],
    ];
    rows.extend(details::flat(&side.plan));
    rows
}

fn method(method: Method) -> &'static str {
    match method {
        Method::PairedRounds => "paired rounds: Hodges-Lehmann, Wilcoxon's signed ranks",
        Method::Runs => "runs of two results: Welch's t",
        Method::SingleRuns => "single runs, with an allowance for what runs differ by",
    }
}

fn how_to_read(out: &mut Html) {
    out.put(
        "<section id=\"reading\"><h2>How to read this</h2>\n<ul class=\"reading\">\n\
         <li>A <b>regression</b> is established when the whole interval that decides is worse than the \
         base by more than the threshold; <b>no regression</b> when none of it is. In between there is \
         not enough evidence, and more rounds would tell.</li>\n\
         <li>Rounds are pairs: both sides were measured one after the other, so what changed on the host \
         in between rounds cancels.</li>\n\
         <li>– stands for what is not known.</li>\n\
         </ul></section>\n",
    );
}
