//! The result of a run: schema 1, the file that every report and every later comparison reads.
//!
//! Reports know this module and nothing else. Latencies keep their histograms, so results of
//! several threads, runs or hosts can be added without loss.

use std::ops::AddAssign;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
use serde::ser::{Error as _, SerializeStruct};
use serde::{Serialize, Serializer};

use crate::plan::Plan;
use crate::stats::fairness::Fairness;
use crate::stats::interval::{self, QuantileEstimate, RateEstimate};
use crate::stats::spread::Spread;
use crate::stats::warmup::Trend;
use crate::verdict::{Status, Verdict};

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
    /// Payload bits per second in the window.
    pub throughput: Throughput,
    /// Messages intended for the window.
    pub messages: Messages,
    /// Payload bytes of those messages.
    pub bytes: Bytes,
    /// Connections over the whole run.
    pub connections: Connections,
    /// Latencies of those messages, and of the connects.
    pub latency_ns: Latencies,
    /// How sure these figures are, and whether they were steady.
    pub statistics: Statistics,
    /// The window cut into pieces, by the time at which things happened; the last may be the wait
    /// for echoes after the window.
    pub intervals: Vec<IntervalResult>,
    /// The time before the warm-up, in which the connections were made, cut into pieces.
    pub ramp: Vec<RampInterval>,
    /// What TCP says of the connections; null for other transports.
    pub tcp: Option<TcpResult>,
    /// How evenly the connections were served; null where each message had its own.
    pub fairness: Option<FairnessResult>,
    /// The streams that flowed beside the workload.
    pub background: Option<BackgroundResult>,
    /// The runs that this is the union of, if there were several.
    pub repeats: Option<Repeats>,
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
    /// Rates that the user asked for while the run went on.
    pub changes: Vec<RateChange>,
}

/// A wish of the user during the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RateChange {
    /// When, from the start of the window; negative in the warm-up.
    pub at_s: f64,
    /// Messages per second from then on.
    pub rate: f64,
}

/// Payload bits per second, whatever messages they belong to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Throughput {
    /// Handed to the kernel.
    pub sent_bits_per_s: f64,
    /// Read back; in a stream to a discard server, acknowledged by its TCP.
    pub received_bits_per_s: f64,
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
    /// Out when their connection ended; over UDP, not back within the timeout.
    pub lost: u64,
    /// Datagrams that came back again. Over a stream: times that more came back than had been sent;
    /// the connection is then ended.
    pub duplicated: u64,
    /// Datagrams that came back after one that was sent later (RFC 4737). Always 0 over a stream: a
    /// server that swaps messages shows as corruption.
    pub reordered: u64,
    /// Datagrams that came back after they had been given up as lost; they stay lost.
    pub late: u64,
    /// Datagrams that answer nothing that was sent.
    pub stray: u64,
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
    /// Those of `failed` for which this host had no port left.
    pub out_of_ports: u64,
    /// Reset or broken.
    pub reset: u64,
    /// Ended by the server in good order.
    pub closed_by_peer: u64,
    /// Not closed by the server within the timeout, when the client had.
    pub unclosed: u64,
    /// Standing at the end of the run.
    pub held: u64,
}

