//! Latencies of a whole run: percentiles and distributions.

use std::collections::BTreeMap;

use echomark::net::units::format_duration_ns;

use crate::report::chart::{Axis, Chart, Line, Marker, Shape, Stop, Whisker, steps};
use crate::report::document::{Document, EVERYWHERE, Medium, Section, Table};
use crate::report::format::{duration, grouped};
use crate::report::scale::Scale;
use crate::result::{Latency, RunResult, TlsHandshakes};

/// Points of a percentile curve per factor of ten in the samples beyond.
const POINTS_PER_DECADE: usize = 20;
/// Percentiles with an exact point on the curve, besides the even ones.
const EXACT: [f64; 3] = [0.5, 0.75, 0.95];
/// Bars of the histogram per factor of ten.
const BARS_PER_DECADE: f64 = 20.0;

/// The percentiles of the table.
const PERCENTILES: [(&str, f64); 6] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];

/// Names, styles and figures of the drawn distributions.
type Drawn<'a> = Vec<(&'static str, &'static str, &'a Latency)>;

/// Adds tables and charts of the latencies, or the reason why there are none.
pub(super) fn describe(result: &RunResult, document: &mut Document) {
    document.section(EVERYWHERE, "latency", "Latency", |section| {
        let table = table(result);
        let has_unknown = table.has_unknown();
        if section.is_for(Medium::Page) {
            section.table(table);
        } else {
            section.table(table.without(&["samples", "mean"]));
        }
        if has_unknown && !section.is_for(Medium::Comment) {
            section.note("– : fewer than ten samples beyond it, so it is not known");
        }
        if section.is_for(Medium::Page) {
            charts(result, section);
        }
    });
}

fn charts(result: &RunResult, section: &mut Section) {
    let drawn: Drawn<'_> = [
        ("response", "response", &result.latency_ns.response),
        ("service", "service", &result.latency_ns.service),
        ("send lag", "lag", &result.latency_ns.send_lag),
    ]
    .into_iter()
    .filter_map(|(name, class, latency)| Some((name, class, latency.as_ref()?)))
    .collect();
    if drawn.is_empty() {
        section.note(match result.plan.direction() {
            Some(_) => "A stream in one direction has no latency: its blocks are not answered.",
            None => "No message came back, so there is no response time.",
        });
        return;
    }
    section.chart(percentiles(result, &drawn));
    section.note(
        "The axis is 1/(1−p): each step to the right leaves a tenth of the messages. A curve is dotted where it rests on fewer than ten samples: there it shows chance, \
         not the server. Vertical bars are 95 % confidence intervals of the response time.",
    );
    section.chart(histogram(&drawn));
    section.note(
        "Both axes are logarithmic, so that a few slow messages show beside the many fast ones.",
    );
}

/// Full and resumed handshakes, if there were both.
fn handshakes(result: &RunResult) -> TlsHandshakes {
    let handshakes = result.tls.as_ref().map(|tls| tls.handshake_ns.clone());
    handshakes
        .filter(|both| both.full.is_some() && both.resumed.is_some())
        .unwrap_or_default()
}

fn table(result: &RunResult) -> Table {
    let latencies = &result.latency_ns;
    let handshakes = handshakes(result);
    let rows = [
        ("response", &latencies.response),
        ("service", &latencies.service),
        ("connect", &latencies.connect),
        ("handshake", &latencies.handshake),
        ("– full", &handshakes.full),
        ("– resumed", &handshakes.resumed),
        ("1st byte", &latencies.first_byte),
        ("close", &latencies.close),
        ("send lag", &latencies.send_lag),
        ("hiccups", &result.client.hiccup),
    ]
    .into_iter()
    .filter_map(|(name, latency)| Some((name, latency.as_ref()?)))
    .map(|(name, latency)| {
        let percentiles = PERCENTILES.map(|(_, quantile)| duration(latency.quantile(quantile)));
        let [p50, p90, p95, p99, p99_9, p99_99] = percentiles;
        [
            name.to_owned(),
            grouped(latency.count()),
            duration(Some(latency.min())),
            format_duration_ns(latency.mean()),
            p50,
            p90,
            p95,
            p99,
            p99_9,
            p99_99,
            duration(Some(latency.max())),
        ]
    });
    let [p50, p90, p95, p99, p99_9, p99_99] = PERCENTILES.map(|(name, _)| name);
    let head = [
        "latency", "samples", "min", "mean", p50, p90, p95, p99, p99_9, p99_99, "max",
    ];
    Table::new(head, rows)
}

