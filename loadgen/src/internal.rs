//! Internals for this workspace's benchmarks and fuzz targets. Not part of the crate's interface:
//! anything here may change.

pub use crate::analysis::server_side::beside;
pub use crate::engine::chargen::Pattern;
pub use crate::engine::histogram::{BucketCounts, Distribution};
pub use crate::engine::in_flight::{
    Arrival, DatagramsInFlight, Done, Left, Next, Sent, Unanswered,
};
pub use crate::engine::payload::{ByteStream, Payload, sequence_of};
pub use crate::engine::schedule::{Arrivals, Due, Schedule, Share, Span};
pub use crate::engine::slice::Contents;
pub use crate::engine::worker::Bench;
