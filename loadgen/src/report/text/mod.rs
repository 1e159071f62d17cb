//! The table that a person reads after a run.

use std::fmt::{self, Write as _};

use echomark::net::units::format_duration_ns;

use crate::plan::{Close, Direction, Load, Plan, Spacing, Target, Workload};
use crate::result::{Latency, RunResult};
use crate::verdict::Status;

mod findings;
mod format;
mod search;

pub use format::{bits_per_second, grouped, number};
pub use search::{goal_end, render_search};

use format::{count, percent};

/// The columns of the latency table.
const COLUMNS: [(&str, f64); 6] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];

/// Renders `result` as lines of text.
pub fn render(result: &RunResult) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = table(result, &mut out);
    out
}

fn table(result: &RunResult, out: &mut String) -> fmt::Result {
    writeln!(out, "target    {}", target(&result.plan))?;
    writeln!(out, "load      {}", load_line(result))?;
    writeln!(out)?;
    rate(result, out)?;
    messages(result, out)?;
    sockets(result, out)?;
    writeln!(out)?;
    latencies(result, out)?;
    writeln!(out)?;
    findings::write(result, out)?;
    client(result, out)?;
    verdict(result, out)
}

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
fn load_in_words(plan: &Plan, rate: &str, connections: &str) -> String {
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

fn load_line(result: &RunResult) -> String {
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

fn rate(result: &RunResult, out: &mut String) -> fmt::Result {
    let rate = &result.rate;
    write!(out, "rate      ")?;
    if let Some(target) = rate.target {
        write!(
            out,
            "target {} /s   offered {} /s   ",
            number(target),
            number(rate.offered)
        )?;
    }
    write!(out, "achieved {} /s", number(rate.achieved))?;
    let throughput = &result.throughput;
    let (sent, received) = (
        bits_per_second(throughput.sent_bits_per_s),
        bits_per_second(throughput.received_bits_per_s),
    );
    match result.plan.direction() {
        Some(Direction::Up) => write!(out, "   {received} acknowledged")?,
        Some(Direction::Down) => write!(out, "   {received} received")?,
        _ if sent == received => write!(out, "   {sent} each way")?,
        _ => write!(out, "   {sent} sent   {received} received")?,
    }
    writeln!(out)
}

fn messages(result: &RunResult, out: &mut String) -> fmt::Result {
    let messages = &result.messages;
    let name = match result.plan.direction() {
        None => "messages",
        Some(_) => "blocks",
    };
    write!(
        out,
        "{name:<10}sent {}   received {}   ",
        grouped(messages.sent),
        grouped(messages.received)
    )?;
    if result.plan.verify {
        write!(out, "verified {}", grouped(messages.verified))?;
    } else {
        write!(out, "not verified")?;
    }
    let is_datagram = result.plan.is_datagram();
    for (name, count) in [
        ("corrupt", messages.corrupt),
        ("stray", messages.stray),
        ("duplicated", messages.duplicated),
        ("reordered", messages.reordered),
        ("lost", messages.lost),
        ("late", messages.late),
        ("timed out", messages.timed_out),
        ("unfinished", messages.unfinished),
        ("unsent", messages.unsent),
    ] {
        let is_usual = match name {
            "corrupt" | "lost" | "unfinished" => true,
            "duplicated" | "reordered" => is_datagram,
            _ => false,
        };
        if count > 0 || is_usual {
            write!(out, "   {name} {}", grouped(count))?;
        }
    }
    writeln!(out)
}

fn sockets(result: &RunResult, out: &mut String) -> fmt::Result {
    let connections = &result.connections;
    write!(out, "sockets   opened {}", grouped(connections.opened))?;
    for (name, count) in [
        ("failed", connections.failed),
        ("reset", connections.reset),
        ("closed by the server", connections.closed_by_peer),
        ("not closed by the server", connections.unclosed),
        ("refused", connections.refused),
    ] {
        if count > 0 {
            write!(out, "   {name} {}", grouped(count))?;
        }
    }
    if result.plan.workload == Workload::Idle {
        write!(out, "   held {}", grouped(connections.held))?;
    }
    writeln!(out)?;
    if let Some(corruption) = result.client.first_corruption {
        let unit = if result.plan.is_datagram() {
            "datagram"
        } else {
            "offset"
        };
        writeln!(
            out,
            "          first wrong byte: {unit} {} of connection {}",
            grouped(corruption.offset),
            corruption.connection
        )?;
    }
    Ok(())
}

fn latencies(result: &RunResult, out: &mut String) -> fmt::Result {
    write!(out, "{:<10}{:>10}", "latency", "min")?;
    for (name, _) in COLUMNS {
        write!(out, "{name:>10}")?;
    }
    writeln!(out, "{:>10}", "max")?;
    let latencies = &result.latency_ns;
    let mut has_gap = false;
    for (name, latency) in [
        ("response", &latencies.response),
        ("service", &latencies.service),
        ("connect", &latencies.connect),
        ("1st byte", &latencies.first_byte),
        ("close", &latencies.close),
        ("send lag", &latencies.send_lag),
        ("hiccups", &result.client.hiccup),
    ] {
        let Some(latency) = latency else { continue };
        has_gap |= row(name, latency, out)?;
    }
    if has_gap {
        writeln!(
            out,
            "          - : fewer than ten samples beyond it, so it is not known"
        )?;
    }
    Ok(())
}

/// Writes one distribution and says whether a percentile was left out.
fn row(name: &str, latency: &Latency, out: &mut String) -> Result<bool, fmt::Error> {
    let mut has_gap = false;
    let cell = |value: u64| format_duration_ns(value as f64);
    write!(out, "{name:<10}{:>10}", cell(latency.min()))?;
    for (_, quantile) in COLUMNS {
        let value = latency.quantile(quantile);
        has_gap |= value.is_none();
        write!(out, "{:>10}", value.map_or_else(|| "-".to_owned(), cell))?;
    }
    writeln!(out, "{:>10}", cell(latency.max()))?;
    Ok(has_gap)
}

fn client(result: &RunResult, out: &mut String) -> fmt::Result {
    write!(out, "client    ")?;
    for (index, thread) in result.client.threads.iter().enumerate() {
        if index > 0 {
            write!(out, ", ")?;
        }
        write!(out, "thread {index} busy {}", percent(thread.busy_ratio))?;
        let spinning = thread.cpu_ratio - thread.busy_ratio;
        if spinning >= 0.005 {
            write!(out, " and pacing {}", percent(spinning))?;
        }
        if let Some(delay) = thread.run_delay_ratio.filter(|&delay| delay >= 0.0005) {
            write!(out, ", kept waiting {}", percent(delay))?;
        }
    }
    if let Some(steal) = result.client.steal_ratio {
        write!(out, "; {} of the host's time stolen", percent(steal))?;
    }
    writeln!(out)
}

fn verdict(result: &RunResult, out: &mut String) -> fmt::Result {
    let name = match result.verdict.status {
        Status::Valid => "VALID",
        Status::Suspect => "SUSPECT",
        Status::Invalid => "INVALID",
    };
    write!(out, "verdict   {name}")?;
    if result.verdict.reasons.is_empty() {
        write!(
            out,
            ": the client had reserves, the load went out as planned"
        )?;
        if result.plan.verify {
            write!(out, ", every byte came back right")?;
        }
    }
    writeln!(out)?;
    for reason in &result.verdict.reasons {
        writeln!(out, "          {}: {}", reason.code, reason.text)?;
    }
    Ok(())
}
