//! The target and the load in words.

use crate::plan::{Close, Direction, Load, Plan, Spacing, Target, Workload};
use crate::report::format::{count, number};
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
