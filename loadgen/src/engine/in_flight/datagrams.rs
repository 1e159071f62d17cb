//! Request and response by datagrams, as book-keeping without socket or clock. A datagram carries a
//! sequence number, so what comes back is told apart: the echo of one that is out, a second one of
//! the same, one that comes when it had been given up, one that was overtaken.

use std::collections::VecDeque;

use super::outcome::{Abandoned, Done, Left, Sent};

/// How many datagrams that are settled are remembered, to tell a duplicate from a stray one. An echo
/// that is further behind than that is not counted.
const HISTORY: usize = 1024;
/// How many that were given up are remembered beyond that, to know them when they come late: at a
/// high rate, many others are settled within the time that they take.
const GIVEN_UP: usize = 4096;

/// The datagrams of one socket that are queued, out, or settled not long ago.
#[derive(Debug)]
pub struct DatagramsInFlight {
    /// The most datagrams out at a time; those beyond it stay queued.
    depth: usize,
    queue: VecDeque<Queued>,
    /// Those that were sent, by their sequence number, from `base` on.
    slots: VecDeque<Slot>,
    base: u64,
    /// Those before `base` that were given up and did not come late: sequence number, and whether
    /// they count. In ascending order.
    given_up: VecDeque<(u64, bool)>,
    /// No slot before this sequence number is out.
    settled_before: u64,
    out: usize,
    /// The number after the highest that came back.
    next_expected: u64,
}

#[derive(Clone, Copy, Debug)]
struct Queued {
    intended: u64,
    size: u32,
    held: bool,
    counted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    intended: u64,
    began: u64,
    size: u32,
    state: State,
    counted: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Out,
    Done,
    GivenUp,
}

/// A datagram that may be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Next {
    /// The sequence number that it carries.
    pub sequence: u64,
    /// Its payload in bytes, the sequence number included.
    pub size: u32,
}

/// What a datagram that arrived turned out to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arrival {
    /// The echo of one that was out.
    Echo {
        /// The message that is done.
        done: Done,
        /// Whether one that was sent later had come back before (Type-P-Reordered, RFC 4737).
        reordered: bool,
    },
    /// An echo of one that had come back before.
    Duplicate {
        /// Whether the message counts.
        counted: bool,
    },
    /// The echo of one that had been given up.
    Late {
        /// Whether the message counts.
        counted: bool,
    },
    /// It answers nothing that was sent.
    Stray,
}

impl DatagramsInFlight {
    /// No datagrams yet. `depth` bounds how many are out at a time.
    pub fn new(depth: Option<usize>) -> Self {
        Self {
            depth: depth.unwrap_or(usize::MAX),
            queue: VecDeque::new(),
            slots: VecDeque::new(),
            base: 0,
            given_up: VecDeque::new(),
            settled_before: 0,
            out: 0,
            next_expected: 0,
        }
    }

    /// Queues a datagram of `size` bytes and says whether it has to wait for its socket, besides for
    /// us. `writable` says whether the socket could take it now, as far as is known; `counted`
    /// whether it belongs to the measured window.
    pub fn push(&mut self, intended: u64, size: u32, writable: bool, counted: bool) -> bool {
        let held = !writable || self.len() >= self.depth;
        self.queue.push_back(Queued {
            intended,
            size,
            held,
            counted,
        });
        held
    }

    /// Notes that the socket can't take what is queued, and tells the intended time of each counted
    /// datagram that did not have to wait for it until now.
    pub fn hold(&mut self, mut newly_held: impl FnMut(u64)) {
        for queued in self.queue.iter_mut().filter(|queued| !queued.held) {
            queued.held = true;
            if queued.counted {
                newly_held(queued.intended);
            }
        }
    }

    /// The datagram to send next, if one is queued and the depth allows it.
    pub fn next(&self) -> Option<Next> {
        let queued = self.queue.front().filter(|_| self.out < self.depth)?;
        Some(Next {
            sequence: self.next_sequence(),
            size: queued.size,
        })
    }

