//! Messages over a byte stream and back.

use echomark::net::clock::monotonic_ns;

use super::flow::Flow;
use super::outgoing::{FOREIGN_WITHIN, Outgoing};
use crate::engine::connection::{Connection, Ended};
use crate::engine::context::Context;
use crate::engine::in_flight::{Left, Restart};
use crate::engine::recorder::Recorder;
use crate::engine::slice::Contents;
use crate::engine::source::Order;
use crate::engine::task::FlowShare;
use crate::result::Corruption;

/// A flow of messages and their echoes. Only one that is greeted tells servers apart, so that others
/// don't come across it.
#[derive(Debug)]
pub(crate) struct Request<const GREETED: bool> {
    connection: Connection,
    outgoing: Outgoing,
    /// Whether the echo that is arriving has a wrong byte.
    is_corrupt: bool,
    share: FlowShare,
    /// The number of the server that greeted the connection.
    backend: usize,
}

impl<const GREETED: bool> Flow for Request<GREETED> {
    fn new(connection: Connection, context: &Context) -> Self {
        Self {
            outgoing: Outgoing::new(&connection, context, context.pipeline),
            connection,
            is_corrupt: false,
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

    #[inline(always)]
    fn push(&mut self, order: Order, context: &mut Context) -> bool {
        self.outgoing.push(order, &self.connection, context)
    }

    fn connected(&mut self, took: u64, context: &mut Context) {
        self.outgoing.connected(&self.connection, context);
        if GREETED {
            let greeting = self.connection.take_greeting();
            self.backend = context.backends.enter(greeting.as_deref());
        }
        context.recorder.record_connect(took);
    }

    #[inline(always)]
    fn receive(&mut self, context: &mut Context, buffer: &mut [u8]) -> Result<bool, Ended> {
        let Some(count) = self.connection.read(buffer)? else {
            return Ok(false);
        };
        context.tick();
        self.take(&buffer[..count], context)?;
        Ok(self.connection.may_read())
    }

    fn has_to_send(&self) -> bool {
        self.outgoing.has_to_send()
    }

    fn send(&mut self, context: &mut Context) -> Result<(), Ended> {
        if self.has_to_send() {
            self.send_from(monotonic_ns(), context)
        } else {
            Ok(())
        }
    }

    fn abandon(&mut self, ended: &Ended, context: &mut Context) {
        // Bytes that came before any were sent repeat no message.
        if matches!(ended, Ended::Excess) && self.outgoing.in_flight.write_position() > 0 {
            context.recorder.counts().duplicated += 1;
        }
        let now = context.now();
        let restart = match ended {
            Ended::TimedOut => Restart::TimedOut(now.saturating_sub(context.timeout_ns)),
            _ => Restart::Lost,
        };
        self.outgoing.hold(now, &mut context.recorder);
        self.is_corrupt = false;
        let unanswered = self.outgoing.in_flight.restart(restart);
        context.give_up(self.connection.id.key, unanswered);
    }

    fn waits_since(&self) -> Option<u64> {
        self.outgoing.in_flight.oldest_write()
    }

    fn overdue(&mut self, context: &mut Context) -> Option<Ended> {
        context
            .is_overdue(self.waits_since()?)
            .then_some(Ended::TimedOut)
    }

    fn left(&self) -> Left {
        self.outgoing.in_flight.left()
    }

    fn share(&self) -> FlowShare {
        self.share
    }
}

impl<const GREETED: bool> Request<GREETED> {
    /// Records every message that `bytes` complete, and writes the next messages. Verifies the
    /// bytes after that, so that verification delays no message.
    ///
    /// # Errors
    /// The server sent more than it had received, it answered after the timeout, or the reason why
    /// the connection ended.
    #[inline(always)]
    fn take(&mut self, bytes: &[u8], context: &mut Context) -> Result<(), Ended> {
        let count = bytes.len() as u64;
        let in_flight = &mut self.outgoing.in_flight;
        let position = in_flight.read_position();
        if position + count > in_flight.write_position() {
            return Err(self.take_surplus(bytes, context));
        }
        // The others were written later.
        if context.may_have_overdue()
            && in_flight
                .oldest_write()
                .is_some_and(|began| context.is_overdue(began))
        {
            return Err(Ended::TimedOut);
        }
        context.recorder.enter_interval();
        let counted = in_flight.received(count);
        context.recorder.record_bytes_in(count, counted);
        self.take_done(context);
        // In a closed loop, a message is due when the read ended, and its write begins then.
        let sent = if context.recorder.is_open_loop() {
            self.send(context)
        } else {
            self.send_from(context.now(), context)
        };
        self.verify(position, bytes, context);
        sent
    }

    /// Records the messages whose echoes are complete, and queues the next ones of a closed loop. They
    /// are taken as right until they are verified.
    #[inline(always)]
    fn take_done(&mut self, context: &mut Context) {
        while let Some(done) = self.outgoing.in_flight.take_done() {
            self.connection.note_answer();
            if context.recorder.clock.is_within_window() {
                let now = context.now();
                self.share.add(now.saturating_sub(done.intended));
                if GREETED {
                    let took = now.saturating_sub(done.intended);
                    context.backends.record(self.backend, took);
                }
            }
            context.recorder.record_done(&done);
            let contents = context.source.undisputed();
            context.recorder.record_contents(done.counted, contents);
            if let Some(order) = context.answered(self.connection.id.key) {
                self.push(order, context);
            }
        }
    }

    /// More came back than was sent. Records the first wrong byte, if need be the first surplus one.
    #[cold]
    fn take_surplus(&mut self, bytes: &[u8], context: &mut Context) -> Ended {
        let Outgoing { stream, in_flight } = &mut self.outgoing;
        let position = in_flight.read_position();
        let difference = context.source.first_difference(stream, position, bytes);
        let surplus = in_flight.write_position();
        context.recorder.record_corruption(Corruption {
            connection: self.connection.id.number,
            offset: difference.map_or(surplus, |index| position + index as u64),
            sequence: None,
        });
        if position == 0 {
            self.note_first(bytes, context);
        }
        Ended::Excess
    }

    /// Writes the queued messages as far as the connection accepts them. The first call begins at
    /// `began`.
    #[inline(always)]
    fn send_from(&mut self, mut began: u64, context: &mut Context) -> Result<(), Ended> {
        // Each iteration writes a part of the bounded queue or leaves the loop.
        while self.has_to_send() && self.connection.can_write() {
            let written = self.outgoing.write(&mut self.connection, context, began)?;
            if !self.has_to_send() || written == 0 {
                break;
            }
            began = monotonic_ns();
        }
        Ok(())
    }

    /// Compares the bytes from `position` on with the sent ones. What is wrong is recorded.
    #[inline(always)]
    fn verify(&mut self, position: u64, bytes: &[u8], context: &mut Context) {
        let Context {
            source, recorder, ..
        } = context;
        let stream = &mut self.outgoing.stream;
        let is_wrong = source.is_verifying
            && (self.is_corrupt
                || source
                    .payload
                    .first_difference(stream, position, bytes)
                    .is_some());
        if is_wrong {
            self.verify_each(position, bytes, context);
        } else {
            recorder.note_echo();
        }
    }

    /// Notes whether the first bytes of a connection are an echo.
    fn note_first(&mut self, bytes: &[u8], context: &mut Context) {
        let stream = &mut self.outgoing.stream;
        let written = self.outgoing.in_flight.write_position();
        let difference = context.source.first_difference(stream, 0, bytes);
        if written == 0 || difference.is_some_and(|offset| offset < FOREIGN_WITHIN) {
            context.recorder.note_foreign(bytes);
        } else {
            context.recorder.note_echo();
        }
    }

    /// The slow path, after a wrong byte: verifies each message separately.
    #[cold]
    fn verify_each(&mut self, position: u64, bytes: &[u8], context: &mut Context) {
        if position == 0 {
            self.note_first(bytes, context);
        }
        let Context {
            source, recorder, ..
        } = context;
        let Outgoing { stream, in_flight } = &mut self.outgoing;
        let connection = self.connection.id.number;
        // The part up to `end`, from the end of the last part.
        let mut begin = position;
        let mut has_difference = |recorder: &mut Recorder, end: u64| {
            let part = &bytes[(begin - position) as usize..(end - position) as usize];
            let difference = source.first_difference(stream, begin, part);
            if let Some(offset) = difference {
                recorder.record_corruption(Corruption {
                    connection,
                    offset: begin + offset as u64,
                    sequence: None,
                });
            }
            begin = end;
            difference.is_some()
        };
        for message in in_flight.unverified() {
            let is_wrong = has_difference(recorder, message.end) | self.is_corrupt;
            self.is_corrupt = false;
            if is_wrong {
                recorder.counts().verified -= u64::from(message.counted);
                recorder.record_contents(message.counted, Contents::Wrong);
            }
        }
        // The rest belongs to the message whose echo is arriving.
        self.is_corrupt |= has_difference(recorder, position + bytes.len() as u64);
    }
}
