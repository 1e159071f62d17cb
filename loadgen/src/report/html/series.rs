//! A run over time: its rate, its latency and what TCP said, interval by interval, with the stretches
//! marked in which it stood still or was much slower than usual.

use echomark::net::units::format_duration_ns;

use super::duration;
use super::markup::Html;
use super::plot::{Axis, Band, Line, Marker, Plot, Shape, Stop, steps};
use super::scale::Scale;
use crate::report::format::{bits_per_second, grouped, number};
use crate::result::{IntervalLatency, IntervalResult, RunResult};

/// Points of a chart. More would not show, and make the page large.
const MOST_POINTS: usize = 400;
/// An interval in which less than this share of the usual number of echoes came back is marked,
const FEW: f64 = 0.5;
/// and one whose median or p99 is so many times the usual.
const SLOW: f64 = 10.0;
/// A wait after the window that is shorter than this share of the whole would not show.
const LEAST_SHOWN: f64 = 0.005;
/// What is usual takes so many intervals to tell.
const LEAST_INTERVALS: usize = 5;
/// Marked stretches that are listed.
const MOST_LISTED: usize = 8;

/// Neighbouring intervals as one: counts added, of percentiles the worst.
#[derive(Clone, Copy, Debug)]
struct Column {
    from_s: f64,
    to_s: f64,
    sent: u64,
    received: u64,
    sent_bytes: u64,
    received_bytes: u64,
    missing: u64,
    response: Latencies,
    service_p99: Option<u64>,
    tcp: Option<Tcp>,
    /// After the window: echoes that were waited for.
    is_after: bool,
    mark: Option<Mark>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Latencies {
    p50: Option<u64>,
    p99: Option<u64>,
    max: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Tcp {
    rtt_us_mean: f64,
    rtt_us_max: u32,
    cwnd_mean: f64,
    retransmits: u64,
}

/// A figure of a column.
type Figure = fn(&Column) -> f64;

/// Why an interval is marked.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mark {
    /// So small a share of the usual number of echoes came back.
    Few(f64),
    /// This percentile is so many times the usual.
    Slow(&'static str, f64),
}

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
    notes(&marked, &shown, out);
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

/// The intervals as columns, with what is unusual marked.
fn marked(result: &RunResult) -> Vec<Column> {
    let mut columns: Vec<Column> = result.intervals.iter().map(Column::of).collect();
    mark_after(result, &mut columns);
    let in_window = || {
        let columns = columns.iter();
        columns.filter(|column| !column.is_after && column.length() > 0.0)
    };
    let usual = |percentile: fn(&Column) -> Option<u64>| {
        median(in_window().filter_map(|column| percentile(column).map(|value| value as f64)))
    };
    let usual_p99 = usual(|column| column.response.p99);
    let usual_p50 = usual(|column| column.response.p50);
    // Where the load changes by itself, no rate is the usual one.
    let usual_rate =
        median(in_window().map(Column::received_rate)).filter(|_| result.plan.has_steady_load());
    for column in columns.iter_mut().filter(|column| !column.is_after) {
        let few = usual_rate
            .filter(|&usual| usual > 0.0 && column.length() > 0.0)
            .map(|usual| column.received_rate() / usual)
            .filter(|&share| share < FEW);
        let times = |usual: Option<f64>, figure: Option<u64>| {
            let times = figure? as f64 / usual?;
            (times > SLOW).then_some(times)
        };
        let slow = times(usual_p50, column.response.p50)
            .map(|times| Mark::Slow("median", times))
            .or_else(|| {
                times(usual_p99, column.response.p99).map(|times| Mark::Slow("p99", times))
            });
        column.mark = few.map(Mark::Few).or(slow);
    }
    columns
}

/// Finds the waits after the windows, of which each of several runs may have one. A window ends where
/// its run's length says, and the next run begins with an interval as long as the first of all.
fn mark_after(result: &RunResult, columns: &mut [Column]) {
    let runs = result
        .repeats
        .as_ref()
        .map_or(1, |repeats| repeats.runs.len().max(1));
    let window_s = result.duration_s / runs as f64;
    let first_s = columns.first().map_or(0.0, Column::length);
    let mut begin_s = 0.0;
    for column in columns {
        let is_over = column.from_s - begin_s >= window_s * (1.0 - 1e-9);
        let begins = runs > 1 && (column.length() - first_s).abs() < 1e-6;
        // Where a number of messages ended each run, windows differ in length.
        let is_wait = runs > 1 && column.sent == 0 && column.length() < first_s;
        column.is_after = (is_over && !begins) || is_wait;
        if column.is_after {
            begin_s = column.to_s;
        } else if is_over {
            begin_s = column.from_s;
        }
    }
}

/// The middle of enough figures.
fn median(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_unstable_by(f64::total_cmp);
    (figures.len() >= LEAST_INTERVALS).then(|| figures[figures.len() / 2])
}

/// As many columns as can be drawn.
fn merged(columns: &[Column]) -> Vec<Column> {
    let per_column = columns.len().div_ceil(MOST_POINTS).max(1);
    columns
        // What came after a window is not put together with what came in it.
        .chunk_by(|one, next| one.is_after == next.is_after)
        .flat_map(|stretch| stretch.chunks(per_column))
        .filter_map(|chunk| {
            let (first, rest) = chunk.split_first()?;
            Some(rest.iter().fold(*first, |sum, next| sum.merge(next)))
        })
        .collect()
}

impl Column {
    fn of(interval: &IntervalResult) -> Self {
        let response =
            |figure: fn(IntervalLatency) -> Option<u64>| interval.response.and_then(figure);
        Self {
            from_s: interval.start_s,
            to_s: interval.end_s,
            sent: interval.sent,
            received: interval.received,
            sent_bytes: interval.sent_bytes,
            received_bytes: interval.received_bytes,
            missing: interval.lost.saturating_add(interval.timed_out),
            response: Latencies {
                p50: response(|latency| latency.p50),
                p99: response(|latency| latency.p99),
                max: response(|latency| Some(latency.max)),
            },
            service_p99: interval.service.and_then(|latency| latency.p99),
            tcp: interval.tcp.map(|tcp| Tcp {
                rtt_us_mean: tcp.rtt_us_mean,
                rtt_us_max: tcp.rtt_us_max,
                cwnd_mean: tcp.cwnd_mean,
                retransmits: tcp.retransmits,
            }),
            is_after: false,
            mark: None,
        }
    }

    fn merge(self, next: &Self) -> Self {
        Self {
            from_s: self.from_s,
            to_s: next.to_s,
            sent: self.sent.saturating_add(next.sent),
            received: self.received.saturating_add(next.received),
            sent_bytes: self.sent_bytes.saturating_add(next.sent_bytes),
            received_bytes: self.received_bytes.saturating_add(next.received_bytes),
            missing: self.missing.saturating_add(next.missing),
            response: Latencies {
                p50: self.response.p50.max(next.response.p50),
                p99: self.response.p99.max(next.response.p99),
                max: self.response.max.max(next.response.max),
            },
            service_p99: self.service_p99.max(next.service_p99),
            tcp: match (self.tcp, next.tcp) {
                (Some(one), Some(other)) => Some(Tcp {
                    rtt_us_mean: one.rtt_us_mean.max(other.rtt_us_mean),
                    rtt_us_max: one.rtt_us_max.max(other.rtt_us_max),
                    cwnd_mean: one.cwnd_mean.min(other.cwnd_mean),
                    retransmits: one.retransmits.saturating_add(other.retransmits),
                }),
                (one, other) => one.or(other),
            },
            is_after: self.is_after,
            mark: match (self.mark, next.mark) {
                (Some(one), Some(other)) => Some(one.worse(other)),
                (one, other) => one.or(other),
            },
        }
    }

    fn length(&self) -> f64 {
        self.to_s - self.from_s
    }

    fn per_second(&self, amount: u64) -> f64 {
        if self.length() > 0.0 {
            amount as f64 / self.length()
        } else {
            0.0
        }
    }

    fn received_rate(&self) -> f64 {
        self.per_second(self.received)
    }

    /// A figure that only makes sense in the window.
    fn within(&self, figure: f64) -> (f64, f64, Option<f64>) {
        (self.from_s, self.to_s, (!self.is_after).then_some(figure))
    }

    fn figure(&self, figure: Option<u64>) -> (f64, f64, Option<f64>) {
        let at_least_one = figure.map(|value| value.max(1) as f64);
        (self.from_s, self.to_s, at_least_one)
    }

    fn stop(&self, dots: Vec<(f64, &'static str)>, lines: &[String]) -> Stop {
        let mut text = format!("{} s to {} s", seconds(self.from_s), seconds(self.to_s));
        if self.is_after {
            text.push_str(", after the window");
        }
        for line in lines.iter().filter(|line| !line.is_empty()) {
            text.push('\n');
            text.push_str(line);
        }
        if let Some(mark) = self.mark {
            text.push_str(&format!("\nmarked: {}", mark.words()));
        }
        Stop {
            from: self.from_s,
            to: self.to_s,
            at: f64::midpoint(self.from_s, self.to_s),
            dots,
            text,
        }
    }
}

impl Mark {
    fn words(self) -> String {
        match self {
            Self::Few(share) => format!("{:.0} % of the usual number of echoes", share * 100.0),
            Self::Slow(name, times) => {
                format!("its {name} is {} times the usual", number(times.round()))
            }
        }
    }

    /// The one that is farther from the usual.
    fn worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Few(one), Self::Few(next)) => Self::Few(one.min(next)),
            (Self::Few(_), Self::Slow(..)) => self,
            (Self::Slow(..), Self::Few(_)) => other,
            (Self::Slow(_, one), Self::Slow(_, next)) => {
                if next > one {
                    other
                } else {
                    self
                }
            }
        }
    }
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
        title: if is_stream { "Throughput" } else { "Rate" },
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
        title: "Response time",
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
        title: "TCP's round-trip time",
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

fn notes(marked: &[Column], shown: &[Column], out: &mut Html) {
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
    if stretches.is_empty() {
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

/// Seconds to a thousandth, without zeros at the end.
fn seconds(seconds: f64) -> String {
    let rounded = (seconds * 1000.0).round() / 1000.0;
    format!("{rounded}")
}
