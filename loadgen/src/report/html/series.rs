//! A run over time: its rate, its latency and what TCP said, interval by interval, with the stretches
//! marked in which it stood still or was much slower than usual.

use echomark::net::units::format_duration_ns;

use super::columns::{Column, LEAST_INTERVALS, Mark, Tcp, marked, merged};
use super::markup::Html;
use super::plot::{Axis, Band, Line, Marker, Plot, Shape, steps};
use super::scale::Scale;
use super::{duration, seconds};
use crate::plan::Plan;
use crate::report::format::{bits_per_second, grouped, number};
use crate::result::RunResult;

/// A wait after the window that is shorter than this share of the whole would not show.
const LEAST_SHOWN: f64 = 0.005;
/// Marked stretches that are listed.
const MOST_LISTED: usize = 8;

/// A figure of a column.
type Figure = fn(&Column) -> f64;

/// Adds the charts over time, and a table of the same.
pub(super) fn write(result: &RunResult, out: &mut Html) {
    if result.intervals.is_empty() {
        return;
    }
    let marked = marked(result);
    let columns = merged(&marked);
    let whole_s: f64 = columns.iter().map(Column::length).sum();
    let mut shown = columns.clone();
    shown.retain(|column| !column.is_after || column.length() >= LEAST_SHOWN * whole_s);
    out.put("<section id=\"time\"><h2>Over time</h2>\n");
    rate(result, &shown).draw(out);
    let has_latency = shown.iter().any(|column| column.response.max.is_some());
    if has_latency {
        latency(result, &shown).draw(out);
    }
    if shown.iter().filter(|column| column.tcp.is_some()).count() > 1 {
        round_trips(result, &shown).draw(out);
    }
    notes(&result.plan, &marked, &shown, out);
    if marked.len() > columns.len() {
        out.fill(
            "<p class=\"note\">{} intervals are drawn as {}: counts are added, of percentiles the \
             worst is kept.</p>\n",
            &[&grouped(marked.len() as u64), &columns.len()],
        );
    }
    table(result, &columns, out);
    out.put("</section>\n");
}

fn rate(result: &RunResult, columns: &[Column]) -> Plot {
    // Blocks of a stream are an arbitrary unit, and bits are not.
    let is_stream = result.plan.direction().is_some();
    let (received, sent): (Figure, Figure) = if is_stream {
        (
            |column| column.per_second(column.received_bytes) * 8.0,
            |column| column.per_second(column.sent_bytes) * 8.0,
        )
    } else {
        (Column::received_rate, |column| {
            column.per_second(column.sent)
        })
    };
    let most = columns
        .iter()
        .filter(|column| !column.is_after)
        .flat_map(|column| [received(column), sent(column)])
        .fold(0.0, f64::max);
    let target = result
        .rate
        .target
        .filter(|_| result.plan.has_steady_load() && !is_stream);
    let label: fn(f64) -> String = if is_stream { bits_per_second } else { number };
    let mut lines = vec![
        line(
            "sent",
            "sent",
            columns.iter().map(|column| column.within(sent(column))),
        ),
        line(
            "received",
            "rate",
            columns.iter().map(|column| column.within(received(column))),
        ),
    ];
    if let Some(target) = target {
        let ends = columns
            .first()
            .zip(columns.last())
            .map(|(first, last)| (first.from_s, last.to_s));
        let whole = ends.map(|(from, to)| (from, to, Some(target)));
        lines.insert(0, line("target", "target", whole));
    }
    let stops = columns.iter().map(|column| {
        let dots = if column.is_after {
            Vec::new()
        } else {
            vec![(sent(column), "sent"), (received(column), "rate")]
        };
        let missing = match column.missing {
            0 => String::new(),
            count => format!("lost or timed out {}", grouped(count)),
        };
        column.stop(
            dots,
            &[
                format!(
                    "sent {} ({} /s)",
                    grouped(column.sent),
                    number(column.per_second(column.sent))
                ),
                format!(
                    "received {} ({} /s)",
                    grouped(column.received),
                    number(column.received_rate())
                ),
                format!(
                    "payload {}",
                    bits_per_second(column.per_second(column.received_bytes) * 8.0)
                ),
                missing,
            ],
        )
    });
    Plot {
        title: if is_stream { "Throughput" } else { "Rate" }.to_owned(),
        description: format!(
            "What was sent and received in each interval; {} /s achieved on the whole",
            number(result.rate.achieved)
        ),
        height: 200.0,
        x: time_axis(columns),
        y: Axis::new(
            Scale::up_to(most.max(target.unwrap_or(0.0))),
            5,
            if is_stream {
                "payload"
            } else {
                "messages per second"
            },
            label,
        ),
        bands: bands(columns),
        markers: changes(result),
        lines,
        whiskers: Vec::new(),
        stops: stops.collect(),
    }
}

