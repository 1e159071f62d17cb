//! Echoes of UDP datagrams, each with its sequence number.

use super::flow::Flow;
use super::outgoing::stream_of;
use crate::engine::connection::{Connection, Ended};
use crate::engine::context::Context;
use crate::engine::in_flight::{Arrival, DatagramsInFlight, Left, Next};
use crate::engine::payload::{ByteStream, sequence_of};
use crate::engine::slice::Contents;
use crate::engine::source::Order;
use crate::engine::task::FlowShare;
use crate::result::Corruption;

/// Maximum of sent datagrams that a wrong one is compared with, so that a server that answers wrongly
/// costs a bounded time.
const MAX_COMPARED: usize = 4096;

/// A flow of datagrams.
#[derive(Debug)]
pub(crate) struct Datagram {
    connection: Connection,
    in_flight: DatagramsInFlight,
    stream: ByteStream,
    share: FlowShare,
    /// Whether the kernel had no room for the next datagram. No event reports when it has.
    is_stuck: bool,
}

impl Flow for Datagram {
    /// A read takes one datagram.
    const MAX_READS: usize = 32;

    fn new(connection: Connection, context: &Context) -> Self {
        Self {
            stream: stream_of(&connection, context),
            connection,
            in_flight: DatagramsInFlight::new(context.pipeline),
            share: FlowShare::default(),
            is_stuck: false,
        }
    }

    fn connection(&self) -> &Connection {
        &self.connection
    }

    fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    fn push(&mut self, order: Order, context: &mut Context) -> bool {
        let can_write = self.connection.can_write() && !self.is_stuck;
        let size = context.source.draw_size();
        self.in_flight
            .push(order.intended, size, can_write, order.counted)
    }

    fn connected(&mut self, _took: u64, context: &mut Context) {
        // A UDP connect exchanges no packet with the peer, so there is no time to report.
        context.recorder.counts().opened += 1;
    }

    fn receive(&mut self, context: &mut Context, buffer: &mut [u8]) -> Result<bool, Ended> {
        let read = self.connection.read(buffer);
        context.recorder.counts().refused += self.connection.take_refused();
        let Some(count) = read? else {
            return Ok(false);
        };
        context.tick();
        self.take(&buffer[..count], context);
        Ok(self.connection.may_read())
    }

    fn has_to_send(&self) -> bool {
        self.in_flight.next().is_some()
    }

    fn send(&mut self, context: &mut Context) -> Result<(), Ended> {
        self.is_stuck = false;
        // Each iteration sends one datagram of the bounded queue or leaves the loop.
        while let Some(next) = self.in_flight.next() {
            if !self.connection.can_write() {
                return Ok(());
            }
            // Built first, so that building is not part of the write time.
            let source = &mut context.source;
            let bytes = source.datagram(&mut self.stream, next.sequence, next.size);
            context.recorder.clock.tick();
            let began = context.recorder.clock.now();
            let sent = self.connection.write(bytes);
            context.recorder.counts().refused += self.connection.take_refused();
            if sent?.is_none() {
                self.is_stuck = self.connection.can_write();
                self.hold(began, context);
                return Ok(());
            }
            if let Some(sent) = self.in_flight.sent(began) {
                context.recorder.record_sent(sent, began);
                let size = u64::from(next.size);
                let counted = if sent.counted { size } else { 0 };
                context.recorder.record_bytes_out(size, counted);
            }
        }
        Ok(())
    }

    fn abandon(&mut self, _ended: &Ended, context: &mut Context) {
        self.hold(context.now(), context);
        let unanswered = self.in_flight.expire(u64::MAX);
        context.give_up(self.connection.id.key, unanswered);
    }

    fn waits_since(&self) -> Option<u64> {
        self.in_flight.oldest_write()
    }

    fn overdue(&mut self, context: &mut Context) -> Option<Ended> {
        self.expire(context);
        None
    }

    fn left(&self) -> Left {
        self.in_flight.left()
    }

    fn had_demand(&self) -> bool {
        self.in_flight.has_sent()
    }

    fn share(&self) -> FlowShare {
        self.share
    }
}

/// A received datagram.
#[derive(Clone, Copy, Debug)]
struct Received<'a> {
    bytes: &'a [u8],
    /// The sequence number of the message that it answers, as far as can be told.
    sequence: Option<u64>,
    /// Where it differs from that message, if it does.
    difference: Option<usize>,
}

impl Received<'_> {
    /// Its first wrong byte, if it should have `size` bytes.
    fn wrong_at(&self, size: Option<u32>) -> Option<usize> {
        let length = self.bytes.len();
        let size = size.map_or(length, |size| size as usize);
        self.difference
            .or_else(|| (length != size).then_some(length.min(size)))
    }
}

