//! The queued and outstanding messages of a connection, without socket or clock. Each message is
//! queued, then outstanding, and settled in exactly one way. So the counts of a run add up,
//! whatever happens to its connections.

mod datagrams;
mod outcome;
mod ring;
mod stream;

pub use datagrams::{Arrival, DatagramsInFlight, Next};
pub(crate) use outcome::Restart;
pub use outcome::{Done, Left, Sent, Unanswered};
pub(crate) use stream::StreamInFlight;
