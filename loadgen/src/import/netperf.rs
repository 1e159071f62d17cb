//! netperf's omni tests, as `KEY=VALUE` lines (`-k`) or as CSV (`-o`).

use std::collections::BTreeMap;

use super::{ImportError, client_unknown, keep_supported, verdict};
use crate::result::Tool;
use crate::result::imported::{
    ImportedKind, ImportedLatency, ImportedMessages, ImportedPercentile, ImportedResult,
};

const TOOL: &str = "netperf";
const NS_PER_US: f64 = 1e3;

/// Heads of the CSV, and the keys that stand for the same.
const HEADS: [(&str, &str); 16] = [
    ("Throughput", "THROUGHPUT"),
    ("Throughput Units", "THROUGHPUT_UNITS"),
    ("Elapsed Time (sec)", "ELAPSED_TIME"),
    ("Transaction Rate Tran/s", "TRANSACTION_RATE"),
    ("Round Trip Latency usec/tran", "RT_LATENCY"),
    ("Mean Latency Microseconds", "MEAN_LATENCY"),
    ("Minimum Latency Microseconds", "MIN_LATENCY"),
    ("Maximum Latency Microseconds", "MAX_LATENCY"),
    ("Stddev Latency Microseconds", "STDDEV_LATENCY"),
    ("50th Percentile Latency Microseconds", "P50_LATENCY"),
    ("90th Percentile Latency Microseconds", "P90_LATENCY"),
    ("99th Percentile Latency Microseconds", "P99_LATENCY"),
    ("Local Transport Retransmissions", "LOCAL_TRANSPORT_RETRANS"),
    ("Local CPU Util %", "LOCAL_CPU_UTIL"),
    ("Remote CPU Util %", "REMOTE_CPU_UTIL"),
    ("Protocol", "PROTOCOL"),
];

/// `None` if this is no output of an omni test.
pub(super) fn read(text: &str) -> Option<Result<ImportedResult, ImportError>> {
    let banner = text.lines().find(|line| {
        (line.contains(" TEST from ") || line.contains(" Test from ")) && line.contains(" to ")
    });
    let figures = pairs(text).or_else(|| csv(text));
    match figures {
        Some(figures) => Some(result(&figures, banner)),
        None => banner.map(|_| {
            let problem =
                "its columns are for people; let it write keys or CSV (netperf … -- -k, -o)";
            Err(ImportError::new(TOOL, problem))
        }),
    }
}

type Figures = BTreeMap<String, String>;

fn pairs(text: &str) -> Option<Figures> {
    let pair = |line: &str| {
        let (key, value) = line.trim().split_once('=')?;
        let is_key = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        (!key.is_empty() && key.chars().all(is_key)).then(|| (key.to_owned(), value.to_owned()))
    };
    let figures: Figures = text.lines().filter_map(pair).collect();
    has_figures(&figures).then_some(figures)
}

fn csv(text: &str) -> Option<Figures> {
    let fields = |line: &str| -> Vec<String> {
        line.split(',')
            .map(|field| field.trim().trim_matches('"').to_owned())
            .collect()
    };
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let heads = lines.by_ref().map(fields).find(|heads| {
        heads
            .iter()
            .any(|head| HEADS.iter().any(|(name, _)| name == head))
    })?;
    let values = fields(lines.next()?);
    if values.len() < heads.len() {
        return None;
    }
    let figures = heads.iter().zip(values).filter_map(|(head, value)| {
        let (_, key) = HEADS.iter().find(|(name, _)| name == head)?;
        Some(((*key).to_owned(), value))
    });
    let figures: Figures = figures.collect();
    has_figures(&figures).then_some(figures)
}

fn has_figures(figures: &Figures) -> bool {
    [
        "THROUGHPUT",
        "TRANSACTION_RATE",
        "RT_LATENCY",
        "MEAN_LATENCY",
        "P99_LATENCY",
    ]
    .iter()
    .any(|key| figures.contains_key(*key))
}

