//! The intervals of a run, the trials of a search, or the figures of a comparison, as CSV (RFC 4180): a header and a line for each,
//! a field empty where the result has null.

use std::fmt::Write as _;

use serde::Serialize;

use super::text::search::trial_outcome;
use crate::result::comparison::{Comparison, RatioInterval};
use crate::result::{
    IntervalLatency, IntervalResult, RunResult, SearchResult, TcpInterval, TrialFigures,
    TrialLatency,
};

/// A column: its name, and its field of an interval.
type Column = (&'static str, fn(&IntervalResult) -> Option<String>);

/// Every figure that an interval has, named as the result names it with its unit; histograms are none.
const COLUMNS: [Column; 23] = [
    ("start_s", |i| text(i.start_s)),
    ("end_s", |i| text(i.end_s)),
    ("sent", |i| text(i.sent)),
    ("received", |i| text(i.received)),
    ("lost", |i| text(i.lost)),
    ("timed_out", |i| text(i.timed_out)),
    ("duplicated", |i| text(i.duplicated)),
    ("reordered", |i| text(i.reordered)),
    ("sent_bytes", |i| text(i.sent_bytes)),
    ("received_bytes", |i| text(i.received_bytes)),
    ("opened", |i| text(i.opened)),
    ("failed", |i| text(i.failed)),
    ("response_p50_ns", |i| p50(i.response.as_ref())),
    ("response_p99_ns", |i| p99(i.response.as_ref())),
    ("response_max_ns", |i| max(i.response.as_ref())),
    ("service_p50_ns", |i| p50(i.service.as_ref())),
    ("service_p99_ns", |i| p99(i.service.as_ref())),
    ("service_max_ns", |i| max(i.service.as_ref())),
    ("tcp_rtt_us_mean", |i| tcp(i, |tcp| tcp.rtt_us_mean)),
    ("tcp_rtt_us_max", |i| tcp(i, |tcp| tcp.rtt_us_max)),
    ("tcp_cwnd_mean", |i| tcp(i, |tcp| tcp.cwnd_mean)),
    ("tcp_retransmits", |i| tcp(i, |tcp| tcp.retransmits)),
    ("background_received_bytes", |i| {
        i.background_received_bytes.and_then(text)
    }),
];

/// Renders the intervals of `result`.
pub fn render(result: &RunResult) -> String {
    table(&result.intervals)
}

/// Renders the trials of `result`.
pub fn render_search(result: &SearchResult) -> String {
    let head = [
        "trial",
        "start_s",
        "load",
        "planned_s",
        "cost_s",
        "offered",
        "achieved",
        "due",
        "lost_ratio",
        "corrupt_ratio",
        "response_p50_ns",
        "response_p90_ns",
        "response_p95_ns",
        "response_p99_ns",
        "response_p99_9_ns",
        "response_max_ns",
        "outcome",
    ];
    let mut out = head.join(",");
    out.push('\n');
    for (index, trial) in result.trials.iter().enumerate() {
        let measured = trial.measured.as_ref();
        let figure = |figure: fn(&TrialFigures) -> Option<String>| measured.and_then(figure);
        let latency = |latency: fn(TrialLatency) -> Option<u64>| {
            let response = measured.and_then(|figures| figures.response_ns);
            response.and_then(latency).and_then(text)
        };
        let fields = [
            text(index + 1),
            text(trial.start_s),
            text(trial.load),
            text(trial.planned_s),
            text(trial.cost_s),
            figure(|figures| text(figures.offered)),
            figure(|figures| text(figures.achieved)),
            figure(|figures| text(figures.due)),
            figure(|figures| text(figures.lost_ratio)),
            figure(|figures| text(figures.corrupt_ratio)),
            latency(|latency| latency.p50),
            latency(|latency| latency.p90),
            latency(|latency| latency.p95),
            latency(|latency| latency.p99),
            latency(|latency| latency.p99_9),
            latency(|latency| Some(latency.max)),
            Some(quoted(&trial_outcome(trial))),
        ];
        out.push_str(&fields.map(Option::unwrap_or_default).join(","));
        out.push('\n');
    }
    out
}

/// Renders the figures of `comparison`.
pub fn render_comparison(comparison: &Comparison) -> String {
    let head = [
        "figure",
        "unit",
        "better",
        "base",
        "new",
        "ratio",
        "low",
        "high",
        "decisive_low",
        "decisive_high",
        "verdict",
    ];
    let mut out = head.join(",");
    out.push('\n');
    for metric in &comparison.metrics {
        let ends = |interval: Option<RatioInterval>| {
            interval.map_or((None, None), |interval| (interval.low, interval.high))
        };
        let (low, high) = ends(metric.interval);
        let (decisive_low, decisive_high) = ends(metric.decisive);
        let fields = [
            Some(quoted(&metric.name)),
            word(&metric.unit),
            word(&metric.better),
            metric.base.and_then(text),
            metric.new.and_then(text),
            metric.ratio.and_then(text),
            low.and_then(text),
            high.and_then(text),
            decisive_low.and_then(text),
            decisive_high.and_then(text),
            word(&metric.verdict),
        ];
        out.push_str(&fields.map(Option::unwrap_or_default).join(","));
        out.push('\n');
    }
    out
}

/// A choice as the result names it.
fn word(choice: &impl Serialize) -> Option<String> {
    let value = serde_json::to_value(choice).ok()?;
    value.as_str().map(str::to_owned)
}

/// A field that may contain what separates fields.
fn quoted(field: &str) -> String {
    format!("\"{}\"", field.replace('"', "\"\""))
}

fn table(intervals: &[IntervalResult]) -> String {
    let mut out = COLUMNS.map(|(name, _)| name).join(",");
    out.push('\n');
    for interval in intervals {
        for (index, (_, field)) in COLUMNS.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            // Writing to a String can't fail. No figure needs quotes.
            let _ = write!(out, "{separator}{}", field(interval).unwrap_or_default());
        }
        out.push('\n');
    }
    out
}

