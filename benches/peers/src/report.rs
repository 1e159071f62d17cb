//! A comparison as a Markdown document: a pure function of the result.

use std::fmt::Write as _;

use crate::counts::Counts;
use crate::load::{Shape, Workload};
use crate::result::{Cell, Comparison, Metric, Row, Sample};
use crate::stats::Spread;

/// At this share of a processor somebody has no reserve.
const BUSY: f64 = 0.95;

/// More of the window than this without a processor disturbs a row.
const WAITED: f64 = 0.05;

/// The whole document.
#[must_use]
pub fn markdown(comparison: &Comparison) -> String {
    let mut out = String::new();
    let (host, method) = (&comparison.host, &comparison.method);
    let _ = writeln!(
        out,
        "{}, Linux {}, congestion control {}. Servers on {}, load on {}. {}\n",
        host.processor,
        host.kernel,
        host.congestion_control,
        cpus(&method.server_cpus),
        cpus(&method.client_cpus),
        rounds(method.rounds, method.warm_up_s, method.window_s),
    );
    if method.server_cpus == method.client_cpus {
        out.push_str("**There is one processor only: servers and load take turns on it.**\n\n");
    }
    if !method.optimised {
        out.push_str(
            "**The peers were built without optimisation: these figures say nothing.**\n\n",
        );
    }
    for cell in &comparison.cells {
        write_cell(&mut out, cell);
    }
    out
}

fn rounds(rounds: usize, warm_up_s: f64, window_s: f64) -> String {
    format!(
        "{rounds} rounds of {window_s} s each after {warm_up_s} s of warm-up, medians; `×` is the median of \
         the rounds' ratios to the first, with its quartiles for the first column."
    )
}

fn cpus(cpus: &[usize]) -> String {
    let names: Vec<String> = cpus.iter().map(ToString::to_string).collect();
    format!("CPU {}", names.join(", "))
}

/// One table, with what is to be said about it.
fn write_cell(out: &mut String, cell: &Cell) {
    let _ = writeln!(out, "### {}\n", title(cell.workload, cell.shape));
    let metrics = Metric::of(cell.workload);
    let counted = cell.rows.iter().any(|row| row.counts.is_some());
    let busy = cell.workload != Workload::Idle;
    let mut head = vec!["peer".to_owned()];
    for &metric in metrics {
        head.push(heading(metric, cell.workload));
        head.push("×".to_owned());
    }
    if busy {
        head.extend(["server busy", "load busy"].map(String::from));
    }
    if counted {
        let operation = cell.workload.operation();
        head.extend([
            format!("calls/{operation}"),
            format!("instructions/{operation}"),
        ]);
    }
    write_row(out, &head);
    let rule: Vec<String> = (0..head.len())
        .map(|i| if i == 0 { "---" } else { "---:" }.to_owned())
        .collect();
    write_row(out, &rule);
    for row in &cell.rows {
        let mut fields = vec![row.peer.clone()];
        for (index, &metric) in metrics.iter().enumerate() {
            fields.extend(metric_fields(row, metric, index));
        }
        if busy {
            let server = row.median(Sample::server_busy);
            let client = row.median(Sample::client_busy);
            fields.extend([server, client].map(|share| optional(share, percent)));
        }
        if counted {
            let counts = row.counts.as_ref();
            fields.push(optional(counts.and_then(|c| c.calls), |v| {
                format!("{v:.3}")
            }));
            fields.push(optional(counts.and_then(|c| c.instructions), |v| {
                format!("{v:.1}")
            }));
        }
        write_row(out, &fields);
    }
    out.push('\n');
    for remark in remarks(cell) {
        let _ = writeln!(out, "- {remark}");
    }
    out.push('\n');
}

fn metric_fields(row: &Row, metric: Metric, index: usize) -> [String; 2] {
    let Some(summary) = row.metric(metric) else {
        return ["-".to_owned(), "-".to_owned()];
    };
    let ratio = optional(summary.ratio, |r| match index {
        0 => ratio_with_quartiles(r),
        _ => format!("{:.3}", r.median),
    });
    [value(metric, summary.value.median), ratio]
}

