//! Messages over a byte stream. They are consecutive stretches of the connection's byte stream, each
//! of its own size. A message is first queued, with the time it was intended for. It is out from the
//! moment its first byte was handed to the kernel, and done when the last byte of its echo was read.

use std::collections::VecDeque;

use super::outcome::{Abandoned, Done, Left, Sent};

/// The messages of one connection that are queued or out, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct StreamInFlight {
    /// The most messages out at a time; those beyond it stay queued.
    depth: usize,
    oldest: Option<Message>,
    /// All others. The oldest is apart because it often is the only one, and then nothing is looked
    /// up or allocated.
    later: VecDeque<Message>,
    /// How many, from the oldest on, are out.
    out: usize,
    /// Where in the stream the oldest message begins,
    oldest_begin: u64,
    /// where the last one ends that is out,
    out_end: u64,
    /// the last one within `depth`,
    admitted_end: u64,
    /// and the last one of all.
    end: u64,
    written: u64,
    received: u64,
    /// Where the first message begins that counts; `u64::MAX` if there was none.
    counted_from: u64,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    intended: u64,
    write: Write,
    /// Where in the stream it ends.
    end: u64,
    size: u32,
    counted: bool,
}

/// The state of a message's first byte.
#[derive(Clone, Copy, Debug)]
enum Write {
    /// Queued; `held` if it has to wait for its connection and not only for this program.
    Queued { held: bool },
    /// Handed to the kernel by a call that began then.
    Began(u64),
}

impl StreamInFlight {
    /// No messages yet. `depth` bounds how many are out at a time.
    pub(crate) fn new(depth: Option<usize>) -> Self {
        Self {
            depth: depth.unwrap_or(usize::MAX),
            oldest: None,
            later: VecDeque::new(),
            out: 0,
            oldest_begin: 0,
            out_end: 0,
            admitted_end: 0,
            end: 0,
            written: 0,
            received: 0,
            counted_from: u64::MAX,
        }
    }

    /// Queues a message of `size` bytes, at least one, and says whether it has to wait for its
    /// connection. `connected` says whether the connection could take it now, as far as is known;
    /// `counted` whether it belongs to the measured window.
    #[inline]
    pub(crate) fn push(
        &mut self,
        intended: u64,
        size: u32,
        connected: bool,
        counted: bool,
    ) -> bool {
        let held = !connected || self.len() >= self.depth;
        self.append(Message {
            intended,
            write: Write::Queued { held },
            end: 0,
            size,
            counted,
        });
        held
    }

    #[inline]
    fn append(&mut self, mut message: Message) {
        if message.counted {
            self.counted_from = self.counted_from.min(self.end);
        }
        self.end += u64::from(message.size);
        message.end = self.end;
        if self.len() < self.depth {
            self.admitted_end = self.end;
        }
        if self.oldest.is_none() {
            self.oldest = Some(message);
        } else {
            self.later.push_back(message);
        }
    }

    /// Notes that the connection can't take what is queued, and tells the intended time of each
    /// counted message that did not have to wait for it until now.
    pub(crate) fn hold(&mut self, mut newly_held: impl FnMut(u64)) {
        let all = self.oldest.iter_mut().chain(&mut self.later);
        for message in all.skip(self.out) {
            if let Write::Queued { held: held @ false } = &mut message.write {
                *held = true;
                if message.counted {
                    newly_held(message.intended);
                }
            }
        }
    }

    /// Notes that a write call that began at `began` handed `count` bytes to the kernel, and tells
    /// of each message whose first byte was among them. Returns how many of the bytes count.
    #[inline]
    pub(crate) fn wrote(&mut self, count: u64, began: u64, mut sent: impl FnMut(Sent)) -> u64 {
        let before = self.written;
        self.written += count;
        while self.out_end < self.written
            && let Some(message) = match self.out {
                0 => self.oldest.as_mut(),
                out => self.later.get_mut(out - 1),
            }
        {
            if let Write::Queued { held } = message.write {
                sent(Sent {
                    intended: message.intended,
                    held,
                    counted: message.counted,
                });
            }
            message.write = Write::Began(began);
            self.out_end = message.end;
            self.out += 1;
        }
        self.count(before, self.written)
    }

