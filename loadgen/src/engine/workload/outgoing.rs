//! The messages that a flow writes to a byte stream: their contents, and their state.

use std::io::IoSlice;

use crate::engine::connection::{Connection, Ended};
use crate::engine::context::Context;
use crate::engine::in_flight::StreamInFlight;
use crate::engine::payload::{ByteStream, Payload};
use crate::engine::recorder::Recorder;
use crate::engine::source::Order;

/// A stream that differs this early is no echo: a few bytes may be equal by chance.
pub(super) const FOREIGN_WITHIN: usize = 8;
/// Maximum of payload table pieces in one write call: 128 KiB and more.
const MAX_PIECES: usize = 9;

/// The messages of a byte stream, and the stream that contains them.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) stream: ByteStream,
    pub(super) in_flight: StreamInFlight,
}

impl Outgoing {
    /// At most `depth` messages are outstanding at a time.
    pub(super) fn new(connection: &Connection, context: &Context, depth: Option<usize>) -> Self {
        Self {
            stream: stream_of(connection, context),
            in_flight: StreamInFlight::new(depth),
        }
    }

    /// Continues on a new connection.
    pub(super) fn connected(&mut self, connection: &Connection, context: &Context) {
        self.stream = stream_of(connection, context);
    }

    /// Queues a due message and returns whether it has to wait for its connection.
    #[inline(always)]
    pub(super) fn push(
        &mut self,
        order: Order,
        connection: &Connection,
        context: &mut Context,
    ) -> bool {
        let (size, can_write) = (context.source.draw_size(), connection.can_write());
        self.in_flight
            .push(order.intended, size, can_write, order.counted)
    }

    pub(super) fn has_to_send(&self) -> bool {
        self.in_flight.writable() > 0
    }

    /// Writes with one call that begins at `began`. Returns the number of bytes; 0 if the socket
    /// accepts nothing now.
    ///
    /// # Errors
    /// Why the connection ended.
    #[inline(always)]
    pub(super) fn write(
        &mut self,
        connection: &mut Connection,
        context: &mut Context,
        began: u64,
    ) -> Result<u64, Ended> {
        let (position, left) = (self.in_flight.write_position(), self.in_flight.writable());
        let payload = &context.source.payload;
        let recorder = &mut context.recorder;
        let Some(count) = write(connection, payload, &mut self.stream, position, left)? else {
            self.hold(began, recorder);
            return Ok(0);
        };
        let count = count as u64;
        let counted = self
            .in_flight
            .wrote(count, began, |sent| recorder.record_sent(sent, began));
        recorder.record_bytes_out(count, counted);
        Ok(count)
    }

    /// Marks the queued messages as held by the connection from `now` on.
    pub(super) fn hold(&mut self, now: u64, recorder: &mut Recorder) {
        self.in_flight
            .hold(|intended| recorder.record_held(intended, now));
    }
}

/// The stream of a connection.
pub(super) fn stream_of(connection: &Connection, context: &Context) -> ByteStream {
    let payload = &context.source.payload;
    payload.stream(connection.id.number, connection.incarnation)
}

/// Writes up to `left` bytes of `stream` from `position` on, as many as the socket accepts; `None`
/// if it accepts nothing now.
#[inline(always)]
pub(super) fn write(
    connection: &mut Connection,
    payload: &Payload,
    stream: &mut ByteStream,
    position: u64,
    left: u64,
) -> Result<Option<usize>, Ended> {
    let most = usize::try_from(left).unwrap_or(usize::MAX);
    match payload.whole(stream, position, most) {
        Some(bytes) => connection.write(bytes),
        None => write_pieces(connection, payload, stream, position, left),
    }
}

/// The same for bytes in several pieces.
#[cold]
fn write_pieces(
    connection: &mut Connection,
    payload: &Payload,
    stream: &mut ByteStream,
    position: u64,
    left: u64,
) -> Result<Option<usize>, Ended> {
    let mut pieces = [IoSlice::new(&[]); MAX_PIECES];
    connection.write_vectored(payload.pieces(stream, position, left, &mut pieces))
}