fn result(figures: &Figures, banner: Option<&str>) -> Result<ImportedResult, ImportError> {
    let given = |key: &str| figures.get(key).and_then(|text| text.parse::<f64>().ok());
    // -1 stands for what was not measured.
    let number = |key: &str| given(key).filter(|&value| value.is_finite() && value >= 0.0);
    let units = figures.get("THROUGHPUT_UNITS").map_or("", String::as_str);
    let throughput = number("THROUGHPUT");
    let per_second = throughput.filter(|_| units.starts_with("Trans"));
    let bits = throughput
        .zip(bits_of(units))
        .map(|(value, bits)| value * bits);
    let is_stream = bits.is_some() || banner.is_some_and(|banner| banner.contains("STREAM"));
    let is_request =
        !is_stream && (per_second.is_some() || banner.is_some_and(|b| b.contains("REQUEST")));
    let rate = per_second.or_else(|| number("TRANSACTION_RATE").filter(|_| is_request));
    // In a stream it is the time of a send call.
    let latency = latency(&number).filter(|_| !is_stream);
    if rate.is_none() && bits.is_none() && latency.is_none() {
        return Err(ImportError::new(
            TOOL,
            "the unit of its throughput is not told; add THROUGHPUT_UNITS to its output",
        ));
    }
    let mut latency = latency;
    let dropped = latency
        .as_mut()
        .and_then(|latency| keep_supported(latency, TOOL));
    let unknown = unknown(latency.as_ref(), is_stream);
    Ok(ImportedResult {
        schema: 1,
        kind: ImportedKind::Imported,
        tool: Tool {
            name: TOOL.into(),
            version: "".into(),
        },
        started_at: None,
        interrupted: false,
        target: banner.and_then(target),
        load: if is_stream {
            "a stream".to_owned()
        } else {
            "requests and responses".to_owned()
        },
        duration_s: number("ELAPSED_TIME"),
        connections: None,
        target_rate: None,
        achieved_rate: rate,
        sent_bits_per_s: bits,
        received_bits_per_s: None,
        messages: ImportedMessages::default(),
        latency_ns: latency,
        retransmits: number("LOCAL_TRANSPORT_RETRANS").map(|count| count as u64),
        tcp_rtt_ns_mean: None,
        jitter_ns: None,
        client_cpu_ratio: number("LOCAL_CPU_UTIL").map(|percent| percent / 100.0),
        server_cpu_ratio: number("REMOTE_CPU_UTIL").map(|percent| percent / 100.0),
        verdict: verdict(unknown.into_iter().chain(dropped)),
    })
}

/// Bits in a unit of netperf's throughput: powers of ten of bits, powers of two of bytes.
fn bits_of(units: &str) -> Option<f64> {
    let bytes = |power: i32| Some(8.0 * 1024_f64.powi(power));
    match units {
        "10^3bits/s" => Some(1e3),
        "10^6bits/s" => Some(1e6),
        "10^9bits/s" => Some(1e9),
        "Bytes/s" => bytes(0),
        "KBytes/s" => bytes(1),
        "MBytes/s" => bytes(2),
        "GBytes/s" => bytes(3),
        _ => None,
    }
}

/// The host behind ` to `, which a banner names with its address in brackets.
fn target(banner: &str) -> Option<String> {
    let (_, rest) = banner.split_once(" to ")?;
    rest.split_whitespace().next().map(str::to_owned)
}

/// The round trip is an average, and no percentile.
fn latency(number: &impl Fn(&str) -> Option<f64>) -> Option<ImportedLatency> {
    let us = |key: &str| number(key).map(|us| us * NS_PER_US);
    let percentiles = [
        ("P50_LATENCY", 50.0),
        ("P90_LATENCY", 90.0),
        ("P99_LATENCY", 99.0),
    ];
    let percentiles = percentiles.into_iter().filter_map(|(key, percentile)| {
        Some(ImportedPercentile {
            percentile,
            value_ns: us(key)?,
        })
    });
    let latency = ImportedLatency {
        count: None,
        min: us("MIN_LATENCY"),
        mean: us("MEAN_LATENCY").or_else(|| us("RT_LATENCY")),
        stdev: us("STDDEV_LATENCY"),
        max: us("MAX_LATENCY"),
        percentiles: percentiles.collect(),
    };
    (latency != ImportedLatency::default()).then_some(latency)
}

fn unknown(latency: Option<&ImportedLatency>, is_stream: bool) -> Vec<String> {
    let mut unknown = vec![client_unknown(TOOL)];
    match latency {
        _ if is_stream => unknown.push(
            "in a stream netperf times its own calls, not a message: no latency can be known, nor how \
             much arrived"
                .to_owned(),
        ),
        None => unknown.push("netperf gave no latency".to_owned()),
        Some(latency) => {
            if latency.percentiles.is_empty() {
                unknown.push(
                    "netperf gave an average, which is no percentile: the tail can't be known".to_owned(),
                );
            }
            unknown.push(
                "one message was in flight at a time and the next waited for it: what waits behind a \
                 slow answer can't be known"
                    .to_owned(),
            );
        }
    }
    unknown.push(
        "netperf does not compare what comes back: whether bytes are wrong can't be known"
            .to_owned(),
    );
    unknown
}
