//! The interface between the event loop and a flow.

use crate::engine::connection::{Connection, Ended, Handshake};
use crate::engine::context::Context;
use crate::engine::in_flight::Left;
use crate::engine::source::Order;
use crate::engine::task::FlowShare;

/// When a workload connects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Connects {
    /// Each flow from the start, and again when its connection ends.
    Always,
    /// Each flow from the start. Ended connections are not replaced.
    Once,
    /// One connection per message. Any idle flow may take the message.
    PerMessage,
}

/// One flow of a thread.
pub(crate) trait Flow: Sized {
    /// Maximum of reads from one flow per turn. The wait of other flows would be measured as latency.
    const MAX_READS: usize = 4;

    /// A flow without a connection.
    fn new(connection: Connection, context: &Context) -> Self;

    fn connection(&self) -> &Connection;

    fn connection_mut(&mut self) -> &mut Connection;

    /// Queues a due message. Returns whether it has to wait for its connection, not only for the
    /// client.
    fn push(&mut self, order: Order, context: &mut Context) -> bool;

    /// Notes that the connection is established, after `took` nanoseconds.
    fn connected(&mut self, took: u64, context: &mut Context);

    /// Notes that the TLS handshake of a connection is complete, just before that is
    /// [`connected`](Self::connected).
    fn secured(&mut self, handshake: &Handshake, context: &mut Context) {
        context.note_handshake(handshake, true);
    }

    /// Reads once and records what came. Returns whether there may be more.
    ///
    /// # Errors
    /// Why the connection ended.
    fn receive(&mut self, context: &mut Context, buffer: &mut [u8]) -> Result<bool, Ended>;

    /// Whether there is data to write that the connection may accept.
    fn has_to_send(&self) -> bool;

    /// Writes until nothing is left or the socket is full.
    ///
    /// # Errors
    /// Why the connection ended.
    fn send(&mut self, context: &mut Context) -> Result<(), Ended>;

    /// Gives up the outstanding messages of an ended connection.
    fn abandon(&mut self, ended: &Ended, context: &mut Context);

    /// Since when the connection waits for the server: the begin of the time that the timeout limits.
    /// The caller times connects.
    fn waits_since(&self) -> Option<u64>;

    /// Whether an operation exceeds the timeout, which ends the connection. Overdue datagrams are
    /// given up without ending it.
    fn overdue(&mut self, context: &mut Context) -> Option<Ended>;

    /// Updates counts that change without an event, at the end of an interval.
    fn settle(&mut self, _context: &mut Context) {}

    /// Counted messages that are outstanding or queued.
    fn left(&self) -> Left;

    /// Whether the server answered in the window, or on the present connection.
    fn is_served(&self) -> bool {
        self.share().messages > 0 || self.connection().has_heard()
    }

    /// Whether the server had something to do for the flow.
    fn had_demand(&self) -> bool {
        let left = self.left();
        left.out + left.queued > 0 || self.connection().barren > 0
    }

    /// The flow's messages in the window.
    fn share(&self) -> FlowShare;
}