fn latency(result: &RunResult, columns: &[Column]) -> Plot {
    let figures = || {
        columns
            .iter()
            .flat_map(|c| {
                [
                    c.response.p50,
                    c.response.p99,
                    c.response.max,
                    c.service_p99,
                ]
            })
            .flatten()
    };
    let (least, most) = (figures().min().unwrap_or(1), figures().max().unwrap_or(1));
    let response = |name, class, figure: fn(&Column) -> Option<u64>| {
        line(
            name,
            class,
            columns.iter().map(|column| column.figure(figure(column))),
        )
    };
    let stops = columns.iter().map(|column| {
        let named = [
            ("max", "max", column.response.max),
            ("p99", "p99", column.response.p99),
            ("p50", "response", column.response.p50),
            ("service p99", "service", column.service_p99),
        ];
        let lines = named.map(|(name, _, figure)| format!("{name} {}", duration(figure)));
        let dots = named
            .iter()
            .filter_map(|&(_, class, figure)| Some((figure? as f64, class)));
        column.stop(dots.collect(), &lines)
    });
    Plot {
        title: "Response time".to_owned(),
        description: "Median, 99th percentile and maximum of each interval's response times"
            .to_owned(),
        height: 240.0,
        x: time_axis(columns),
        y: Axis::new(
            Scale::logarithmic(least.max(1) as f64, most as f64),
            5,
            "response time",
            format_duration_ns,
        ),
        bands: bands(columns),
        markers: changes(result),
        lines: vec![
            response("max", "max", |column| column.response.max),
            response("service p99", "service dashed", |column| column.service_p99),
            response("p99", "p99", |column| column.response.p99),
            response("p50", "response", |column| column.response.p50),
        ],
        whiskers: Vec::new(),
        stops: stops.collect(),
    }
}

fn round_trips(result: &RunResult, columns: &[Column]) -> Plot {
    let means = || {
        columns
            .iter()
            .filter_map(|column| Some(column.tcp?.rtt_us_mean * 1e3))
    };
    let maxima = || {
        columns
            .iter()
            .filter_map(|column| Some(f64::from(column.tcp?.rtt_us_max) * 1e3))
    };
    let at_least_one = |value: f64| value.max(1.0);
    let of_tcp = |figure: fn(Tcp) -> f64| {
        columns.iter().map(move |column| {
            (
                column.from_s,
                column.to_s,
                column.tcp.map(figure).map(at_least_one),
            )
        })
    };
    let stops = columns.iter().filter_map(|column| {
        let tcp = column.tcp?;
        let (mean, max) = (tcp.rtt_us_mean * 1e3, f64::from(tcp.rtt_us_max) * 1e3);
        Some(column.stop(
            vec![(max, "max"), (mean, "rtt")],
            &[
                format!(
                    "round trip {}, at most {}",
                    format_duration_ns(mean),
                    format_duration_ns(max)
                ),
                format!("congestion window {} segments", number(tcp.cwnd_mean)),
                format!("retransmits {}", grouped(tcp.retransmits)),
            ],
        ))
    });
    // A place for each interval in which segments went out again.
    let retransmits = columns
        .iter()
        .filter(|column| column.tcp.is_some_and(|tcp| tcp.retransmits > 0))
        .map(|column| (column.from_s, column.to_s));
    let mut bands = bands(columns);
    bands.extend(retransmits.map(|(from, to)| Band {
        from,
        to,
        class: "band retransmits",
    }));
    Plot {
        title: "TCP's round-trip time".to_owned(),
        description:
            "Smoothed round-trip times as TCP_INFO says, mean and maximum over the connections"
                .to_owned(),
        height: 140.0,
        x: time_axis(columns),
        y: Axis::new(
            Scale::logarithmic(
                means()
                    .chain(maxima())
                    .fold(f64::INFINITY, f64::min)
                    .max(1.0),
                means().chain(maxima()).fold(1.0, f64::max),
            ),
            5,
            "smoothed round trip",
            format_duration_ns,
        ),
        bands,
        markers: changes(result),
        lines: vec![
            line(
                "largest",
                "max",
                of_tcp(|tcp| f64::from(tcp.rtt_us_max) * 1e3),
            ),
            line("mean", "rtt", of_tcp(|tcp| tcp.rtt_us_mean * 1e3)),
        ],
        whiskers: Vec::new(),
        stops: stops.collect(),
    }
}

/// What is shaded: marked intervals, and what came after a window. Neighbours are one.
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