/// The latencies; one that does not apply is absent.
#[derive(Clone, Debug, Serialize)]
pub struct Latencies {
    /// From the intended time to the last byte of the echo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<Latency>,
    /// From the start of the write call, or where each message has a connection of its own from the
    /// start of the connect call, to the last byte of the echo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Latency>,
    /// From the start of the connect call until the connection stood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<Latency>,
    /// From the intended time to the start of the write call; open loop only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_lag: Option<Latency>,
    /// From the start of the write call to the first byte of the echo, where each message has a
    /// connection of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Latency>,
    /// From the half-close until the server had closed too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close: Option<Latency>,
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

impl AddAssign<&Self> for Latency {
    fn add_assign(&mut self, other: &Self) {
        self.histogram
            .add(&other.histogram)
            .expect("all histograms have the same bounds");
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
    /// Messages whose connection ended, datagrams given up.
    pub lost: u64,
    /// Messages given up after the timeout.
    pub timed_out: u64,
    /// Datagrams that came back again.
    pub duplicated: u64,
    /// Datagrams that came back after a later one.
    pub reordered: u64,
    /// Payload bytes handed to the kernel.
    pub sent_bytes: u64,
    /// Payload bytes that came back or were acknowledged.
    pub received_bytes: u64,
    /// Connections that stood, and that could not be made.
    pub opened: u64,
    /// See above.
    pub failed: u64,
    /// Response times of the echoes that were complete in the interval.
    pub response: Option<IntervalLatency>,
    /// Service times of the same.
    pub service: Option<IntervalLatency>,
    /// What TCP said of the connections that were asked in the interval.
    pub tcp: Option<TcpInterval>,
    /// What the streams beside the workload received.
    pub background_received_bytes: Option<u64>,
}

/// Samples of TCP_INFO, averaged over the connections that were asked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TcpInterval {
    /// Mean of the smoothed round-trip times.
    pub rtt_us_mean: f64,
    /// The largest of them.
    pub rtt_us_max: u32,
    /// Mean of the congestion windows, in segments.
    pub cwnd_mean: f64,
    /// Segments retransmitted.
    pub retransmits: u64,
}

/// Connects in a piece of the time before the warm-up.
#[derive(Clone, Debug, Serialize)]
pub struct RampInterval {
    /// Begin, from the first connect.
    pub start_s: f64,
    /// End, from the first connect.
    pub end_s: f64,
    /// Connections that stood.
    pub opened: u64,
    /// Connections that could not be made.
    pub failed: u64,
    /// From the start of the connect call until the connection stood.
    pub connect: Option<IntervalLatency>,
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
    /// How late a thread of this program was run that asked to be run at known times: how long this
    /// host failed to run us.
    pub hiccup: Option<Latency>,
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
    /// Share of the time that it was ready to run and had no processor; null if the kernel does not
    /// tell.
    pub run_delay_ratio: Option<f64>,
}

/// A byte that came back wrong.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Corruption {
    /// Number of the connection in the run.
    pub connection: usize,
    /// Offset in what was sent on it.
    pub offset: u64,
}

/// How sure the figures are.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Statistics {
    /// 95 % confidence interval of the achieved rate.
    pub rate: Option<RateEstimate>,
    /// The same of percentiles of the response time; those that the run can't tell are left out.
    pub response: Vec<QuantileEstimate>,
    /// Whether the latency changed in the course of the window; null if it is too short to tell.
    pub trend: Option<Trend>,
}

/// What TCP says of the connections, at their end or at the end of the run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TcpResult {
    /// Connections that were asked.
    pub connections: u64,
    /// Gauges of those that stood at the end; null if none did.
    pub at_end: Option<TcpGauges>,
    /// Segments retransmitted.
    pub retransmits: u64,
    /// Bytes retransmitted.
    pub bytes_retransmitted: u64,
    /// Segments that the peer reported as received twice (RFC 2883).
    pub duplicates: u64,
    /// Times that segments were found reordered.
    pub reorderings: u64,
    /// Segments that arrived here out of order.
    pub received_out_of_order: u64,
    /// Shares of the connections' life:
    pub shares: TcpShares,
    /// What limited this side's sending, in words.
    pub limit: TcpLimit,
}

/// Shares of the connections' life; they add up to one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TcpShares {
    /// There was nothing to send.
    pub idle: f64,
    /// The peer's receive window was full.
    pub receive_window: f64,
    /// This side's send buffer was full.
    pub send_buffer: f64,
    /// Data was out or under way: the network and the congestion window.
    pub network: f64,
}

/// What limited the sending.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TcpLimit {
    /// For programs: `idle`, `receive_window`, `send_buffer` or `network`.
    pub code: &'static str,
    /// For people.
    pub text: String,
}

