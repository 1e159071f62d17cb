//! From what the threads recorded to a result: sums, statistics, and the verdict. Pure, except that
//! `server_side` asks the server's admin port.
//!
//! - `aggregate`: slices to intervals, intervals to the whole.
//! - `summarize`: the whole to a result; `tcp`: what TCP says of it. `repeats`: the results of repeats to one.
//! - [`statistics`]: how exact the figures are. `fairness`: how evenly connections were served.
//! - [`verdict`]: whether the result can be believed.
//! - `server_side`: what the server counted, beside what the client counted.

pub(crate) mod aggregate;
pub(crate) mod fairness;
pub(crate) mod repeats;
#[cfg(test)]
pub(crate) mod samples;
pub(crate) mod server_side;
pub(crate) mod statistics;
pub(crate) mod summarize;
pub(crate) mod tcp;
pub(crate) mod verdict;
