//! fortio's JSON (`-json`): calls per second, and percentiles interpolated from a histogram.

use serde_json::Value;

use super::{ImportError, client_unknown, count, keep_supported, number, text, verdict};
use crate::report::format::{count as counted, number as shown};
use crate::result::Tool;
use crate::result::imported::{
    ImportedKind, ImportedLatency, ImportedMessages, ImportedPercentile, ImportedResult,
};

const TOOL: &str = "fortio";
/// fortio's times are in seconds, lengths in nanoseconds.
const NS_PER_S: f64 = 1e9;

/// `None` if this is no output of fortio.
pub(super) fn read(json: &Value) -> Option<Result<ImportedResult, ImportError>> {
    json.get("RunType")?;
    json.get("ActualQPS")?;
    Some(result(json))
}

fn result(json: &Value) -> Result<ImportedResult, ImportError> {
    let calls = count(json, "/DurationHistogram/Count").filter(|&calls| calls > 0);
    let (Some(calls), Some(per_second)) = (calls, number(json, "/ActualQPS")) else {
        let problem = text(json, "/Exception").or_else(|| text(json, "/message"));
        return Err(ImportError::new(
            TOOL,
            problem.unwrap_or_else(|| "no call was made".to_owned()),
        ));
    };
    let failed = failed(json);
    let mut latency = latency(json, calls);
    let dropped = keep_supported(&mut latency, TOOL);
    let target_rate = text(json, "/RequestedQPS").and_then(|rate| rate.parse().ok());
    let target_rate = target_rate.filter(|&rate: &f64| rate.is_finite() && rate > 0.0);
    let duration_s = number(json, "/ActualDuration").map(|duration| duration / NS_PER_S);
    // Failed calls are among fortio's calls per second, and no answers.
    let answered = failed.map(|failed| calls.saturating_sub(failed));
    let share = answered.map_or(1.0, |answered| answered as f64 / calls as f64);
    Ok(ImportedResult {
        schema: 1,
        kind: ImportedKind::Imported,
        tool: Tool {
            name: TOOL.into(),
            version: text(json, "/Version").unwrap_or_default().into(),
        },
        started_at: text(json, "/StartTime"),
        interrupted: false,
        target: text(json, "/Destination").or_else(|| text(json, "/URL")),
        load: load(json, target_rate),
        duration_s,
        connections: count(json, "/NumThreads"),
        target_rate,
        achieved_rate: failed.map(|_| per_second * share),
        sent_bits_per_s: bits_per_second(json, "/BytesSent", duration_s),
        received_bits_per_s: bits_per_second(json, "/BytesReceived", duration_s),
        messages: ImportedMessages {
            sent: Some(calls),
            received: answered,
            failed,
            ..ImportedMessages::default()
        },
        latency_ns: Some(latency),
        retransmits: None,
        tcp_rtt_ns_mean: None,
        jitter_ns: None,
        client_cpu_ratio: None,
        server_cpu_ratio: None,
        verdict: verdict(unknown(json, failed).into_iter().chain(dropped)),
    })
}

/// The results of the calls by their names: TCP and UDP say OK, HTTP its codes, gRPC SERVING.
fn failed(json: &Value) -> Option<u64> {
    let codes = json.get("RetCodes")?.as_object()?;
    let is_good =
        |code: &str| code == "OK" || code == "SERVING" || matches!(code.parse(), Ok(200_u16..=299));
    let bad = codes.iter().filter(|(code, _)| !is_good(code));
    bad.map(|(_, count)| count.as_u64()).sum()
}

fn latency(json: &Value, calls: u64) -> ImportedLatency {
    let seconds = |name: &str| {
        number(json, &format!("/DurationHistogram/{name}")).map(|seconds| seconds * NS_PER_S)
    };
    let given = json
        .pointer("/DurationHistogram/Percentiles")
        .and_then(Value::as_array);
    let percentiles = given.into_iter().flatten().filter_map(|given| {
        Some(ImportedPercentile {
            percentile: number(given, "/Percentile")?,
            value_ns: number(given, "/Value")? * NS_PER_S,
        })
    });
    ImportedLatency {
        count: Some(calls),
        min: seconds("Min"),
        mean: seconds("Avg"),
        stdev: seconds("StdDev"),
        max: seconds("Max"),
        percentiles: percentiles.collect(),
    }
}

fn bits_per_second(json: &Value, pointer: &str, duration_s: Option<f64>) -> Option<f64> {
    let seconds = duration_s.filter(|&seconds| seconds > 0.0)?;
    Some(count(json, pointer)? as f64 * 8.0 / seconds)
}

fn load(json: &Value, target_rate: Option<f64>) -> String {
    let kind = text(json, "/RunType").unwrap_or_default();
    let rate = target_rate.map_or_else(
        || "as fast as answers come".to_owned(),
        |rate| format!("{} /s asked for", shown(rate)),
    );
    let threads = count(json, "/NumThreads").map_or_else(String::new, |threads| {
        format!(
            ", one in flight on each of {}",
            counted(threads, "connection")
        )
    });
    format!("{kind} calls, {rate}{threads}")
}

fn unknown(json: &Value, failed: Option<u64>) -> Vec<String> {
    let mut unknown = vec![
        "its latency begins when a call was made, not when it was due: what waited behind a slow answer \
         can't be known"
            .to_owned(),
        "its percentiles are interpolated between the edges of a histogram's buckets".to_owned(),
        client_unknown(TOOL),
    ];
    match failed {
        None => unknown.push("it does not tell how many calls failed".to_owned()),
        Some(0) => {}
        Some(failed) => unknown.push(format!(
            "{} failed, and their times are among the latencies",
            counted(failed, "call")
        )),
    }
    if text(json, "/RunType").is_some_and(|kind| kind != "TCP" && kind != "UDP") {
        unknown.push("it measured another protocol than an echo".to_owned());
    }
    unknown
}