/// A ratio and how far the rounds agree on it.
pub(crate) fn ratio_with_quartiles(ratio: Spread) -> String {
    format!(
        "{:.3} ({:.3} to {:.3})",
        ratio.median, ratio.low, ratio.high
    )
}

/// The counts by name, and why some are missing.
pub(crate) fn counts_remarks(counts: &Counts) -> Vec<String> {
    let names = counts
        .by_name
        .iter()
        .map(|(name, calls)| format!("{name} {calls:.3}"));
    let names: Vec<String> = names.collect();
    let mut remarks = counts.notes.clone();
    if !names.is_empty() {
        remarks.insert(0, names.join(", "));
    }
    remarks
}

/// What the reader has to know besides the figures.
fn remarks(cell: &Cell) -> Vec<String> {
    let mut remarks = Vec::new();
    let said = |row: &Row, read: fn(&Sample) -> f64| row.median(read).unwrap_or(0.0);
    for row in &cell.rows {
        let (server, client) = (
            said(row, Sample::server_busy),
            said(row, Sample::client_busy),
        );
        if client >= BUSY && server < BUSY {
            remarks.push(format!(
                "{}: the load was the limit (busy {}, the server {}), so its throughput and latency are the \
                 load's",
                row.peer,
                percent(client),
                percent(server)
            ));
        }
        let waited = said(row, |s| s.server_waited_ns as f64 / s.wall_ns as f64);
        if waited > WAITED && cell.workload != Workload::Idle {
            remarks.push(format!(
                "{}: the server was ready and had no processor for {} of the time; something else ran there, \
                 or its own threads took turns",
                row.peer,
                percent(waited)
            ));
        }
        for remark in row.counts.iter().flat_map(counts_remarks) {
            remarks.push(format!("{}: {remark}", row.peer));
        }
    }
    remarks.extend(
        cell.absent
            .iter()
            .map(|r| format!("{} left out: {}", r.peer, r.what)),
    );
    remarks.extend(
        cell.failures
            .iter()
            .map(|r| format!("**{} failed**, {}", r.peer, r.what)),
    );
    remarks
}

fn title(workload: Workload, shape: Shape) -> String {
    let Shape {
        connections,
        size,
        depth,
    } = shape;
    let size = binary(size as f64);
    match workload {
        Workload::Echo => format!("Echo: {connections} connections, {size}, depth {depth}"),
        Workload::Churn => format!("Churn: connect, echo {size}, close; {connections} at a time"),
        Workload::Stream => {
            let in_flight = binary((shape.size * depth) as f64);
            format!(
                "Stream there and back: {connections} connections, {in_flight} in flight on each"
            )
        }
        Workload::Discard => format!("Discard: {connections} connections, writes of {size}"),
        Workload::Udp => format!("UDP: {connections} peers, {size}, depth {depth}"),
        Workload::UdpBulk => {
            format!("UDP in bursts: {connections} peers, {size}, {depth} in flight on each")
        }
        Workload::Idle => format!("Idle memory: {connections} connections that echoed once"),
    }
}

fn heading(metric: Metric, workload: Workload) -> String {
    let operation = workload.operation();
    match metric {
        Metric::PerSecond => format!("{operation}s/s"),
        Metric::CpuPerOperation => format!("CPU/{operation}"),
        Metric::PerCpuSecond => format!("{operation}s/CPU second"),
        Metric::BytesPerSecond => "bytes/s".to_owned(),
        Metric::BytesPerCpuSecond => "bytes/CPU second".to_owned(),
        Metric::P50 => "p50".to_owned(),
        Metric::P99 => "p99".to_owned(),
        Metric::Resident => "resident".to_owned(),
        Metric::AnonymousPerConnection => "anonymous/connection".to_owned(),
        Metric::ResidentPerConnection => "resident/connection".to_owned(),
    }
    .replace("echos", "echoes")
}

fn value(metric: Metric, value: f64) -> String {
    match metric {
        Metric::PerSecond | Metric::PerCpuSecond => format!("{value:.0}"),
        Metric::CpuPerOperation | Metric::P50 | Metric::P99 => duration(value),
        Metric::BytesPerSecond | Metric::BytesPerCpuSecond | Metric::Resident => binary(value),
        Metric::AnonymousPerConnection | Metric::ResidentPerConnection => format!("{value:.0} B"),
    }
}

