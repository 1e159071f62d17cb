//! Request and response: messages of one size go out on a connection and come back in order.
//!
//! [`Requests`] keeps the books of one connection and knows neither socket nor clock. The messages
//! are consecutive stretches of the connection's byte stream: message n is the bytes from n × size
//! on. A message is first queued, with the time it was intended for; it is out from the moment its
//! first byte was handed to the kernel, and done when the last byte of its echo was read.

use std::collections::VecDeque;

/// The messages of one connection that are queued or out, oldest first.
#[derive(Debug)]
pub struct Requests {
    size: u64,
    /// The most messages out at a time; those beyond it stay queued.
    depth: usize,
    queue: VecDeque<Request>,
    /// How many of `queue`, from the front, are out.
    out: usize,
    /// Messages done.
    done: u64,
    written: u64,
    received: u64,
    /// Whether a byte of the oldest message came back wrong.
    corrupt: bool,
    /// Where the first message begins that counts, if there was one.
    counted_from: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    intended: u64,
    write: Write,
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

/// A message whose first byte was handed to the kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sent {
    /// When it was to be sent.
    pub intended: u64,
    /// Whether the connection, and not our own pace, made it wait.
    pub held: bool,
    /// Whether it counts: it was intended for the measured window.
    pub counted: bool,
}

/// A message whose echo is complete.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Done {
    /// When it was to be sent.
    pub intended: u64,
    /// When the write call that took its first byte began.
    pub write_began: u64,
    /// Whether every byte that was compared was right.
    pub intact: bool,
    /// Whether it counts: it was intended for the measured window.
    pub counted: bool,
}

/// Counted messages that were out when their connection ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Abandoned {
    /// All that were out, counted or not: places in the pipeline that are free again.
    pub places: usize,
    /// Those that had been out for the timeout.
    pub timed_out: u64,
    /// The others.
    pub lost: u64,
}

impl Requests {
    /// No messages yet. `depth` bounds how many are out at a time.
    pub fn new(size: u64, depth: Option<usize>) -> Self {
        Self {
            size,
            depth: depth.unwrap_or(usize::MAX),
            queue: VecDeque::new(),
            out: 0,
            done: 0,
            written: 0,
            received: 0,
            corrupt: false,
            counted_from: None,
        }
    }

    /// Queues a message and says whether it has to wait for its connection, besides for us.
    /// `connected` says whether the connection could take it now, as far as is known; `counted`
    /// whether it belongs to the measured window.
    pub fn push(&mut self, intended: u64, connected: bool, counted: bool) -> bool {
        let held = !connected || self.queue.len() >= self.depth;
        if counted && self.counted_from.is_none() {
            let number = self.done + self.queue.len() as u64;
            self.counted_from = Some(number * self.size);
        }
        self.queue.push_back(Request {
            intended,
            write: Write::Queued { held },
            counted,
        });
        held
    }

    /// Notes that the connection can't take what is queued, and tells the intended time of each
    /// counted message that did not have to wait for it until now.
    pub fn hold(&mut self, mut newly_held: impl FnMut(u64)) {
        for request in self.queue.iter_mut().skip(self.out) {
            if let Write::Queued { held: held @ false } = &mut request.write {
                *held = true;
                if request.counted {
                    newly_held(request.intended);
                }
            }
        }
    }

    /// Notes that a write call that began at `began` handed `count` bytes to the kernel, and tells
    /// of each message whose first byte was among them. Returns how many of the bytes count.
    pub fn wrote(&mut self, count: u64, began: u64, mut sent: impl FnMut(Sent)) -> u64 {
        let before = self.written;
        self.written += count;
        while self.out < self.queue.len()
            && (self.done + self.out as u64) * self.size < self.written
        {
            let request = &mut self.queue[self.out];
            if let Write::Queued { held } = request.write {
                sent(Sent {
                    intended: request.intended,
                    held,
                    counted: request.counted,
                });
            }
            request.write = Write::Began(began);
            self.out += 1;
        }
        self.count(before, self.written)
    }

    /// Bytes of the echo that are missing of the oldest message out, or 0 when none is.
    pub fn missing(&self) -> u64 {
        if self.out == 0 {
            return 0;
        }
        (self.done + 1) * self.size - self.received
    }