impl Datagram {
    fn take(&mut self, bytes: &[u8], context: &mut Context) {
        context.recorder.enter_interval();
        // An answer after the timeout is late, whenever the timeouts were checked last.
        self.expire(context);
        let received = self.identify(bytes, context);
        let arrival = received
            .sequence
            .map_or(Arrival::Stray, |sequence| self.in_flight.received(sequence));
        let (size, counted) = match arrival {
            Arrival::Echo { done, .. } => (Some(done.size), done.counted),
            Arrival::Late { size, .. } => (Some(size), false),
            Arrival::Duplicate { size, .. } => (size, false),
            Arrival::Stray => (None, false),
        };
        let count = bytes.len() as u64;
        let counted = if counted { count } else { 0 };
        context.recorder.record_bytes_in(count, counted);
        let wrong_at = match arrival {
            // Its sequence number is wrong.
            Arrival::Stray => Some(received.sequence.map_or(bytes.len(), |_| 0)),
            _ => received.wrong_at(size),
        };
        if let Some(offset) = wrong_at {
            self.note_wrong(arrival, received.sequence, offset, context);
            context.recorder.note_foreign(bytes);
        } else {
            context.recorder.note_echo();
        }
        match arrival {
            Arrival::Echo { done, reordered } => {
                self.connection.note_answer();
                let contents = match wrong_at {
                    Some(_) => Contents::Wrong,
                    None => context.source.undisputed(),
                };
                if context.recorder.clock.is_within_window() {
                    let now = context.now();
                    self.share.add(now.saturating_sub(done.intended));
                }
                context.recorder.counts().reordered += u64::from(reordered && done.counted);
                context.recorder.record_done(&done);
                context.recorder.record_contents(done.counted, contents);
                if let Some(order) = context.answered(self.connection.id.key) {
                    self.push(order, context);
                }
            }
            Arrival::Duplicate { counted, .. } => {
                context.recorder.counts().duplicated += u64::from(counted);
            }
            Arrival::Late { counted, .. } => context.recorder.counts().late += u64::from(counted),
            Arrival::Stray => context.recorder.counts().stray += 1,
        }
    }

    /// Compares a datagram with the sent one whose sequence number it carries.
    fn identify<'a>(&mut self, bytes: &'a [u8], context: &Context) -> Received<'a> {
        let sequence = sequence_of(bytes);
        let difference = sequence.and_then(|sequence| {
            context
                .source
                .datagram_difference(&mut self.stream, sequence, bytes)
        });
        let received = Received {
            bytes,
            sequence,
            difference,
        };
        if difference.is_some() {
            self.identify_by_content(received, context)
        } else {
            received
        }
    }

    /// If the other bytes of a wrong datagram are those of another message, its sequence number is
    /// wrong. Of several such messages, the most similar number is taken.
    #[cold]
    fn identify_by_content<'a>(&self, received: Received<'a>, context: &Context) -> Received<'a> {
        let (source, bytes) = (&context.source, received.bytes);
        let carried = received.sequence.unwrap_or(0);
        let mut stream = self.stream;
        let answered = self
            .in_flight
            .remembered()
            .take(MAX_COMPARED)
            .filter(|sent| sent.size as usize == bytes.len())
            .filter(|sent| {
                source
                    .payload
                    .is_content_of(&mut stream, sent.sequence, bytes)
            })
            .min_by_key(|sent| (sent.sequence ^ carried).count_ones());
        match answered {
            Some(Next { sequence, .. }) => Received {
                sequence: Some(sequence),
                difference: source.datagram_difference(&mut stream, sequence, bytes),
                ..received
            },
            None => received,
        }
    }

    /// Records a wrong byte of an arrival.
    #[cold]
    fn note_wrong(
        &mut self,
        arrival: Arrival,
        sequence: Option<u64>,
        offset: usize,
        context: &mut Context,
    ) {
        context.recorder.record_corruption(Corruption {
            connection: self.connection.id.number,
            offset: offset as u64,
            sequence,
        });
        let is_new = sequence.is_some_and(|sequence| self.in_flight.note_wrong(sequence));
        // The contents of the first echo are counted apart.
        if is_new && matches!(arrival, Arrival::Duplicate { .. }) {
            context.recorder.counts().wrong_copies += 1;
        }
    }

    /// Gives up the datagrams whose timeout is over.
    fn expire(&mut self, context: &mut Context) {
        let given_up = context.now().saturating_sub(context.timeout_ns);
        if self
            .in_flight
            .oldest_write()
            .is_some_and(|began| began <= given_up)
        {
            let unanswered = self.in_flight.expire(given_up);
            context.give_up(self.connection.id.key, unanswered);
        }
    }

    /// Marks the queued datagrams as held by the socket from `now` on.
    fn hold(&mut self, now: u64, context: &mut Context) {
        self.in_flight
            .hold(|intended| context.recorder.record_held(intended, now));
    }
}
