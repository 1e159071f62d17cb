//! The target and the load in words.

use std::time::Duration;

use crate::plan::watch::WatchPlan;
use crate::plan::{Close, Direction, Load, Plan, Spacing, Target, Workload};
use crate::report::format::{count, duration, number};
use crate::result::Status;

/// The measured target.
pub fn target(plan: &Plan) -> String {
    match &plan.target {
        Target::Servers { targets } => targets
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", "),
        Target::Embedded { embedded_workers } => {
            let workers = count(embedded_workers.get() as u64, "worker");
            format!("embedded echod over loopback, {workers}")
        }
    }
}

/// The load.
pub fn load(plan: &Plan) -> String {
    let rate = match &plan.load {
        Load::Closed { .. } => String::new(),
        Load::Open { rate, .. } => rate
            .constant_rate()
            .map_or_else(|| rate.to_string(), number),
    };
    let connections = count(plan.connections.get() as u64, "connection");
    load_with(plan, &rate, &connections)
}

/// What a watch asks, and how often.
pub fn watch_load(plan: &WatchPlan) -> String {
    let time = |time: Duration| duration(Some(time.as_nanos() as u64));
    let mut parts = Vec::new();
    if plan.connections > 0 {
        let connections = count(plan.connections as u64, "connection");
        parts.push(format!(
            "{connections}, a probe each {}",
            time(plan.interval)
        ));
    }
    if plan.new_rate > 0.0 {
        parts.push(format!("{} new /s", number(plan.new_rate)));
    }
    parts.push(format!("timeout {}", time(plan.timeout)));
    parts.push(format!("late from {}", time(plan.late)));
    if let Some(limit) = plan.max_outage {
        parts.push(format!("outages up to {}", time(limit)));
    }
    parts.join(", ")
}

/// Decimals of an availability: nines are counted.
const MAX_DECIMALS: usize = 6;

/// A share that is never rounded to all: `100 %`, `99.98 %`.
pub fn availability(ratio: f64) -> String {
    if ratio >= 1.0 {
        return "100 %".to_owned();
    }
    let percent = ratio * 100.0;
    let rounded = |decimals: usize| {
        let factor = 10_f64.powi(decimals as i32);
        (percent * factor).floor() / factor
    };
    // As many nines as there are, and a digit more.
    let decimals = (2..MAX_DECIMALS)
        .find(|&decimals| rounded(decimals) <= 100.0 - 9.0 / 10_f64.powi(decimals as i32))
        .unwrap_or(MAX_DECIMALS);
    format!("{:.decimals$} %", rounded(decimals))
}

/// The load, with these words for the rate and the connections.
pub(super) fn load_with(plan: &Plan, rate: &str, connections: &str) -> String {
    let what = match plan.workload {
        Workload::Request => "",
        Workload::Churn {
            close: Close::Orderly,
        } => "a connection per message, ",
        Workload::Churn {
            close: Close::Reset,
        } => "a connection per message, closed by reset, ",
        Workload::Stream {
            direction: Direction::Echo,
        } => "stream to the server and back, ",
        Workload::Stream {
            direction: Direction::Up,
        } => "stream to the server, ",
        Workload::Stream {
            direction: Direction::Down,
        } => "stream from the server, ",
        Workload::Idle => "idle connections, ",
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
            let at_most = if plan.has_connection_per_message() {
                "at most "
            } else {
                ""
            };
            format!("open loop, {rate} /s {arrivals}{bound}, {at_most}{connections}")
        }
    };
    let threads = count(plan.threads.get() as u64, "thread");
    format!("{what}{when}, {threads}, {}", plan.size)
}

/// The counted unit: messages, or the blocks of a stream.
pub(super) fn messages(plan: &Plan) -> &'static str {
    match plan.direction() {
        None => "messages",
        Some(_) => "blocks",
    }
}

/// A verdict in one word.
pub(super) fn status(status: Status) -> &'static str {
    match status {
        Status::Valid => "VALID",
        Status::Suspect => "SUSPECT",
        Status::Invalid => "INVALID",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn availability_is_never_more_than_it_was() {
        for (ratio, text) in [
            (1.0, "100 %"),
            (0.9999, "99.990 %"),
            (0.999_95, "99.995 %"),
            (0.5, "50.00 %"),
            (0.0, "0.00 %"),
            (1.0 - 1e-12, "99.999999 %"),
        ] {
            let shown = availability(ratio);
            let number = |text: &str| -> f64 { text.trim_end_matches(" %").parse().unwrap() };
            assert!(number(&shown) <= ratio * 100.0 + 1e-9, "{ratio}: {shown}");
            assert!(
                (number(&shown) - number(text)).abs() < 2e-3,
                "{shown}: {text}"
            );
        }
    }
}
