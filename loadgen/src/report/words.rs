//! What several reports say in the same words.

use std::fmt::Write as _;

use echomark::net::units::format_duration_ns;

use super::format::{count, grouped, number};
use crate::plan::{Close, Direction, Load, Plan, Spacing, Target, Workload};
use crate::result::Status;
use crate::result::{Latency, RunResult};

/// The percentiles of a table of latencies.
pub(super) const PERCENTILES: [(&str, f64); 6] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];

/// What is measured, in words.
pub fn target(plan: &Plan) -> String {
    match &plan.target {
        Target::Servers { targets } => targets
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", "),
        Target::Embedded { embedded_workers } => {
            format!(
                "an embedded echod over loopback, {}",
                count(embedded_workers.get() as u64, "worker")
            )
        }
    }
}

/// What it is measured with, in words.
pub fn load(plan: &Plan) -> String {
    let rate = match &plan.load {
        Load::Closed { .. } => String::new(),
        Load::Open { rate, .. } => rate
            .constant_rate()
            .map_or_else(|| rate.to_string(), number),
    };
    let connections = count(plan.connections.get() as u64, "connection");
    load_in_words(plan, &rate, &connections)
}

/// The same with these words for the rate and the connections.
pub(super) fn load_in_words(plan: &Plan, rate: &str, connections: &str) -> String {
    let what = match plan.workload {
        Workload::Request => "",
        Workload::Churn {
            close: Close::Orderly,
        } => "a connection for each message, ",
        Workload::Churn {
            close: Close::Reset,
        } => "a connection for each message, reset at its end, ",
        Workload::Stream {
            direction: Direction::Echo,
        } => "a stream there and back, ",
        Workload::Stream {
            direction: Direction::Up,
        } => "a stream to the server, ",
        Workload::Stream {
            direction: Direction::Down,
        } => "a stream from the server, ",
        Workload::Idle => "connections are held, ",
    };
    let when = match &plan.load {
        _ if plan.direction() == Some(Direction::Down) => format!("on {connections}"),
        Load::Closed { .. } if plan.has_connection_per_message() => {
            format!("closed loop, {connections} at a time")
        }
        Load::Closed { pipeline } => {
            format!("closed loop, {pipeline} in flight on each of {connections}")
        }
        Load::Open {
            arrivals, pipeline, ..
        } => {
            let arrivals = match arrivals {
                Spacing::Constant => "constant",
                Spacing::Poisson => "Poisson",
            };
            let bound = pipeline.map_or_else(String::new, |pipeline| {
                format!(", at most {pipeline} in flight on each")
            });
            let most = if plan.has_connection_per_message() {
                "at most "
            } else {
                ""
            };
            format!("open loop, {rate} /s {arrivals}{bound}, {most}{connections}")
        }
    };
    format!(
        "{what}{when}, {}, {}",
        count(plan.threads.get() as u64, "thread"),
        plan.size,
    )
}

/// The load and the length of a run, in words.
pub(super) fn load_of(result: &RunResult) -> String {
    let plan = &result.plan;
    let mut line = format!("{}, {:.3} s", load(plan), result.duration_s);
    if plan.repeat.get() > 1 {
        let runs = result
            .repeats
            .as_ref()
            .map_or(1, |repeats| repeats.runs.len());
        let _ = write!(line, " in {}", count(runs as u64, "run"));
    }
    if !plan.warmup.is_zero() {
        let _ = write!(line, " after {} s of warm-up", plan.warmup.as_secs_f64());
    }
    let is_poisson = matches!(
        plan.load,
        Load::Open {
            arrivals: Spacing::Poisson,
            ..
        }
    );
    if is_poisson || plan.size.least() != plan.size.most() {
        let _ = write!(line, ", seed {}", plan.seed);
    }
    if result.interrupted {
        line.push_str(" (interrupted)");
    }
    line
}

/// What a run counts: the blocks of a stream are no messages.
pub(super) fn messages(plan: &Plan) -> &'static str {
    match plan.direction() {
        None => "messages",
        Some(_) => "blocks",
    }
}

