//! What a flow does with its connection. When it does it is the schedule's affair: each workload runs in
//! a closed and in an open loop.
//!
//! - `request`: messages over a byte stream and back; `idle` is the same on connections that are
//!   only held, and `stream` to an echo is the same with large messages.
//! - `datagram`: the same over UDP.
//! - `churn`: a connection for each message.
//! - `one_way`: a stream to a discard or from a chargen server.

pub(crate) mod churn;
pub(crate) mod datagram;
pub(crate) mod one_way;
pub(crate) mod request;

use crate::engine::connection::{Connection, Ended};
use crate::engine::in_flight::Left;
use crate::engine::meter::Meter;

/// When a workload wants connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Connects {
    /// Each flow from the start on, and anew when its connection ends.
    Always,
    /// Each flow from the start on; one that ends is gone.
    Once,
    /// One for each message. Any flow that is idle may take it.
    PerMessage,
}

/// A message that is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    /// When it is to be sent.
    pub(crate) intended: u64,
    /// Whether it belongs to the window.
    pub(crate) counted: bool,
    /// Whether it had to wait until a flow was idle.
    pub(crate) has_waited: bool,
}

/// One flow of a thread, as the thread's loop sees it.
pub(crate) trait Flow: Sized {
    /// A flow whose connection is not made yet.
    fn new(connection: Connection, meter: &Meter) -> Self;

    fn connection(&self) -> &Connection;

    fn connection_mut(&mut self) -> &mut Connection;

    /// Queues a message that is due. Returns whether it has to wait for its connection, besides for
    /// us.
    fn push(&mut self, order: Order, meter: &mut Meter) -> bool;

    /// Notes that the connection stands after `took` nanoseconds.
    fn connected(&mut self, took: u64, meter: &mut Meter);

    /// Reads and records what came, within the bound of one turn. Returns whether there may be more.
    ///
    /// # Errors
    /// Why the connection ended.
    fn receive(&mut self, meter: &mut Meter, buffer: &mut [u8]) -> Result<bool, Ended>;

    /// Whether something is to be written that the connection may take.
    fn has_to_send(&self) -> bool;

    /// Writes what is to be written, until nothing is left or the socket is full.
    ///
    /// # Errors
    /// Why the connection ended.
    fn send(&mut self, meter: &mut Meter) -> Result<(), Ended>;

    /// Settles the accounts of a connection that has ended: what was out is given up.
    fn abandon(&mut self, ended: &Ended, meter: &mut Meter);

    /// Whether something takes longer than the timeout, which ends the connection. Datagrams that
    /// do are given up, and nothing ends. A connect is the caller's affair.
    fn overdue(&mut self, meter: &mut Meter) -> Option<Ended>;

    /// Brings counts up to date that no event tells of, at the end of an interval.
    fn settle(&mut self, _meter: &mut Meter) {}

    /// Counted messages that are out or queued.
    fn left(&self) -> Left;

    /// What the flow had of the window.
    fn share(&self) -> FlowShare;
}

/// What one flow had of the window.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct FlowShare {
    pub(crate) messages: u64,
    /// The sum of the messages' response times.
    pub(crate) response_ns: u64,
}

impl FlowShare {
    /// Adds a message and its response time.
    #[inline]
    fn add(&mut self, response_ns: u64) {
        self.messages += 1;
        self.response_ns += response_ns;
    }
}