/// Draws the percentile curves. Longer than other functions, because it lists the parts of a chart.
fn percentiles(result: &RunResult, drawn: &Drawn<'_>) -> Chart {
    let most = drawn.iter().map(|(_, _, latency)| latency.count()).max();
    let end = (most.unwrap_or(1) as f64).log10().max(1.0);
    let points: Vec<f64> = (0..=(end * POINTS_PER_DECADE as f64) as usize)
        .map(|index| exact(index as f64 / POINTS_PER_DECADE as f64))
        .chain([end])
        .collect();
    let values: Vec<Vec<Option<f64>>> = drawn
        .iter()
        .map(|(_, _, latency)| {
            points
                .iter()
                .map(|&point| value_at(latency, point))
                .collect()
        })
        .collect();
    let all = || values.iter().flatten().flatten().copied();
    let scale = Scale::logarithmic(
        all().fold(f64::INFINITY, f64::min).max(1.0),
        all().fold(1.0, f64::max),
    );
    let mut lines = Vec::new();
    for ((name, class, latency), values) in drawn.iter().zip(&values) {
        let supported = (latency.count() as f64 / 10.0).log10();
        let known = |point: f64| point <= supported + 1e-9;
        let part = |keep: &dyn Fn(f64) -> bool| -> Vec<(f64, f64)> {
            points
                .iter()
                .zip(values)
                .filter(|(point, _)| keep(**point))
                .filter_map(|(&point, value)| Some((point, (*value)?)))
                .collect()
        };
        let sure = part(&known);
        let mut unsure = part(&|point| !known(point));
        if let Some(&last) = sure.last() {
            unsure.insert(0, last);
        }
        lines.push(Line::new(name, class, vec![sure]));
        lines.push(Line::new("", faint(class), vec![unsure]));
    }
    Chart {
        title: "Latency by percentile".to_owned(),
        description:
            "Percentiles of response and service time on a logarithmic axis; the table above \
                      has the same figures"
                .to_owned(),
        height: 320.0,
        x: Axis {
            scale: Scale::linear(0.0, end),
            ticks: percentile_ticks(end),
            title: "percentile",
        },
        y: Axis::new(scale, 5, "latency", format_duration_ns),
        markers: supported_end(drawn, end),
        lines,
        whiskers: result
            .statistics
            .response
            .iter()
            .filter(|estimate| estimate.quantile < 1.0)
            .map(|estimate| Whisker {
                at: -(1.0 - estimate.quantile).log10(),
                low: estimate.low as f64,
                high: estimate.high as f64,
                class: "response",
            })
            .collect(),
        stops: percentile_stops(drawn, &points, &values),
        ..Chart::default()
    }
}

fn percentile_stops(drawn: &Drawn<'_>, points: &[f64], values: &[Vec<Option<f64>>]) -> Vec<Stop> {
    let middle = |a: usize, b: usize| f64::midpoint(points[a], points[b]);
    (0..points.len())
        .map(|index| {
            let mut text = percentile_name(points[index]);
            let mut dots = Vec::new();
            for ((name, class, _), values) in drawn.iter().zip(values) {
                if let Some(value) = values[index] {
                    text.push_str(&format!("\n{name} {}", format_duration_ns(value)));
                    dots.push((value, *class));
                }
            }
            Stop {
                from: middle(index.saturating_sub(1), index),
                to: middle(index, (index + 1).min(points.len() - 1)),
                at: points[index],
                dots,
                text,
            }
        })
        .collect()
}

