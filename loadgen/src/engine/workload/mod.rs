//! What a flow does with its connection. When it does it is decided by the schedule: each workload runs
//! in a closed and in an open loop.
//!
//! - `flow`: what the event loop knows of a flow.
//! - `request`: messages over a byte stream and back; `idle` is the same on connections that are
//!   only held, and `stream` to an echo is the same with large messages.
//! - `datagram`: the same over UDP.
//! - `churn`: a connection for each message.
//! - `upload`, `download`: a stream to a discard server, and from a chargen server.
//! - `outgoing`: what all that write byte streams have in common.

mod churn;
mod datagram;
mod download;
mod flow;
mod outgoing;
mod request;
mod upload;

pub(crate) use churn::Churn;
pub(crate) use datagram::Datagram;
pub(crate) use download::Download;
pub(crate) use flow::{Connects, Flow};
pub(crate) use request::Request;
pub(crate) use upload::Upload;
