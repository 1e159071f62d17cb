//! The server's side of a run, as its admin port tells it.

use serde::{Deserialize, Serialize};

use crate::admin::AdminUrl;

/// What the server counted, beside what the client did.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServerResult {
    /// Where it was asked.
    pub admin: AdminUrl,
    /// The server's version.
    pub version: String,
    /// How it spreads connections over its workers.
    pub balance: String,
    /// Its worker threads.
    pub workers: usize,
    /// What it did from the start of the window until nothing was out any more; null if the run ended
    /// before its window, or the server answered too late for it.
    pub window: Option<ServerWindow>,
    /// Processor time of its workers for a message, in nanoseconds; null if there was none.
    pub cpu_ns_per_message: Option<f64>,
    /// Processors that its workers were busy on.
    pub cpu_ratio: Option<f64>,
    /// Events that a turn of its loop found, on average.
    pub events_per_turn: Option<f64>,
    /// Jain's index over the workers' events; null for a single one.
    pub balance_jain: Option<f64>,
    /// Each worker over that time.
    pub per_worker: Vec<ServerWorker>,
    /// Both sides' accounts of the whole run, from before the first connect until after the last
    /// close.
    pub accounts: ServerAccounts,
}

/// What the server counted in the window and the wait after it.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServerWindow {
    /// Length of that time in seconds.
    pub duration_s: f64,
    /// Processor time of the workers in seconds.
    pub cpu_s: f64,
    /// Messages that its bytes make, by their mean size; over UDP its datagrams.
    pub messages: f64,
    /// Bytes that it read.
    pub received_bytes: u64,
    /// Bytes that its sockets took.
    pub sent_bytes: u64,
    /// Turns of its event loops.
    pub loop_iterations: u64,
    /// Events that the kernel returned.
    pub loop_events: u64,
    /// Turns in which as many came as fit.
    pub loop_full_batches: u64,
    /// Writes that the socket took in part or not at all: back-pressure.
    pub short_writes: u64,
    /// Bytes that waited for their peer to take them, at the end.
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

/// A worker over the window and the wait after it.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServerWorker {
    /// Over the whole run.
    pub connections_accepted: u64,
    /// Turns of its event loop.
    pub loop_iterations: u64,
    /// Events that the kernel returned.
    pub loop_events: u64,
    /// Its processor time in seconds.
    pub cpu_s: f64,
}

/// What both sides counted over the whole run.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServerAccounts {
    /// Payload bytes handed to the kernel.
    pub client_sent_bytes: u64,
    /// Payload bytes that came back; in a stream to the server, those acknowledged.
    pub client_received_bytes: u64,
    /// Bytes that the server read.
    pub server_received_bytes: u64,
    /// Bytes that its sockets took.
    pub server_sent_bytes: u64,
    /// Connections that stood.
    pub client_opened: u64,
    /// Connections that it served.
    pub server_accepted: u64,
    /// Connections that it refused.
    pub server_refused: u64,
    /// Datagrams that the server did not answer because their source was over its rate.
    #[serde(default)]
    pub server_over_source_rate: u64,
    /// Datagrams that the server did not answer because all together were over the rate.
    #[serde(default)]
    pub server_over_rate: u64,
    /// Whether they agree, as far as they have to.
    pub agree: bool,
}
