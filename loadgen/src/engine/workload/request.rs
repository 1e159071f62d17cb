//! Messages go out on a byte stream and come back.

use std::io::IoSlice;
use std::ops::ControlFlow;

use echomark::net::clock::monotonic_ns;

use crate::engine::connection::{Connection, Ended};
use crate::engine::in_flight::Left;
use crate::engine::in_flight::messages::Messages;
use crate::engine::meter::Meter;
use crate::engine::payload::{Cutter, StreamId};

use super::{Flow, FlowShare, Order};

/// Reads of one flow before others have their turn: their waiting would be measured as latency.
pub(super) const READS_PER_TURN: usize = 4;
/// Pieces of the payload table that one write call may gather: 128 KiB and more.
const PIECES_PER_WRITE: usize = 9;

/// A flow of messages.
#[derive(Debug)]
pub(crate) struct Request {
    connection: Connection,
    messages: Messages,
    /// What this connection's messages are cut from.
    cutter: Cutter,
    share: FlowShare,
}

impl Flow for Request {
    fn new(connection: Connection, meter: &Meter) -> Self {
        Self {
            cutter: Cutter::new(meter.payload.stream(connection.id.number, 0)),
            connection,
            messages: Messages::new(meter.depth),
            share: FlowShare::default(),
        }
    }

    fn connection(&self) -> &Connection {
        &self.connection
    }

    fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    fn push(&mut self, order: Order, meter: &mut Meter) -> bool {
        let can_write = self.connection.can_write();
        let size = meter.draw_size();
        self.messages
            .push(order.intended, size, can_write, order.counted)
    }

    fn connected(&mut self, took: u64, meter: &mut Meter) {
        let Connection {
            id, incarnation, ..
        } = &self.connection;
        self.cutter = Cutter::new(meter.payload.stream(id.number, *incarnation));
        meter.record_connect(took);
    }

    #[inline(always)]
    fn receive(&mut self, meter: &mut Meter, buffer: &mut [u8]) -> Result<bool, Ended> {
        let Some(count) = self.connection.read(buffer)? else {
            return Ok(false);
        };
        meter.tick();
        if count as u64 == self.messages.sole()
            && let Some(size) = meter.take_turn()
        {
            self.turn(meter, &buffer[..count], size)?;
        } else {
            self.take(meter, &buffer[..count])?;
            self.send(meter)?;
        }
        if self.connection.may_read() {
            self.read_on(meter, buffer)
        } else {
            Ok(false)
        }
    }

    fn has_to_send(&self) -> bool {
        self.messages.writable() > 0
    }

