//! A stream from a chargen server. A message is a block of the stream. It counts as sent when it
//! has arrived completely, or when its connection ends within it.

use super::flow::Flow;
use crate::engine::chargen::Pattern;
use crate::engine::connection::{Connection, Ended};
use crate::engine::context::Context;
use crate::engine::in_flight::{Left, Unanswered};
use crate::engine::slice::Contents;
use crate::engine::source::Order;
use crate::engine::task::FlowShare;
use crate::result::Corruption;

/// A stream from a chargen server.
#[derive(Debug)]
pub(crate) struct Download {
    connection: Connection,
    pattern: Pattern,
    size: u32,
    /// Bytes of the current block, and whether one of them was wrong.
    partial: u32,
    is_corrupt: bool,
    position: u64,
    /// Whether the current block began within the window.
    is_counted: bool,
    heard_at: u64,
    share: FlowShare,
}

impl Flow for Download {
    fn new(connection: Connection, context: &Context) -> Self {
        Self {
            connection,
            pattern: Pattern::Unknown,
            size: context.source.max_size(),
            partial: 0,
            is_corrupt: false,
            position: 0,
            is_counted: false,
            heard_at: 0,
            share: FlowShare::default(),
        }
    }

    fn connection(&self) -> &Connection {
        &self.connection
    }

    fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The server decides the amount: the schedule of a download issues nothing.
    fn push(&mut self, _order: Order, _context: &mut Context) -> bool {
        false
    }

    fn connected(&mut self, took: u64, context: &mut Context) {
        self.pattern = Pattern::Unknown;
        self.position = 0;
        self.heard_at = context.now();
        context.recorder.record_connect(took);
    }

    fn receive(&mut self, context: &mut Context, buffer: &mut [u8]) -> Result<bool, Ended> {
        if context.recorder.clock.is_window_over() {
            // Bytes that arrive later belong to no window.
            return Ok(false);
        }
        let Some(count) = self.connection.read(buffer)? else {
            return Ok(false);
        };
        context.tick();
        if context.is_overdue(self.heard_at) {
            return Err(Ended::TimedOut);
        }
        self.connection.note_answer();
        self.take(&buffer[..count], context);
        Ok(self.connection.may_read())
    }

    fn has_to_send(&self) -> bool {
        false
    }

    fn send(&mut self, _context: &mut Context) -> Result<(), Ended> {
        Ok(())
    }

    fn abandon(&mut self, ended: &Ended, context: &mut Context) {
        if self.partial > 0 && self.is_counted {
            let (timed_out, lost) = match ended {
                Ended::TimedOut => (1, 0),
                _ => (0, 1),
            };
            context.recorder.record_issued();
            context.recorder.counts().sent += 1;
            context.recorder.record_unanswered(Unanswered {
                places: 0,
                timed_out,
                lost,
                abandoned: 0,
            });
        }
        (self.partial, self.is_corrupt) = (0, false);
    }

    fn waits_since(&self) -> Option<u64> {
        self.connection.is_open().then_some(self.heard_at)
    }

    fn overdue(&mut self, context: &mut Context) -> Option<Ended> {
        context
            .is_overdue(self.waits_since()?)
            .then_some(Ended::TimedOut)
    }

    fn left(&self) -> Left {
        Left::default()
    }

    fn had_demand(&self) -> bool {
        true
    }

    fn share(&self) -> FlowShare {
        self.share
    }
}

impl Download {
    fn take(&mut self, mut bytes: &[u8], context: &mut Context) {
        let recorder = &mut context.recorder;
        // The server may send any pattern.
        recorder.note_echo();
        recorder.enter_interval();
        self.heard_at = recorder.clock.now();
        let is_within_window = recorder.clock.is_within_window();
        while !bytes.is_empty() {
            if self.partial == 0 {
                self.is_counted = is_within_window;
            }
            let part = bytes.len().min((self.size - self.partial) as usize);
            let (head, rest) = bytes.split_at(part);
            if context.source.is_verifying
                && let Some(offset) = self.pattern.first_difference(self.position, head)
            {
                self.is_corrupt = true;
                recorder.record_corruption(Corruption {
                    connection: self.connection.id.number,
                    offset: self.position + offset as u64,
                    sequence: None,
                });
            }
            self.position += part as u64;
            self.partial += part as u32;
            let part = part as u64;
            recorder.record_bytes_in(part, if self.is_counted { part } else { 0 });
            if self.partial == self.size {
                // Counted only now, so that the window's end leaves no block half sent.
                if self.is_counted {
                    recorder.record_issued();
                    recorder.counts().sent += 1;
                }
                self.share.messages += u64::from(is_within_window);
                let contents = match std::mem::take(&mut self.is_corrupt) {
                    true => Contents::Wrong,
                    false if self.pattern.is_known() => context.source.undisputed(),
                    false => Contents::Unknown,
                };
                recorder.record_received(self.is_counted);
                recorder.record_contents(self.is_counted, contents);
                self.partial = 0;
            }
            bytes = rest;
        }
    }
}
