//! The table that a person reads after a run.

use std::fmt::{self, Write as _};

use echomark::net::units::format_duration_ns;

use crate::plan::{Load, Plan, Spacing, Target};
use crate::result::{Latency, RunResult};
use crate::verdict::Status;

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
    writeln!(out)?;
    latencies(result, out)?;
    writeln!(out)?;
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
    let mut line = match &plan.load {
        Load::Closed { pipeline } => {
            format!("closed loop, {pipeline} in flight on each of ")
        }
        Load::Open {
            rate,
            arrivals,
            pipeline,
        } => {
            let arrivals = match arrivals {
                Spacing::Constant => "constant",
                Spacing::Poisson => "Poisson",
            };
            let bound = pipeline.map_or_else(String::new, |pipeline| {
                format!(", at most {pipeline} in flight on each")
            });
            let rate = rate
                .constant_rate()
                .map_or_else(|| rate.to_string(), number);
            format!("open loop, {rate} /s {arrivals}{bound}, ")
        }
    };
    let _ = write!(
        line,
        "{}, {}, {}",
        count(plan.connections.get() as u64, "connection"),
        count(plan.threads.get() as u64, "thread"),
        plan.size,
    );
    line
}

fn load_line(result: &RunResult) -> String {
    let plan = &result.plan;
    let mut line = format!("{}, {:.3} s", load(plan), result.duration_s);
    if !plan.warmup.is_zero() {
        let _ = write!(line, " after {} s of warm-up", plan.warmup.as_secs_f64());
    }
    if matches!(
        plan.load,
        Load::Open {
            arrivals: Spacing::Poisson,
            ..
        }
    ) {
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
    if result.duration_s > 0.0 {
        let bits = result.bytes.received as f64 * 8.0 / result.duration_s;
        write!(out, "   {} each way", bits_per_second(bits))?;
    }
    writeln!(out)
}

fn messages(result: &RunResult, out: &mut String) -> fmt::Result {
    let messages = &result.messages;
    write!(
        out,
        "messages  sent {}   received {}   ",
        grouped(messages.sent),
        grouped(messages.received)
    )?;
    if result.plan.verify {
        write!(out, "verified {}", grouped(messages.verified))?;
    } else {
        write!(out, "not verified")?;
    }
    for (name, count) in [
        ("corrupt", messages.corrupt),
        ("duplicated", messages.duplicated),
        ("lost", messages.lost),
        ("timed out", messages.timed_out),
        ("unfinished", messages.unfinished),
        ("unsent", messages.unsent),
    ] {
        if count > 0 || matches!(name, "corrupt" | "lost" | "unfinished") {
            write!(out, "   {name} {}", grouped(count))?;
        }
    }
    writeln!(out)?;
    let connections = &result.connections;
    write!(out, "sockets   opened {}", grouped(connections.opened))?;
    for (name, count) in [
        ("failed", connections.failed),
        ("reset", connections.reset),
        ("closed by the server", connections.closed_by_peer),
    ] {
        if count > 0 {
            write!(out, "   {name} {}", grouped(count))?;
        }
    }
    writeln!(out)?;
    if let Some(corruption) = result.client.first_corruption {
        writeln!(
            out,
            "          first wrong byte: offset {} of connection {}",
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
        ("send lag", &latencies.send_lag),
        ("connect", &latencies.connect),
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
        write!(
            out,
            "thread {index} busy {:.0} %",
            thread.busy_ratio * 100.0
        )?;
        let spinning = thread.cpu_ratio - thread.busy_ratio;
        if spinning >= 0.005 {
            write!(out, " and pacing {:.0} %", spinning * 100.0)?;
        }
    }
    if let Some(steal) = result.client.steal_ratio {
        write!(out, "; {:.1} % of the host's time stolen", steal * 100.0)?;
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

fn count(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(count))
}

/// A rate with as many decimals as it needs.
pub fn number(value: f64) -> String {
    if value < 100.0 && value.fract() != 0.0 {
        format!("{value:.2}")
    } else {
        grouped(value.round() as u64)
    }
}

/// Bits per second in the unit that suits them.
pub fn bits_per_second(bits: f64) -> String {
    match bits {
        b if b >= 1e9 => format!("{:.2} Gbit/s", b / 1e9),
        b if b >= 1e6 => format!("{:.2} Mbit/s", b / 1e6),
        b => format!("{:.2} kbit/s", b / 1e3),
    }
}

/// Digits in groups of three: `12 345 678`.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        for (value, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1 000"),
            (1_234_567, "1 234 567"),
        ] {
            assert_eq!(grouped(value), text);
        }
        assert_eq!(number(0.5), "0.50");
        assert_eq!(number(10_000.4), "10 000");
        assert_eq!(count(1, "thread"), "1 thread");
        assert_eq!(bits_per_second(2.56e6), "2.56 Mbit/s");
    }
}
