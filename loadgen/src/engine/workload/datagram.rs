//! Echoes of UDP datagrams, each with its sequence number.

use super::flow::Flow;
use super::outgoing::stream_of;
use crate::engine::connection::{Connection, Ended};
use crate::engine::context::Context;
use crate::engine::in_flight::{Arrival, DatagramsInFlight, Left};
use crate::engine::payload::{ByteStream, sequence_of};
use crate::engine::slice::Contents;
use crate::engine::source::Order;
use crate::engine::task::FlowShare;

/// Maximum of datagrams read from one flow per turn.
const MAX_READS: usize = 32;

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
        for _ in 0..MAX_READS {
            let read = self.connection.read(buffer);
            context.recorder.counts().refused += self.connection.take_refused();
            let Some(count) = read? else {
                return Ok(false);
            };
            context.tick();
            self.take(&buffer[..count], context);
        }
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
        let abandoned = self.in_flight.expire(u64::MAX);
        context.give_up(self.connection.id.key, abandoned);
    }

    fn overdue(&mut self, context: &mut Context) -> Option<Ended> {
        let given_up = context.now().saturating_sub(context.timeout_ns);
        if self
            .in_flight
            .oldest_write()
            .is_some_and(|began| began <= given_up)
        {
            let abandoned = self.in_flight.expire(given_up);
            context.give_up(self.connection.id.key, abandoned);
        }
        None
    }

    fn left(&self) -> Left {
        self.in_flight.left()
    }

    fn share(&self) -> FlowShare {
        self.share
    }
}

impl Datagram {
    fn take(&mut self, bytes: &[u8], context: &mut Context) {
        context.recorder.enter_interval();
        let (count, flow) = (bytes.len() as u64, self.connection.id);
        let sequence = sequence_of(bytes);
        let arrival = sequence.map_or(Arrival::Stray, |sequence| self.in_flight.received(sequence));
        let sequence = sequence.unwrap_or(0);
        let is_counted_echo = matches!(arrival, Arrival::Echo { done, .. } if done.counted);
        let counted = if is_counted_echo { count } else { 0 };
        context.recorder.record_bytes_in(count, counted);
        match arrival {
            Arrival::Echo { done, reordered } => {
                let source = &context.source;
                let stream = &mut self.stream;
                let contents = source.datagram_contents(stream, sequence, done.size, bytes);
                if contents == Contents::Wrong {
                    context.recorder.record_corruption(flow.number, sequence);
                }
                if context.recorder.clock.is_within_window() {
                    let now = context.now();
                    self.share.add(now.saturating_sub(done.intended));
                }
                context.recorder.counts().reordered += u64::from(reordered && done.counted);
                context.recorder.record_done(&done);
                context.recorder.record_contents(done.counted, contents);
                if let Some(order) = context.answered(flow.key) {
                    self.push(order, context);
                }
            }
            Arrival::Duplicate { counted } => {
                context.recorder.counts().duplicated += u64::from(counted);
            }
            Arrival::Late { counted } => context.recorder.counts().late += u64::from(counted),
            Arrival::Stray => {
                context.recorder.counts().stray += 1;
                context.recorder.record_corruption(flow.number, sequence);
            }
        }
    }

    /// Marks the queued datagrams as held by the socket from `now` on.
    fn hold(&mut self, now: u64, context: &mut Context) {
        self.in_flight
            .hold(|intended| context.recorder.record_held(intended, now));
    }
}
