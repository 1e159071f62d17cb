//! One connection per message: connect, exchange, close. The service time begins with the connect
//! call, so it contains the connection set-up. Connect, first byte and close are recorded
//! separately.

use echomark::net::clock::monotonic_ns;

use super::flow::Flow;
use super::outgoing::{FOREIGN_WITHIN, stream_of, write};
use crate::engine::connection::{Connection, Ended, Handshake};
use crate::engine::context::Context;
use crate::engine::in_flight::{Done, Left, Sent, Unanswered};
use crate::engine::payload::ByteStream;
use crate::engine::slice::Contents;
use crate::engine::source::Order;
use crate::engine::task::FlowShare;
use crate::plan::Close;
use crate::result::Corruption;

/// A flow of consecutive connections.
#[derive(Debug)]
pub(crate) struct Churn {
    connection: Connection,
    stream: ByteStream,
    exchange: Option<Exchange>,
    share: FlowShare,
    /// The number of the server that greeted the connection.
    backend: usize,
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
    is_corrupt: bool,
    /// When the client half-closed. The echo is complete, and the server's close is awaited.
    closing_since: Option<u64>,
}

impl Flow for Churn {
    fn new(connection: Connection, context: &Context) -> Self {
        Self {
            stream: stream_of(&connection, context),
            connection,
            exchange: None,
            share: FlowShare::default(),
            backend: 0,
        }
    }

    fn connection(&self) -> &Connection {
        &self.connection
    }

    fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The caller connects at once. The message is outstanding from the connect call on.
    fn push(&mut self, order: Order, context: &mut Context) -> bool {
        let began = context.tick();
        let sent = Sent {
            intended: order.intended,
            held: order.has_waited,
            counted: order.counted,
        };
        context.recorder.record_sent(sent, began);
        self.exchange = Some(Exchange {
            intended: order.intended,
            size: context.source.draw_size(),
            counted: order.counted,
            began,
            write_began: None,
            written: 0,
            received: 0,
            is_corrupt: false,
            closing_since: None,
        });
        false
    }

    fn connected(&mut self, took: u64, context: &mut Context) {
        self.stream = stream_of(&self.connection, context);
        if context.is_greeted {
            let greeting = self.connection.take_greeting();
            self.backend = context.backends.enter(greeting.as_deref());
        }
        if self.exchange.is_some_and(|exchange| exchange.counted) {
            context.recorder.record_connect(took);
        } else {
            context.recorder.counts().opened += 1;
        }
    }

    fn secured(&mut self, handshake: &Handshake, context: &mut Context) {
        let counted = self.exchange.is_some_and(|exchange| exchange.counted);
        context.note_handshake(handshake, counted);
    }

    fn receive(&mut self, context: &mut Context, buffer: &mut [u8]) -> Result<bool, Ended> {
        let count = match self.connection.read(buffer) {
            Ok(Some(count)) => count,
            Ok(None) => return Ok(false),
            Err(Ended::ByPeer) => return Err(self.closed_by_peer(context)),
            // The echo is complete, so nothing that matters can be missing.
            Err(Ended::Truncated) if self.is_closing() => {
                context.recorder.counts().truncated += 1;
                return Err(self.closed_by_peer(context));
            }
            Err(ended) => return Err(ended),
        };
        context.tick();
        self.take(&buffer[..count], context)?;
        Ok(self.connection.may_read())
    }

    fn has_to_send(&self) -> bool {
        self.connection.is_open()
            && self
                .exchange
                .is_some_and(|exchange| exchange.written < exchange.size)
    }

    fn send(&mut self, context: &mut Context) -> Result<(), Ended> {
        // Each iteration writes some bytes or leaves the loop.
        while self.has_to_send() && self.connection.can_write() {
            let Some(exchange) = &mut self.exchange else {
                return Ok(());
            };
            let left = u64::from(exchange.size - exchange.written);
            let position = u64::from(exchange.written);
            let began = monotonic_ns();
            let payload = &context.source.payload;
            let written = write(
                &mut self.connection,
                payload,
                &mut self.stream,
                position,
                left,
            )?;
            let Some(count) = written else {
                return Ok(());
            };
            exchange.write_began.get_or_insert(began);
            exchange.written += count as u32;
            let count = count as u64;
            let counted = if exchange.counted { count } else { 0 };
            context.recorder.record_bytes_out(count, counted);
        }
        Ok(())
    }