/// Where the user changed the rate.
fn changes(result: &RunResult) -> Vec<Marker> {
    let first = result
        .rate
        .changes
        .iter()
        .filter(|change| change.at_s >= 0.0);
    first
        .take(MOST_LISTED)
        .map(|change| Marker {
            at: change.at_s,
            class: "change",
            label: format!("{} /s", number(change.rate)),
        })
        .collect()
}

fn notes(plan: &Plan, marked: &[Column], shown: &[Column], out: &mut Html) {
    out.put("<p class=\"note\">");
    let stretches: Vec<String> = marked
        .chunk_by(|one, next| band_class(one) == band_class(next))
        .filter_map(|stretch| {
            let (first, last) = (stretch.first()?, stretch.last()?);
            let marks = stretch.iter().filter_map(|column| column.mark);
            let worst = marks.reduce(Mark::worse)?;
            Some(format!(
                "{} s to {} s (at worst {})",
                seconds(first.from_s),
                seconds(last.to_s),
                worst.words()
            ))
        })
        .collect();
    let in_window = marked.iter().filter(|column| !column.is_after).count();
    if stretches.is_empty() && in_window < LEAST_INTERVALS {
        out.put("With so few intervals nothing is usual, so no stall could be marked. ");
    } else if stretches.is_empty() && !plan.has_steady_load() {
        out.put(
            "No stall: no interval had a median or p99 above ten times the usual. The load changes by \
             itself, so no rate is the usual one. ",
        );
    } else if stretches.is_empty() {
        out.put(
            "No stall: in no interval came back less than half of the usual number of echoes, and none \
             had a median or p99 above ten times the usual. ",
        );
    } else {
        let more = match stretches.len().saturating_sub(MOST_LISTED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let listed = stretches[..stretches.len().min(MOST_LISTED)].join(", ");
        out.fill("<b>Stalls</b>, shaded red: {}{}. ", &[&listed, &more]);
        out.put(
            "Marked is an interval in which less than half of the usual number of echoes came back, or \
             whose median or p99 is above ten times the usual, which is that of the middle interval. ",
        );
    }
    if shown.iter().any(|column| column.is_after) {
        out.put("Shaded grey is the wait for echoes after the window. ");
    }
    let is_sent_again = |column: &Column| column.tcp.is_some_and(|tcp| tcp.retransmits > 0);
    if marked.iter().any(is_sent_again) {
        out.put("Shaded orange in the last chart: TCP sent segments again. ");
    }
    out.put("</p>\n");
}

fn table(result: &RunResult, columns: &[Column], out: &mut Html) {
    let has_tcp = columns.iter().any(|column| column.tcp.is_some());
    out.put("<details><summary>Intervals as a table</summary>\n");
    let mut head = vec![
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
    ];
    if has_tcp {
        head.extend(["tcp rtt", "cwnd", "retransmits"]);
    }
    let rows = columns.iter().map(|column| {
        let mut row = vec![
            format!("{} s", seconds(column.from_s)),
            format!("{} s", seconds(column.to_s)),
            grouped(column.sent),
            grouped(column.received),
            grouped(column.missing),
            bits_per_second(column.per_second(column.received_bytes) * 8.0),
            duration(column.response.p50),
            duration(column.response.p99),
            duration(column.response.max),
            duration(column.service_p99),
        ];
        if has_tcp {
            row.extend([
                super::known(
                    column
                        .tcp
                        .map(|tcp| format_duration_ns(tcp.rtt_us_mean * 1e3)),
                ),
                super::known(column.tcp.map(|tcp| number(tcp.cwnd_mean))),
                super::known(column.tcp.map(|tcp| grouped(tcp.retransmits))),
            ]);
        }
        row
    });
    out.table(&head, rows);
    out.put(
        "<p class=\"note\">– : fewer than ten samples lie beyond it, or nothing came back.</p>\n",
    );
    if let Some(repeats) = &result.repeats {
        out.fill(
            "<p class=\"note\">The times of the {} runs follow one another.</p>\n",
            &[&repeats.runs.len()],
        );
    }
    out.put("</details>\n");
}

fn time_axis(columns: &[Column]) -> Axis {
    let ends = columns.first().zip(columns.last());
    let (from, to) = ends.map_or((0.0, 1.0), |(first, last)| (first.from_s, last.to_s));
    Axis::new(Scale::linear(from, to), 8, "time", |tick| {
        format!("{} s", seconds(tick))
    })
}

fn line(
    name: &'static str,
    class: &'static str,
    figures: impl IntoIterator<Item = (f64, f64, Option<f64>)>,
) -> Line {
    Line {
        name,
        class,
        shape: Shape::Open,
        pieces: steps(figures),
    }
}
