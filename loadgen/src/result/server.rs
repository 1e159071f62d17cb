//! The server's side of a run, as its admin port tells it.

use serde::{Deserialize, Serialize};

use crate::admin::AdminUrl;

/// What the server counted, beside what the client did.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
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
    /// Processor time of its workers for a message, over that time.
    pub cpu_ns_per_message: Option<f64>,
    /// Processors that its workers were busy on, over that time.
    pub cpu_ratio: Option<f64>,
    /// Events that a turn of its loop found, on average.
    pub events_per_turn: Option<f64>,
    /// Jain's index over what the workers received as events; null for a single one.
    pub balance_jain: Option<f64>,
    /// Each worker over that time.
    pub per_worker: Vec<ServerWorker>,
    /// Both sides' accounts of the whole run, from before the first connect until after the last
    /// close.
    pub accounts: ServerAccounts,
}

/// What the server counted in the window and the wait after it.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are those of the server's counters")]
pub struct ServerWindow {
    pub duration_s: f64,
    pub cpu_s: f64,
    /// Messages that its bytes make, by their mean size; in UDP its datagrams.
    pub messages: f64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub loop_iterations: u64,
    pub loop_events: u64,
    /// Turns in which as many events came as fit.
    pub loop_full_batches: u64,
    /// Writes of which the socket took a part or nothing: back-pressure.
    pub short_writes: u64,
    /// Bytes that waited for their peer to take them, at the end.
    pub backlog_bytes: u64,
    pub connections_accepted: u64,
    pub connections_refused: u64,
    pub accept_errors: u64,
    pub datagrams_dropped: u64,
}

/// A worker over the window and the wait after it.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are those of the server's counters")]
pub struct ServerWorker {
    /// Over the whole run: connections are made before the window.
    pub connections_accepted: u64,
    pub loop_iterations: u64,
    pub loop_events: u64,
    pub cpu_s: f64,
}

/// What both sides counted over the whole run.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ServerAccounts {
    pub client_sent_bytes: u64,
    pub client_received_bytes: u64,
    pub server_received_bytes: u64,
    pub server_sent_bytes: u64,
    pub client_opened: u64,
    pub server_accepted: u64,
    pub server_refused: u64,
    /// Whether they agree, as far as they have to.
    pub agree: bool,
}
