//! What a run found besides rates and latencies: a line for each thing there is to say.

use std::fmt::{self, Write as _};

use echomark::net::units::format_duration_ns;

use crate::report::format::{bits_per_second, count, grouped, number, percent};
use crate::report::words;
use crate::result::statistics::Spread;
use crate::result::{FairnessBasis, Gauge, Groups, RunResult, TcpResult};

/// Below this index, connections were not served alike enough to pass over it.
const FAIR: f64 = 0.95;

pub(super) fn write(result: &RunResult, out: &mut String) -> fmt::Result {
    confidence(result, out)?;
    repeats(result, out)?;
    parts(result, out)?;
    if let Some(ramp) = words::ramp(result) {
        writeln!(out, "ramp      {ramp}")?;
    }
    fairness(result, out)?;
    if let Some(tcp) = &result.tcp {
        write_tcp("tcp", tcp, out)?;
    }
    background(result, out)?;
    server(result, out)
}

/// What the server says of itself.
fn server(result: &RunResult, out: &mut String) -> fmt::Result {
    let Some(server) = &result.server else {
        return Ok(());
    };
    write!(
        out,
        "server    {}, connections by {}",
        count(server.workers as u64, "worker"),
        server.balance
    )?;
    if let Some(cpu) = server.cpu_ns_per_message {
        write!(
            out,
            "   {} of processor per message",
            format_duration_ns(cpu)
        )?;
    }
    if let Some(busy) = server.cpu_ratio {
        write!(out, ", {busy:.2} processors busy")?;
    }
    writeln!(out)?;
    if let Some(window) = &server.window {
        write!(out, "          ")?;
        if let Some(events) = server.events_per_turn {
            write!(out, "{events:.2} events a turn")?;
        }
        if let Some(jain) = server.balance_jain {
            write!(out, "   balance of the workers {jain:.3}")?;
        }
        for (what, count) in [
            ("full batches", window.loop_full_batches),
            ("short writes", window.short_writes),
            ("accept errors", window.accept_errors),
            ("dropped datagrams", window.datagrams_dropped),
            ("refused", server.accounts.server_refused),
        ] {
            if count > 0 {
                write!(out, "   {what} {}", grouped(count))?;
            }
        }
        writeln!(out)?;
    }
    let accounts = &server.accounts;
    let verdict = if accounts.agree {
        "the client's account agrees"
    } else {
        "the client's account differs"
    };
    writeln!(
        out,
        "          received {} bytes, sent {}: {verdict}",
        grouped(accounts.server_received_bytes),
        grouped(accounts.server_sent_bytes)
    )
}

/// Within which bounds the percentiles lie, as far as one run can tell.
fn confidence(result: &RunResult, out: &mut String) -> fmt::Result {
    let statistics = &result.statistics;
    let estimates: Vec<String> = statistics
        .response
        .iter()
        .map(|estimate| {
            format!(
                "p{} {} to {}",
                estimate.quantile * 100.0,
                format_duration_ns(estimate.low as f64),
                format_duration_ns(estimate.high as f64)
            )
        })
        .collect();
    if !estimates.is_empty() {
        writeln!(out, "95 % sure {}", estimates.join("   "))?;
    }
    // In an open loop the schedule decides the rate.
    if let Some(rate) = statistics
        .rate
        .as_ref()
        .filter(|rate| rate.high > 0.0 && !result.plan.is_open_loop())
    {
        writeln!(
            out,
            "          rate {} /s to {} /s",
            number(rate.low),
            number(rate.high)
        )?;
    }
    Ok(())
}

/// What each part of a union found.
fn parts(result: &RunResult, out: &mut String) -> fmt::Result {
    let cell = |value: Option<u64>| {
        value.map_or_else(|| "-".to_owned(), |value| format_duration_ns(value as f64))
    };
    for (index, part) in result.merged.iter().flatten().enumerate() {
        writeln!(
            out,
            "{:<10}{}: {} /s on {}, p50 {}, p99 {}",
            if index == 0 { "parts" } else { "" },
            part.name,
            number(part.achieved),
            count(part.connections as u64, "connection"),
            cell(part.response_p50_ns),
            cell(part.response_p99_ns),
        )?;
    }
    Ok(())
}

/// How far the runs differ.
fn repeats(result: &RunResult, out: &mut String) -> fmt::Result {
    let Some(repeats) = &result.repeats else {
        return Ok(());
    };
    let duration = |value: f64| format_duration_ns(value);
    let spread = &repeats.spread;
    let mut is_first = true;
    let mut line = |name: &str, spread: Option<&Spread>, format: &dyn Fn(f64) -> String| {
        let Some(spread) = spread else { return Ok(()) };
        let head = if std::mem::take(&mut is_first) {
            "runs"
        } else {
            ""
        };
        write!(
            out,
            "{head:<10}{name} {} to {}, median {}",
            format(spread.min),
            format(spread.max),
            format(spread.median)
        )?;
        if let Some((low, high)) = spread.low.zip(spread.high) {
            // Student's t knows of no lower end to what is measured; nothing is below 0.
            write!(
                out,
                "; mean 95 % sure {} to {}",
                format(low.max(0.0)),
                format(high)
            )?;
        }
        writeln!(out)
    };
    line("rate", spread.achieved.as_ref(), &|rate| {
        format!("{} /s", number(rate))
    })?;
    line("p50", spread.response_p50_ns.as_ref(), &duration)?;
    line("p99", spread.response_p99_ns.as_ref(), &duration)?;
    line("p99.9", spread.response_p99_9_ns.as_ref(), &duration)
}