    fn send(&mut self, meter: &mut Meter) -> Result<(), Ended> {
        // Each turn either writes some of the bounded queue or leaves the loop.
        while self.has_to_send() && self.connection.can_write() {
            let (position, left) = (self.messages.write_position(), self.messages.writable());
            let (began, result) = write(
                &mut self.connection,
                meter,
                self.cutter.stream(),
                position,
                left,
            );
            if self.note_write(meter, began, result)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn abandon(&mut self, ended: &Ended, meter: &mut Meter) {
        if matches!(ended, Ended::Excess) {
            meter.slice.counts.duplicated += 1;
        }
        let timed_out_before = match ended {
            Ended::TimedOut => meter.now().saturating_sub(meter.timeout_ns),
            _ => 0,
        };
        hold(&mut self.messages, meter.now(), meter);
        let abandoned = self.messages.restart(timed_out_before);
        meter.record_abandoned(self.connection.id.key, abandoned);
    }

    fn overdue(&mut self, meter: &mut Meter) -> Option<Ended> {
        let began = self.messages.oldest_write()?;
        (began + meter.timeout_ns <= meter.now()).then_some(Ended::TimedOut)
    }

    fn left(&self) -> Left {
        self.messages.left()
    }

    fn share(&self) -> FlowShare {
        self.share
    }
}

impl Request {
    /// The usual turn of a closed loop: the only message came back whole, and its place goes to the next
    /// one. That is written first, at the time at which the read ended; then what came is looked at.
    #[inline(always)]
    fn turn(&mut self, meter: &mut Meter, bytes: &[u8], size: u32) -> Result<(), Ended> {
        let position = self.messages.write_position();
        let expected = self.cutter.last();
        let Some(next) = self.cutter.cut(position, size as usize) else {
            let stream = self.cutter.stream();
            let result = write_pieces(&mut self.connection, meter, stream, position, size.into());
            return self.turn_in_steps(meter, bytes, size, result);
        };
        if let Err(part) = self.connection.write_whole(meter.payload.bytes(next)) {
            return self.turn_in_steps(meter, bytes, size, part);
        }
        let is_right = !meter.is_verifying || meter.payload.bytes(expected) == bytes;
        if !is_right && self.is_wrong(meter, bytes) {
            return self.turn_in_steps(meter, bytes, size, Ok(Some(size as usize)));
        }
        let took = self.messages.turn_sole(meter.now(), size);
        self.share.add(took);
        meter.record_turn(took);
        Ok(())
    }

    /// Whether `bytes`, which are to be read next, are not what was sent.
    #[cold]
    fn is_wrong(&self, meter: &Meter, bytes: &[u8]) -> bool {
        let (stream, position) = (self.cutter.stream(), self.messages.read_position());
        let difference = meter.first_difference(stream, position, bytes);
        difference.is_some()
    }

    /// The same, if the next message was not or not wholly written, or in pieces, or if what came is
    /// wrong.
    #[cold]
    fn turn_in_steps(
        &mut self,
        meter: &mut Meter,
        bytes: &[u8],
        size: u32,
        result: Result<Option<usize>, Ended>,
    ) -> Result<(), Ended> {
        let now = meter.now();
        let position = self.messages.read_position();
        let difference = meter.first_difference(self.cutter.stream(), position, bytes);
        if let Some(offset) = difference {
            meter.note_corruption(self.connection.id.number, position + offset as u64);
        }
        let count = bytes.len() as u64;
        meter.slice.counts.bytes_received += self.messages.counted_bytes(count);
        meter.note_bytes_in(count);
        if let Some(done) = self.messages.received(count, difference.is_none()) {
            self.share.add(now.saturating_sub(done.intended));
            meter.record_done(done);
        }
        meter.record_issued();
        self.messages.push(now, size, true, true);
        if self.note_write(meter, now, result)?.is_continue() {
            self.send(meter)?;
        }
        Ok(())
    }

    /// Goes on reading, within the bound of one turn.
    #[inline(never)]
    fn read_on(&mut self, meter: &mut Meter, buffer: &mut [u8]) -> Result<bool, Ended> {
        for _ in 1..READS_PER_TURN {
            let Some(count) = self.connection.read(buffer)? else {
                return Ok(false);
            };
            meter.tick();
            self.take(meter, &buffer[..count])?;
            self.send(meter)?;
        }
        Ok(self.connection.may_read())
    }

    /// Compares what arrived with what was sent, records every message that it completes, and queues
    /// those that this makes due.
    ///
    /// # Errors
    /// If the server sent more than it had received.
    #[inline(never)]
    fn take(&mut self, meter: &mut Meter, mut bytes: &[u8]) -> Result<(), Ended> {
        let count = bytes.len() as u64;
        if count > self.messages.in_flight() {
            return Err(Ended::Excess);
        }
        meter.enter_interval();
        meter.slice.counts.bytes_received += self.messages.counted_bytes(count);
        meter.note_bytes_in(count);
        let position = self.messages.read_position();
        let difference = meter.first_difference(self.cutter.stream(), position, bytes);
        if let Some(offset) = difference {
            meter.note_corruption(self.connection.id.number, position + offset as u64);
        }
        while !bytes.is_empty() {
            let missing = self.messages.missing();
            let part = bytes
                .len()
                .min(usize::try_from(missing).unwrap_or(usize::MAX));
            let (head, rest) = bytes.split_at(part);
            // Once a byte of this read was wrong, each message in it is judged by itself.
            let position = self.messages.read_position();
            let intact = difference.is_none()
                || meter
                    .first_difference(self.cutter.stream(), position, head)
                    .is_none();
            if let Some(done) = self.messages.received(part as u64, intact) {
                if meter.is_within_window() {
                    self.share.add(meter.now().saturating_sub(done.intended));
                }
                meter.record_done(done);
                if let Some(order) = meter.answered(self.connection.id.key) {
                    self.push(order, meter);
                }
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Notes what a write call that began at `began` came to, and says whether another is worth trying.
    fn note_write(
        &mut self,
        meter: &mut Meter,
        began: u64,
        result: Result<Option<usize>, Ended>,
    ) -> Result<ControlFlow<()>, Ended> {
        self.cutter.lose_track();
        let Some(count) = result? else {
            hold(&mut self.messages, began, meter);
            return Ok(ControlFlow::Break(()));
        };
        let slice = &mut meter.slice;
        let counted = self.messages.wrote(count as u64, began, |sent| {
            slice.record_sent(sent, began, meter.is_open_loop);
        });
        meter.slice.counts.bytes_sent += counted;
        meter.note_bytes_out(count as u64);
        Ok(ControlFlow::Continue(()))
    }
}

/// Writes up to `left` bytes of `stream` from `position` on, and tells when the call began.
pub(super) fn write(
    connection: &mut Connection,
    meter: &Meter,
    stream: StreamId,
    position: u64,
    left: u64,
) -> (u64, Result<Option<usize>, Ended>) {
    let most = usize::try_from(left).unwrap_or(usize::MAX);
    let piece = meter.payload.piece(stream, position, most);
    if piece.len() == most {
        let began = monotonic_ns();
        return (began, connection.write(piece));
    }
    let began = monotonic_ns();
    (
        began,
        write_pieces(connection, meter, stream, position, left),
    )
}

/// The same, of bytes that lie in several pieces.
#[cold]
fn write_pieces(
    connection: &mut Connection,
    meter: &Meter,
    stream: StreamId,
    position: u64,
    left: u64,
) -> Result<Option<usize>, Ended> {
    let mut pieces = [IoSlice::new(&[]); PIECES_PER_WRITE];
    connection.write_vectored(meter.payload.pieces(stream, position, left, &mut pieces))
}

/// From `now` on, what is queued waits for the connection.
fn hold(messages: &mut Messages, now: u64, meter: &mut Meter) {
    messages.hold(|intended| {
        if meter.is_open_loop {
            meter.slice.record_held(intended, now);
        }
    });
}
