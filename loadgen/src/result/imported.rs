//! A result that another tool measured, with the figures that it gave and no others.

use serde::{Deserialize, Serialize};

use super::origin::Tool;
use super::verdict::Verdict;

/// The result of another tool. What it did not tell is null.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ImportedResult {
    /// Version of this layout.
    pub schema: u32,
    /// The kind of the file.
    pub kind: ImportedKind,
    /// The program that measured.
    pub tool: Tool,
    /// Start of the measurement, RFC 3339.
    pub started_at: Option<String>,
    /// Whether it was ended early.
    pub interrupted: bool,
    /// The measured server, as the tool names it.
    pub target: Option<String>,
    /// The load, in words.
    pub load: String,
    /// Length of the measurement in seconds.
    pub duration_s: Option<f64>,
    /// Number of connections, or of threads that use one each.
    pub connections: Option<u64>,
    /// Requested messages per second.
    pub target_rate: Option<f64>,
    /// Messages that came back, per second.
    pub achieved_rate: Option<f64>,
    /// Bits per second that were sent.
    pub sent_bits_per_s: Option<f64>,
    /// Bits per second that were received.
    pub received_bits_per_s: Option<f64>,
    /// Outcomes of messages or datagrams.
    pub messages: ImportedMessages,
    /// Time of a round trip, from the moment at which the tool sent the message.
    pub latency_ns: Option<ImportedLatency>,
    /// Segments that TCP sent again.
    pub retransmits: Option<u64>,
    /// TCP's own smoothed estimate of the round trip in nanoseconds, on average. No message's latency.
    pub tcp_rtt_ns_mean: Option<f64>,
    /// Variation of the transit time of datagrams (RFC 3550) in nanoseconds.
    pub jitter_ns: Option<f64>,
    /// Processor time of the client's side, as a share of one CPU or of the host, as the tool counts it.
    pub client_cpu_ratio: Option<f64>,
    /// The same of the server's side.
    pub server_cpu_ratio: Option<f64>,
    /// What can't be known from this result.
    pub verdict: Verdict,
}

/// The kind of the file.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportedKind {
    /// The result of another tool.
    Imported,
}

/// Outcomes of messages or datagrams; null what the tool did not count.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ImportedMessages {
    /// Sent.
    pub sent: Option<u64>,
    /// Received.
    pub received: Option<u64>,
    /// Lost.
    pub lost: Option<u64>,
    /// Failed, for any reason.
    pub failed: Option<u64>,
    /// Received more than once.
    pub duplicated: Option<u64>,
    /// Received behind later ones.
    pub reordered: Option<u64>,
}

/// A latency in nanoseconds.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ImportedLatency {
    /// Number of samples.
    pub count: Option<u64>,
    /// Smallest sample.
    pub min: Option<f64>,
    /// Arithmetic mean.
    pub mean: Option<f64>,
    /// Standard deviation.
    pub stdev: Option<f64>,
    /// Largest sample.
    pub max: Option<f64>,
    /// Percentiles in rising order; those with fewer than ten samples beyond are left out.
    pub percentiles: Vec<ImportedPercentile>,
}

/// A percentile that the tool gave.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct ImportedPercentile {
    /// The percentile in percent, such as 99.9.
    pub percentile: f64,
    /// Its value in nanoseconds.
    pub value_ns: f64,
}

impl ImportedLatency {
    /// A percentile, if the tool gave it.
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        let mut all = self.percentiles.iter();
        let found = all.find(|given| (given.percentile - percent).abs() < 1e-9)?;
        Some(found.value_ns)
    }
}