    /// Notes that the call that sent [`DatagramsInFlight::next`] began at `began`.
    pub fn sent(&mut self, began: u64) -> Option<Sent> {
        let queued = self.queue.pop_front()?;
        self.slots.push_back(Slot {
            intended: queued.intended,
            began,
            size: queued.size,
            state: State::Out,
            counted: queued.counted,
        });
        self.out += 1;
        Some(Sent {
            intended: queued.intended,
            held: queued.held,
            counted: queued.counted,
        })
    }

    /// Notes that a datagram with this sequence number arrived.
    pub fn received(&mut self, sequence: u64) -> Arrival {
        if sequence >= self.next_sequence() {
            return Arrival::Stray;
        }
        let Some(slot) = sequence
            .checked_sub(self.base)
            .and_then(|index| self.slots.get_mut(index as usize))
        else {
            return self.received_long_after(sequence);
        };
        let counted = slot.counted;
        match slot.state {
            State::Done => return Arrival::Duplicate { counted },
            State::GivenUp => {
                // A second one of it would be a duplicate.
                slot.state = State::Done;
                return Arrival::Late { counted };
            }
            State::Out => slot.state = State::Done,
        }
        let done = Done {
            intended: slot.intended,
            write_began: slot.began,
            size: slot.size,
            counted,
        };
        self.out -= 1;
        let reordered = sequence < self.next_expected;
        self.next_expected = self.next_expected.max(sequence + 1);
        self.forget_settled();
        Arrival::Echo { done, reordered }
    }

    /// The same of one that is not in `slots` any more.
    fn received_long_after(&mut self, sequence: u64) -> Arrival {
        let place = self
            .given_up
            .binary_search_by_key(&sequence, |&(given_up, _)| given_up);
        match place.ok().and_then(|index| self.given_up.remove(index)) {
            Some((_, counted)) => Arrival::Late { counted },
            None => Arrival::Duplicate { counted: false },
        }
    }

    /// Gives up every datagram whose sending began at or before `began`: lost, for the network owes
    /// nobody a datagram.
    pub fn expire(&mut self, began: u64) -> Abandoned {
        let mut abandoned = Abandoned::default();
        let skip = (self.settled_before - self.base) as usize;
        for slot in self.slots.iter_mut().skip(skip) {
            if slot.began > began {
                break;
            }
            if slot.state == State::Out {
                slot.state = State::GivenUp;
                abandoned.places += 1;
                abandoned.lost += u64::from(slot.counted);
            }
        }
        self.out -= abandoned.places;
        self.forget_settled();
        abandoned
    }

    /// When the sending of the oldest datagram out began.
    pub fn oldest_write(&self) -> Option<u64> {
        let skip = (self.settled_before - self.base) as usize;
        self.slots.get(skip).map(|slot| slot.began)
    }

    /// Datagrams queued or out.
    pub fn len(&self) -> usize {
        self.queue.len() + self.out
    }

    /// Whether none is queued or out.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counted datagrams that are out or queued.
    pub fn left(&self) -> Left {
        let is_out = |slot: &&Slot| slot.state == State::Out && slot.counted;
        Left {
            out: self.slots.iter().filter(is_out).count() as u64,
            queued: self.queue.iter().filter(|queued| queued.counted).count() as u64,
        }
    }

    fn next_sequence(&self) -> u64 {
        self.base + self.slots.len() as u64
    }

    /// Moves on to the oldest that is out, and forgets the oldest settled ones.
    fn forget_settled(&mut self) {
        let is_settled = |slot: &Slot| slot.state != State::Out;
        while self
            .slots
            .get((self.settled_before - self.base) as usize)
            .is_some_and(is_settled)
        {
            self.settled_before += 1;
        }
        while self.settled_before - self.base > HISTORY as u64 {
            if let Some(slot) = self.slots.pop_front()
                && slot.state == State::GivenUp
            {
                if self.given_up.len() == GIVEN_UP {
                    self.given_up.pop_front();
                }
                self.given_up.push_back((self.base, slot.counted));
            }
            self.base += 1;
        }
    }
}

#[cfg(test)]
mod tests;