/// What may have become of messages besides what should: what is usually asked for, and what happened.
pub(super) fn message_faults(result: &RunResult) -> Vec<(&'static str, u64)> {
    let messages = &result.messages;
    let is_datagram = result.plan.is_datagram();
    [
        ("corrupt", messages.corrupt, true),
        ("stray", messages.stray, false),
        ("duplicated", messages.duplicated, is_datagram),
        ("reordered", messages.reordered, is_datagram),
        ("lost", messages.lost, true),
        ("late", messages.late, false),
        ("timed out", messages.timed_out, false),
        ("unfinished", messages.unfinished, true),
        ("unsent", messages.unsent, false),
    ]
    .into_iter()
    .filter(|&(_, count, is_usual)| count > 0 || is_usual)
    .map(|(name, count, _)| (name, count))
    .collect()
}

/// What became of the connections: how many stood, and what happened besides.
pub(super) fn sockets(result: &RunResult) -> Vec<(&'static str, u64)> {
    let connections = &result.connections;
    [
        ("opened", connections.opened, true),
        ("failed", connections.failed, false),
        ("reset", connections.reset, false),
        ("closed by the server", connections.closed_by_peer, false),
        ("not closed by the server", connections.unclosed, false),
        ("refused", connections.refused, false),
    ]
    .into_iter()
    .filter(|&(_, count, is_usual)| count > 0 || is_usual)
    .map(|(name, count, _)| (name, count))
    .chain((result.plan.workload == Workload::Idle).then_some(("held", connections.held)))
    .collect()
}

/// How making the connections went, if it took its time or failed.
pub(super) fn ramp(result: &RunResult) -> Option<String> {
    let failed: u64 = result.ramp.iter().map(|interval| interval.failed).sum();
    if result.plan.ramp.is_zero() && failed == 0 {
        return None;
    }
    let last = result.ramp.last()?;
    let opened = result.ramp.iter().map(|interval| interval.opened).sum();
    let mut line = format!(
        "{} in {:.1} s, {} failed",
        count(opened, "connect"),
        last.end_s,
        grouped(failed)
    );
    let slowest = result
        .ramp
        .iter()
        .filter_map(|interval| Some((interval.start_s, interval.connect.as_ref()?.max)))
        .max_by_key(|&(_, max)| max);
    if let Some((at_s, max)) = slowest {
        let _ = write!(
            line,
            "; the slowest took {}, after {at_s:.1} s",
            format_duration_ns(max as f64)
        );
    }
    Some(line)
}

/// Where the first wrong byte was.
pub(super) fn first_corruption(result: &RunResult) -> Option<String> {
    let corruption = result.client.first_corruption?;
    let unit = if result.plan.is_datagram() {
        "datagram"
    } else {
        "offset"
    };
    Some(format!(
        "{unit} {} of connection {}",
        grouped(corruption.offset),
        corruption.connection
    ))
}

/// The distributions that the result has.
pub(super) fn latencies(result: &RunResult) -> Vec<(&'static str, &Latency)> {
    let latencies = &result.latency_ns;
    [
        ("response", &latencies.response),
        ("service", &latencies.service),
        ("connect", &latencies.connect),
        ("1st byte", &latencies.first_byte),
        ("close", &latencies.close),
        ("send lag", &latencies.send_lag),
        ("hiccups", &result.client.hiccup),
    ]
    .into_iter()
    .filter_map(|(name, latency)| Some((name, latency.as_ref()?)))
    .collect()
}

/// A verdict's word.
pub(super) fn status(status: Status) -> &'static str {
    match status {
        Status::Valid => "VALID",
        Status::Suspect => "SUSPECT",
        Status::Invalid => "INVALID",
    }
}

/// What a verdict without reasons stands for.
pub(super) fn reassurance(plan: &Plan) -> String {
    let bytes = if plan.verify {
        ", every byte came back right"
    } else {
        ""
    };
    format!("the client had reserves, the load went out as planned{bytes}")
}
