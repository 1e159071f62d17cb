//! Streams in one direction: up to a discard server, or down from a chargen server. A message is a
//! block of the stream.
//!
//! Nobody answers. Upwards a block counts as received when the server's TCP has acknowledged it,
//! which the length of the socket's outgoing queue tells; downwards a block counts as sent when it is
//! there, or its connection broke in the middle of it.

use std::collections::VecDeque;

use crate::engine::chargen::Pattern;
use crate::engine::connection::{Connection, Ended};
use crate::engine::in_flight::{Abandoned, Left, Sent};
use crate::engine::meter::{Contents, Meter};
use crate::engine::payload::StreamId;

use super::request::{READS_PER_TURN, write};
use super::{Flow, FlowShare, Order};

/// Writes of one flow before others have their turn.
const WRITES_PER_TURN: usize = 4;

/// A stream to a discard server.
#[derive(Debug)]
pub(crate) struct Up {
    connection: Connection,
    stream: StreamId,
    /// Blocks that are due, are being written or are not acknowledged, oldest first.
    blocks: VecDeque<Block>,
    /// How many of `blocks`, from the front, are out: a byte of them was written.
    out: usize,
    written: u64,
    /// Where the blocks end that are queued.
    end: u64,
    acknowledged: u64,
    /// When more was last acknowledged, or something went out with nothing else out.
    progress_at: u64,
    share: FlowShare,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    intended: u64,
    /// Where it ends in the stream, and its size.
    end: u64,
    size: u32,
    counted: bool,
    held: bool,
}

impl Block {
    fn begin(&self) -> u64 {
        self.end - u64::from(self.size)
    }
}

impl Flow for Up {
    fn new(connection: Connection, meter: &Meter) -> Self {
        Self {
            stream: meter.payload.stream(connection.id.number, 0),
            connection,
            blocks: VecDeque::new(),
            out: 0,
            written: 0,
            end: 0,
            acknowledged: 0,
            progress_at: 0,
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
        let size = meter.draw_size();
        let held = !self.connection.can_write();
        self.end += u64::from(size);
        self.blocks.push_back(Block {
            intended: order.intended,
            end: self.end,
            size,
            counted: order.counted,
            held,
        });
        held
    }

    fn connected(&mut self, took: u64, meter: &mut Meter) {
        let Connection {
            id, incarnation, ..
        } = &self.connection;
        self.stream = meter.payload.stream(id.number, *incarnation);
        meter.record_connect(took);
    }

    fn receive(&mut self, meter: &mut Meter, buffer: &mut [u8]) -> Result<bool, Ended> {
        // Nothing comes from a discard server but its end.
        match self.connection.read(buffer)? {
            None => {
                meter.tick();
                Ok(false)
            }
            Some(_) => Err(Ended::Excess),
        }
    }

    fn has_to_send(&self) -> bool {
        self.written < self.end
    }

    fn send(&mut self, meter: &mut Meter) -> Result<(), Ended> {
        for _ in 0..WRITES_PER_TURN {
            let left = self.end - self.written;
            if left == 0 || !self.connection.can_write() {
                return Ok(());
            }
            let (began, written) =
                write(&mut self.connection, meter, self.stream, self.written, left);
            let Some(count) = written? else {
                self.hold(began, meter);
                return Ok(());
            };
            if self.acknowledged == self.written {
                self.progress_at = began;
            }
            self.wrote(count as u64, began, meter);
        }
        Ok(())
    }

    fn abandon(&mut self, ended: &Ended, meter: &mut Meter) {
        self.settle(meter);
        self.hold(meter.now(), meter);
        let last_end = self
            .out
            .checked_sub(1)
            .map_or(0, |last| self.blocks[last].end);
        let out = self.blocks.drain(..self.out);
        let places = out.len();
        let counted = out.filter(|block| block.counted).count() as u64;
        let (timed_out, lost) = match ended {
            Ended::TimedOut => (counted, 0),
            _ => (0, counted),
        };
        self.out = 0;
        // The others gave their place in the closed loop back when they were written whole.
        if self.written < last_end {
            meter.schedule.completed(self.connection.id.key);
        }
        meter.forget(Abandoned {
            places,
            timed_out,
            lost,
        });
        (self.written, self.acknowledged, self.end) = (0, 0, 0);
        for block in &mut self.blocks {
            self.end += u64::from(block.size);
            block.end = self.end;
        }
    }

    fn overdue(&mut self, meter: &mut Meter) -> Option<Ended> {
        self.settle(meter);
        let is_out = self.acknowledged < self.written;
        let is_stalled = self.progress_at.saturating_add(meter.timeout_ns) <= meter.now();
        (is_out && is_stalled).then_some(Ended::TimedOut)
    }

    fn settle(&mut self, meter: &mut Meter) {
        let Some(queued) = self.connection.outgoing() else {
            return;
        };
        // A Unix socket counts the memory of what was not read, which is more than its bytes.
        let acknowledged = self.written.saturating_sub(queued);
        if acknowledged <= self.acknowledged {
            return;
        }
        let count = acknowledged - self.acknowledged;
        self.acknowledged = acknowledged;
        self.progress_at = meter.now();
        meter.note_bytes_in(count);
        let is_within_window = meter.is_within_window();
        while let Some(block) = self.blocks.front().copied()
            && self.out > 0
            && block.end <= acknowledged
        {
            self.blocks.pop_front();
            self.out -= 1;
            self.share.messages += u64::from(is_within_window);
            meter.record_delivered(block.counted, u64::from(block.size));
        }
    }

    fn left(&self) -> Left {
        let counted = |block: &&Block| block.counted;
        Left {
            out: self.blocks.iter().take(self.out).filter(counted).count() as u64,
            queued: self.blocks.iter().skip(self.out).filter(counted).count() as u64,
        }
    }

    fn share(&self) -> FlowShare {
        self.share
    }
}

impl Up {
    /// Notes that `count` bytes were written by a call that began at `began`. A block that is
    /// written whole lets the next one of a closed loop go.
    fn wrote(&mut self, count: u64, began: u64, meter: &mut Meter) {
        let before = self.written;
        self.written += count;
        meter.note_bytes_out(count);
        // From the block on that may have been begun before.
        let mut index = self.out.saturating_sub(1);
        while let Some(block) = self.blocks.get(index).copied()
            && block.begin() < self.written
        {
            if index >= self.out {
                self.out += 1;
                let sent = Sent {
                    intended: block.intended,
                    held: block.held,
                    counted: block.counted,
                };
                meter.slice.record_sent(sent, began, meter.is_open_loop);
            }
            if block.counted {
                let from = block.begin().max(before);
                let to = block.end.min(self.written);
                meter.slice.counts.bytes_sent += to.saturating_sub(from);
            }
            if before < block.end && block.end <= self.written {
                meter.schedule.completed(self.connection.id.key);
            }
            index += 1;
        }
    }

