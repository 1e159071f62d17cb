//! The result of a run.

use serde::{Deserialize, Serialize};

use super::counts::{Connections, Messages};
use super::fairness::FairnessResult;
use super::latency::{IntervalLatency, Latency};
use super::origin::{Host, Tool};
use super::server::ServerResult;
use super::statistics::{QuantileEstimate, RateEstimate, Spread, Trend};
use super::tcp::{TcpInterval, TcpResult};
use super::verdict::{Status, Verdict};
use crate::plan::Plan;

/// Everything that a run found, and what it took to find it.
#[derive(Clone, Debug, Deserialize, Serialize)]
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
    /// The results that this is the union of, if there were several hosts or processes.
    #[serde(default)]
    pub merged: Option<Vec<MergedPart>>,
    /// What the server says of itself, if it was asked.
    #[serde(default)]
    pub server: Option<ServerResult>,
    /// What the client observed of itself.
    pub client: Client,
    /// Whether all this can be believed.
    pub verdict: Verdict,
}

/// Messages per second.
#[derive(Clone, Debug, Deserialize, Serialize)]
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
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct RateChange {
    /// When, from the start of the window; negative in the warm-up.
    pub at_s: f64,
    /// Messages per second from then on.
    pub rate: f64,
}

/// Payload bits per second, whatever messages they belong to.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Throughput {
    /// Handed to the kernel.
    pub sent_bits_per_s: f64,
    /// Read back; in a stream to a discard server, acknowledged by its TCP.
    pub received_bits_per_s: f64,
}

/// Payload bytes of the messages intended for the window.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Bytes {
    pub sent: u64,
    pub received: u64,
}

/// The latencies; one that does not apply is absent.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Latencies {
    /// From the intended time to the last byte of the echo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Latency>,
    /// From the start of the write call, or where each message has a connection of its own from the
    /// start of the connect call, to the last byte of the echo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Latency>,
    /// From the start of the connect call until the connection stood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<Latency>,
    /// From the intended time to the start of the write call; open loop only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_lag: Option<Latency>,
    /// From the start of the write call to the first byte of the echo, where each message has a
    /// connection of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Latency>,
    /// From the half-close until the server had closed too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close: Option<Latency>,
}

/// What happened in one interval.
#[derive(Clone, Debug, Deserialize, Serialize)]
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

/// Connects in a piece of the time before the warm-up.
#[derive(Clone, Debug, Deserialize, Serialize)]
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

/// What the client observed of itself during the window.
#[derive(Clone, Debug, Deserialize, Serialize)]
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
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
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
    /// How long that was each time that it became ready, on average.
    pub run_delay_ns_mean: Option<f64>,
}

/// A byte that came back wrong.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Corruption {
    /// Number of the connection in the run.
    pub connection: usize,
    /// Offset in what was sent on it.
    pub offset: u64,
}

/// How sure the figures are.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Statistics {
    /// 95 % confidence interval of the achieved rate.
    pub rate: Option<RateEstimate>,
    /// The same of percentiles of the response time; those that the run can't tell are left out.
    pub response: Vec<QuantileEstimate>,
    /// Whether the latency changed in the course of the window; null if it is too short to tell.
    pub trend: Option<Trend>,
}

/// The streams that flowed beside the workload.
#[derive(Clone, Debug, Deserialize, Serialize)]
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
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Repeats {
    /// A few figures of each.
    pub runs: Vec<RepeatRun>,
    /// How far these figures spread.
    pub spread: RepeatSpread,
}

/// One of the results that a union is made of, with what does not add.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[expect(missing_docs, reason = "the names are those of the whole result")]
pub struct MergedPart {
    /// Its file.
    pub name: String,
    pub started_at: String,
    pub host: Host,
    pub duration_s: f64,
    pub connections: usize,
    pub achieved: f64,
    pub response_p50_ns: Option<u64>,
    pub response_p99_ns: Option<u64>,
    pub status: Status,
    pub tcp: Option<TcpResult>,
    pub fairness: Option<FairnessResult>,
    pub server: Option<ServerResult>,
}

/// A few figures of one run.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[expect(missing_docs, reason = "the names are those of the whole result")]
pub struct RepeatRun {
    pub started_at: String,
    pub achieved: f64,
    pub received_bits_per_s: f64,
    pub response_p50_ns: Option<u64>,
    #[serde(default)]
    pub response_p90_ns: Option<u64>,
    pub response_p99_ns: Option<u64>,
    pub response_p99_9_ns: Option<u64>,
    pub response_max_ns: Option<u64>,
    #[serde(default)]
    pub service_p50_ns: Option<u64>,
    #[serde(default)]
    pub service_p99_ns: Option<u64>,
    /// Messages that were due; null in results of before this was kept.
    #[serde(default)]
    pub due: Option<u64>,
    /// Those that did not come back as they were sent.
    #[serde(default)]
    pub failed: Option<u64>,
    #[serde(default)]
    pub server_cpu_ns_per_message: Option<f64>,
    pub status: Status,
}

/// The spread of a few figures between runs; null where one of them lacks it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[expect(missing_docs, reason = "the names are those of a run")]
pub struct RepeatSpread {
    pub achieved: Option<Spread>,
    pub received_bits_per_s: Option<Spread>,
    pub response_p50_ns: Option<Spread>,
    pub response_p99_ns: Option<Spread>,
    pub response_p99_9_ns: Option<Spread>,
}