/// The range in which the response time, or the service time if there is none, has fewer than ten
/// samples beyond.
fn supported_end(drawn: &Drawn<'_>, end: f64) -> Vec<Marker> {
    let Some((_, _, latency)) = drawn.first() else {
        return Vec::new();
    };
    let at = (latency.count() as f64 / 10.0).log10();
    if at <= 0.0 || at >= end {
        return Vec::new();
    }
    vec![Marker {
        at,
        class: "limit",
        label: "fewer than ten samples beyond".to_owned(),
    }]
}

/// The value at a point `-log10(1 - p)`; `None` without samples there.
fn value_at(latency: &Latency, point: f64) -> Option<f64> {
    let count = latency.count() as f64;
    if point > count.log10() + 1e-9 {
        return None;
    }
    let quantile = 1.0 - 10_f64.powf(-point);
    let is_last = (1.0 - quantile) * count <= 1.0 + 1e-9;
    let value = if is_last {
        latency.max()
    } else {
        latency.histogram().value_at_quantile(quantile)
    };
    Some(value.max(1) as f64)
}

/// A point, or the usual percentile next to it.
fn exact(point: f64) -> f64 {
    EXACT
        .into_iter()
        .map(|quantile| -(1.0 - quantile).log10())
        .find(|wanted| (wanted - point).abs() < 0.4 / POINTS_PER_DECADE as f64)
        .unwrap_or(point)
}

fn percentile_ticks(end: f64) -> Vec<(f64, String)> {
    let whole = (1..=end.floor() as usize).map(|nines| nines as f64);
    std::iter::once(-(0.5_f64.log10()))
        .chain(whole)
        .map(|point| (point, percentile_name(point)))
        .collect()
}

