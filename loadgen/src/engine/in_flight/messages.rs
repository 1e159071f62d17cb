//! Request and response over a byte stream, as book-keeping without socket or clock. The messages
//! are consecutive stretches of the connection's byte stream, each of its own size. A message is
//! first queued, with the time it was intended for; it is out from the moment its first byte was
//! handed to the kernel, and done when the last byte of its echo was read.

use std::collections::VecDeque;

use super::{Abandoned, Done, Left, Sent};

/// The messages of one connection that are queued or out, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Messages {
    /// The most messages out at a time; those beyond it stay queued.
    depth: usize,
    oldest: Option<Message>,
    /// All others. The oldest is apart because it often is the only one, and then nothing is to be looked
    /// up, or allocated.
    later: VecDeque<Message>,
    /// How many, from the oldest on, are out.
    out: usize,
    /// Where in the stream the oldest message begins,
    oldest_begin: u64,
    /// the oldest that is not out,
    next_begin: u64,
    /// the first one beyond `depth`,
    held_begin: u64,
    /// and where the last one ends.
    end: u64,
    written: u64,
    received: u64,
    /// Whether a byte of the oldest message came back wrong.
    corrupt: bool,
    /// See [`Messages::sole`].
    sole: u64,
    /// Where the first message begins that counts, if there was one.
    counted_from: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Message {
    intended: u64,
    write: Write,
    size: u32,
    counted: bool,
}

/// The state of a message's first byte.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Write {
    /// Queued; `held` if it has to wait for its connection and not only for us.
    Queued { held: bool },
    /// Handed to the kernel by a call that began then.
    Began(u64),
}

impl Messages {
    /// No messages yet. `depth` bounds how many are out at a time.
    pub fn new(depth: Option<usize>) -> Self {
        Self {
            depth: depth.unwrap_or(usize::MAX),
            oldest: None,
            later: VecDeque::new(),
            out: 0,
            oldest_begin: 0,
            next_begin: 0,
            held_begin: 0,
            end: 0,
            written: 0,
            received: 0,
            corrupt: false,
            sole: 0,
            counted_from: None,
        }
    }

    /// Queues a message of `size` bytes and says whether it has to wait for its connection, besides
    /// for us. `connected` says whether the connection could take it now, as far as is known;
    /// `counted` whether it belongs to the measured window.
    #[inline]
    pub fn push(&mut self, intended: u64, size: u32, connected: bool, counted: bool) -> bool {
        let is_beyond_depth = self.len() >= self.depth;
        self.sole = 0;
        let held = !connected || is_beyond_depth;
        if counted && self.counted_from.is_none() {
            self.counted_from = Some(self.end);
        }
        self.end += u64::from(size);
        if !is_beyond_depth {
            self.held_begin = self.end;
        }
        let message = Message {
            intended,
            write: Write::Queued { held },
            size,
            counted,
        };
        if self.oldest.is_none() {
            self.oldest = Some(message);
        } else {
            self.later.push_back(message);
        }
        held
    }

    /// Notes that the connection can't take what is queued, and tells the intended time of each
    /// counted message that did not have to wait for it until now.
    pub fn hold(&mut self, mut newly_held: impl FnMut(u64)) {
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
    pub fn wrote(&mut self, count: u64, began: u64, mut sent: impl FnMut(Sent)) -> u64 {
        let before = self.written;
        self.written += count;
        while self.next_begin < self.written
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
            self.next_begin += u64::from(message.size);
            self.out += 1;
        }
        let is_sole = |message: &Message| {
            let is_whole = self.written == self.end && self.received == self.oldest_begin;
            is_whole && message.counted && !self.corrupt && self.later.is_empty()
        };
        self.sole = self
            .oldest
            .filter(is_sole)
            .map_or(0, |message| message.size.into());
        self.count(before, self.written)
    }

    /// The size of the only message there is, if it counts, was just written whole, and nothing of its
    /// echo came; else 0.
    #[inline]
    pub fn sole(&self) -> u64 {
        self.sole
    }

    /// The [sole](Self::sole) message came back whole and right at `now`, and one of `size` bytes that counts
    /// was due then and was written whole by a call that began then. Returns how long the sole message
    /// took from its write. It comes to the same as [`Messages::received`], [`Messages::push`] and
    /// [`Messages::wrote`], but there is little to look at.
    ///
    /// # Panics
    /// If there is no sole message.
    #[inline]
    pub fn turn_sole(&mut self, now: u64, size: u32) -> u64 {
        let Some(Message {
            intended,
            write: Write::Began(began),
            size: message_size,
            ..
        }) = &mut self.oldest
        else {
            panic!("there is no sole message");
        };
        let took = now.saturating_sub(std::mem::replace(began, now));
        *intended = now;
        *message_size = size;
        self.sole = size.into();
        self.received = self.written;
        self.oldest_begin = self.written;
        self.written += u64::from(size);
        self.next_begin = self.written;
        self.held_begin = self.written;
        self.end = self.written;
        took
    }

