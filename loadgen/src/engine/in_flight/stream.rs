//! Messages over a byte stream. Each message is a consecutive range of the connection's stream, of
//! its own size. It is queued with its intended time, outstanding once its first byte was written,
//! and done when the last byte of its echo was read.

use std::ops::Range;

use super::outcome::{Done, Left, Restart, Sent, Unanswered};
use super::ring::Ring;

/// The queued and outstanding messages of one connection, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct StreamInFlight {
    /// The maximum of outstanding messages. Others stay queued.
    depth: usize,
    /// The messages, with those that the last read completed.
    messages: Ring<Message>,
    /// The number of the oldest message that is not done,
    oldest: usize,
    /// and of the oldest one that is not outstanding but queued.
    queued: usize,
    /// How many more messages may be outstanding. Negative if there are more than `depth`.
    room: isize,
    /// Stream position of the end of the last outstanding message,
    out_end: u64,
    /// of the end of the last one within `depth`,
    admitted_end: u64,
    /// and of the end of the last one.
    end: u64,
    written: u64,
    received: u64,
    /// Stream position of the end of the last message that does not count. All later ones count.
    counted_from: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Message {
    intended: u64,
    /// When the call began that wrote its first byte, if that is written.
    write_began: u64,
    /// Stream position of its end.
    end: u64,
    size: u32,
    /// Whether it had to wait for its connection, not only for the client.
    held: bool,
}

/// A message whose echo is complete, but not verified yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unverified {
    /// Stream position of its end.
    pub(crate) end: u64,
    pub(crate) counted: bool,
}

impl StreamInFlight {
    /// An empty queue. `depth` limits the outstanding messages.
    pub(crate) fn new(depth: Option<usize>) -> Self {
        let depth = depth.unwrap_or(isize::MAX as usize);
        Self {
            depth,
            messages: Ring::new(),
            oldest: 0,
            queued: 0,
            room: depth as isize,
            out_end: 0,
            admitted_end: 0,
            end: 0,
            written: 0,
            received: 0,
            counted_from: 0,
        }
    }

    /// Queues a message of `size` bytes, at least one, and returns whether it has to wait for its
    /// connection. `connected` is whether the connection could take it now, as far as is known;
    /// `counted` is whether it belongs to the measured window, as all later ones do then.
    #[inline(always)]
    pub(crate) fn push(
        &mut self,
        intended: u64,
        size: u32,
        connected: bool,
        counted: bool,
    ) -> bool {
        let message = Message {
            intended,
            write_began: 0,
            end: 0,
            size,
            held: !connected,
        };
        self.append(message, counted)
    }

    /// Appends a message, and returns whether it is held by the connection or beyond `depth`.
    #[inline(always)]
    fn append(&mut self, mut message: Message, counted: bool) -> bool {
        let begin = self.end;
        self.end += u64::from(message.size);
        message.end = self.end;
        if !counted {
            debug_assert_eq!(self.counted_from, begin, "a message of the window is older");
            self.counted_from = self.end;
        }
        self.room -= 1;
        if self.room < 0 {
            message.held = true;
        } else {
            self.admitted_end = self.end;
        }
        self.messages.push(message);
        message.held
    }

    /// Notes that the connection is full. Reports the intended time of each counted message that
    /// now begins to wait for it.
    pub(crate) fn hold(&mut self, mut newly_held: impl FnMut(u64)) {
        for number in self.queued..self.messages.end() {
            let message = &mut self.messages[number];
            let is_counted = message.end > self.counted_from;
            if !std::mem::replace(&mut message.held, true) && is_counted {
                newly_held(message.intended);
            }
        }
    }

    /// Records that a write call that began at `began` wrote `count` bytes. Reports each message
    /// whose first byte was among them. Returns how many of the bytes count.
    #[inline(always)]
    pub(crate) fn wrote(&mut self, count: u64, began: u64, mut sent: impl FnMut(Sent)) -> u64 {
        let (before, written) = (self.written, self.written + count);
        let (mut queued, mut out_end) = (self.queued, self.out_end);
        while out_end < written {
            let message = &mut self.messages[queued];
            message.write_began = began;
            (queued, out_end) = (queued + 1, message.end);
            sent(Sent {
                intended: message.intended,
                held: message.held,
                counted: message.end > self.counted_from,
            });
        }
        (self.queued, self.out_end, self.written) = (queued, out_end, written);
        self.count(before, written)
    }