    fn abandon(&mut self, ended: &Ended, context: &mut Context) {
        let Some(exchange) = self.exchange.take() else {
            return;
        };
        if matches!(ended, Ended::Excess) && exchange.written > 0 {
            context.recorder.counts().duplicated += 1;
        }
        if exchange.closing_since.is_some() {
            context.recorder.counts().unclosed += u64::from(matches!(ended, Ended::Unclosed));
            context.free_place(self.connection.id.key);
            return;
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
        context.give_up(
            self.connection.id.key,
            Unanswered {
                places: 1,
                timed_out,
                lost,
                abandoned: 0,
            },
        );
    }

    fn waits_since(&self) -> Option<u64> {
        let exchange = self.exchange?;
        Some(exchange.closing_since.unwrap_or(exchange.began))
    }

    fn overdue(&mut self, context: &mut Context) -> Option<Ended> {
        if !context.is_overdue(self.waits_since()?) {
            return None;
        }
        let is_closing = self.exchange?.closing_since.is_some();
        Some(if is_closing {
            Ended::Unclosed
        } else {
            Ended::TimedOut
        })
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
    /// Whether the echo is complete, and the server's close is awaited.
    fn is_closing(&self) -> bool {
        let exchange = self.exchange.as_ref();
        exchange.is_some_and(|exchange| exchange.closing_since.is_some())
    }

    fn closed_by_peer(&self, context: &mut Context) -> Ended {
        let Some(Exchange {
            counted,
            closing_since: Some(since),
            ..
        }) = self.exchange
        else {
            return Ended::ByPeer;
        };
        let now = context.tick();
        if context.is_overdue(since) {
            return Ended::Unclosed;
        }
        context.recorder.enter_interval();
        if counted {
            context.recorder.record_close(now.saturating_sub(since));
        }
        Ended::ByUs
    }

    fn take(&mut self, bytes: &[u8], context: &mut Context) -> Result<(), Ended> {
        let count = bytes.len() as u64;
        let Some(exchange) = &mut self.exchange else {
            return Err(Ended::Excess);
        };
        let position = u64::from(exchange.received);
        let difference = context
            .source
            .first_difference(&mut self.stream, position, bytes)
            .map(|index| position + index as u64);
        let surplus =
            (position + count > exchange.written.into()).then_some(exchange.written.into());
        if difference.is_none() && exchange.written > 0 {
            context.recorder.note_echo();
        } else if position == 0 && difference.is_none_or(|offset| offset < FOREIGN_WITHIN as u64) {
            context.recorder.note_foreign(bytes);
        }
        if let Some(offset) = difference.or(surplus) {
            exchange.is_corrupt = true;
            context.recorder.record_corruption(Corruption {
                connection: self.connection.id.number,
                offset,
                sequence: None,
            });
        }
        if surplus.is_some() {
            return Err(Ended::Excess);
        }
        if exchange.closing_since.is_none() && context.is_overdue(exchange.began) {
            return Err(Ended::TimedOut);
        }
        context.recorder.enter_interval();
        let now = context.now();
        let write_began = exchange.write_began.unwrap_or(now);
        if exchange.counted && exchange.received == 0 {
            let took = now.saturating_sub(write_began);
            context.recorder.record_first_byte(took);
        }
        let counted = if exchange.counted { count } else { 0 };
        context.recorder.record_bytes_in(count, counted);
        exchange.received += count as u32;
        if exchange.received < exchange.size {
            return Ok(());
        }
        self.connection.note_answer();
        let done = Done {
            intended: exchange.intended,
            write_began: exchange.began,
            size: exchange.size,
            counted: exchange.counted,
        };
        exchange.closing_since = Some(now);
        let contents = if exchange.is_corrupt {
            Contents::Wrong
        } else {
            context.source.undisputed()
        };
        if context.recorder.clock.is_within_window() {
            self.share.messages += 1;
            if context.is_greeted {
                let took = now.saturating_sub(done.intended);
                context.backends.record(self.backend, took);
            }
        }
        context.recorder.record_done(&done);
        context.recorder.record_contents(done.counted, contents);
        match context.close {
            Close::Orderly => {
                exchange.closing_since = Some(context.tick());
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