    /// Notes that `count` bytes of the echo arrived, no more than are in flight; which messages they
    /// complete, [`StreamInFlight::take_done`] tells. Returns how many of the bytes count.
    #[inline]
    pub(crate) fn received(&mut self, count: u64) -> u64 {
        debug_assert!(count <= self.bytes_out(), "more than was written");
        let before = self.received;
        self.received += count;
        self.count(before, self.received)
    }

    /// Takes the oldest message if its echo is complete.
    #[inline]
    pub(crate) fn take_done(&mut self) -> Option<Done> {
        let message = self.oldest.filter(|oldest| oldest.end <= self.received)?;
        let Write::Began(write_began) = message.write else {
            return None;
        };
        self.out -= 1;
        self.oldest_begin = message.end;
        // Its place is free for the next one that is queued.
        if let Some(admitted) = self.later.get(self.depth - 1) {
            self.admitted_end = admitted.end;
        }
        self.oldest = self.later.pop_front();
        Some(Done {
            intended: message.intended,
            write_began,
            size: message.size,
            counted: message.counted,
        })
    }

    /// Starts a new connection: what was out is given up, and what was queued stays, with the time
    /// it was intended for. Messages whose write began at or before `timed_out_before` count as
    /// timed out.
    pub(crate) fn restart(&mut self, timed_out_before: u64) -> Abandoned {
        let mut abandoned = Abandoned {
            places: self.out,
            ..Abandoned::default()
        };
        let mut restarted = Self::new(Some(self.depth));
        for (index, message) in self.iter().enumerate() {
            match message.write {
                _ if index >= self.out => restarted.append(*message),
                _ if !message.counted => {}
                Write::Began(began) if began <= timed_out_before => abandoned.timed_out += 1,
                Write::Began(_) | Write::Queued { .. } => abandoned.lost += 1,
            }
        }
        *self = restarted;
        abandoned
    }

    /// Bytes that are queued and may be written now.
    #[inline]
    pub(crate) fn writable(&self) -> u64 {
        self.admitted_end.saturating_sub(self.written)
    }

    /// Position of the next byte to write in the connection's stream.
    #[inline]
    pub(crate) fn write_position(&self) -> u64 {
        self.written
    }

    /// Position of the next byte to read in the connection's stream.
    #[inline]
    pub(crate) fn read_position(&self) -> u64 {
        self.received
    }

    /// Where the oldest message begins in the connection's stream: where the last one ended that is done.
    #[inline]
    pub(crate) fn oldest_begin(&self) -> u64 {
        self.oldest_begin
    }

    /// Bytes written whose echo has not arrived. More than that can't come from an echo.
    #[inline]
    pub(crate) fn bytes_out(&self) -> u64 {
        self.written - self.received
    }

    /// How many of the messages out are written whole.
    pub(crate) fn written_whole(&self) -> usize {
        self.out - usize::from(self.out_end > self.written)
    }

    /// When the write of the oldest message out began.
    pub(crate) fn oldest_write(&self) -> Option<u64> {
        match self.oldest?.write {
            Write::Began(began) => Some(began),
            Write::Queued { .. } => None,
        }
    }

    /// Messages queued or out.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        usize::from(self.oldest.is_some()) + self.later.len()
    }

    /// Counted messages that are out or queued.
    pub(crate) fn left(&self) -> Left {
        let counted = |message: &&Message| message.counted;
        Left {
            out: self.iter().take(self.out).filter(counted).count() as u64,
            queued: self.iter().skip(self.out).filter(counted).count() as u64,
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Message> {
        self.oldest.iter().chain(&self.later)
    }

    /// How much of the stretch from `from` to `to` lies in counted messages.
    #[inline]
    fn count(&self, from: u64, to: u64) -> u64 {
        to.saturating_sub(from.max(self.counted_from))
    }
}

#[cfg(test)]
mod tests;
