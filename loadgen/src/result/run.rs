//! The result of a run.

use serde::{Deserialize, Serialize};

use super::backends::{BackendResult, SharesResult};
use super::counts::{Connections, IntervalCounts, Messages};
use super::fairness::FairnessResult;
use super::latency::{IntervalLatency, Latency};
use super::origin::{Host, Tool};
use super::server::ServerResult;
use super::shard::{ShardResult, ShardsResult};
use super::statistics::{QuantileEstimate, RateEstimate, Spread, Trend};
use super::tcp::{TcpInterval, TcpResult};
use super::tls::TlsResult;
use super::verdict::{Status, Verdict};
use crate::plan::Plan;

/// The result of a run: all figures, the plan and the host.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunResult {
    /// Version of this layout.
    pub schema: u32,
    /// The program that made the result.
    pub tool: Tool,
    /// Start of the run, RFC 3339 in UTC.
    pub started_at: String,
    /// Whether the run was ended early.
    pub interrupted: bool,
    /// The host of the client.
    pub host: Host,
    /// The plan, with every option resolved.
    pub plan: Plan,
    /// Length of the measured window in seconds; that of all runs if there were several.
    pub duration_s: f64,
    /// Messages per second in the window.
    pub rate: Rate,
    /// Of all messages in the window.
    pub throughput: Throughput,
    /// Outcomes of the messages intended for the window: sent = received + lost + timed_out +
    /// abandoned + unfinished, and received = verified + corrupt if the run verifies.
    pub messages: Messages,
    /// Payload of the messages intended for the window.
    pub bytes: Bytes,
    /// Over the whole run, set-up and warm-up included.
    pub connections: Connections,
    /// Distributions of nanoseconds; one that does not apply, or has no sample, is absent.
    pub latency_ns: Latencies,
    /// Precision of the figures; empty for a union, unless it is of the shards of one run.
    pub statistics: Statistics,
    /// The window cut into pieces, by the time at which things happened; the last may be the wait for
    /// echoes after the window. Repeats follow each other.
    pub intervals: Vec<IntervalResult>,
    /// The time before the warm-up, in which the connections were made, cut into pieces.
    pub ramp: Vec<RampInterval>,
    /// TCP_INFO of the connections; null for other transports.
    pub tcp: Option<TcpResult>,
    /// TLS on the connections; absent if no target has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsResult>,
    /// Fairness between the connections; null with a connection per message, or a single one.
    pub fairness: Option<FairnessResult>,
    /// The servers that greeted the connections (--greeting); absent if none was to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<BackendResult>,
    /// Whether they had the expected shares (--expect-share); absent if none was expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_shares: Option<SharesResult>,
    /// The background streams; null if there were none.
    pub background: Option<BackgroundResult>,
    /// The runs that this is the union of; null for a single run.
    pub repeats: Option<Repeats>,
    /// The results that this is the union of (loadgen merge), each with what does not add; null if it
    /// is of one process. In a union, fairness is null, and so are percentiles of an interval of which a
    /// part lacks the histogram; statistics, tcp and server too, unless it is of shards of one run.
    #[serde(default)]
    pub merged: Option<Vec<MergedPart>>,
    /// The part of a run that this process made (--rank); absent if it made the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardResult>,
    /// How the shards of this union belong together; absent if it is of no shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards: Option<ShardsResult>,
    /// The server's own counters (--server-admin); null if they were not read.
    #[serde(default)]
    pub server: Option<ServerResult>,
    /// The client's own state in the window.
    pub client: Client,
    /// Whether the result is reliable.
    pub verdict: Verdict,
}

/// Messages per second.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Rate {
    /// Requested rate, as a mean over the window; null in a closed loop.
    pub target: Option<f64>,
    /// Messages that became due in the window, over its length.
    pub offered: f64,
    /// Messages of the window that came back, over its length. In a closed loop, and in an open one whose
    /// backlog grew, echoes complete in the window.
    pub achieved: f64,
    /// Changes of the rate by the user during the run.
    pub changes: Vec<RateChange>,
}

/// A change of the rate by the user.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RateChange {
    /// Time in seconds from the start of the window; negative before it.
    pub at_s: f64,
    /// Messages per second from then on.
    pub rate: f64,
}

/// Payload bits per second, whatever messages they belong to.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Throughput {
    /// Handed to the kernel.
    pub sent_bits_per_s: f64,
    /// Read back; in a stream to a discard server, acknowledged by its TCP.
    pub received_bits_per_s: f64,
}

