//! A run over time: rate, latency and TCP_INFO of each interval, with stalls and unusually slow
//! intervals marked.

use echomark::net::units::format_duration_ns;

use super::intervals::{Column, MIN_INTERVALS, Mark, marked, merged};
use crate::plan::Plan;
use crate::report::chart::{Axis, Band, Chart, Line, Marker, steps};
use crate::report::document::{Section, Table};
use crate::report::format::{bits_per_second, duration, grouped, known, number, rate, seconds};
use crate::report::scale::Scale;
use crate::result::RunResult;

/// A wait after the window is shown only if it is at least this share of the whole.
const MIN_SHOWN: f64 = 0.005;
/// Maximum of marked ranges in the list.
const MAX_LISTED: usize = 8;

/// A line of a chart: its name, its style, and its figure in a column.
type Curve = (&'static str, &'static str, fn(&Column) -> Option<f64>);

const RATES: [Curve; 2] = [
    ("sent", "sent", |c| c.in_window(c.per_second(c.sent))),
    ("received", "rate", |c| c.in_window(c.received_rate())),
];
/// Bits, because the blocks of a stream are an arbitrary unit.
const BITS: [Curve; 2] = [
    ("sent", "sent", |c| {
        c.in_window(c.per_second(c.sent_bytes) * 8.0)
    }),
    ("received", "rate", |c| c.in_window(c.received_bits())),
];
const RESPONSE_TIMES: [Curve; 4] = [
    ("max", "max", |c| c.response.max.map(positive)),
    ("service p99", "service dashed", |c| {
        c.service_p99.map(positive)
    }),
    ("p99", "p99", |c| c.response.p99.map(positive)),
    ("p50", "response", |c| c.response.p50.map(positive)),
];
const ROUND_TRIPS: [Curve; 2] = [
    ("largest", "max", |c| {
        Some(positive(u64::from(c.tcp?.rtt_us_max) * 1000))
    }),
    ("mean", "rtt", |c| Some((c.tcp?.rtt_us_mean * 1e3).max(1.0))),
];

/// Adds the charts over time, and a table of the same.
pub(super) fn describe(result: &RunResult, section: &mut Section) {
    if result.intervals.is_empty() {
        return;
    }
    let marked = marked(result);
    let columns = merged(&marked);
    let whole_s: f64 = columns.iter().map(Column::length).sum();
    let mut shown = columns.clone();
    shown.retain(|column| !column.is_after || column.length() >= MIN_SHOWN * whole_s);
    section.chart(rates(result, &shown));
    if shown.iter().any(|column| column.response.max.is_some()) {
        section.chart(response_times(result, &shown));
    }
    if shown.iter().filter(|column| column.tcp.is_some()).count() > 1 {
        section.chart(round_trips(result, &shown));
    }
    section.note(notes(&result.plan, &marked, &shown));
    if marked.len() > columns.len() {
        section.note(format!(
            "{} intervals are drawn as {}: counts are added, and of percentiles the worst is kept.",
            grouped(marked.len() as u64),
            columns.len()
        ));
    }
    section.details("Intervals as a table", |section| {
        section.table(table(&columns));
        section.note("– : fewer than ten samples beyond it, or nothing came back.");
        if let Some(repeats) = &result.repeats {
            let runs = repeats.runs.len();
            section.note(format!("The times of the {runs} runs follow one another."));
        }
    });
}

/// Lines over time, with a text for each column.
fn chart(
    result: &RunResult,
    columns: &[Column],
    curves: &[Curve],
    text: impl Fn(&Column) -> String,
) -> Chart {
    let of = |column: &Column, figure: fn(&Column) -> Option<f64>| {
        (column.from_s, column.to_s, figure(column))
    };
    Chart {
        x: time_axis(columns),
        bands: bands(columns),
        markers: changes(result),
        lines: curves
            .iter()
            .map(|&(name, class, figure)| {
                Line::new(name, class, steps(columns.iter().map(|c| of(c, figure))))
            })
            .collect(),
        stops: columns
            .iter()
            .map(|column| {
                let dots = curves
                    .iter()
                    .filter_map(|(_, class, figure)| Some((figure(column)?, *class)));
                column.stop(dots.collect(), &text(column))
            })
            .collect(),
        ..Chart::default()
    }
}