    /// From `now` on, what is queued waits for the connection.
    fn hold(&mut self, now: u64, meter: &mut Meter) {
        for block in self.blocks.iter_mut().skip(self.out) {
            if !std::mem::replace(&mut block.held, true) && block.counted && meter.is_open_loop {
                meter.slice.record_held(block.intended, now);
            }
        }
    }
}

/// A stream from a chargen server.
#[derive(Debug)]
pub(crate) struct Down {
    connection: Connection,
    pattern: Pattern,
    size: u32,
    /// Bytes of the block that is arriving, and whether one of them was wrong.
    partial: u32,
    is_corrupt: bool,
    position: u64,
    /// Whether the block that is arriving began within the window.
    is_counted: bool,
    heard_at: u64,
    share: FlowShare,
}

impl Flow for Down {
    fn new(connection: Connection, meter: &Meter) -> Self {
        Self {
            connection,
            pattern: Pattern::Unknown,
            size: meter.largest_size(),
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

    /// The server decides what comes: the schedule of such a run makes nothing due.
    fn push(&mut self, _order: Order, _meter: &mut Meter) -> bool {
        false
    }

    fn connected(&mut self, took: u64, meter: &mut Meter) {
        self.pattern = Pattern::Unknown;
        self.position = 0;
        self.heard_at = meter.now();
        meter.record_connect(took);
    }

    fn receive(&mut self, meter: &mut Meter, buffer: &mut [u8]) -> Result<bool, Ended> {
        for _ in 0..READS_PER_TURN {
            if meter.is_window_over() {
                // What the server goes on sending belongs to no window.
                return Ok(false);
            }
            let Some(count) = self.connection.read(buffer)? else {
                return Ok(false);
            };
            meter.tick();
            self.take(meter, &buffer[..count]);
        }
        Ok(self.connection.may_read())
    }

    fn has_to_send(&self) -> bool {
        false
    }

    fn send(&mut self, _meter: &mut Meter) -> Result<(), Ended> {
        Ok(())
    }

    fn abandon(&mut self, ended: &Ended, meter: &mut Meter) {
        if self.partial > 0 && self.is_counted {
            let (timed_out, lost) = match ended {
                Ended::TimedOut => (1, 0),
                _ => (0, 1),
            };
            meter.record_issued();
            meter.slice.counts.sent += 1;
            meter.forget(Abandoned {
                places: 0,
                timed_out,
                lost,
            });
        }
        (self.partial, self.is_corrupt) = (0, false);
    }

    fn overdue(&mut self, meter: &mut Meter) -> Option<Ended> {
        let is_silent = self.heard_at.saturating_add(meter.timeout_ns) <= meter.now();
        (self.connection.is_open() && is_silent).then_some(Ended::TimedOut)
    }

    fn left(&self) -> Left {
        Left::default()
    }

    fn share(&self) -> FlowShare {
        self.share
    }
}

impl Down {
    fn take(&mut self, meter: &mut Meter, mut bytes: &[u8]) {
        meter.enter_interval();
        let count = bytes.len() as u64;
        self.heard_at = meter.now();
        meter.note_bytes_in(count);
        let is_within_window = meter.is_within_window();
        while !bytes.is_empty() {
            if self.partial == 0 {
                self.is_counted = is_within_window;
            }
            let part = bytes.len().min((self.size - self.partial) as usize);
            let (head, rest) = bytes.split_at(part);
            if meter.is_verifying
                && let Some(offset) = self.pattern.first_difference(self.position, head)
            {
                self.is_corrupt = true;
                let offset = self.position + offset as u64;
                meter.note_corruption(self.connection.id.number, offset);
            }
            self.position += part as u64;
            self.partial += part as u32;
            if self.is_counted {
                meter.slice.counts.bytes_received += part as u64;
            }
            if self.partial == self.size {
                // Only now: the window's end leaves no block half sent.
                if self.is_counted {
                    meter.record_issued();
                    meter.slice.counts.sent += 1;
                }
                self.share.messages += u64::from(is_within_window);
                let contents = match (std::mem::take(&mut self.is_corrupt), self.pattern) {
                    (true, _) => Contents::Wrong,
                    (false, Pattern::Ring { .. }) => Contents::Right,
                    (false, _) => Contents::Unknown,
                };
                meter.record_block(self.is_counted, contents);
                self.partial = 0;
            }
            bytes = rest;
        }
    }
}
