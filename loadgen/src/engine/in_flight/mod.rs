//! The messages of a connection that are queued or out, without socket or clock. Each message is
//! queued, then out, and ends in exactly one place. So the counts of a run add up, whatever happens
//! to its connections.

mod datagrams;
mod outcome;
mod stream;

pub use datagrams::{Arrival, DatagramsInFlight, Next};
pub use outcome::{Abandoned, Done, Left, Sent};
pub(crate) use stream::StreamInFlight;
