//! A stream to a discard server. A message is a block of the stream. The server does not answer: a
//! block counts as received when the server's TCP has acknowledged it, as the length of the
//! socket's outgoing queue shows.

use echomark::net::clock::monotonic_ns;

use super::flow::Flow;
use super::outgoing::Outgoing;
use crate::engine::connection::{Connection, Ended};
use crate::engine::context::Context;
use crate::engine::in_flight::{Left, Restart};
use crate::engine::source::Order;
use crate::engine::task::FlowShare;

/// Maximum of writes from one flow per turn.
const MAX_WRITES: usize = 4;

/// A stream to a discard server.
#[derive(Debug)]
pub(crate) struct Upload {
    connection: Connection,
    /// Its blocks. Acknowledged bytes count as received.
    outgoing: Outgoing,
    /// When the last acknowledgement was seen, or a write began with nothing else outstanding.
    progress_at: u64,
    share: FlowShare,
}

impl Flow for Upload {
    fn new(connection: Connection, context: &Context) -> Self {
        Self {
            // The number of outstanding blocks is not limited: a completely written block gives its
            // slot back.
            outgoing: Outgoing::new(&connection, context, None),
            connection,
            progress_at: 0,
            share: FlowShare::default(),
        }
    }

    fn connection(&self) -> &Connection {
        &self.connection
    }

    fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    fn push(&mut self, order: Order, context: &mut Context) -> bool {
        self.outgoing.push(order, &self.connection, context)
    }

    fn connected(&mut self, took: u64, context: &mut Context) {
        self.outgoing.connected(&self.connection, context);
        context.recorder.record_connect(took);
    }

    fn receive(&mut self, context: &mut Context, buffer: &mut [u8]) -> Result<bool, Ended> {
        // A discard server sends nothing; a read only shows its close.
        match self.connection.read(buffer)? {
            None => {
                context.tick();
                Ok(false)
            }
            Some(_) => Err(Ended::Excess),
        }
    }

    fn has_to_send(&self) -> bool {
        self.outgoing.has_to_send()
    }

    fn send(&mut self, context: &mut Context) -> Result<(), Ended> {
        for _ in 0..MAX_WRITES {
            if !self.has_to_send() || !self.connection.can_write() {
                return Ok(());
            }
            let (bytes_out, whole) = (
                self.outgoing.in_flight.bytes_out(),
                self.outgoing.in_flight.written_whole(),
            );
            let began = monotonic_ns();
            let written = self.outgoing.write(&mut self.connection, context, began)?;
            if written == 0 {
                return Ok(());
            }
            if bytes_out == 0 {
                self.progress_at = began;
            }
            // In a closed loop, a completely written block triggers the next.
            for _ in whole..self.outgoing.in_flight.written_whole() {
                context.source.schedule.completed(self.connection.id.key);
            }
        }
        Ok(())
    }

    fn abandon(&mut self, ended: &Ended, context: &mut Context) {
        self.settle(context);
        self.outgoing.hold(context.now(), &mut context.recorder);
        // None is before another: the stream stood still.
        let restart = match ended {
            Ended::TimedOut => Restart::TimedOut(u64::MAX),
            _ => Restart::Lost,
        };
        let whole = self.outgoing.in_flight.written_whole();
        let unanswered = self.outgoing.in_flight.restart(restart);
        context.recorder.record_unanswered(unanswered);
        context.source.outstanding -= unanswered.places;
        // The other blocks gave their slots back when they were written completely.
        for _ in whole..unanswered.places {
            context.source.schedule.completed(self.connection.id.key);
        }
    }

    fn waits_since(&self) -> Option<u64> {
        let is_out = self.outgoing.in_flight.bytes_out() > 0;
        is_out.then_some(self.progress_at)
    }

    fn overdue(&mut self, context: &mut Context) -> Option<Ended> {
        self.settle(context);
        context
            .is_overdue(self.waits_since()?)
            .then_some(Ended::TimedOut)
    }

    fn settle(&mut self, context: &mut Context) {
        let Some(queued) = self.connection.outgoing() else {
            return;
        };
        let in_flight = &mut self.outgoing.in_flight;
        // A Unix socket reports the memory of unread data, which is more than its bytes.
        let Some(acknowledged @ 1..) = in_flight.bytes_out().checked_sub(queued) else {
            return;
        };
        self.progress_at = context.now();
        let counted = in_flight.received(acknowledged);
        context.recorder.note_echo();
        context.recorder.record_bytes_in(acknowledged, counted);
        let is_within_window = context.recorder.clock.is_within_window();
        while let Some(block) = in_flight.take_done() {
            self.share.messages += u64::from(is_within_window);
            context.recorder.record_received(block.counted);
            context.source.outstanding -= 1;
        }
    }

    fn left(&self) -> Left {
        self.outgoing.in_flight.left()
    }

    fn is_served(&self) -> bool {
        // A discard server sends nothing. What it acknowledged is served.
        self.share.messages > 0 || self.outgoing.in_flight.read_position() > 0
    }

    fn share(&self) -> FlowShare {
        self.share
    }
}
