//! Messages go out as UDP datagrams and come back, each with its sequence number.

use crate::engine::connection::{Connection, Ended};
use crate::engine::in_flight::Left;
use crate::engine::in_flight::datagrams::{Arrival, Datagrams};
use crate::engine::meter::Meter;
use crate::engine::payload::{self, StreamId};

use super::{Flow, FlowShare, Order};

/// Datagrams read of one flow before others have their turn.
const READS_PER_TURN: usize = 32;

/// A flow of datagrams.
#[derive(Debug)]
pub(crate) struct Datagram {
    connection: Connection,
    datagrams: Datagrams,
    stream: StreamId,
    share: FlowShare,
    /// Whether the kernel had no room for the datagram at hand, and no event will say that it has.
    is_stuck: bool,
}

impl Flow for Datagram {
    fn new(connection: Connection, meter: &Meter) -> Self {
        Self {
            stream: meter.payload.stream(connection.id.number, 0),
            connection,
            datagrams: Datagrams::new(meter.depth),
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

    fn push(&mut self, order: Order, meter: &mut Meter) -> bool {
        let can_write = self.connection.can_write() && !self.is_stuck;
        let size = meter.draw_size();
        self.datagrams
            .push(order.intended, size, can_write, order.counted)
    }

    fn connected(&mut self, _took: u64, meter: &mut Meter) {
        // Nothing was exchanged with the peer, so there is no time to report.
        meter.slice.counts.opened += 1;
    }

    fn receive(&mut self, meter: &mut Meter, buffer: &mut [u8]) -> Result<bool, Ended> {
        for _ in 0..READS_PER_TURN {
            let read = self.connection.read(buffer);
            meter.slice.counts.refused += self.connection.take_refused();
            let Some(count) = read? else {
                return Ok(false);
            };
            meter.tick();
            self.take(meter, &buffer[..count]);
        }
        Ok(self.connection.may_read())
    }

    fn has_to_send(&self) -> bool {
        self.datagrams.next().is_some()
    }

    fn send(&mut self, meter: &mut Meter) -> Result<(), Ended> {
        self.is_stuck = false;
        // Each turn either sends one of the bounded queue or leaves the loop.
        while let Some(next) = self.datagrams.next() {
            if !self.connection.can_write() {
                return Ok(());
            }
            let bytes = meter.datagram(self.stream, next.sequence, next.size);
            let began = meter.read_clock();
            let sent = self.connection.write(&bytes);
            meter.give_back(bytes);
            meter.slice.counts.refused += self.connection.take_refused();
            if sent?.is_none() {
                self.is_stuck = self.connection.can_write();
                self.hold(began, meter);
                return Ok(());
            }
            if let Some(sent) = self.datagrams.sent(began) {
                meter.slice.record_sent(sent, began, meter.is_open_loop);
                let size = u64::from(next.size);
                meter.slice.counts.bytes_sent += if sent.counted { size } else { 0 };
                meter.note_bytes_out(size);
            }
        }
        Ok(())
    }

    fn abandon(&mut self, _ended: &Ended, meter: &mut Meter) {
        self.hold(meter.now(), meter);
        let abandoned = self.datagrams.expire(u64::MAX);
        meter.record_abandoned(self.connection.id.key, abandoned);
    }

    fn overdue(&mut self, meter: &mut Meter) -> Option<Ended> {
        let given_up = meter.now().saturating_sub(meter.timeout_ns);
        if self
            .datagrams
            .oldest_write()
            .is_some_and(|began| began <= given_up)
        {
            let abandoned = self.datagrams.expire(given_up);
            meter.record_abandoned(self.connection.id.key, abandoned);
        }
        None
    }

    fn left(&self) -> Left {
        self.datagrams.left()
    }

    fn share(&self) -> FlowShare {
        self.share
    }
}

impl Datagram {
    fn take(&mut self, meter: &mut Meter, bytes: &[u8]) {
        meter.enter_interval();
        let count = bytes.len() as u64;
        meter.note_bytes_in(count);
        let sequence = payload::sequence_of(bytes);
        let size = sequence.and_then(|sequence| self.datagrams.size_of(sequence));
        let intact = match (sequence, size) {
            (Some(sequence), Some(size)) => {
                bytes.len() == size as usize
                    && meter.is_datagram_intact(self.stream, sequence, bytes)
            }
            _ => true,
        };
        let number = self.connection.id.number;
        let counts = &mut meter.slice.counts;
        let arrival = sequence.map_or(Arrival::Stray, |sequence| {
            self.datagrams.received(sequence, intact)
        });
        match arrival {
            Arrival::Echo { done, reordered } => {
                if done.counted {
                    counts.bytes_received += count;
                    counts.reordered += u64::from(reordered);
                }
                if meter.is_within_window() {
                    self.share.add(meter.now().saturating_sub(done.intended));
                }
                if !done.intact {
                    meter.note_corruption(number, sequence.unwrap_or(0));
                }
                meter.record_done(done);
                if let Some(order) = meter.answered(self.connection.id.key) {
                    self.push(order, meter);
                }
            }
            Arrival::Duplicate { counted } => counts.duplicated += u64::from(counted),
            Arrival::Late { counted } => counts.late += u64::from(counted),
            Arrival::Stray => {
                counts.stray += 1;
                meter.note_corruption(number, sequence.unwrap_or(0));
            }
        }
    }

    /// From `now` on, what is queued waits for the socket.
    fn hold(&mut self, now: u64, meter: &mut Meter) {
        self.datagrams.hold(|intended| {
            if meter.is_open_loop {
                meter.slice.record_held(intended, now);
            }
        });
    }
}
