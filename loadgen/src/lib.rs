//! Echomark's load generator: measures latency and throughput of echo servers, and says when its
//! own numbers can't be believed. The program `loadgen` is a thin wrapper around it.
//!
//! # The map, in reading order
//! - [`plan`]: a run with every option resolved; [`sizes`]: how large messages are.
//! - [`run`](mod@run): one run from plan to result; starts the threads and waits for them.
//!   [`observer`]: who watches it, and who steers it.
//! - `worker`: one measuring thread; its event loop. `meter`: what it records into and draws from.
//! - `workload`: what a flow does with its connection, one file each. `link`: the connection, which
//!   is made, used, and made anew when it ends.
//! - [`books`]: the messages of a connection, as pure book-keeping.
//! - [`pace`]: when messages are due: the one thing that tells an open loop from a closed one. Pure.
//! - [`payload`], [`chargen`]: what messages consist of, so that every wrong byte shows.
//! - [`record`], [`tally`], [`tcp`]: latencies and counts; slices of a run that add up exactly.
//! - `gather`, `conclude`, `evenness`, `repeat`: slices to intervals, intervals to the result, results
//!   to their union.
//! - [`stats`]: how sure the figures are. Pure. `hiccup`: how long this host failed to run us.
//! - [`admin`], `server_side`: what the server counted, beside what the client did.
//! - [`compare`]: whether one server is worse than another. [`merge`](mod@merge): the union of results
//!   of several processes. Pure.
//! - [`search`]: the highest load that meets objectives, from trials to bounds. Pure.
//!   [`capacity`]: the same with real runs as trials.
//! - [`result`](mod@result), [`verdict`], [`report`]: the stored result, whether it can be believed,
//!   and the forms in which it is read.
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
//!       ── cleared slices, to use again ────▶ │   issue  ◀── Pace
//!       ──▶ Observer                          └── look_after ─▶ timeouts, TCP_INFO
//!     gather  ◀── Finished ─────────────────  finish
//!     conclude, Verdict
//! ```
//! Measuring threads share nothing but a stop flag and the rate that the user may set. No lock is
//! taken and no percentile is computed on them, and nothing is allocated per message in steady state.
//! The coordinator has a thread of its own and gives way to them (nice(1)). Streams beside the
//! workload have a measuring thread like the others; `loadgen-hiccup` only looks at the clock.

pub mod admin;
pub mod books;
pub mod capacity;
pub mod chargen;
pub mod compare;
mod conclude;
mod embedded;
mod error;
mod evenness;
mod gather;
mod hiccup;
mod host;
mod link;
pub mod merge;
mod meter;
pub mod observer;
pub mod pace;
pub mod payload;
pub mod plan;
pub mod record;
mod repeat;
pub mod report;
pub mod result;
pub mod run;
#[cfg(test)]
mod samples;
pub mod search;
mod server_side;
pub mod sizes;
pub mod stats;
pub mod tally;
pub mod tcp;
pub mod verdict;
mod worker;
mod workload;

#[doc(hidden)]
pub use server_side::beside;
#[doc(hidden)]
pub use worker::bench;

pub use host::describe as describe_host;
pub use observer::{Control, Observer};
pub use plan::Plan;
pub use result::{RunResult, SearchResult};
pub use run::{RunError, run};