/// Payload bytes of the messages intended for the window.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Bytes {
    /// Handed to the kernel.
    pub sent: u64,
    /// Read back.
    pub received: u64,
}

/// The latencies; one that does not apply is absent.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Latencies {
    /// From the intended time to the last byte of the echo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Latency>,
    /// From the start of the write call, or in churn of the connect call, to the last byte of the
    /// echo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Latency>,
    /// From the start of the connect call until the connection was open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<Latency>,
    /// From then until the TLS handshake was complete; `tls` has full and resumed ones apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake: Option<Latency>,
    /// From the intended time to the start of the write call; open loop only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_lag: Option<Latency>,
    /// From the start of the write call to the first byte of the echo; churn only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Latency>,
    /// From the half-close until the server had closed too; churn only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close: Option<Latency>,
}

/// Figures of one interval.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct IntervalResult {
    /// Begin, in seconds from the start of the window.
    pub start_s: f64,
    /// End, in seconds from the start of the window.
    pub end_s: f64,
    /// Its counts.
    #[serde(flatten)]
    pub counts: IntervalCounts,
    /// Payload bytes of the window's messages handed to the kernel.
    pub sent_bytes: u64,
    /// Payload bytes of the window's messages that came back or were acknowledged.
    pub received_bytes: u64,
    /// Connections opened.
    pub opened: u64,
    /// Connections that could not be opened.
    pub failed: u64,
    /// Response times of the echoes that were complete in the interval; null if there were none.
    pub response: Option<IntervalLatency>,
    /// Service times of the same.
    pub service: Option<IntervalLatency>,
    /// Samples of TCP_INFO in the interval; null if there were none.
    pub tcp: Option<TcpInterval>,
    /// Payload bytes received by background streams; null if there were none, and in lines that are
    /// written during the run.
    pub background_received_bytes: Option<u64>,
}

/// Connects in an interval of the ramp.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RampInterval {
    /// Begin, in seconds from the first connect.
    pub start_s: f64,
    /// End, in seconds from the first connect.
    pub end_s: f64,
    /// Connections opened.
    pub opened: u64,
    /// Connections that could not be opened.
    pub failed: u64,
    /// Connect times, in nanoseconds.
    pub connect: Option<IntervalLatency>,
}

/// The client's own state in the window.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Client {
    /// The measuring threads.
    pub threads: Vec<ThreadResult>,
    /// Share of the host's CPU time that the hypervisor gave to other guests; null if unknown.
    pub steal_ratio: Option<f64>,
    /// Send lag caused by the client itself; null in a closed loop.
    pub own_send_lag: Option<Latency>,
    /// Delay with which a probe thread was woken up; null if unknown.
    pub hiccup: Option<Latency>,
    /// The first wrong byte; null if there was none.
    pub first_corruption: Option<Corruption>,
    /// What the measuring threads got of the scheduler; null in results of earlier versions.
    #[serde(default)]
    pub scheduling: Option<ClientScheduling>,
}

/// What the measuring threads got of the scheduler (--priority), at least.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ClientScheduling {
    /// Their niceness, if they are not in the real-time class.
    pub nice: i32,
    /// The niceness of the session's group of processes, if it was raised; 0 if not.
    #[serde(default)]
    pub session_nice: i32,
    /// Whether they are in the real-time class SCHED_FIFO.
    pub realtime: bool,
    /// Whether they have other CPUs than the embedded server's workers.
    pub own_cpus: bool,
    /// Whether the memory was locked.
    pub memory_locked: bool,
}

impl ClientScheduling {
    /// What both got.
    pub(crate) fn least(self, other: Self) -> Self {
        Self {
            nice: self.nice.max(other.nice),
            session_nice: self.session_nice.max(other.session_nice),
            realtime: self.realtime && other.realtime,
            own_cpus: self.own_cpus && other.own_cpus,
            memory_locked: self.memory_locked && other.memory_locked,
        }
    }
}

/// One measuring thread in the window.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ThreadResult {
    /// Share of the time in which it ran on a CPU.
    pub cpu_ratio: f64,
    /// The same, without polling until the next message is due.
    pub busy_ratio: f64,
    /// Number of involuntary context switches.
    pub involuntary_switches: u64,
    /// Share of the time in which it waited for a CPU; null if the kernel does not report it.
    pub run_delay_ratio: Option<f64>,
    /// Mean wait for a CPU in nanoseconds; null if the kernel does not report it.
    pub run_delay_ns_mean: Option<f64>,
}