    /// Bytes of the echo that are missing of the oldest message out, or 0 when none is.
    #[inline]
    pub fn missing(&self) -> u64 {
        match &self.oldest {
            Some(oldest) if self.out > 0 => {
                self.oldest_begin + u64::from(oldest.size) - self.received
            }
            _ => 0,
        }
    }

    /// Notes that `count` bytes of the echo arrived, all of them belonging to the oldest message,
    /// and whether they were right. Returns the message if it is done now.
    #[inline]
    pub fn received(&mut self, count: u64, intact: bool) -> Option<Done> {
        let missing = self.missing();
        debug_assert!(count <= missing, "bytes of more than one message");
        self.sole = 0;
        self.received += count;
        self.corrupt |= !intact;
        if self.out == 0 || count < missing {
            return None;
        }
        let message = self.oldest?;
        let Write::Began(write_began) = message.write else {
            return None;
        };
        self.out -= 1;
        self.oldest_begin += u64::from(message.size);
        // Its place is free for the next one that is queued.
        if let Some(admitted) = self.later.get(self.depth - 1) {
            self.held_begin += u64::from(admitted.size);
        }
        self.oldest = self.later.pop_front();
        Some(Done {
            intended: message.intended,
            write_began,
            intact: !std::mem::replace(&mut self.corrupt, false),
            counted: message.counted,
        })
    }

    /// Starts a new connection: what was out is given up, and what was queued stays, with the time
    /// it was intended for. Messages whose write began at or before `timed_out_before` count as
    /// timed out.
    pub fn restart(&mut self, timed_out_before: u64) -> Abandoned {
        let mut abandoned = Abandoned {
            places: self.out,
            ..Abandoned::default()
        };
        let mut queue = std::mem::take(&mut self.later);
        if let Some(oldest) = self.oldest.take() {
            queue.push_front(oldest);
        }
        for message in queue.drain(..self.out).filter(|m| m.counted) {
            match message.write {
                Write::Began(began) if began <= timed_out_before => abandoned.timed_out += 1,
                Write::Began(_) | Write::Queued { .. } => abandoned.lost += 1,
            }
        }
        let size_of_first = |count: usize| -> u64 {
            queue
                .iter()
                .take(count)
                .map(|message| u64::from(message.size))
                .sum()
        };
        let first_counted = queue.iter().position(|message| message.counted);
        *self = Self {
            held_begin: size_of_first(self.depth),
            end: size_of_first(queue.len()),
            counted_from: first_counted.map(size_of_first),
            ..Self::new(Some(self.depth))
        };
        self.oldest = queue.pop_front();
        self.later = queue;
        abandoned
    }

    /// Bytes that are queued and may be written now.
    #[inline]
    pub fn writable(&self) -> u64 {
        self.held_begin.saturating_sub(self.written)
    }

    /// Position of the next byte to write in the connection's stream.
    #[inline]
    pub fn write_position(&self) -> u64 {
        self.written
    }

    /// Position of the next byte to read in the connection's stream.
    #[inline]
    pub fn read_position(&self) -> u64 {
        self.received
    }

    /// Bytes written whose echo has not arrived. More than that can't come from an echo.
    #[inline]
    pub fn in_flight(&self) -> u64 {
        self.written - self.received
    }

    /// How many of `count` bytes of echo that follow [`Messages::read_position`] count.
    #[inline]
    pub fn counted_bytes(&self, count: u64) -> u64 {
        self.count(self.received, self.received + count)
    }

    /// When the write of the oldest message out began.
    pub fn oldest_write(&self) -> Option<u64> {
        match self.oldest?.write {
            Write::Began(began) => Some(began),
            Write::Queued { .. } => None,
        }
    }

    /// Messages queued or out.
    pub fn len(&self) -> usize {
        usize::from(self.oldest.is_some()) + self.later.len()
    }

    /// Whether none is queued or out.
    pub fn is_empty(&self) -> bool {
        self.oldest.is_none()
    }

    /// Counted messages that are out or queued.
    pub fn left(&self) -> Left {
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
        self.counted_from
            .map_or(0, |counted_from| to.saturating_sub(from.max(counted_from)))
    }
}

#[cfg(test)]
mod tests;
