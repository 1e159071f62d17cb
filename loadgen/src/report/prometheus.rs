//! The result in Prometheus' text exposition format (version 0.0.4), for the Pushgateway or the node
//! exporter's textfile collector. Base units are seconds and bytes.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Write as _};
use std::time::UNIX_EPOCH;

use crate::plan::{Load, Plan, Target, Workload};
use crate::result::{Latency, RunResult, Status};

/// The quantiles of a summary. Quantiles that the result lacks are left out.
const QUANTILES: [f64; 7] = [0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999];

/// Renders `result`.
pub fn render(result: &RunResult) -> String {
    let mut page = Page::default();
    // Writing to a String can't fail.
    let _ = metrics(result, &mut page);
    page.text
}

fn metrics(result: &RunResult, page: &mut Page) -> fmt::Result {
    run(result, page)?;
    rates(result, page)?;
    counts(result, page)?;
    latencies(result, page)?;
    client(result, page)?;
    verdict(result, page)
}

fn run(result: &RunResult, page: &mut Page) -> fmt::Result {
    page.family("run_info", Type::Gauge, "What was measured, and by what.")?;
    page.sample(
        "run_info",
        &[
            ("version", &result.tool.version),
            ("targets", &targets(&result.plan)),
            ("workload", workload(&result.plan)),
            ("loop", loop_name(&result.plan)),
        ],
        1,
    )?;
    let started = humantime::parse_rfc3339(&result.started_at)
        .ok()
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    if let Some(started) = started {
        page.gauge(
            "start_time_seconds",
            "When the run started, since the epoch.",
            started.as_secs_f64(),
        )?;
    }
    page.gauge(
        "duration_seconds",
        "Length of the measured window.",
        result.duration_s,
    )?;
    page.gauge(
        "interrupted",
        "Whether the run was ended before its time.",
        u8::from(result.interrupted),
    )?;
    page.gauge(
        "planned_connections",
        "Connections that were asked for.",
        result.plan.own_connections(),
    )
}

fn rates(result: &RunResult, page: &mut Page) -> fmt::Result {
    let rate = &result.rate;
    if let Some(target) = rate.target {
        page.gauge(
            "target_messages_per_second",
            "Rate that was asked for.",
            target,
        )?;
    }
    page.gauge(
        "offered_messages_per_second",
        "Messages made due in the window, over its length.",
        rate.offered,
    )?;
    page.gauge(
        "achieved_messages_per_second",
        "Echoes complete in the window, over its length.",
        rate.achieved,
    )?;
    page.gauge(
        "sent_bytes_per_second",
        "Payload handed to the kernel in the window, over its length.",
        result.throughput.sent_bits_per_s / 8.0,
    )?;
    page.gauge(
        "received_bytes_per_second",
        "Payload that came back or was acknowledged in the window, over its length.",
        result.throughput.received_bits_per_s / 8.0,
    )
}

fn counts(result: &RunResult, page: &mut Page) -> fmt::Result {
    for (name, help, count) in result.messages.named() {
        page.counter(&format!("{name}_messages_total"), help, count)?;
    }
    page.counter(
        "sent_bytes_total",
        "Payload of the window's messages handed to the kernel.",
        result.bytes.sent,
    )?;
    page.counter(
        "received_bytes_total",
        "Payload of the window's messages that came back.",
        result.bytes.received,
    )?;
    for (name, help, count) in result.connections.named() {
        match name {
            "held" => page.gauge("held_connections", help, count)?,
            "refused" => page.counter("refused_datagrams_total", help, count)?,
            _ => page.counter(&format!("{name}_connections_total"), help, count)?,
        }
    }
    if let Some(tcp) = &result.tcp {
        page.counter(
            "tcp_retransmitted_segments_total",
            "Segments retransmitted.",
            tcp.retransmits,
        )?;
        page.counter(
            "tcp_retransmitted_bytes_total",
            "Bytes retransmitted.",
            tcp.bytes_retransmitted,
        )?;
    }
    if let Some(tls) = &result.tls {
        page.family(
            "tls_handshakes_total",
            Type::Counter,
            "Complete TLS handshakes.",
        )?;
        for (resumed, count) in [("false", tls.full), ("true", tls.resumed)] {
            page.sample("tls_handshakes_total", &[("resumed", resumed)], count)?;
        }
        page.counter(
            "tls_failed_handshakes_total",
            "TLS handshakes that failed.",
            tls.failed,
        )?;
        page.counter(
            "tls_truncated_connections_total",
            "Connections that the server ended without close_notify.",
            tls.truncated,
        )?;
    }
    if let Some(fairness) = &result.fairness {
        page.gauge(
            "fairness_jain_ratio",
            "Jain's index over the connections: 1 if all were served alike.",
            fairness.index.jain_index,
        )?;
    }
    Ok(())
}

fn latencies(result: &RunResult, page: &mut Page) -> fmt::Result {
    let latencies = &result.latency_ns;
    for (name, help, latency) in [
        (
            "response",
            "From the intended time to the last byte of the echo.",
            &latencies.response,
        ),
        (
            "service",
            "From the start of the write call to the last byte of the echo.",
            &latencies.service,
        ),
        (
            "connect",
            "From the start of the connect call until the connection stood.",
            &latencies.connect,
        ),
        (
            "handshake",
            "From the established connection to the end of the TLS handshake.",
            &latencies.handshake,
        ),
        (
            "send_lag",
            "From the intended time to the start of the write call.",
            &latencies.send_lag,
        ),
        (
            "first_byte",
            "From the start of the write call to the first byte of the echo.",
            &latencies.first_byte,
        ),
        (
            "close",
            "From the half-close until the server had closed too.",
            &latencies.close,
        ),
    ] {
        if let Some(latency) = latency {
            page.summary(name, help, latency)?;
        }
    }
    Ok(())
}

