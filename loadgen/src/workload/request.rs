//! Messages go out on a byte stream and come back.

use std::io::IoSlice;

use echomark::net::sys::monotonic_ns;

use crate::books::Left;
use crate::books::messages::Messages;
use crate::link::{Ended, Link};
use crate::meter::Meter;
use crate::payload::StreamId;

use super::{Flow, FlowShare, Order};

/// Reads of one flow before others have their turn: their waiting would be measured as latency.
pub(super) const READS_PER_TURN: usize = 4;
/// Pieces of the payload table that one write call may gather: 128 KiB and more.
const PIECES_PER_WRITE: usize = 9;

/// A flow of messages.
#[derive(Debug)]
pub(crate) struct Request {
    link: Link,
    messages: Messages,
    /// The stream that this connection's messages are cut from.
    stream: StreamId,
    share: FlowShare,
}

impl Flow for Request {
    fn new(link: Link, meter: &Meter) -> Self {
        Self {
            stream: meter.payload.stream(link.seat.number, 0),
            link,
            messages: Messages::new(meter.depth),
            share: FlowShare::default(),
        }
    }

    fn link(&self) -> &Link {
        &self.link
    }

    fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }

    fn push(&mut self, order: Order, meter: &mut Meter) -> bool {
        let can_write = self.link.can_write();
        let size = meter.draw_size();
        self.messages
            .push(order.intended, size, can_write, order.counted)
    }

    fn connected(&mut self, took: u64, meter: &mut Meter) {
        let Link {
            seat, incarnation, ..
        } = &self.link;
        self.stream = meter.payload.stream(seat.number, *incarnation);
        meter.record_connect(took);
    }

    fn receive(&mut self, meter: &mut Meter, buffer: &mut [u8]) -> Result<bool, Ended> {
        for _ in 0..READS_PER_TURN {
            let Some(count) = self.link.read(buffer)? else {
                return Ok(false);
            };
            meter.tick();
            if count as u64 > self.messages.in_flight() {
                return Err(Ended::Excess);
            }
            self.take(meter, &buffer[..count]);
        }
        Ok(self.link.may_read())
    }

    fn has_to_send(&self) -> bool {
        self.messages.writable() > 0
    }

    fn send(&mut self, meter: &mut Meter) -> Result<(), Ended> {
        // Each turn either writes some of the bounded queue or leaves the loop.
        loop {
            let left = self.messages.writable();
            if left == 0 || !self.link.can_write() {
                return Ok(());
            }
            let position = self.messages.write_position();
            let (began, written) = write(&mut self.link, meter, self.stream, position, left);
            let Some(count) = written? else {
                hold(&mut self.messages, began, meter);
                return Ok(());
            };
            let slice = &mut meter.slice;
            let counted = self.messages.wrote(count as u64, began, |sent| {
                slice.record_sent(sent, began, meter.is_open_loop);
            });
            meter.slice.counts.bytes_sent += counted;
            meter.note_bytes_out(count as u64);
        }
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
        meter.record_abandoned(self.link.seat.key, abandoned);
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
    /// Compares what arrived with what was sent and records every message that it completes.
    fn take(&mut self, meter: &mut Meter, mut bytes: &[u8]) {
        let messages = &mut self.messages;
        let count = bytes.len() as u64;
        meter.enter_interval();
        meter.slice.counts.bytes_received += messages.counted_bytes(count);
        meter.note_bytes_in(count);
        let position = messages.read_position();
        let difference = meter.first_difference(self.stream, position, bytes);
        if let Some(offset) = difference {
            meter.note_corruption(self.link.seat.number, position + offset as u64);
        }
        let is_within_window = meter.is_within_window();
        while !bytes.is_empty() {
            let missing = messages.missing();
            let part = bytes
                .len()
                .min(usize::try_from(missing).unwrap_or(usize::MAX));
            let (head, rest) = bytes.split_at(part);
            // Once a byte of this read was wrong, each message in it is judged by itself.
            let intact = difference.is_none()
                || meter
                    .first_difference(self.stream, messages.read_position(), head)
                    .is_none();
            if let Some(done) = messages.received(part as u64, intact) {
                if is_within_window {
                    self.share.messages += 1;
                    self.share.response_ns += meter.now().saturating_sub(done.intended);
                }
                meter.record_done(done);
                meter.free_place(self.link.seat.key);
            }
            bytes = rest;
        }
    }
}

/// Writes up to `left` bytes of `stream` from `position` on, and tells when the call began.
pub(super) fn write(
    link: &mut Link,
    meter: &Meter,
    stream: StreamId,
    position: u64,
    left: u64,
) -> (u64, Result<Option<usize>, Ended>) {
    let most = usize::try_from(left).unwrap_or(usize::MAX);
    let piece = meter.payload.piece(stream, position, most);
    if piece.len() == most {
        let began = monotonic_ns();
        return (began, link.write(&[IoSlice::new(piece)]));
    }
    let mut pieces = [IoSlice::new(&[]); PIECES_PER_WRITE];
    let pieces = meter.payload.pieces(stream, position, left, &mut pieces);
    let began = monotonic_ns();
    (began, link.write(pieces))
}

/// From `now` on, what is queued waits for the connection.
fn hold(messages: &mut Messages, now: u64, meter: &mut Meter) {
    messages.hold(|intended| {
        if meter.is_open_loop {
            meter.slice.record_held(intended, now);
        }
    });
}
