//! Echomark's load generator: measures latency and throughput of echo servers, and marks results
//! that are not reliable. The program `loadgen` is a thin wrapper around it.
//!
//! # The map, in reading order
//! - [`plan`]: a run with every option resolved. [`profile`]: a rate over time.
//! - [`run`]: one run from plan to result; starts the threads and waits for them.
//!   [`observer`]: progress of a run, and its control.
//! - `engine`: the measuring threads: worker, workloads, connections, schedule, payload, recorder.
//! - `embedded`: the server of a run without a target.
//! - `analysis`: from slices of a run to a result with its verdict.
//! - [`admin`]: reads the server's own counters from its admin port.
//! - [`import`]: reads results of other tools.
//! - [`result`](mod@result): the stored result. [`report`]: its output formats.
//! - [`search`]: the highest load that meets objectives, from trials to bounds. Pure. [`trials`]:
//!   a search with runs as trials.
//! - [`watch`]: outages and their causes.
//! - [`compare`]: whether one server is worse than another. [`merge`](mod@merge): the union of results
//!   of several processes. Pure.
//!
//! `examples/measure.rs` makes a run and reads its result.
//!
//! # Features
//! `program`, on by default: what only the program `loadgen` needs. The library does without it and its
//! dependencies: `default-features = false`.
//!
//! # Threads
//! ```text
//!   coordinator                            loadgen-0              loadgen-1      ...
//!     spawn ───────────────────────────────▶ connect_all            connect_all
//!     await_connections ◀── Connected ──────   │                      │
//!     go: the common start ────────────────▶ begin                  begin
//!     receive_reports ◀── Slice ────────────  ┌─▶ wait ◀── epoll     ...
//!       Aggregate::add: sums,                 │   dispatch ─▶ Flow::receive, Flow::send
//!       percentiles                           │   read_on
//!       ── cleared slices, for reuse ───────▶ │   issue  ◀── Schedule
//!       ──▶ Observer                          └── keep_house ─▶ timeouts, TCP_INFO
//!     receive_reports ◀── Finished ─────────  finish
//!     summarize ─▶ RunResult with its Verdict
//! ```
//! Measuring threads share only the stop flags and the rate set by the user. They take no lock,
//! compute no percentile, and in steady state allocate nothing per message. The coordinator,
//! `loadgen-coord`, has its own thread with a lower priority (nice(1)). Background streams have a
//! measuring thread too. `loadgen-hiccup` measures scheduling delays.

pub mod admin;
mod analysis;
pub mod compare;
mod embedded;
mod engine;
mod error;
mod host;
pub mod import;
#[doc(hidden)]
pub mod internal;
pub mod merge;
pub mod observer;
pub mod plan;
pub mod profile;
pub mod report;
pub mod result;
mod run;
pub mod search;
mod text;
pub mod trials;
pub mod watch;

pub use error::RunError;
pub use host::describe as describe_host;
pub use observer::{Control, Observer};
pub use plan::{Plan, PlanBuilder, PlanError};
pub use result::{RunResult, SearchResult, WatchResult};
pub use run::run;
pub use text::TextError;
