//! The stored results, schema 1: the files that every report and every later comparison reads.
//!
//! - [`run`]: the result of a run, of repeats, or of a union. [`search`], [`comparison`]: those of the
//!   other subcommands.
//! - [`watch`]: outages and their causes.
//! - [`imported`]: what another tool measured. [`side_by_side`]: such a result beside another.
//! - [`shard`]: processes that made one run.
//! - [`counts`]: what is counted, declared once.
//! - [`latency`], [`histogram`]: latencies keep their histograms, so results of several threads, runs or
//!   hosts add without loss.
//! - [`verdict`]: whether a result is reliable.
//! - [`stored`]: reads any of them from a file.
//!
//! Data alone: other modules compute what stands here, and reports know nothing else.

pub mod backends;
pub mod comparison;
pub mod counts;
pub mod fairness;
pub mod histogram;
pub mod imported;
pub mod latency;
pub mod objective;
pub mod origin;
pub mod run;
#[cfg(test)]
mod schema;
pub mod search;
pub mod server;
pub mod shard;
pub mod side_by_side;
pub mod statistics;
pub mod stored;
pub mod tcp;
pub mod tls;
pub mod verdict;
pub mod watch;

pub use backends::{BackendResult, ShareResult, SharesResult};
pub use counts::{Connections, Counts, IntervalCounts, Messages};
pub use fairness::{ConnectionShare, FairnessBasis, FairnessResult, Group, Groups};
pub use imported::ImportedResult;
pub use latency::{IntervalLatency, Latency, Samples};
pub use origin::{Host, Tool};
pub use run::{
    BackgroundResult, Bytes, Client, ClientScheduling, Corruption, IntervalResult, Latencies,
    MergedPart, RampInterval, Rate, RateChange, RepeatRun, RepeatSpread, Repeats, RunResult,
    Statistics, ThreadResult, Throughput,
};
pub use search::{
    CurvePoint, GoalResult, SearchKind, SearchResult, TrialFigures, TrialLatency, TrialOutcome,
    TrialResult,
};
pub use server::{ServerAccounts, ServerResult, ServerWindow, ServerWorker};
pub use shard::{ClockState, ShardResult, ShardsResult};
pub use side_by_side::SideBySide;
pub use stored::{Stored, StoredError};
pub use tcp::{Gauge, TcpGauges, TcpInterval, TcpLimit, TcpLimitCode, TcpResult, TcpShares};
pub use tls::{TlsHandshakes, TlsResult};
pub use verdict::{Code, Reason, Status, Verdict};
pub use watch::WatchResult;
