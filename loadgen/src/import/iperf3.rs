//! iperf3's JSON (`-J`): the throughput of streams, TCP's counters, loss and jitter of datagrams.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use super::{ImportError, client_unknown, count, number, text, verdict};
use crate::report::format::count as counted;
use crate::result::Tool;
use crate::result::imported::{ImportedKind, ImportedMessages, ImportedResult};

const TOOL: &str = "iperf3";

/// `None` if this is no output of iperf3.
pub(super) fn read(json: &Value) -> Option<Result<ImportedResult, ImportError>> {
    let version = text(json, "/start/version").filter(|version| version.starts_with("iperf "))?;
    json.pointer("/end")?;
    Some(result(json, &version))
}

fn result(json: &Value, version: &str) -> Result<ImportedResult, ImportError> {
    let error = text(json, "/error");
    let is_udp = text(json, "/start/test_start/protocol").is_some_and(|name| name == "UDP");
    let rate = |sum: &str| number(json, &format!("/end/{sum}/bits_per_second"));
    // Earlier versions have one sum for datagrams, which is the sender's.
    let sent = rate("sum_sent").or_else(|| rate("sum").filter(|_| is_udp));
    let received =
        rate("sum_received").filter(|_| count(json, "/end/sum_received/bytes") != Some(0));
    if sent.is_none() && received.is_none() {
        let problem = error.unwrap_or_else(|| "it has no sum of bits per second".to_owned());
        return Err(ImportError::new(TOOL, problem));
    }
    let unknown = unknown(json, is_udp, error.as_deref());
    Ok(ImportedResult {
        schema: 1,
        kind: ImportedKind::Imported,
        tool: Tool {
            name: TOOL.into(),
            version: version.trim_start_matches("iperf ").to_owned().into(),
        },
        started_at: count(json, "/start/timestamp/timesecs").and_then(time),
        interrupted: error.is_some(),
        target: target(json, is_udp),
        load: load(json, is_udp),
        duration_s: number(json, "/end/sum_sent/seconds")
            .or_else(|| number(json, "/end/sum/seconds")),
        connections: count(json, "/start/test_start/num_streams"),
        target_rate: None,
        achieved_rate: None,
        sent_bits_per_s: sent,
        received_bits_per_s: received,
        messages: if is_udp {
            datagrams(json)
        } else {
            ImportedMessages::default()
        },
        latency_ns: None,
        retransmits: count(json, "/end/sum_sent/retransmits"),
        tcp_rtt_ns_mean: tcp_rtt(json),
        jitter_ns: number(json, "/end/sum/jitter_ms")
            .filter(|_| is_udp)
            .map(|jitter| jitter * 1e6),
        client_cpu_ratio: cpu(json, "host_total"),
        server_cpu_ratio: cpu(json, "remote_total"),
        verdict: verdict(unknown),
    })
}

/// Seconds since 1970, if they are before the year 10000.
fn time(seconds: u64) -> Option<String> {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
    (seconds < 253_402_300_800).then(|| humantime::format_rfc3339_seconds(time).to_string())
}

fn target(json: &Value, is_udp: bool) -> Option<String> {
    let host = text(json, "/start/connecting_to/host")?;
    let port = count(json, "/start/connecting_to/port")?;
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host
    };
    let scheme = if is_udp { "udp" } else { "tcp" };
    Some(format!("{scheme}://{host}:{port}"))
}

fn load(json: &Value, is_udp: bool) -> String {
    let flag = |name: &str| count(json, &format!("/start/test_start/{name}")) == Some(1);
    let way = match (flag("bidir"), flag("reverse")) {
        (true, _) => "streams both ways",
        (false, true) => "stream from the server",
        (false, false) => "stream to the server",
    };
    let unit = if is_udp { "datagrams" } else { "blocks" };
    let mut load = way.to_owned();
    if let Some(streams) = count(json, "/start/test_start/num_streams") {
        load.push_str(&format!(", {}", counted(streams, "connection")));
    }
    if let Some(size) = count(json, "/start/test_start/blksize") {
        load.push_str(&format!(", {unit} of {size} B"));
    }
    load
}

/// Of the receiver, if the versions of both sides tell it.
fn datagrams(json: &Value) -> ImportedMessages {
    let received = count(json, "/end/sum_received/packets");
    let sum = if received.is_some_and(|packets| packets > 0) {
        "sum_received"
    } else {
        "sum"
    };
    let lost = count(json, &format!("/end/{sum}/lost_packets"));
    let sent = count(json, &format!("/end/{sum}/packets"));
    let streams = json.pointer("/end/streams").and_then(Value::as_array);
    let reordered = streams.and_then(|streams| {
        let each = streams
            .iter()
            .map(|stream| count(stream, "/udp/out_of_order"));
        each.sum::<Option<u64>>()
    });
    ImportedMessages {
        sent,
        received: sent.zip(lost).map(|(sent, lost)| sent.saturating_sub(lost)),
        lost,
        reordered,
        ..ImportedMessages::default()
    }
}

/// The mean over the streams. 0 stands for not known: the sender is on the other side.
fn tcp_rtt(json: &Value) -> Option<f64> {
    let streams = json.pointer("/end/streams")?.as_array()?;
    let each = streams
        .iter()
        .map(|stream| number(stream, "/sender/mean_rtt"));
    let sum = each.sum::<Option<f64>>().filter(|&sum| sum > 0.0)?;
    Some(sum / streams.len() as f64 * 1e3)
}

fn cpu(json: &Value, side: &str) -> Option<f64> {
    let percent = number(json, &format!("/end/cpu_utilization_percent/{side}"))?;
    Some(percent / 100.0)
}

fn unknown(json: &Value, is_udp: bool, error: Option<&str>) -> Vec<String> {
    let mut unknown = vec![
        "iperf3 measures no latency: a percentile, or what a message waits behind the stream, can't be \
         known"
            .to_owned(),
        client_unknown(TOOL),
        "iperf3 does not compare what arrives with what was sent: whether bytes are wrong can't be known"
            .to_owned(),
    ];
    if is_udp {
        unknown.push("jitter is the change of the transit time, not a latency".to_owned());
    } else {
        unknown.push("its round trip is TCP's own smoothed estimate, of no message".to_owned());
    }
    if count(json, "/start/test_start/bidir") == Some(1) {
        unknown.push("of both directions, only that to the server is read".to_owned());
    }
    if let Some(error) = error {
        unknown.push(format!("iperf3 ended with an error: {error}"));
    }
    unknown
}