/// Nanoseconds, to three digits.
pub(crate) fn duration(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e4 => format!("{:.2} µs", ns / 1e3),
        ns if ns < 1e5 => format!("{:.1} µs", ns / 1e3),
        ns if ns < 1e6 => format!("{:.0} µs", ns / 1e3),
        ns if ns < 1e7 => format!("{:.2} ms", ns / 1e6),
        ns => format!("{:.1} ms", ns / 1e6),
    }
}

/// Bytes in powers of 1024.
fn binary(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB"];
    let mut scaled = bytes;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < units.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    match scaled.fract() == 0.0 {
        true => format!("{scaled:.0} {}", units[unit]),
        false => format!("{scaled:.2} {}", units[unit]),
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Something, or a dash.
pub(crate) fn optional<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

/// One row of a table.
pub(crate) fn write_row(out: &mut String, fields: &[String]) {
    let _ = writeln!(out, "| {} |", fields.join(" | "));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::sample;
    use crate::result::{Host, Method, Remark};

    fn comparison() -> Comparison {
        let samples = vec![Some(sample(100_000, 500_000_000)); 3];
        let mut loaded = sample(80_000, 480_000_000);
        loaded.client_cpu_ns = 990_000_000;
        let counts = Counts {
            calls: Some(2.021),
            by_name: [("recvfrom".to_owned(), 1.0)].into(),
            instructions: Some(56.04),
            notes: vec![],
        };
        let measured = vec![
            ("echod".to_owned(), samples, Some(counts)),
            ("other".to_owned(), vec![Some(loaded); 3], None),
        ];
        let remark = |peer: &str, what: &str| Remark {
            peer: peer.to_owned(),
            what: what.to_owned(),
        };
        let cell = Cell::new(
            Workload::Echo,
            Workload::Echo.usual_shape(),
            measured,
            vec![remark("libuv", "no headers")],
            vec![remark("other", "round 2: stalled")],
        );
        Comparison {
            host: Host::here(),
            method: Method {
                server_cpus: vec![0],
                client_cpus: vec![1],
                rounds: 3,
                warm_up_s: 0.2,
                window_s: 1.0,
                optimised: true,
            },
            cells: vec![cell],
        }
    }

    #[test]
    fn the_table_has_a_field_under_every_heading() {
        let text = markdown(&comparison());
        let rows: Vec<&str> = text.lines().filter(|l| l.starts_with('|')).collect();
        assert_eq!(rows.len(), 4);
        let fields = |row: &str| row.split('|').count();
        assert!(
            rows.iter().all(|row| fields(row) == fields(rows[0])),
            "{text}"
        );
        let expected = "| other | 6.00 µs | 1.200 (1.200 to 1.200) | 80000 | 0.800 | 50.0 µs";
        assert!(rows[3].starts_with(expected), "{}", rows[3]);
        assert!(
            rows[2].ends_with("| 50 % | 50 % | 2.021 | 56.0 |"),
            "{}",
            rows[2]
        );
    }

    #[test]
    fn what_limits_the_figures_is_said() {
        let mut comparison = comparison();
        let text = markdown(&comparison);
        assert!(
            text.contains("other: the load was the limit (busy 99 %"),
            "{text}"
        );
        assert!(!text.contains("echod: the load was the limit"));
        assert!(text.contains("libuv left out: no headers"));
        assert!(text.contains("**other failed**, round 2: stalled"));
        assert!(!text.contains("one processor only") && !text.contains("say nothing"));
        comparison.method.client_cpus = vec![0];
        comparison.method.optimised = false;
        let text = markdown(&comparison);
        assert!(text.contains("one processor only") && text.contains("say nothing"));
    }

    #[test]
    fn figures_are_written_with_their_units() {
        assert_eq!(duration(5013.0), "5.01 µs");
        assert_eq!(duration(51_300.0), "51.3 µs");
        assert_eq!(duration(2_770_000.0), "2.77 ms");
        assert_eq!(binary(65_536.0), "64 KiB");
        assert_eq!(binary(1536.0), "1.50 KiB");
    }
}
