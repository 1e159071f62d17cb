//! From the threads' reports to a result: sums, statistics, and the verdict. Pure, except that
//! `server_side` reads the server's admin port.
//!
//! - `aggregate`: slices to intervals, intervals to the total.
//! - `summarize`: the total to a result; `tcp`, `tls`: parts of it. `repeats`: repeated runs to one
//!   result. `totals`: what adds up however results are combined.
//! - [`statistics`]: the precision of the figures. `fairness`: fairness between connections.
//! - [`verdict`]: whether the result is reliable.
//! - `shard`: when a shard started.
//! - `server_side`: the server's counters beside the client's.

pub(crate) mod aggregate;
pub(crate) mod backends;
pub(crate) mod fairness;
pub(crate) mod repeats;
#[cfg(test)]
pub(crate) mod samples;
pub(crate) mod server_side;
pub(crate) mod service;
pub(crate) mod shard;
pub(crate) mod statistics;
pub(crate) mod summarize;
pub(crate) mod tcp;
pub(crate) mod tls;
pub(crate) mod totals;
pub(crate) mod verdict;