/// A wrong byte.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Corruption {
    /// Number of the connection in the run.
    pub connection: usize,
    /// Offset in what was sent on it; over UDP, in the datagram.
    pub offset: u64,
    /// Over UDP, the sequence number of the datagram: of the message that it answers, or if it answers
    /// none, the one that it carries. Null over a stream, and of a datagram that is too short for one.
    #[serde(default)]
    pub sequence: Option<u64>,
}

/// Precision of the figures.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Statistics {
    /// 95 % confidence interval of the achieved rate; null if the run is too short.
    pub rate: Option<RateEstimate>,
    /// 95 % confidence intervals of percentiles of the response time. Percentiles for which the run is
    /// too short are left out.
    pub response: Vec<QuantileEstimate>,
    /// Trend of the median response time within the window; null if the window is too short.
    pub trend: Option<Trend>,
}

/// Background streams.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BackgroundResult {
    /// Throughput in the window.
    pub throughput: Throughput,
    /// Bytes in the window: handed to the kernel, and received or acknowledged.
    pub bytes: Bytes,
    /// Their connections.
    pub connections: Connections,
    /// Number of wrong blocks.
    pub corrupt: u64,
    /// TCP_INFO of the streams; null for other transports.
    pub tcp: Option<TcpResult>,
}

/// The runs that a result is the union of.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Repeats {
    /// The main figures of each run.
    pub runs: Vec<RepeatRun>,
    /// Spread of these figures; null where a run lacks one.
    pub spread: RepeatSpread,
}

/// One of the results of a union, with the values that do not add.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MergedPart {
    /// Its file.
    pub name: String,
    /// Its start, RFC 3339 in UTC.
    pub started_at: String,
    /// The part of the run that it is; absent if it is no shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardResult>,
    /// The host of its client.
    pub host: Host,
    /// Length of its window.
    pub duration_s: f64,
    /// Its connections.
    pub connections: usize,
    /// Its achieved messages per second.
    pub achieved: f64,
    /// Its median response time in nanoseconds.
    pub response_p50_ns: Option<u64>,
    /// Its 99th percentile of the response time.
    pub response_p99_ns: Option<u64>,
    /// Its verdict.
    pub status: Status,
    /// TCP_INFO of its connections.
    pub tcp: Option<TcpResult>,
    /// Fairness between its connections.
    pub fairness: Option<FairnessResult>,
    /// The server's own counters.
    pub server: Option<ServerResult>,
}

/// The main figures of one run.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RepeatRun {
    /// Its start, RFC 3339 in UTC.
    pub started_at: String,
    /// Achieved messages per second.
    pub achieved: f64,
    /// Received payload bits per second.
    pub received_bits_per_s: f64,
    /// Median of the response time in nanoseconds.
    pub response_p50_ns: Option<u64>,
    /// Its 90th percentile.
    #[serde(default)]
    pub response_p90_ns: Option<u64>,
    /// Its 99th percentile.
    pub response_p99_ns: Option<u64>,
    /// Its 99.9th percentile.
    pub response_p99_9_ns: Option<u64>,
    /// Its maximum.
    pub response_max_ns: Option<u64>,
    /// Median of the service time in nanoseconds.
    #[serde(default)]
    pub service_p50_ns: Option<u64>,
    /// Its 99th percentile.
    #[serde(default)]
    pub service_p99_ns: Option<u64>,
    /// Messages that were due; null in results of earlier versions.
    #[serde(default)]
    pub due: Option<u64>,
    /// Messages that were lost, timed out, unfinished, unsent or corrupt.
    #[serde(default)]
    pub failed: Option<u64>,
    /// The server's CPU time per message in nanoseconds; null if its counters were not read.
    #[serde(default)]
    pub server_cpu_ns_per_message: Option<f64>,
    /// Its verdict.
    pub status: Status,
}

/// Spread of the main figures between runs; null where a run lacks one.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RepeatSpread {
    /// Achieved messages per second.
    pub achieved: Option<Spread>,
    /// Received payload bits per second.
    pub received_bits_per_s: Option<Spread>,
    /// Median of the response time.
    pub response_p50_ns: Option<Spread>,
    /// Its 99th percentile.
    pub response_p99_ns: Option<Spread>,
    /// Its 99.9th percentile.
    pub response_p99_9_ns: Option<Spread>,
}