fn client(result: &RunResult, page: &mut Page) -> fmt::Result {
    page.family(
        "client_thread_busy_ratio",
        Type::Gauge,
        "Share of the window that a measuring thread was busy.",
    )?;
    for (index, thread) in result.client.threads.iter().enumerate() {
        page.sample(
            "client_thread_busy_ratio",
            &[("thread", &index.to_string())],
            thread.busy_ratio,
        )?;
    }
    if let Some(steal) = result.client.steal_ratio {
        page.gauge(
            "client_steal_ratio",
            "Share of the client host's processor time that its hypervisor gave to others.",
            steal,
        )?;
    }
    Ok(())
}

fn verdict(result: &RunResult, page: &mut Page) -> fmt::Result {
    page.family(
        "verdict",
        Type::Gauge,
        "Whether the result can be believed: 1 for the status that it has.",
    )?;
    for (name, status) in [
        ("valid", Status::Valid),
        ("suspect", Status::Suspect),
        ("invalid", Status::Invalid),
    ] {
        page.sample(
            "verdict",
            &[("status", name)],
            u8::from(result.verdict.status == status),
        )?;
    }
    let codes: BTreeSet<String> = result
        .verdict
        .reasons
        .iter()
        .map(|reason| reason.code.to_string())
        .collect();
    if !codes.is_empty() {
        page.family(
            "verdict_reason",
            Type::Gauge,
            "1 for each kind of objection to the result.",
        )?;
    }
    for code in codes {
        page.sample("verdict_reason", &[("code", &code)], 1)?;
    }
    Ok(())
}

fn targets(plan: &Plan) -> String {
    match &plan.target {
        Target::Servers { targets } => targets
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(","),
        Target::Embedded { .. } => "embedded".to_owned(),
    }
}

fn workload(plan: &Plan) -> &'static str {
    match plan.workload {
        Workload::Request => "request",
        Workload::Churn { .. } => "churn",
        Workload::Stream { .. } => "stream",
        Workload::Idle => "idle",
    }
}

fn loop_name(plan: &Plan) -> &'static str {
    match plan.load {
        Load::Closed { .. } => "closed",
        Load::Open { .. } => "open",
    }
}

#[derive(Clone, Copy)]
enum Type {
    Counter,
    Gauge,
    Summary,
}

/// The page under construction. All names begin with `loadgen_`.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: Type, help: &str) -> fmt::Result {
        let kind = match kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Summary => "summary",
        };
        writeln!(self.text, "# HELP loadgen_{name} {help}")?;
        writeln!(self.text, "# TYPE loadgen_{name} {kind}")
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) -> fmt::Result {
        write!(self.text, "loadgen_{name}")?;
        for (index, (label, value)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            write!(self.text, "{open}{label}=\"{}\"", escaped(value))?;
        }
        let close = if labels.is_empty() { "" } else { "}" };
        writeln!(self.text, "{close} {value}")
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) -> fmt::Result {
        self.family(name, Type::Gauge, help)?;
        self.sample(name, &[], value)
    }

    fn counter(&mut self, name: &str, help: &str, count: u64) -> fmt::Result {
        self.family(name, Type::Counter, help)?;
        self.sample(name, &[], count)
    }

    /// A distribution as a summary, and its extremes as gauges, because a summary has no extremes.
    fn summary(&mut self, name: &str, help: &str, latency: &Latency) -> fmt::Result {
        let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
        let summary = format!("{name}_seconds");
        self.family(&summary, Type::Summary, help)?;
        for quantile in QUANTILES {
            if let Some(value) = latency.quantile(quantile) {
                self.sample(
                    &summary,
                    &[("quantile", &quantile.to_string())],
                    seconds(value),
                )?;
            }
        }
        let count = latency.count();
        let sum = latency.mean() * count as f64 / 1e9;
        self.sample(&format!("{summary}_sum"), &[], sum)?;
        self.sample(&format!("{summary}_count"), &[], count)?;
        self.gauge(
            &format!("{name}_min_seconds"),
            "Smallest of these.",
            seconds(latency.min()),
        )?;
        self.gauge(
            &format!("{name}_max_seconds"),
            "Largest of these.",
            seconds(latency.max()),
        )
    }
}

/// Escapes a label's value.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::histogram;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.sample("a", &[("x", "1\"\\\n"), ("y", "")], 0.5)
            .unwrap();
        assert_eq!(page.text, "loadgen_a{x=\"1\\\"\\\\\\n\",y=\"\"} 0.5\n");
    }

    #[test]
    fn a_summary_is_in_seconds_and_leaves_out_what_is_not_known() {
        let mut histogram = histogram::empty();
        histogram.record_n(1_000_000, 100).unwrap();
        let latency = Latency::new(histogram).unwrap();
        let mut page = Page::default();
        page.summary("response", "Help.", &latency).unwrap();
        let lines: Vec<&str> = page.text.lines().collect();
        assert_eq!(lines[0], "# HELP loadgen_response_seconds Help.");
        assert_eq!(lines[1], "# TYPE loadgen_response_seconds summary");
        assert!(lines[2].starts_with("loadgen_response_seconds{quantile=\"0.5\"} 0.001"));
        assert!(page.text.contains("loadgen_response_seconds_count 100\n"));
        assert!(page.text.contains("quantile=\"0.9\""));
        assert!(!page.text.contains("quantile=\"0.95\""), "{}", page.text);
    }
}
