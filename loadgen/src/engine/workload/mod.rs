//! What a flow does with its connection. The schedule decides when: each workload runs in a closed
//! and in an open loop.
//!
//! - `flow`: the interface between the event loop and a flow.
//! - `request`: messages over a byte stream and back. `idle` uses it on held connections, and an
//!   echoed `stream` uses it with large messages.
//! - `datagram`: messages over UDP and back.
//! - `churn`: one connection per message.
//! - `upload`, `download`: a stream to a discard server, and from a chargen server.
//! - `outgoing`: shared by the workloads that write byte streams.

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