/// The minimum and the maximum.
fn extremes(columns: &[Column], curves: &[Curve]) -> (f64, f64) {
    let figures = columns
        .iter()
        .flat_map(|column| curves.iter().filter_map(|(_, _, figure)| figure(column)));
    figures.fold((f64::INFINITY, 0.0), |(least, most), figure| {
        (figure.min(least), figure.max(most))
    })
}

fn positive(nanoseconds: u64) -> f64 {
    nanoseconds.max(1) as f64
}

fn rates(result: &RunResult, columns: &[Column]) -> Chart {
    let is_stream = result.plan.direction().is_some();
    let (curves, title, unit, label): (_, _, _, fn(f64) -> String) = if is_stream {
        (&BITS, "Throughput", "payload", bits_per_second)
    } else {
        (&RATES, "Rate", "messages per second", number)
    };
    let chart = chart(result, columns, curves, |column| {
        let missing = match column.missing {
            0 => String::new(),
            count => format!("\nlost or timed out {}", grouped(count)),
        };
        format!(
            "sent {} ({})\nreceived {} ({})\npayload {}{missing}",
            grouped(column.sent),
            rate(column.per_second(column.sent)),
            grouped(column.received),
            rate(column.received_rate()),
            bits_per_second(column.received_bits()),
        )
    });
    let target = result
        .rate
        .target
        .filter(|_| result.plan.has_steady_load() && !is_stream);
    let ends = columns.first().zip(columns.last()).zip(target);
    let mut lines: Vec<Line> = ends
        .map(|((first, last), target)| {
            let ends = vec![(first.from_s, target), (last.to_s, target)];
            Line::new("target", "target", vec![ends])
        })
        .into_iter()
        .collect();
    lines.extend(chart.lines);
    let (_, most) = extremes(columns, curves);
    Chart {
        title: title.to_owned(),
        description: format!(
            "Sent and received in each interval; {} achieved in all",
            rate(result.rate.achieved)
        ),
        height: 200.0,
        y: Axis::new(
            Scale::up_to(most.max(target.unwrap_or(0.0))),
            5,
            unit,
            label,
        ),
        lines,
        ..chart
    }
}

fn response_times(result: &RunResult, columns: &[Column]) -> Chart {
    let (least, most) = extremes(columns, &RESPONSE_TIMES);
    Chart {
        title: "Response time".to_owned(),
        description: "Median, 99th percentile and maximum of each interval's response times"
            .to_owned(),
        height: 240.0,
        y: Axis::new(
            Scale::logarithmic(least, most),
            5,
            "response time",
            format_duration_ns,
        ),
        ..chart(result, columns, &RESPONSE_TIMES, |column| {
            format!(
                "max {}\np99 {}\np50 {}\nservice p99 {}",
                duration(column.response.max),
                duration(column.response.p99),
                duration(column.response.p50),
                duration(column.service_p99)
            )
        })
    }
}

fn round_trips(result: &RunResult, columns: &[Column]) -> Chart {
    let mut chart = chart(result, columns, &ROUND_TRIPS, |column| {
        column.tcp.map_or_else(String::new, |tcp| {
            format!(
                "round trip {}, at most {}\ncongestion window {} segments\nretransmits {}",
                format_duration_ns(tcp.rtt_us_mean * 1e3),
                duration(Some(u64::from(tcp.rtt_us_max) * 1000)),
                number(tcp.cwnd_mean),
                grouped(tcp.retransmits)
            )
        })
    });
    chart.stops.retain(|stop| !stop.dots.is_empty());
    let retransmits = columns.iter().filter(|column| column.has_retransmits());
    chart.bands.extend(retransmits.map(|column| Band {
        from: column.from_s,
        to: column.to_s,
        class: "band retransmits",
    }));
    let (least, most) = extremes(columns, &ROUND_TRIPS);
    Chart {
        title: "TCP's round-trip time".to_owned(),
        description: "Smoothed round-trip times by TCP_INFO, mean and maximum over the connections"
            .to_owned(),
        height: 140.0,
        y: Axis::new(
            Scale::logarithmic(least, most),
            5,
            "smoothed round trip",
            format_duration_ns,
        ),
        ..chart
    }
}

