//! Prepares the intervals of a run for charts: limits their number and marks unusual ones.

use crate::report::chart::Stop;
use crate::report::format::{number, seconds};
use crate::result::{IntervalLatency, IntervalResult, RunResult, TcpInterval};

/// Maximum of points in a chart. More would be invisible and make the page large.
const MAX_POINTS: usize = 400;
/// An interval is marked if fewer than this share of the usual number of echoes came back,
const MIN_SHARE: f64 = 0.5;
/// or if its median or p99 exceeds the usual one by this factor.
const MAX_TIMES: f64 = 10.0;
/// Minimum of intervals for knowing the usual values.
pub(super) const MIN_INTERVALS: usize = 5;

/// Neighbouring intervals combined: counts are added, and of percentiles the worst is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) from_s: f64,
    pub(super) to_s: f64,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
    pub(super) missing: u64,
    pub(super) response: Latencies,
    pub(super) service_p99: Option<u64>,
    pub(super) tcp: Option<TcpInterval>,
    /// After the window: the wait for echoes.
    pub(super) is_after: bool,
    pub(super) mark: Option<Mark>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Latencies {
    pub(super) p50: Option<u64>,
    pub(super) p99: Option<u64>,
    pub(super) max: Option<u64>,
}

/// Why an interval is marked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mark {
    /// Only this share of the usual number of echoes came back.
    Few(f64),
    /// This percentile exceeds the usual by this factor.
    Slow(&'static str, f64),
}

/// The intervals as columns, with marks on unusual ones.
pub(super) fn marked(result: &RunResult) -> Vec<Column> {
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
    // If the load changes by plan, there is no usual rate.
    let usual_rate =
        median(in_window().map(Column::received_rate)).filter(|_| result.plan.has_steady_load());
    for column in columns.iter_mut().filter(|column| !column.is_after) {
        let few = usual_rate
            .filter(|&usual| usual > 0.0 && column.length() > 0.0)
            .map(|usual| column.received_rate() / usual)
            .filter(|&share| share < MIN_SHARE);
        let times = |usual: Option<f64>, figure: Option<u64>| {
            let times = figure? as f64 / usual?;
            (times > MAX_TIMES).then_some(times)
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

/// Finds the waits after the windows; with several runs, each may have one. A window ends by its
/// run's length, and the next run begins with an interval as long as the very first.
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
        // If a number of messages ended each run, windows differ in length.
        let is_wait = runs > 1 && column.sent == 0 && column.length() < first_s;
        column.is_after = (is_over && !begins) || is_wait;
        if column.is_after {
            begin_s = column.to_s;
        } else if is_over {
            begin_s = column.from_s;
        }
    }
}

/// The median, if there are enough figures.
fn median(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_unstable_by(f64::total_cmp);
    (figures.len() >= MIN_INTERVALS).then(|| figures[figures.len() / 2])
}

/// The intervals combined into at most the maximum of columns.
pub(super) fn merged(columns: &[Column]) -> Vec<Column> {
    let per_column = columns.len().div_ceil(MAX_POINTS).max(1);
    columns
        // Intervals after the window are not combined with those in the window.
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
        let response = |figure: fn(&IntervalLatency) -> Option<u64>| {
            interval.response.as_ref().and_then(figure)
        };
        Self {
            from_s: interval.start_s,
            to_s: interval.end_s,
            sent: interval.counts.sent,
            received: interval.counts.received,
            sent_bytes: interval.sent_bytes,
            received_bytes: interval.received_bytes,
            missing: interval
                .counts
                .lost
                .saturating_add(interval.counts.timed_out)
                .saturating_add(interval.counts.abandoned),
            response: Latencies {
                p50: response(|latency| latency.p50),
                p99: response(|latency| latency.p99),
                max: response(|latency| Some(latency.max)),
            },
            service_p99: interval.service.as_ref().and_then(|latency| latency.p99),
            tcp: interval.tcp,
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
                (Some(one), Some(other)) => Some(TcpInterval {
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

    pub(super) fn length(&self) -> f64 {
        self.to_s - self.from_s
    }

    pub(super) fn per_second(&self, amount: u64) -> f64 {
        if self.length() > 0.0 {
            amount as f64 / self.length()
        } else {
            0.0
        }
    }

    pub(super) fn received_rate(&self) -> f64 {
        self.per_second(self.received)
    }

    pub(super) fn received_bits(&self) -> f64 {
        self.per_second(self.received_bytes) * 8.0
    }

    pub(super) fn has_retransmits(&self) -> bool {
        self.tcp.is_some_and(|tcp| tcp.retransmits > 0)
    }

    /// The figure, only within the window.
    pub(super) fn in_window(&self, figure: f64) -> Option<f64> {
        (!self.is_after).then_some(figure)
    }

    /// A stop with these dots, and this text below the time.
    pub(super) fn stop(&self, dots: Vec<(f64, &'static str)>, text: &str) -> Stop {
        let time = format!("{} to {}", seconds(self.from_s), seconds(self.to_s));
        let after = if self.is_after {
            ", after the window"
        } else {
            ""
        };
        let mark = self
            .mark
            .map_or_else(String::new, |mark| format!("\nmarked: {}", mark.words()));
        Stop {
            from: self.from_s,
            to: self.to_s,
            at: f64::midpoint(self.from_s, self.to_s),
            dots,
            text: format!("{time}{after}\n{text}{mark}"),
        }
    }
}

impl Mark {
    pub(super) fn words(self) -> String {
        match self {
            Self::Few(share) => format!("{:.0} % of the usual number of echoes", share * 100.0),
            Self::Slow(name, times) => {
                format!("its {name} is {} times the usual", number(times.round()))
            }
        }
    }

    /// The mark that is farther from the usual.
    pub(super) fn worse(self, other: Self) -> Self {
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