fn fairness(result: &RunResult, out: &mut String) -> fmt::Result {
    let Some(fairness) = &result.fairness else {
        return Ok(());
    };
    let index = &fairness.index;
    writeln!(
        out,
        "fairness  {:.3} over {} by {}; the slowest 1 % had {} of the mean, the fastest {}",
        index.jain_index,
        count(index.connections as u64, "connection"),
        match fairness.basis {
            FairnessBasis::Messages => "messages",
            FairnessBasis::Speed => "speed",
        },
        percent(index.slowest_ratio),
        percent(index.fastest_ratio),
    )?;
    for (name, groups) in [
        ("target", &fairness.by_target),
        ("thread", &fairness.by_thread),
        ("incoming CPU", &fairness.by_incoming_cpu),
    ] {
        if let Some(groups) = groups
            && (index.jain_index < FAIR || groups.jain < FAIR)
        {
            writeln!(out, "          by {name}: {}", list(groups))?;
        }
    }
    if index.jain_index < FAIR {
        let ports: Vec<String> = fairness
            .slowest
            .iter()
            .take(5)
            .filter_map(|share| Some(share.local_port?.to_string()))
            .collect();
        if !ports.is_empty() {
            writeln!(out, "          slowest: local ports {}", ports.join(", "))?;
        }
    }
    Ok(())
}

/// The groups' means, the smallest first.
fn list(groups: &Groups) -> String {
    let mut groups: Vec<_> = groups.groups.iter().collect();
    groups.sort_by(|a, b| a.messages_mean.total_cmp(&b.messages_mean));
    groups
        .iter()
        .map(|group| {
            let response = group.response_ns_mean.map_or_else(String::new, |mean| {
                format!(" in {}", format_duration_ns(mean))
            });
            format!(
                "{} had {}{response} on each of {}",
                group.name,
                number(group.messages_mean),
                group.connections
            )
        })
        .collect::<Vec<_>>()
        .join(", ")
}

fn write_tcp(name: &str, tcp: &TcpResult, out: &mut String) -> fmt::Result {
    write!(out, "{name:<10}")?;
    if let Some(gauges) = &tcp.at_end {
        let micros = |gauge: &Gauge| range(gauge, |us| format_duration_ns(us * 1000.0));
        write!(
            out,
            "rtt {}   cwnd {}",
            micros(&gauges.rtt_us),
            range(&gauges.cwnd, number)
        )?;
        if let Some(rate) = &gauges.delivery_rate_bits_per_s {
            write!(out, "   delivery {}", bits_per_second(rate.median))?;
        }
        write!(out, "   ")?;
    }
    write!(out, "retransmits {}", grouped(tcp.retransmits))?;
    for (name, count) in [
        ("duplicates", tcp.duplicates),
        ("reorderings", tcp.reorderings),
        ("out of order", tcp.received_out_of_order),
    ] {
        if count > 0 {
            write!(out, "   {name} {}", grouped(count))?;
        }
    }
    writeln!(out)?;
    writeln!(out, "          limited by {}", tcp.limit.text)
}

/// The median, and the extremes where they differ from it.
fn range(gauge: &Gauge, format: impl Fn(f64) -> String) -> String {
    let (min, median, max) = (format(gauge.min), format(gauge.median), format(gauge.max));
    if min == max {
        median
    } else {
        format!("{median} ({min} to {max})")
    }
}

fn background(result: &RunResult, out: &mut String) -> fmt::Result {
    let Some((background, plan)) = result
        .background
        .as_ref()
        .zip(result.plan.background.as_ref())
    else {
        return Ok(());
    };
    write!(
        out,
        "beside    {}: {} sent, {} received",
        count(plan.streams.get() as u64, "stream"),
        bits_per_second(background.throughput.sent_bits_per_s),
        bits_per_second(background.throughput.received_bits_per_s),
    )?;
    for (name, count) in [
        ("failed", background.connections.failed),
        ("reset", background.connections.reset),
        ("corrupt", background.corrupt),
    ] {
        if count > 0 {
            write!(out, "   {name} {}", grouped(count))?;
        }
    }
    writeln!(out)?;
    match &background.tcp {
        Some(tcp) => write_tcp("", tcp, out),
        None => Ok(()),
    }
}
