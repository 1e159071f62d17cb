//! Request and response over a byte stream, as book-keeping without socket or clock. The messages
//! are consecutive stretches of the connection's byte stream, each of its own size. A message is
//! first queued, with the time it was intended for; it is out from the moment its first byte was
//! handed to the kernel, and done when the last byte of its echo was read.

use std::collections::VecDeque;

use super::{Abandoned, Done, Left, Sent};

/// The messages of one connection that are queued or out, oldest first.
#[derive(Debug)]
pub struct Messages {
    /// The most messages out at a time; those beyond it stay queued.
    depth: usize,
    queue: VecDeque<Message>,
    /// How many of `queue`, from the front, are out.
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
    /// Where the first message begins that counts, if there was one.
    counted_from: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    intended: u64,
    write: Write,
    size: u32,
    counted: bool,
}

/// The state of a message's first byte.
#[derive(Clone, Copy, Debug)]
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
            queue: VecDeque::new(),
            out: 0,
            oldest_begin: 0,
            next_begin: 0,
            held_begin: 0,
            end: 0,
            written: 0,
            received: 0,
            corrupt: false,
            counted_from: None,
        }
    }

    /// Queues a message of `size` bytes and says whether it has to wait for its connection, besides
    /// for us. `connected` says whether the connection could take it now, as far as is known;
    /// `counted` whether it belongs to the measured window.
    pub fn push(&mut self, intended: u64, size: u32, connected: bool, counted: bool) -> bool {
        let is_beyond_depth = self.queue.len() >= self.depth;
        let held = !connected || is_beyond_depth;
        if counted && self.counted_from.is_none() {
            self.counted_from = Some(self.end);
        }
        self.end += u64::from(size);
        if !is_beyond_depth {
            self.held_begin = self.end;
        }
        self.queue.push_back(Message {
            intended,
            write: Write::Queued { held },
            size,
            counted,
        });
        held
    }

    /// Notes that the connection can't take what is queued, and tells the intended time of each
    /// counted message that did not have to wait for it until now.
    pub fn hold(&mut self, mut newly_held: impl FnMut(u64)) {
        for message in self.queue.iter_mut().skip(self.out) {
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
    pub fn wrote(&mut self, count: u64, began: u64, mut sent: impl FnMut(Sent)) -> u64 {
        let before = self.written;
        self.written += count;
        while self.next_begin < self.written
            && let Some(message) = self.queue.get_mut(self.out)
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
        self.count(before, self.written)
    }

    /// Bytes of the echo that are missing of the oldest message out, or 0 when none is.
    pub fn missing(&self) -> u64 {
        match self.queue.front() {
            Some(oldest) if self.out > 0 => {
                self.oldest_begin + u64::from(oldest.size) - self.received
            }
            _ => 0,
        }
    }

    /// Notes that `count` bytes of the echo arrived, all of them belonging to the oldest message,
    /// and whether they were right. Returns the message if it is done now.
    pub fn received(&mut self, count: u64, intact: bool) -> Option<Done> {
        let missing = self.missing();
        debug_assert!(count <= missing, "bytes of more than one message");
        self.received += count;
        self.corrupt |= !intact;
        if self.out == 0 || count < missing {
            return None;
        }
        let message = self.queue.pop_front()?;
        let Write::Began(write_began) = message.write else {
            return None;
        };
        self.out -= 1;
        self.oldest_begin += u64::from(message.size);
        // Its place is free for the next one that is queued.
        if let Some(admitted) = self.queue.get(self.depth - 1) {
            self.held_begin += u64::from(admitted.size);
        }
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
        for message in self.queue.drain(..self.out).filter(|m| m.counted) {
            match message.write {
                Write::Began(began) if began <= timed_out_before => abandoned.timed_out += 1,
                Write::Began(_) | Write::Queued { .. } => abandoned.lost += 1,
            }
        }
        let queue = std::mem::take(&mut self.queue);
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
        self.queue = queue;
        abandoned
    }

    /// Bytes that are queued and may be written now.
    pub fn writable(&self) -> u64 {
        self.held_begin.saturating_sub(self.written)
    }

    /// Position of the next byte to write in the connection's stream.
    pub fn write_position(&self) -> u64 {
        self.written
    }

    /// Position of the next byte to read in the connection's stream.
    pub fn read_position(&self) -> u64 {
        self.received
    }

    /// Bytes written whose echo has not arrived. More than that can't come from an echo.
    pub fn in_flight(&self) -> u64 {
        self.written - self.received
    }

    /// How many of `count` bytes of echo that follow [`Messages::read_position`] count.
    pub fn counted_bytes(&self, count: u64) -> u64 {
        self.count(self.received, self.received + count)
    }

    /// When the write of the oldest message out began.
    pub fn oldest_write(&self) -> Option<u64> {
        match self.queue.front()?.write {
            Write::Began(began) => Some(began),
            Write::Queued { .. } => None,
        }
    }

    /// Messages queued or out.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none is queued or out.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Counted messages that are out or queued.
    pub fn left(&self) -> Left {
        let counted = |message: &&Message| message.counted;
        Left {
            out: self.queue.iter().take(self.out).filter(counted).count() as u64,
            queued: self.queue.iter().skip(self.out).filter(counted).count() as u64,
        }
    }

    /// How much of the stretch from `from` to `to` lies in counted messages.
    fn count(&self, from: u64, to: u64) -> u64 {
        self.counted_from
            .map_or(0, |counted_from| to.saturating_sub(from.max(counted_from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent(messages: &mut Messages, count: u64, began: u64) -> Vec<u64> {
        let mut times = Vec::new();
        messages.wrote(count, began, |sent| times.push(sent.intended));
        times
    }

    #[test]
    fn a_message_is_out_with_its_first_byte_and_done_with_its_last() {
        let mut messages = Messages::new(None);
        messages.push(5, 10, true, true);
        messages.push(6, 10, true, true);
        assert_eq!(messages.writable(), 20);
        assert_eq!(sent(&mut messages, 10, 100), [5]);
        assert_eq!(sent(&mut messages, 1, 101), [6]);
        assert!(sent(&mut messages, 9, 102).is_empty());
        assert_eq!(messages.missing(), 10);
        assert_eq!(messages.received(9, true), None);
        assert_eq!(
            messages.received(1, true),
            Some(Done {
                intended: 5,
                write_began: 100,
                intact: true,
                counted: true
            })
        );
        assert_eq!(messages.received(4, false), None);
        let done = messages.received(6, true).unwrap();
        assert_eq!((done.write_began, done.intact), (101, false));
        assert_eq!(messages.missing(), 0);
        assert!(messages.is_empty());
    }

    #[test]
    fn depth_holds_messages_back() {
        let mut messages = Messages::new(Some(1));
        messages.push(1, 4, true, true);
        messages.push(2, 4, true, true);
        assert_eq!(messages.writable(), 4);
        let mut held = Vec::new();
        messages.wrote(4, 10, |sent| held.push(sent.held));
        assert_eq!(messages.writable(), 0);
        messages.received(4, true).unwrap();
        assert_eq!(messages.writable(), 4);
        messages.wrote(4, 20, |sent| held.push(sent.held));
        assert_eq!(held, [false, true]);
    }

    #[test]
    fn messages_are_held_once_and_only_if_the_connection_makes_them_wait() {
        let mut messages = Messages::new(None);
        // A client that comes late queues several at once: that is not the connection's doing.
        assert!(!messages.push(1, 4, true, true));
        assert!(!messages.push(2, 4, true, true));
        messages.wrote(2, 10, |sent| assert!(!sent.held));
        let mut held = Vec::new();
        messages.hold(|intended| held.push(intended));
        messages.hold(|intended| held.push(intended));
        assert_eq!(held, [2]);
        assert!(messages.push(3, 4, false, true));
        messages.wrote(10, 20, |sent| assert!(sent.held));
    }

    #[test]
    fn a_restart_gives_up_what_was_out_and_keeps_what_was_queued() {
        let mut messages = Messages::new(None);
        for (intended, counted) in [(1, false), (2, true), (3, true), (4, true)] {
            messages.push(intended, 4, true, counted);
        }
        messages.wrote(8, 100, |_| ());
        messages.wrote(4, 200, |_| ());
        let abandoned = messages.restart(150);
        assert_eq!(
            abandoned,
            Abandoned {
                places: 3,
                timed_out: 1,
                lost: 1
            }
        );
        assert_eq!(
            (messages.left(), messages.writable()),
            (Left { out: 0, queued: 1 }, 4)
        );
        assert_eq!(sent(&mut messages, 4, 300), [4]);
        assert_eq!(messages.oldest_write(), Some(300));
    }

    proptest! {
        /// Whatever is pushed, written, received and restarted: each counted message ends in
        /// exactly one place, bytes that count are those of counted messages, and what may be
        /// written is what lies within the depth.
        #[test]
        fn the_books_balance(
            depth in prop::option::of(1_usize..4),
            warm_up in 0_u64..10,
            steps in prop::collection::vec((0_u8..4, 1_u64..20), 0..200),
        ) {
            let mut messages = Messages::new(depth);
            let mut sizes = VecDeque::new();
            let (mut pushed, mut counted, mut started, mut done, mut given_up) = (0, 0, 0, 0, 0);
            let (mut bytes_out, mut bytes_back, mut bytes_lost) = (0, 0, 0);
            let mut done_size = 0;
            for (time, (step, amount)) in steps.into_iter().enumerate() {
                match step {
                    0 => {
                        messages.push(pushed, amount as u32, true, pushed >= warm_up);
                        sizes.push_back(amount);
                        counted += u64::from(pushed >= warm_up);
                        pushed += 1;
                    }
                    1 => {
                        let count = amount.min(messages.writable());
                        bytes_out += messages.wrote(count, time as u64, |sent| {
                            started += u64::from(sent.counted);
                        });
                    }
                    2 => {
                        let count = amount.min(messages.in_flight()).min(messages.missing());
                        bytes_back += messages.counted_bytes(count);
                        if let Some(message) = messages.received(count, true) {
                            done += u64::from(message.counted);
                            let size = sizes.pop_front().unwrap();
                            done_size += if message.counted { size } else { 0 };
                        }
                    }
                    _ if amount == 1 => {
                        let out = messages.left().out;
                        let abandoned = messages.restart(time as u64 / 2);
                        prop_assert_eq!(abandoned.lost + abandoned.timed_out, out);
                        given_up += out;
                        bytes_lost = bytes_out - bytes_back;
                        sizes.drain(..abandoned.places);
                    }
                    _ => {}
                }
                let left = messages.left();
                prop_assert!(depth.is_none_or(|depth| left.out <= depth as u64));
                prop_assert_eq!(counted, started + left.queued);
                prop_assert_eq!(started, done + left.out + given_up);
                prop_assert!(bytes_back + bytes_lost <= bytes_out);
                prop_assert!(done_size <= bytes_back);
                let within_depth: u64 = sizes.iter().take(depth.unwrap_or(usize::MAX)).sum();
                let behind_the_oldest = messages.write_position() - messages.oldest_begin;
                prop_assert_eq!(messages.writable(), within_depth - behind_the_oldest);
            }
        }
    }
}