    /// Notes that `count` bytes of the echo arrived, all of them belonging to the oldest message,
    /// and whether they were right. Returns the message if it is done now.
    pub fn received(&mut self, count: u64, intact: bool) -> Option<Done> {
        debug_assert!(count <= self.missing(), "bytes of more than one message");
        self.received += count;
        self.corrupt |= !intact;
        if self.out == 0 || self.received < (self.done + 1) * self.size {
            return None;
        }
        let request = self.queue.pop_front()?;
        let Write::Began(write_began) = request.write else {
            return None;
        };
        self.out -= 1;
        self.done += 1;
        Some(Done {
            intended: request.intended,
            write_began,
            intact: !std::mem::replace(&mut self.corrupt, false),
            counted: request.counted,
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
        for request in self.queue.drain(..self.out).filter(|r| r.counted) {
            match request.write {
                Write::Began(began) if began <= timed_out_before => abandoned.timed_out += 1,
                Write::Began(_) | Write::Queued { .. } => abandoned.lost += 1,
            }
        }
        let first_counted = self.queue.iter().position(|request| request.counted);
        let queue = std::mem::take(&mut self.queue);
        *self = Self {
            queue,
            counted_from: first_counted.map(|number| number as u64 * self.size),
            ..Self::new(self.size, Some(self.depth))
        };
        abandoned
    }

    /// Bytes that are queued and may be written now.
    pub fn writable(&self) -> u64 {
        let messages = self.queue.len().min(self.depth) as u64;
        ((self.done + messages) * self.size).saturating_sub(self.written)
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

    /// How many of `count` bytes of echo that follow [`Requests::read_position`] count.
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

    /// Counted messages that are out, and counted messages that are queued.
    pub fn left(&self) -> (u64, u64) {
        let counted = |request: &&Request| request.counted;
        (
            self.queue.iter().take(self.out).filter(counted).count() as u64,
            self.queue.iter().skip(self.out).filter(counted).count() as u64,
        )
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

    fn sent(requests: &mut Requests, count: u64, began: u64) -> Vec<u64> {
        let mut times = Vec::new();
        requests.wrote(count, began, |sent| times.push(sent.intended));
        times
    }

    #[test]
    fn a_message_is_out_with_its_first_byte_and_done_with_its_last() {
        let mut requests = Requests::new(10, None);
        requests.push(5, true, true);
        requests.push(6, true, true);
        assert_eq!(requests.writable(), 20);
        assert_eq!(sent(&mut requests, 10, 100), [5]);
        assert_eq!(sent(&mut requests, 1, 101), [6]);
        assert!(sent(&mut requests, 9, 102).is_empty());
        assert_eq!(requests.missing(), 10);
        assert_eq!(requests.received(9, true), None);
        assert_eq!(
            requests.received(1, true),
            Some(Done {
                intended: 5,
                write_began: 100,
                intact: true,
                counted: true
            })
        );
        assert_eq!(requests.received(4, false), None);
        let done = requests.received(6, true).unwrap();
        assert_eq!((done.write_began, done.intact), (101, false));
        assert_eq!(requests.missing(), 0);
        assert!(requests.is_empty());
    }

    #[test]
    fn depth_holds_messages_back() {
        let mut requests = Requests::new(4, Some(1));
        requests.push(1, true, true);
        requests.push(2, true, true);
        assert_eq!(requests.writable(), 4);
        let mut held = Vec::new();
        requests.wrote(4, 10, |sent| held.push(sent.held));
        assert_eq!(requests.writable(), 0);
        requests.received(4, true).unwrap();
        assert_eq!(requests.writable(), 4);
        requests.wrote(4, 20, |sent| held.push(sent.held));
        assert_eq!(held, [false, true]);
    }

    #[test]
    fn messages_are_held_once_and_only_if_the_connection_makes_them_wait() {
        let mut requests = Requests::new(4, None);
        // A client that comes late queues several at once: that is not the connection's doing.
        assert!(!requests.push(1, true, true));
        assert!(!requests.push(2, true, true));
        requests.wrote(2, 10, |sent| assert!(!sent.held));
        let mut held = Vec::new();
        requests.hold(|intended| held.push(intended));
        requests.hold(|intended| held.push(intended));
        assert_eq!(held, [2]);
        assert!(requests.push(3, false, true));
        requests.wrote(10, 20, |sent| assert!(sent.held));
    }

    #[test]
    fn a_restart_gives_up_what_was_out_and_keeps_what_was_queued() {
        let mut requests = Requests::new(4, None);
        for (intended, counted) in [(1, false), (2, true), (3, true), (4, true)] {
            requests.push(intended, true, counted);
        }
        requests.wrote(8, 100, |_| ());
        requests.wrote(4, 200, |_| ());
        let abandoned = requests.restart(150);
        assert_eq!(
            abandoned,
            Abandoned {
                places: 3,
                timed_out: 1,
                lost: 1
            }
        );
        assert_eq!((requests.left(), requests.writable()), ((0, 1), 4));
        assert_eq!(sent(&mut requests, 4, 300), [4]);
        assert_eq!(requests.oldest_write(), Some(300));
    }

    proptest! {
        /// Whatever is pushed, written, received and restarted: each counted message ends in
        /// exactly one place, and bytes that count are those of counted messages.
        #[test]
        fn the_books_balance(
            size in 1_u64..9,
            depth in prop::option::of(1_usize..4),
            warm_up in 0_u64..10,
            steps in prop::collection::vec((0_u8..4, 1_u64..20), 0..200),
        ) {
            let mut requests = Requests::new(size, depth);
            let (mut pushed, mut counted, mut started, mut done, mut given_up) = (0, 0, 0, 0, 0);
            let (mut bytes_out, mut bytes_back, mut bytes_lost) = (0, 0, 0);
            for (time, (step, amount)) in steps.into_iter().enumerate() {
                match step {
                    0 => {
                        requests.push(pushed, true, pushed >= warm_up);
                        counted += u64::from(pushed >= warm_up);
                        pushed += 1;
                    }
                    1 => {
                        let count = amount.min(requests.writable());
                        bytes_out += requests.wrote(count, time as u64, |sent| {
                            started += u64::from(sent.counted);
                        });
                    }
                    2 => {
                        let count = amount.min(requests.in_flight()).min(requests.missing());
                        bytes_back += requests.counted_bytes(count);
                        if let Some(message) = requests.received(count, true) {
                            done += u64::from(message.counted);
                        }
                    }
                    _ if amount == 1 => {
                        let (out, _) = requests.left();
                        let abandoned = requests.restart(time as u64 / 2);
                        prop_assert_eq!(abandoned.lost + abandoned.timed_out, out);
                        given_up += out;
                        bytes_lost = bytes_out - bytes_back;
                    }
                    _ => {}
                }
                let (out, queued) = requests.left();
                prop_assert!(depth.is_none_or(|depth| out <= depth as u64));
                prop_assert_eq!(counted, started + queued);
                prop_assert_eq!(started, done + out + given_up);
                prop_assert!(bytes_back + bytes_lost <= bytes_out);
                prop_assert!(done * size <= bytes_back);
            }
        }
    }
}
