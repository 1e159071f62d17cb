//! sockperf's text: latencies of ping-pong and under-load, the rate of throughput.

use super::{ImportError, client_unknown, keep_supported, verdict};
use crate::report::format::number as shown;
use crate::result::Tool;
use crate::result::imported::{
    ImportedKind, ImportedLatency, ImportedMessages, ImportedPercentile, ImportedResult,
};

const TOOL: &str = "sockperf";
const NS_PER_US: f64 = 1e3;
/// Its Mbps are of 2^20 bits.
const BITS_PER_MBPS: f64 = 1_048_576.0;

/// `None` if this is no output of sockperf.
pub(super) fn read(text: &str) -> Option<Result<ImportedResult, ImportError>> {
    text.lines()
        .any(|line| line.starts_with("sockperf:"))
        .then(|| result(text))
}

fn result(text: &str) -> Result<ImportedResult, ImportError> {
    let round_trip = after(text, "Summary: Round trip is ").is_some();
    let has_latency = round_trip || after(text, "Summary: Latency is ").is_some();
    let rate = first_number(text, "Summary: Message Rate is ");
    if !has_latency && rate.is_none() {
        let problem = after(text, "ERROR: ").unwrap_or("it has no summary");
        return Err(ImportError::new(TOOL, problem.trim()));
    }
    // Without --full-rtt, every figure is half the round trip.
    let scale = if round_trip {
        NS_PER_US
    } else {
        2.0 * NS_PER_US
    };
    let mut latency = has_latency.then(|| latency(text, scale));
    let dropped = latency
        .as_mut()
        .and_then(|latency| keep_supported(latency, TOOL));
    let valid = after(text, "[Valid Duration] ").unwrap_or_default();
    let duration_s =
        first_number(valid, "RunTime=").or_else(|| first_number(text, " messages sent in "));
    let received = whole(valid, "ReceivedMessages=");
    let per_second = received
        .zip(duration_s)
        .filter(|&(_, seconds)| seconds > 0.0);
    Ok(ImportedResult {
        schema: 1,
        kind: ImportedKind::Imported,
        tool: Tool {
            name: TOOL.into(),
            version: version(text).to_owned().into(),
        },
        started_at: None,
        interrupted: false,
        target: target(text),
        load: load(text, has_latency, received, rate),
        duration_s,
        connections: None,
        target_rate: None,
        achieved_rate: per_second.map(|(received, seconds)| received as f64 / seconds),
        sent_bits_per_s: bandwidth(text),
        received_bits_per_s: None,
        messages: messages(text, valid),
        latency_ns: latency,
        retransmits: None,
        tcp_rtt_ns_mean: None,
        jitter_ns: None,
        client_cpu_ratio: None,
        server_cpu_ratio: None,
        verdict: verdict(
            unknown(text, has_latency, round_trip)
                .into_iter()
                .chain(unaccounted(valid))
                .chain(dropped),
        ),
    })
}

/// Of the time after the warm-up, or of all where no answer is counted.
fn messages(text: &str, valid: &str) -> ImportedMessages {
    ImportedMessages {
        sent: whole(valid, "SentMessages=").or_else(|| whole(text, "Total of ")),
        received: whole(valid, "ReceivedMessages="),
        lost: whole(text, "# dropped messages = "),
        failed: None,
        duplicated: whole(text, "# duplicated messages = "),
        reordered: whole(text, "# out-of-order messages = "),
    }
}

/// The rest of the first line in which `key` stands, behind it.
fn after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(key)?;
    rest.lines().next()
}

fn first_number(text: &str, key: &str) -> Option<f64> {
    let rest = after(text, key)?.trim_start();
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

fn whole(text: &str, key: &str) -> Option<u64> {
    let rest = after(text, key)?.trim_start();
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

fn version(text: &str) -> &str {
    let version = after(text, "version #").unwrap_or_default();
    version.split_whitespace().next().unwrap_or_default()
}

/// From `[ 0] IP = 127.0.0.1  PORT = 11111 # TCP`.
fn target(text: &str) -> Option<String> {
    let line = after(text, "] IP = ")?;
    let host = line.split_whitespace().next()?;
    let port = whole(line, "PORT = ")?;
    let scheme = line.rsplit('#').next()?.trim().to_lowercase();
    Some(format!("{scheme}://{host}:{port}"))
}

fn load(text: &str, has_latency: bool, received: Option<u64>, rate: Option<f64>) -> String {
    let size = whole(text, "msg-size=").map_or_else(String::new, |size| format!(", {size} B"));
    match rate.filter(|_| !has_latency) {
        Some(rate) => format!("messages to the server, {} /s sent{size}", shown(rate)),
        None => {
            let of = received.map_or_else(String::new, |received| format!(", {received} answers"));
            format!("messages there and back{of}{size}")
        }
    }
}

/// From `BandWidth is 0.867 MBps (6.940 Mbps)`.
fn bandwidth(text: &str) -> Option<f64> {
    let rest = after(text, "Summary: BandWidth is ")?;
    Some(first_number(rest, "(")? * BITS_PER_MBPS)
}

/// From `Total 35678 observations; each percentile contains 356.78 observations`.
fn observations(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    let line = lines.find(|line| line.contains("Total ") && line.contains(" observations"))?;
    whole(line, "Total ")
}

fn latency(text: &str, scale: f64) -> ImportedLatency {
    let scaled = |value: Option<f64>| value.map(|value| value * scale);
    let average = ["avg-rtt=", "avg-latency=", "avg-lat="];
    let average = average.into_iter().find_map(|key| first_number(text, key));
    let percentiles = text.lines().filter_map(|line| {
        let (name, value) = line.split_once("---> percentile ")?.1.split_once('=')?;
        Some(ImportedPercentile {
            percentile: name.trim().parse().ok()?,
            value_ns: value.trim().parse::<f64>().ok()? * scale,
        })
    });
    ImportedLatency {
        count: observations(text),
        min: scaled(first_number(text, "<MIN> observation =")),
        mean: scaled(average),
        stdev: scaled(first_number(text, "std-dev=")),
        max: scaled(first_number(text, "<MAX> observation =")),
        percentiles: percentiles.collect(),
    }
}

/// Messages that did not come back, and that sockperf does not call dropped.
fn unaccounted(valid: &str) -> Option<String> {
    let (sent, received) = (
        whole(valid, "SentMessages=")?,
        whole(valid, "ReceivedMessages=")?,
    );
    (received < sent).then(|| {
        format!("of {sent} messages {received} came back: what became of the others is not told")
    })
}

fn unknown(text: &str, has_latency: bool, round_trip: bool) -> Vec<String> {
    let mut unknown = vec![client_unknown(TOOL)];
    if !has_latency {
        unknown.push(
            "its throughput is what the client sent: whether any of it arrived can't be known"
                .to_owned(),
        );
        return unknown;
    }
    unknown.push(
        "its latency begins when a message was sent, not when it was due: what waited behind a slow answer \
         can't be known"
            .to_owned(),
    );
    if !round_trip {
        unknown.push(
            "it divided every round trip by two, which takes both ways for equal; here are whole round \
             trips again"
                .to_owned(),
        );
    }
    if !text.contains("data-integrity") {
        unknown
            .push("whether it compared what came back (--data-integrity) is not told".to_owned());
    }
    unknown
}