/// The shaded ranges: marked intervals, and waits after a window. Neighbours are joined.
fn bands(columns: &[Column]) -> Vec<Band> {
    columns
        .chunk_by(|one, next| band_class(one) == band_class(next))
        .filter_map(|stretch| {
            let (first, last) = (stretch.first()?, stretch.last()?);
            Some(Band {
                from: first.from_s,
                to: last.to_s,
                class: band_class(first)?,
            })
        })
        .collect()
}

fn band_class(column: &Column) -> Option<&'static str> {
    match (column.is_after, column.mark) {
        (true, _) => Some("band after"),
        (false, Some(_)) => Some("band stall"),
        (false, None) => None,
    }
}

/// The times of rate changes by the user.
fn changes(result: &RunResult) -> Vec<Marker> {
    let first = result
        .rate
        .changes
        .iter()
        .filter(|change| change.at_s >= 0.0);
    first
        .take(MAX_LISTED)
        .map(|change| Marker {
            at: change.at_s,
            class: "change",
            label: rate(change.rate),
        })
        .collect()
}

/// A list of the marks and their meaning.
fn notes(plan: &Plan, marked: &[Column], shown: &[Column]) -> String {
    let stretches: Vec<String> = marked
        .chunk_by(|one, next| band_class(one) == band_class(next))
        .filter_map(|stretch| {
            let (first, last) = (stretch.first()?, stretch.last()?);
            let marks = stretch.iter().filter_map(|column| column.mark);
            let worst = marks.reduce(Mark::worse)?;
            Some(format!(
                "{} to {} (at worst {})",
                seconds(first.from_s),
                seconds(last.to_s),
                worst.words()
            ))
        })
        .collect();
    let in_window = marked.iter().filter(|column| !column.is_after).count();
    let mut note = if stretches.is_empty() && in_window < MIN_INTERVALS {
        "Too few intervals to tell what is usual, so no stall could be marked.".to_owned()
    } else if stretches.is_empty() && !plan.has_steady_load() {
        "No stall: no interval had a median or p99 above ten times the usual. The load varies by \
         plan, so no rate is the usual one."
            .to_owned()
    } else if stretches.is_empty() {
        "No stall: every interval had at least half of the usual number of echoes, and none had a \
         median or p99 above ten times the usual."
            .to_owned()
    } else {
        let more = match stretches.len().saturating_sub(MAX_LISTED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let listed = stretches[..stretches.len().min(MAX_LISTED)].join(", ");
        format!(
            "**Stalls**, shaded red: {listed}{more}. An interval is marked if less than half of the \
             usual number of echoes came back, or if its median or p99 is above ten times the usual, \
             which is that of the middle interval."
        )
    };
    if shown.iter().any(|column| column.is_after) {
        note.push_str(" Shaded grey is the wait for echoes after the window.");
    }
    if marked.iter().any(Column::has_retransmits) {
        note.push_str(" Shaded orange in the last chart: TCP retransmitted.");
    }
    note
}

fn table(columns: &[Column]) -> Table {
    let rows = columns.iter().map(|column| {
        let tcp = column.tcp;
        [
            seconds(column.from_s),
            seconds(column.to_s),
            grouped(column.sent),
            grouped(column.received),
            grouped(column.missing),
            bits_per_second(column.received_bits()),
            duration(column.response.p50),
            duration(column.response.p99),
            duration(column.response.max),
            duration(column.service_p99),
            known(tcp.map(|tcp| format_duration_ns(tcp.rtt_us_mean * 1e3))),
            known(tcp.map(|tcp| number(tcp.cwnd_mean))),
            known(tcp.map(|tcp| grouped(tcp.retransmits))),
        ]
    });
    let head = [
        "from",
        "to",
        "sent",
        "received",
        "lost, timed out",
        "payload",
        "p50",
        "p99",
        "max",
        "service p99",
        "tcp rtt",
        "cwnd",
        "retransmits",
    ];
    let table = Table::new(head, rows);
    if columns.iter().any(|column| column.tcp.is_some()) {
        table
    } else {
        table.without(&["tcp rtt", "cwnd", "retransmits"])
    }
}

fn time_axis(columns: &[Column]) -> Axis {
    let ends = columns.first().zip(columns.last());
    let (from, to) = ends.map_or((0.0, 1.0), |(first, last)| (first.from_s, last.to_s));
    Axis::new(Scale::linear(from, to), 8, "time", seconds)
}