fn text(figure: impl ToString) -> Option<String> {
    Some(figure.to_string())
}

fn p50(latency: Option<&IntervalLatency>) -> Option<String> {
    latency?.p50.and_then(text)
}

fn p99(latency: Option<&IntervalLatency>) -> Option<String> {
    latency?.p99.and_then(text)
}

fn max(latency: Option<&IntervalLatency>) -> Option<String> {
    text(latency?.max)
}

fn tcp<T: ToString>(
    interval: &IntervalResult,
    figure: impl FnOnce(TcpInterval) -> T,
) -> Option<String> {
    interval.tcp.map(figure).and_then(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    fn interval() -> IntervalResult {
        IntervalResult {
            start_s: 0.5,
            end_s: 1.0,
            sent: 3,
            received: 4,
            lost: 5,
            timed_out: 6,
            duplicated: 7,
            reordered: 8,
            sent_bytes: 9,
            received_bytes: 10,
            opened: 11,
            failed: 12,
            response: Some(IntervalLatency {
                p50: Some(13),
                p99: Some(14),
                max: 15,
                histogram: None,
            }),
            service: Some(IntervalLatency {
                p50: Some(16),
                p99: Some(17),
                max: 18,
                histogram: None,
            }),
            tcp: Some(TcpInterval {
                rtt_us_mean: 19.5,
                rtt_us_max: 20,
                cwnd_mean: 21.5,
                retransmits: 22,
            }),
            background_received_bytes: Some(23),
        }
    }

    /// What the columns have to be: the JSON's keys, those of parts behind their part's.
    fn flat(prefix: &str, value: &Value, fields: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(parts) => {
                for (key, part) in parts {
                    let name = if prefix.is_empty() {
                        key.clone()
                    } else {
                        format!("{prefix}_{key}")
                    };
                    flat(&name, part, fields);
                }
            }
            figure => {
                let is_latency = prefix.starts_with("response_") || prefix.starts_with("service_");
                let unit = if is_latency { "_ns" } else { "" };
                let text = figure.to_string().trim_end_matches(".0").to_owned();
                fields.insert(format!("{prefix}{unit}"), text);
            }
        }
    }

    #[test]
    fn the_columns_are_the_keys_of_the_result() {
        let mut wanted = BTreeMap::new();
        flat("", &serde_json::to_value(interval()).unwrap(), &mut wanted);
        let csv = table(&[interval()]);
        let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
        let found: BTreeMap<String, String> = lines[0]
            .iter()
            .zip(&lines[1])
            .map(|(&name, &field)| (name.to_owned(), field.to_owned()))
            .collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn text_stays_in_its_field() {
        assert_eq!(quoted("0.1 % met, \"no\"\n"), "\"0.1 % met, \"\"no\"\"\n\"");
    }

    #[test]
    fn what_is_null_is_empty() {
        let mut gap = interval();
        gap.response = Some(IntervalLatency {
            p50: None,
            p99: None,
            max: 1,
            histogram: None,
        });
        gap.service = None;
        gap.tcp = None;
        gap.background_received_bytes = None;
        let csv = table(&[interval(), gap]);
        let line = csv.lines().nth(2).unwrap();
        assert_eq!(line, "0.5,1,3,4,5,6,7,8,9,10,11,12,,,1,,,,,,,,");
    }
}
