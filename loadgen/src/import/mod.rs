//! Results of other tools, a file for each: iperf3 (`-J`), fortio (`-json`), netperf's omni tests (`-k`,
//! `-o`) and sockperf.
//!
//! A figure is taken as the tool gave it, in other units at most, or it is absent. What the tool's figures
//! can't show is a reason of the verdict, which is never valid.

use std::fmt;

use serde_json::Value;

use crate::result::imported::{ImportedLatency, ImportedPercentile, ImportedResult};
use crate::result::latency::supports;
use crate::result::{Code, Reason, Verdict};

mod fortio;
mod iperf3;
mod netperf;
mod sockperf;

/// A larger file is none of these outputs.
pub const MAX_LEN: usize = 64 << 20;

/// Why the output of a tool has no result. Its text continues a sentence that begins with the file's name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImportError {
    tool: &'static str,
    problem: String,
}

impl ImportError {
    fn new(tool: &'static str, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self { tool, problem }
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an output of {} without a result: {}",
            self.tool, self.problem
        )
    }
}

impl std::error::Error for ImportError {}

/// Reads the output of another tool. `None` if it is none of those that are known.
///
/// # Errors
/// [`ImportError`] if the tool is known, and its output has no result.
pub fn read(content: &[u8]) -> Option<Result<ImportedResult, ImportError>> {
    if content.len() > MAX_LEN {
        return None;
    }
    if let Ok(json) = serde_json::from_slice::<Value>(content) {
        return iperf3::read(&json).or_else(|| fortio::read(&json));
    }
    let text = without_escapes(&String::from_utf8_lossy(content));
    sockperf::read(&text).or_else(|| netperf::read(&text))
}

/// The verdict with one reason for each thing that can't be known.
fn verdict(unknown: impl IntoIterator<Item = String>) -> Verdict {
    let reason = |text| Reason::suspect(Code::Imported, text);
    Verdict::from_reasons(unknown.into_iter().map(reason).collect())
}

/// What no figure of another tool can show.
fn client_unknown(tool: &str) -> String {
    format!(
        "{tool} does not watch its own client: whether the client or its host was the limit, or made the \
         tail, can't be known"
    )
}

/// Leaves out percentiles with too few samples beyond them, and says which.
fn keep_supported(latency: &mut ImportedLatency, tool: &str) -> Option<String> {
    latency
        .percentiles
        .sort_by(|one, other| one.percentile.total_cmp(&other.percentile));
    let Some(count) = latency.count else {
        return (!latency.percentiles.is_empty())
            .then(|| format!("{tool} does not tell how many samples a percentile rests on"));
    };
    let is_supported = |given: &ImportedPercentile| supports(count, given.percentile / 100.0);
    let (kept, dropped): (Vec<_>, Vec<_>) = latency.percentiles.drain(..).partition(is_supported);
    latency.percentiles = kept;
    let names: Vec<String> = dropped
        .iter()
        .map(|given| format!("p{}", given.percentile))
        .collect();
    (!names.is_empty()).then(|| {
        format!(
            "fewer than ten of its {count} samples lie beyond {}: left out",
            names.join(", ")
        )
    })
}

/// The number at a JSON pointer (RFC 6901), if it is one and finite.
fn number(json: &Value, pointer: &str) -> Option<f64> {
    json.pointer(pointer)?
        .as_f64()
        .filter(|value| value.is_finite())
}

/// The count at a JSON pointer.
fn count(json: &Value, pointer: &str) -> Option<u64> {
    json.pointer(pointer)?.as_u64()
}

/// The text at a JSON pointer, unless it is empty.
fn text(json: &Value, pointer: &str) -> Option<String> {
    let text = json.pointer(pointer)?.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// The text without escape sequences for colours.
fn without_escapes(text: &str) -> String {
    let mut parts = text.split('\x1b');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| c.is_ascii_alphabetic());
        plain.push_str(end.map_or("", |end| &part[end + 1..]));
    }
    plain
}