/// `p50`, `p99.9`: with as many decimals as needed.
fn percentile_name(point: f64) -> String {
    let percent = 100.0 * (1.0 - 10_f64.powf(-point));
    let decimals = (point.ceil() as usize).saturating_sub(1);
    let text = format!("{percent:.decimals$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("p{text}")
}

/// Draws the distributions. Longer than other functions, because it lists the parts of a chart.
fn histogram(drawn: &Drawn<'_>) -> Chart {
    let drawn: Vec<_> = drawn
        .iter()
        .filter(|(name, _, _)| *name != "send lag")
        .collect();
    let bars: Vec<BTreeMap<i32, u64>> = drawn
        .iter()
        .map(|(_, _, latency)| bars(latency, BARS_PER_DECADE))
        .collect();
    let first = bars.iter().filter_map(|bars| bars.keys().next()).min();
    let last = bars.iter().filter_map(|bars| bars.keys().next_back()).max();
    let (first, last) = (first.copied().unwrap_or(0), last.copied().unwrap_or(0) + 1);
    let most = bars.iter().flat_map(BTreeMap::values).max().copied();
    let lines = drawn
        .iter()
        .zip(&bars)
        .map(|((name, class, _), bars)| {
            let shape = if *class == "response" {
                Shape::Filled
            } else {
                Shape::Open
            };
            let figures = (first..last).map(|bar| {
                let count = bars.get(&bar).copied().unwrap_or(0);
                (edge(bar), edge(bar + 1), Some(count as f64))
            });
            Line {
                shape,
                ..Line::new(name, class, steps(figures))
            }
        })
        .collect();
    let stops = (first..last)
        .map(|bar| {
            let range = format!(
                "{} to {}",
                format_duration_ns(edge(bar)),
                format_duration_ns(edge(bar + 1))
            );
            let counts = drawn.iter().zip(&bars).map(|((name, _, latency), bars)| {
                let count = bars.get(&bar).copied().unwrap_or(0);
                let share = count as f64 / latency.count() as f64 * 100.0;
                format!("\n{name} {} ({share:.3} %)", grouped(count))
            });
            Stop {
                from: edge(bar),
                to: edge(bar + 1),
                at: edge(bar) * 10_f64.powf(0.5 / BARS_PER_DECADE),
                dots: Vec::new(),
                text: std::iter::once(range).chain(counts).collect(),
            }
        })
        .collect();
    let scale = Scale::between(edge(first), edge(last));
    Chart {
        title: "How many messages took how long".to_owned(),
        description: "Histogram of response and service times".to_owned(),
        height: 180.0,
        x: Axis::new(scale, 0, "latency", format_duration_ns),
        y: Axis::new(
            // So that a single message is visible.
            Scale::logarithmic(0.6, most.unwrap_or(1).max(2) as f64),
            5,
            "messages",
            |count| {
                if count < 1.0 {
                    String::new()
                } else {
                    grouped(count as u64)
                }
            },
        ),
        lines,
        stops,
        ..Chart::default()
    }
}

/// Samples by bar number. A factor of ten has `per_decade` bars.
pub(super) fn bars(latency: &Latency, per_decade: f64) -> BTreeMap<i32, u64> {
    let histogram = latency.histogram();
    let mut bars = BTreeMap::new();
    for step in histogram.iter_recorded() {
        let value = histogram.median_equivalent(step.value_iterated_to()).max(1);
        let bar = ((value as f64).log10() * per_decade).floor() as i32;
        *bars.entry(bar).or_default() += step.count_at_value();
    }
    bars
}

/// The start of a bar, in nanoseconds.
fn edge(bar: i32) -> f64 {
    10_f64.powf(f64::from(bar) / BARS_PER_DECADE)
}

/// The style of an uncertain part.
fn faint(class: &str) -> &'static str {
    match class {
        "response" => "response unsure",
        "service" => "service unsure",
        _ => "lag unsure",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::histogram;

    #[test]
    fn percentiles_have_the_names_that_people_use() {
        for (quantile, name) in [
            (0.0, "p0"),
            (0.5, "p50"),
            (0.9, "p90"),
            (0.95, "p95"),
            (0.99, "p99"),
            (0.999, "p99.9"),
            (0.9999, "p99.99"),
        ] {
            assert_eq!(percentile_name(-(1.0_f64 - quantile).log10()), name);
        }
    }

    #[test]
    fn a_curve_goes_through_the_percentiles_of_the_table_and_ends_at_the_largest_sample() {
        let mut histogram = histogram::empty();
        for value in 1..=1000 {
            histogram.record(value * 1000).unwrap();
        }
        let latency = Latency::new(histogram).unwrap();
        for quantile in [0.5, 0.75, 0.9, 0.95, 0.99] {
            let point = -(1.0_f64 - quantile).log10();
            let wanted = latency.quantile(quantile).unwrap() as f64;
            let value = value_at(&latency, exact((point * 20.0).round() / 20.0)).unwrap();
            assert!(
                (value / wanted - 1.0).abs() < 0.002,
                "{quantile} {value} {wanted}"
            );
        }
        assert_eq!(value_at(&latency, 3.0), Some(latency.max() as f64));
        assert_eq!(value_at(&latency, 3.1), None);
    }

    #[test]
    fn every_sample_is_in_a_bar() {
        let mut histogram = histogram::empty();
        for value in [0, 1, 5, 999, 1000, 1_000_000, 3_000_000_000] {
            histogram.record(value).unwrap();
        }
        let latency = Latency::new(histogram).unwrap();
        let bars = bars(&latency, BARS_PER_DECADE);
        assert_eq!(bars.values().sum::<u64>(), latency.count());
        assert!(bars.keys().all(|&bar| edge(bar) < edge(bar + 1)));
    }
}
