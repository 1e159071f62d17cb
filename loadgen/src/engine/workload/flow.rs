//! What the event loop knows of a flow.

use crate::engine::connection::{Connection, Ended};
use crate::engine::context::Context;
use crate::engine::in_flight::Left;
use crate::engine::source::Order;
use crate::engine::task::FlowShare;

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

/// One flow of a thread.
pub(crate) trait Flow: Sized {
    /// A flow whose connection is not made yet.
    fn new(connection: Connection, context: &Context) -> Self;

    fn connection(&self) -> &Connection;

    fn connection_mut(&mut self) -> &mut Connection;

    /// Queues a message that is due. Returns whether it has to wait for its connection, and not only
    /// for this program.
    fn push(&mut self, order: Order, context: &mut Context) -> bool;

    /// Notes that the connection stands, after `took` nanoseconds.
    fn connected(&mut self, took: u64, context: &mut Context);

    /// Reads and records what came, within the bound of one turn. Returns whether there may be more.
    ///
    /// # Errors
    /// Why the connection ended.
    fn receive(&mut self, context: &mut Context, buffer: &mut [u8]) -> Result<bool, Ended>;

    /// Whether something is to be written that the connection may take.
    fn has_to_send(&self) -> bool;

    /// Writes what is to be written, until nothing is left or the socket is full.
    ///
    /// # Errors
    /// Why the connection ended.
    fn send(&mut self, context: &mut Context) -> Result<(), Ended>;

    /// Gives up what was out on a connection that has ended.
    fn abandon(&mut self, ended: &Ended, context: &mut Context);

    /// Whether something takes longer than the timeout, which ends the connection. Datagrams that
    /// do are given up, and nothing ends. Connects are timed by the caller.
    fn overdue(&mut self, context: &mut Context) -> Option<Ended>;

    /// Brings counts up to date that no event tells of, at the end of an interval.
    fn settle(&mut self, _context: &mut Context) {}

    /// Counted messages that are out or queued.
    fn left(&self) -> Left;

    /// What the flow had of the window.
    fn share(&self) -> FlowShare;
}
