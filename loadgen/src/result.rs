//! The result of a run: schema 1, the file that every report and every later comparison reads.
//!
//! Reports know this module and nothing else. Latencies keep their histograms, so results of
//! several threads, runs or hosts can be added without loss.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
use serde::ser::{Error as _, SerializeStruct};
use serde::{Serialize, Serializer};

use crate::plan::Plan;
use crate::stats::interval;
use crate::verdict::Verdict;

/// Everything that a run found, and what it took to find it.
#[derive(Clone, Debug, Serialize)]
pub struct RunResult {
    /// Version of this layout.
    pub schema: u32,
    /// What made the result.
    pub tool: Tool,
    /// Start of the run, RFC 3339 in UTC.
    pub started_at: String,
    /// Whether the run was ended before its time.
    pub interrupted: bool,
    /// Where the client ran.
    pub host: Host,
    /// What was asked for.
    pub plan: Plan,
    /// Length of the measured window.
    pub duration_s: f64,
    /// Messages per second in the window.
    pub rate: Rate,
    /// Messages intended for the window.
    pub messages: Messages,
    /// Payload bytes of those messages.
    pub bytes: Bytes,
    /// Connections over the whole run.
    pub connections: Connections,
    /// Latencies of those messages, and of the connects.
    pub latency_ns: Latencies,
    /// The window cut into pieces, by the time at which things happened; the last may be the wait
    /// for echoes after the window.
    pub intervals: Vec<IntervalResult>,
    /// What the client observed of itself.
    pub client: Client,
    /// Whether all this can be believed.
    pub verdict: Verdict,
}

/// A program and its version.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Tool {
    pub name: &'static str,
    pub version: &'static str,
}

/// The machine that the client ran on.
#[derive(Clone, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Host {
    pub name: Option<String>,
    pub kernel: Option<String>,
    pub cpu_model: Option<String>,
    /// CPUs that this process may use.
    pub cpus: usize,
}

/// Messages per second.
#[derive(Clone, Debug, Serialize)]
pub struct Rate {
    /// Asked for; null in a closed loop.
    pub target: Option<f64>,
    /// Made due in the window, over its length.
    pub offered: f64,
    /// Echoes complete in the window, over its length.
    pub achieved: f64,
}

/// What became of the messages intended for the window:
/// `sent = received + lost + unfinished + timed_out` and `received = verified + corrupt`, unless
/// verification is off.
#[derive(Clone, Debug, Serialize)]
pub struct Messages {
    /// First byte handed to the kernel.
    pub sent: u64,
    /// Echo complete.
    pub received: u64,
    /// Echo complete and every byte right.
    pub verified: u64,
    /// Echo complete and a byte wrong.
    pub corrupt: u64,
    /// Out when their connection ended.
    pub lost: u64,
    /// Times that more came back than had been sent; the connection is then ended.
    pub duplicated: u64,
    /// Always 0 over TCP, whose streams keep their order: a server that swaps messages shows as
    /// corruption.
    pub reordered: u64,
    /// Due, but never handed to the kernel.
    pub unsent: u64,
    /// Still out at the end of the wait after the window.
    pub unfinished: u64,
    /// Out for the timeout during the window; their connection was ended.
    pub timed_out: u64,
}

/// Payload bytes of the messages intended for the window.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Bytes {
    pub sent: u64,
    pub received: u64,
}

/// Connections over the whole run, set-up and warm-up included.
#[derive(Clone, Debug, Serialize)]
pub struct Connections {
    /// Stood.
    pub opened: u64,
    /// Could not be made.
    pub failed: u64,
    /// Reset or broken.
    pub reset: u64,
    /// Ended by the server in good order.
    pub closed_by_peer: u64,
}

/// The latencies; one that does not apply is absent.
#[derive(Clone, Debug, Serialize)]
pub struct Latencies {
    /// From the intended time to the last byte of the echo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<Latency>,
    /// From the start of the write call to the last byte of the echo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Latency>,
    /// From the start of the connect call until the connection stood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<Latency>,
    /// From the intended time to the start of the write call; open loop only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_lag: Option<Latency>,
}

/// A distribution of nanoseconds.
#[derive(Clone, Debug)]
pub struct Latency {
    histogram: Histogram<u64>,
}

impl Latency {
    /// `None` for an empty histogram.
    pub fn new(histogram: Histogram<u64>) -> Option<Self> {
        (!histogram.is_empty()).then_some(Self { histogram })
    }

    /// The value that the fraction `quantile` of the samples does not exceed; `None` if fewer than
    /// ten samples lie beyond it, because it would say more about luck than about the server.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        interval::supports(self.count(), quantile)
            .then(|| self.histogram.value_at_quantile(quantile))
    }

    /// Number of samples.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Smallest sample.
    pub fn min(&self) -> u64 {
        self.histogram.min()
    }

    /// Arithmetic mean.
    pub fn mean(&self) -> f64 {
        self.histogram.mean()
    }

    /// Standard deviation of the samples.
    pub fn stdev(&self) -> f64 {
        self.histogram.stdev()
    }

    /// Largest sample, to the histogram's three digits.
    pub fn max(&self) -> u64 {
        self.histogram.max()
    }

    /// The samples themselves.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }
}

impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut encoded = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&self.histogram, &mut encoded)
            .map_err(S::Error::custom)?;
        let mut fields = serializer.serialize_struct("Latency", 13)?;
        fields.serialize_field("count", &self.count())?;
        fields.serialize_field("min", &self.min())?;
        fields.serialize_field("mean", &self.mean())?;
        fields.serialize_field("stdev", &self.stdev())?;
        fields.serialize_field("max", &self.max())?;
        for (name, quantile) in QUANTILES {
            fields.serialize_field(name, &self.quantile(quantile))?;
        }
        fields.serialize_field("histogram", &STANDARD.encode(encoded))?;
        fields.end()
    }
}

/// The percentiles of the result file.
const QUANTILES: [(&str, f64); 7] = [
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99_9", 0.999),
    ("p99_99", 0.9999),
];

/// What happened in one interval.
#[derive(Clone, Debug, Serialize)]
pub struct IntervalResult {
    /// Begin, from the start of the window.
    pub start_s: f64,
    /// End, from the start of the window.
    pub end_s: f64,
    /// Messages handed to the kernel.
    pub sent: u64,
    /// Echoes complete.
    pub received: u64,
    /// Messages whose connection ended.
    pub lost: u64,
    /// Messages given up after the timeout.
    pub timed_out: u64,
    /// Response times of the echoes that were complete in the interval.
    pub response: Option<IntervalLatency>,
    /// Service times of the same.
    pub service: Option<IntervalLatency>,
}

/// A few figures of a distribution of nanoseconds.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct IntervalLatency {
    pub p50: Option<u64>,
    pub p99: Option<u64>,
    pub max: u64,
}

impl IntervalLatency {
    /// `None` for an empty histogram.
    pub fn new(histogram: &Histogram<u64>) -> Option<Self> {
        let latency = Latency::new(histogram.clone())?;
        Some(Self {
            p50: latency.quantile(0.5),
            p99: latency.quantile(0.99),
            max: latency.max(),
        })
    }
}

/// What the client observed of itself during the window.
#[derive(Clone, Debug, Serialize)]
pub struct Client {
    /// Its measuring threads.
    pub threads: Vec<ThreadResult>,
    /// Share of the host's processor time that its hypervisor gave to others; null if unknown.
    pub steal_ratio: Option<f64>,
    /// Send lag that was this program's own doing; null in a closed loop. The rest of the lag is
    /// of messages that had to wait for their connection.
    pub own_send_lag: Option<Latency>,
    /// Where the first wrong byte was.
    pub first_corruption: Option<Corruption>,
}

/// One measuring thread during the window.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ThreadResult {
    /// Share of the time that it was on a processor.
    pub cpu_ratio: f64,
    /// The same without the time that it spun because the next message was almost due.
    pub busy_ratio: f64,
    /// Times that it was taken off the processor.
    pub involuntary_switches: u64,
}

/// A byte that came back wrong.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Corruption {
    /// Number of the connection in the run.
    pub connection: usize,
    /// Offset in what was sent on it.
    pub offset: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;
    use hdrhistogram::serialization::Deserializer;

    #[test]
    fn a_percentile_needs_ten_samples_beyond_it() {
        let mut histogram = record::histogram();
        histogram.record_n(1000, 999).unwrap();
        let latency = Latency::new(histogram.clone()).unwrap();
        assert_eq!(latency.quantile(0.9), Some(1000));
        assert_eq!(latency.quantile(0.99), None);
        histogram.record(1000).unwrap();
        let latency = Latency::new(histogram).unwrap();
        assert_eq!(latency.quantile(0.99), Some(1000));
        assert_eq!(latency.quantile(0.999), None);
    }

    #[test]
    fn a_latency_in_json_carries_its_histogram() {
        let mut histogram = record::histogram();
        for value in 1..=10_000 {
            histogram.record(value * 1000).unwrap();
        }
        let latency = Latency::new(histogram.clone()).unwrap();
        let json = serde_json::to_value(&latency).unwrap();
        assert_eq!(json["count"], 10_000);
        assert_eq!(json["p99_9"], histogram.value_at_quantile(0.999));
        assert!(json["p99_99"].is_null());
        let encoded = STANDARD
            .decode(json["histogram"].as_str().unwrap())
            .unwrap();
        let decoded: Histogram<u64> = Deserializer::new()
            .deserialize(&mut encoded.as_slice())
            .unwrap();
        assert_eq!(decoded, histogram);
    }

    #[test]
    fn no_samples_are_no_latency() {
        assert!(Latency::new(record::histogram()).is_none());
        assert!(IntervalLatency::new(&record::histogram()).is_none());
    }
}
