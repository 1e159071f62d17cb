//! Echomark's load generator: measures latency and throughput of echo servers, and says when its
//! own numbers can't be believed. The program `loadgen` is a thin wrapper around it.
//!
//! # The map, in reading order
//! - [`plan`]: a run with every option resolved. [`profile`]: a rate over time.
//! - [`run`]: one run from plan to result; starts the threads and waits for them.
//!   [`observer`]: what watches a run, and what steers it.
//! - `engine`: the measuring threads: worker, workloads, connections, schedule, accounts, payload.
//! - `embedded`: the server of a run without a target.
//! - `analysis`: from slices of a run to a result with its verdict.
//! - [`admin`]: reads the server's own counters from its admin port.
//! - [`result`](mod@result): the stored result. [`report`]: the forms in which it is read.
//! - [`search`]: the highest load that meets objectives, from trials to bounds. Pure. [`trials`]:
//!   a search with runs as trials.
//! - [`compare`]: whether one server is worse than another. [`merge`](mod@merge): the union of results
//!   of several processes. Pure.
//!
//! `examples/measure.rs` makes a run and reads its result.
//!
//! # Threads
//! ```text
//!   coordinator                            loadgen-0              loadgen-1      ...
//!     spawn ───────────────────────────────▶ connect_all            connect_all
//!     await_connections ◀── Connected ──────   │                      │
//!     go: the common start ────────────────▶ begin                  begin
//!     gather  ◀── Slice, tens of times ─────  ┌─▶ wait ◀── epoll     ...
//!       adds, clears,                         │   dispatch ─▶ Flow::receive, Flow::send
//!       computes percentiles                  │   read_on
//!       ── cleared slices, to use again ────▶ │   issue  ◀── Schedule
//!       ──▶ Observer                          └── look_after ─▶ timeouts, TCP_INFO
//!     gather  ◀── Finished ─────────────────  finish
//!     conclude, Verdict
//! ```
//! Measuring threads share nothing but a stop flag and the rate that the user may set. No lock is
//! taken and no percentile is computed on them, and nothing is allocated per message in steady state.
//! The coordinator has a thread of its own and gives way to them (nice(1)). Streams beside the
//! workload have a measuring thread like the others; `loadgen-hiccup` only looks at the clock.

pub mod admin;
mod analysis;
pub mod compare;
mod embedded;
mod engine;
mod error;
mod host;
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
pub mod trials;

pub use error::RunError;
pub use host::describe as describe_host;
pub use observer::{Control, Observer};
pub use plan::Plan;
pub use result::{RunResult, SearchResult};
pub use run::run;