    /// Records that `count` bytes of the echo arrived, at most as many as are in flight.
    /// [`StreamInFlight::take_done`] returns the completed messages. Returns how many of the bytes
    /// count.
    #[inline(always)]
    pub(crate) fn received(&mut self, count: u64) -> u64 {
        debug_assert!(count <= self.bytes_out(), "more than was written");
        self.messages.remove_before(self.oldest);
        let before = self.received;
        self.received += count;
        self.count(before, self.received)
    }

    /// Takes the oldest message if its echo is complete.
    #[inline(always)]
    pub(crate) fn take_done(&mut self) -> Option<Done> {
        if self.oldest == self.queued {
            return None;
        }
        let message = &self.messages[self.oldest];
        if message.end > self.received {
            return None;
        }
        let done = Done {
            intended: message.intended,
            write_began: message.write_began,
            size: message.size,
            counted: message.end > self.counted_from,
        };
        self.oldest += 1;
        if self.room < 0 {
            // Its slot goes to a queued message.
            self.admitted_end = self.messages[self.oldest + self.depth - 1].end;
        }
        self.room += 1;
        Some(done)
    }

    /// The messages that were taken since the last bytes were received.
    pub(crate) fn unverified(&self) -> impl Iterator<Item = Unverified> {
        (self.messages.first()..self.oldest).map(|number| {
            let message = &self.messages[number];
            Unverified {
                end: message.end,
                counted: message.end > self.counted_from,
            }
        })
    }

    /// Starts a new connection. Outstanding messages are given up; queued messages stay, with their
    /// intended times.
    pub(crate) fn restart(&mut self, restart: Restart) -> Unanswered {
        let mut unanswered = Unanswered {
            places: self.out(),
            ..Unanswered::default()
        };
        let mut restarted = Self::new(Some(self.depth));
        for number in self.oldest..self.messages.end() {
            let message = self.messages[number];
            let is_counted = message.end > self.counted_from;
            if number >= self.queued {
                restarted.append(message, is_counted);
            } else if is_counted {
                match restart {
                    Restart::Lost => unanswered.lost += 1,
                    Restart::TimedOut(before) if message.write_began <= before => {
                        unanswered.timed_out += 1;
                    }
                    Restart::TimedOut(_) => unanswered.abandoned += 1,
                }
            }
        }
        *self = restarted;
        unanswered
    }

    /// Queued bytes that may be written now.
    #[inline]
    pub(crate) fn writable(&self) -> u64 {
        self.admitted_end - self.written
    }

    /// Stream position of the next byte to write.
    #[inline]
    pub(crate) fn write_position(&self) -> u64 {
        self.written
    }

    /// Stream position of the next byte to read.
    #[inline]
    pub(crate) fn read_position(&self) -> u64 {
        self.received
    }

    /// Bytes written whose echo has not arrived. An echo can't be longer than that.
    #[inline]
    pub(crate) fn bytes_out(&self) -> u64 {
        self.written - self.received
    }

    /// Number of outstanding messages that are written completely.
    pub(crate) fn written_whole(&self) -> usize {
        self.out() - usize::from(self.out_end > self.written)
    }

    /// When the write of the oldest outstanding message began.
    pub(crate) fn oldest_write(&self) -> Option<u64> {
        (self.out() > 0).then(|| self.messages[self.oldest].write_began)
    }

    /// Messages queued or outstanding.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.messages.end() - self.oldest
    }

    /// Counted messages that are outstanding or queued.
    pub(crate) fn left(&self) -> Left {
        let counted = |numbers: Range<usize>| {
            numbers
                .filter(|&number| self.messages[number].end > self.counted_from)
                .count()
        };
        Left {
            out: counted(self.oldest..self.queued) as u64,
            queued: counted(self.queued..self.messages.end()) as u64,
        }
    }

    /// The number of outstanding messages.
    fn out(&self) -> usize {
        self.queued - self.oldest
    }

    /// The number of counted bytes from `from` to `to`.
    #[inline]
    fn count(&self, from: u64, to: u64) -> u64 {
        if from >= self.counted_from {
            to - from
        } else {
            to.saturating_sub(self.counted_from)
        }
    }
}

#[cfg(test)]
mod tests;
