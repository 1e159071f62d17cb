//! The server's side of a run, as its admin port tells it.

use serde::{Deserialize, Serialize};

use crate::admin::AdminUrl;

/// The server's counters, beside the client's.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServerResult {
    /// URL of its admin port.
    pub admin: AdminUrl,
    /// The server's version.
    pub version: String,
    /// Its policy to balance connections over workers.
    pub balance: String,
    /// Number of worker threads.
    pub workers: usize,
    /// Its counters from the start of the window until no message was in flight; null if the run ended
    /// before its window, or the server answered too late for it.
    pub window: Option<ServerWindow>,
    /// CPU time of its workers per message, in nanoseconds; null without messages.
    pub cpu_ns_per_message: Option<f64>,
    /// Number of CPUs that its workers kept busy.
    pub cpu_ratio: Option<f64>,
    /// Mean number of events per turn of its event loop.
    pub events_per_turn: Option<f64>,
    /// Jain's index over the workers' events; null with a single worker.
    pub balance_jain: Option<f64>,
    /// Each worker in the same time.
    pub per_worker: Vec<ServerWorker>,
    /// Bytes and connections as counted by both sides, from before the first connect until after the
    /// last close.
    pub accounts: ServerAccounts,
}

/// The server's counters in the window and the wait after it.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServerWindow {
    /// Length of that time in seconds.
    pub duration_s: f64,
    /// CPU time of the workers in seconds.
    pub cpu_s: f64,
    /// Number of messages: its bytes divided by their mean size; over UDP its datagrams.
    pub messages: f64,
    /// Bytes read.
    pub received_bytes: u64,
    /// Bytes written.
    pub sent_bytes: u64,
    /// Turns of its event loops.
    pub loop_iterations: u64,
    /// Events that the kernel returned.
    pub loop_events: u64,
    /// Turns in which the batch of events was full.
    pub loop_full_batches: u64,
    /// Writes that the socket accepted in part or not at all: back-pressure.
    pub short_writes: u64,
    /// Bytes in backlogs at the end, waiting for peers to read.
    pub backlog_bytes: u64,
    /// Connections accepted.
    pub connections_accepted: u64,
    /// Connections refused.
    pub connections_refused: u64,
    /// Failures of accept(2).
    pub accept_errors: u64,
    /// Datagrams not answered.
    pub datagrams_dropped: u64,
    /// Datagrams that the server's kernel dropped before the server saw them.
    #[serde(default)]
    pub datagrams_dropped_by_kernel: u64,
}

/// A worker in the window and the wait after it.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServerWorker {
    /// Over the whole run.
    pub connections_accepted: u64,
    /// Turns of its event loop.
    pub loop_iterations: u64,
    /// Events that the kernel returned.
    pub loop_events: u64,
    /// Its CPU time in seconds.
    pub cpu_s: f64,
}

/// Counters of both sides over the whole run.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServerAccounts {
    /// Payload bytes handed to the kernel.
    pub client_sent_bytes: u64,
    /// Payload bytes received; in a stream to the server, bytes acknowledged.
    pub client_received_bytes: u64,
    /// Bytes that the server read.
    pub server_received_bytes: u64,
    /// Bytes written.
    pub server_sent_bytes: u64,
    /// Connections opened by the client.
    pub client_opened: u64,
    /// Connections that the server served.
    pub server_accepted: u64,
    /// Connections that the server refused.
    pub server_refused: u64,
    /// Datagrams that the server did not answer because their source was over its rate.
    #[serde(default)]
    pub server_over_source_rate: u64,
    /// Datagrams that the server did not answer because all together were over the rate.
    #[serde(default)]
    pub server_over_rate: u64,
    /// Whether both sides agree, within what may differ.
    pub agree: bool,
}
