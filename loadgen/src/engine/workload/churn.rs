//! A connection for each message: connect, exchange, close. A message is handed to the kernel with
//! its connect call, so its service time contains the set-up; connect, first byte and close are
//! recorded apart.

use crate::engine::connection::{Connection, Ended};
use crate::engine::in_flight::{Abandoned, Done, Left, Sent};
use crate::engine::meter::Meter;
use crate::engine::payload::StreamId;
use crate::plan::Close;

use super::request::{READS_PER_TURN, write};
use super::{Flow, FlowShare, Order};

/// A flow of connections, one after the other.
#[derive(Debug)]
pub(crate) struct Churn {
    connection: Connection,
    stream: StreamId,
    exchange: Option<Exchange>,
    share: FlowShare,
}

/// A message and its connection.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    intended: u64,
    size: u32,
    counted: bool,
    /// When the connect call began.
    began: u64,
    /// When the first write call began.
    write_began: Option<u64>,
    written: u32,
    received: u32,
    corrupt: bool,
    /// When the client half-closed: the echo is complete and the server is to close too.
    closing_since: Option<u64>,
}

impl Flow for Churn {
    fn new(connection: Connection, meter: &Meter) -> Self {
        Self {
            stream: meter.payload.stream(connection.id.number, 0),
            connection,
            exchange: None,
            share: FlowShare::default(),
        }
    }

    fn connection(&self) -> &Connection {
        &self.connection
    }

    fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The caller connects at once: with the connect call the message is out.
    fn push(&mut self, order: Order, meter: &mut Meter) -> bool {
        let began = meter.read_clock();
        let sent = Sent {
            intended: order.intended,
            held: order.has_waited,
            counted: order.counted,
        };
        meter.slice.record_sent(sent, began, meter.is_open_loop);
        self.exchange = Some(Exchange {
            intended: order.intended,
            size: meter.draw_size(),
            counted: order.counted,
            began,
            write_began: None,
            written: 0,
            received: 0,
            corrupt: false,
            closing_since: None,
        });
        false
    }

    fn connected(&mut self, took: u64, meter: &mut Meter) {
        let Connection {
            id, incarnation, ..
        } = &self.connection;
        self.stream = meter.payload.stream(id.number, *incarnation);
        meter.slice.counts.opened += 1;
        if self.exchange.is_some_and(|exchange| exchange.counted) {
            meter.slice.connect.record(took);
        }
    }

    fn receive(&mut self, meter: &mut Meter, buffer: &mut [u8]) -> Result<bool, Ended> {
        for _ in 0..READS_PER_TURN {
            let count = match self.connection.read(buffer) {
                Ok(Some(count)) => count,
                Ok(None) => return Ok(false),
                Err(Ended::ByPeer) => return Err(self.closed_by_peer(meter)),
                Err(ended) => return Err(ended),
            };
            meter.tick();
            self.take(meter, &buffer[..count])?;
        }
        Ok(self.connection.may_read())
    }

    fn has_to_send(&self) -> bool {
        self.connection.is_open()
            && self
                .exchange
                .is_some_and(|exchange| exchange.written < exchange.size)
    }

    fn send(&mut self, meter: &mut Meter) -> Result<(), Ended> {
        // Each turn either writes some of the message or leaves the loop.
        while self.has_to_send() && self.connection.can_write() {
            let Some(exchange) = &mut self.exchange else {
                return Ok(());
            };
            let left = u64::from(exchange.size - exchange.written);
            let position = u64::from(exchange.written);
            let (began, written) = write(&mut self.connection, meter, self.stream, position, left);
            let Some(count) = written? else {
                return Ok(());
            };
            exchange.write_began.get_or_insert(began);
            exchange.written += count as u32;
            if exchange.counted {
                meter.slice.counts.bytes_sent += count as u64;
            }
            meter.note_bytes_out(count as u64);
        }
        Ok(())
    }

    fn abandon(&mut self, ended: &Ended, meter: &mut Meter) {
        let Some(exchange) = self.exchange.take() else {
            return;
        };
        if exchange.closing_since.is_some() {
            meter.slice.counts.unclosed += u64::from(matches!(ended, Ended::Unclosed));
            meter.free_place(self.connection.id.key);
            return;
        }
        if matches!(ended, Ended::Excess) {
            meter.slice.counts.duplicated += 1;
        }
        let is_timeout = match ended {
            Ended::TimedOut => true,
            Ended::NotConnected(error) => error.kind() == std::io::ErrorKind::TimedOut,
            _ => false,
        };
        let counted = u64::from(exchange.counted);
        let (timed_out, lost) = if is_timeout {
            (counted, 0)
        } else {
            (0, counted)
        };
        meter.record_abandoned(
            self.connection.id.key,
            Abandoned {
                places: 1,
                timed_out,
                lost,
            },
        );
    }

    fn overdue(&mut self, meter: &mut Meter) -> Option<Ended> {
        let exchange = self.exchange?;
        let is_over = |since: u64| since.saturating_add(meter.timeout_ns) <= meter.now();
        match exchange.closing_since {
            Some(since) => is_over(since).then_some(Ended::Unclosed),
            None => is_over(exchange.began).then_some(Ended::TimedOut),
        }
    }

    fn left(&self) -> Left {
        let is_out = self
            .exchange
            .is_some_and(|exchange| exchange.counted && exchange.closing_since.is_none());
        Left {
            out: u64::from(is_out),
            queued: 0,
        }
    }

    fn share(&self) -> FlowShare {
        self.share
    }
}

impl Churn {
    fn closed_by_peer(&self, meter: &mut Meter) -> Ended {
        let Some(Exchange {
            counted,
            closing_since: Some(since),
            ..
        }) = self.exchange
        else {
            return Ended::ByPeer;
        };
        meter.tick();
        meter.enter_interval();
        if counted {
            let took = meter.now().saturating_sub(since);
            meter.slice.close.record(took);
        }
        Ended::ByUs
    }

    fn take(&mut self, meter: &mut Meter, bytes: &[u8]) -> Result<(), Ended> {
        let count = bytes.len() as u64;
        meter.enter_interval();
        let Some(exchange) = &mut self.exchange else {
            return Err(Ended::Excess);
        };
        if u64::from(exchange.written - exchange.received) < count {
            return Err(Ended::Excess);
        }
        let now = meter.now();
        let write_began = exchange.write_began.unwrap_or(now);
        if exchange.counted {
            meter.slice.counts.bytes_received += count;
            if exchange.received == 0 {
                let took = now.saturating_sub(write_began);
                meter.slice.first_byte.record(took);
            }
        }
        meter.note_bytes_in(count);
        let position = u64::from(exchange.received);
        if let Some(offset) = meter.first_difference(self.stream, position, bytes) {
            exchange.corrupt = true;
            meter.note_corruption(self.connection.id.number, position + offset as u64);
        }
        exchange.received += count as u32;
        if exchange.received < exchange.size {
            return Ok(());
        }
        let done = Done {
            intended: exchange.intended,
            write_began: exchange.began,
            intact: !exchange.corrupt,
            counted: exchange.counted,
        };
        exchange.closing_since = Some(now);
        if meter.is_within_window() {
            self.share.messages += 1;
        }
        meter.record_done(done);
        match meter.close {
            Close::Orderly => {
                exchange.closing_since = Some(meter.read_clock());
                self.connection.shutdown_write();
                Ok(())
            }
            Close::Reset => {
                self.connection.reset_on_close();
                Err(Ended::ByUs)
            }
        }
    }
}
