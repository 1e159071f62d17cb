//! The table that a person reads after a run.

use std::fmt::{self, Write as _};

use echomark::net::units::format_duration_ns;

use crate::plan::Direction;
use crate::result::{Latency, RunResult};

pub(super) mod comparison;
mod findings;
pub(super) mod search;

use super::format::percent;
use super::words::{self, PERCENTILES};

pub use super::format::{bits_per_second, grouped, number};
pub use super::words::{load, target};
pub use comparison::render as render_comparison;
pub use search::{goal_end, render_search};

/// Renders `result` as lines of text.
pub fn render(result: &RunResult) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = table(result, &mut out);
    out
}

fn table(result: &RunResult, out: &mut String) -> fmt::Result {
    writeln!(out, "target    {}", target(&result.plan))?;
    writeln!(out, "load      {}", words::load_of(result))?;
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
    let name = words::messages(&result.plan);
    write!(
        out,
        "{name:<10}sent {}   received {}   ",
        grouped(result.messages.sent),
        grouped(result.messages.received)
    )?;
    if result.plan.verify {
        write!(out, "verified {}", grouped(result.messages.verified))?;
    } else {
        write!(out, "not verified")?;
    }
    for (name, count) in words::message_faults(result) {
        write!(out, "   {name} {}", grouped(count))?;
    }
    writeln!(out)
}

fn sockets(result: &RunResult, out: &mut String) -> fmt::Result {
    let counts: Vec<String> = words::sockets(result)
        .iter()
        .map(|&(name, count)| format!("{name} {}", grouped(count)))
        .collect();
    writeln!(out, "sockets   {}", counts.join("   "))?;
    if let Some(place) = words::first_corruption(result) {
        writeln!(out, "          first wrong byte: {place}")?;
    }
    Ok(())
}

fn latencies(result: &RunResult, out: &mut String) -> fmt::Result {
    write!(out, "{:<10}{:>10}", "latency", "min")?;
    for (name, _) in PERCENTILES {
        write!(out, "{name:>10}")?;
    }
    writeln!(out, "{:>10}", "max")?;
    let mut has_gap = false;
    for (name, latency) in words::latencies(result) {
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
    for (_, quantile) in PERCENTILES {
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
    write!(out, "verdict   {}", words::status(result.verdict.status))?;
    if result.verdict.reasons.is_empty() {
        write!(out, ": {}", words::reassurance(&result.plan))?;
    }
    writeln!(out)?;
    for reason in &result.verdict.reasons {
        writeln!(out, "          {}: {}", reason.code, reason.text)?;
    }
    Ok(())
}