/// Gauges over the connections that stood at the end.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are TCP_INFO's")]
pub struct TcpGauges {
    pub rtt_us: Gauge,
    pub rttvar_us: Gauge,
    pub min_rtt_us: Option<Gauge>,
    /// Congestion window, in segments.
    pub cwnd: Gauge,
    /// Slow-start threshold of the connections that have one, in segments.
    pub ssthresh: Option<Gauge>,
    /// Segments that are taken for lost.
    pub lost: Gauge,
    pub delivery_rate_bits_per_s: Option<Gauge>,
    pub pacing_rate_bits_per_s: Option<Gauge>,
}

/// A gauge over several connections.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Gauge {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Gauge {
    /// `None` without values.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_unstable_by(f64::total_cmp);
        Some(Self {
            min: *values.first()?,
            median: values[values.len() / 2],
            max: *values.last()?,
        })
    }
}

/// How evenly the connections were served.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FairnessResult {
    /// What is compared.
    pub basis: FairnessBasis,
    /// Over the connections.
    #[serde(flatten)]
    pub index: Fairness,
    /// The slowest ones, at most ten.
    pub slowest: Vec<ConnectionShare>,
    /// The fastest ones, at most ten.
    pub fastest: Vec<ConnectionShare>,
    /// The connections grouped by target.
    pub by_target: Option<Groups>,
    /// The connections grouped by the client's thread.
    pub by_thread: Option<Groups>,
    /// The connections grouped by the CPU that took in what came on them (SO_INCOMING_CPU): on
    /// loopback the CPU that the server sent from, else that of the network card's queue.
    pub by_incoming_cpu: Option<Groups>,
}

/// By what connections are compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FairnessBasis {
    /// Messages of the window. For a closed loop, in which answers decide how many there are.
    Messages,
    /// How fast answers came: one over the mean response time. For an open loop, in which the
    /// schedule decides how many messages each connection has.
    Speed,
}

/// Several groups of connections.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Groups {
    /// Jain's index over the groups' means.
    pub jain: f64,
    /// Each of them.
    pub groups: Vec<Group>,
}

/// A group of connections.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// Target, number of the thread, or number of the CPU.
    pub name: String,
    /// How many connections it has.
    pub connections: usize,
    /// Messages per connection, on average.
    pub messages_mean: f64,
    /// Response time, on average; null in a stream in one direction.
    pub response_ns_mean: Option<f64>,
}

/// What one connection had of the window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConnectionShare {
    /// Its number in the run.
    pub connection: usize,
    /// The client's port, if it stood at the end and has one.
    pub local_port: Option<u16>,
    /// Messages.
    pub messages: u64,
    /// Response time, on average; null in a stream in one direction, or without messages.
    pub response_ns_mean: Option<f64>,
}

/// The streams that flowed beside the workload.
#[derive(Clone, Debug, Serialize)]
pub struct BackgroundResult {
    /// Their payload bits per second.
    pub throughput: Throughput,
    /// Their bytes in the window, handed to the kernel and received or acknowledged.
    pub bytes: Bytes,
    /// Streams that stood, could not be made, broke.
    pub connections: Connections,
    /// Bytes that came back wrong make it above 0.
    pub corrupt: u64,
    /// What TCP says of them.
    pub tcp: Option<TcpResult>,
}

/// The runs that a result is the union of.
#[derive(Clone, Debug, Serialize)]
pub struct Repeats {
    /// A few figures of each.
    pub runs: Vec<RepeatRun>,
    /// How far these figures spread.
    pub spread: RepeatSpread,
}

/// A few figures of one run.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of the whole result")]
pub struct RepeatRun {
    pub started_at: String,
    pub achieved: f64,
    pub received_bits_per_s: f64,
    pub response_p50_ns: Option<u64>,
    pub response_p99_ns: Option<u64>,
    pub response_p99_9_ns: Option<u64>,
    pub response_max_ns: Option<u64>,
    pub status: Status,
}

/// The spread of a few figures between runs; null where one of them lacks it.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of a run")]
pub struct RepeatSpread {
    pub achieved: Option<Spread>,
    pub received_bits_per_s: Option<Spread>,
    pub response_p50_ns: Option<Spread>,
    pub response_p99_ns: Option<Spread>,
    pub response_p99_9_ns: Option<Spread>,
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
