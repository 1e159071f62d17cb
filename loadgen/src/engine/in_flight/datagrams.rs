//! Requests and responses by datagrams, without socket or clock. Each datagram has a sequence
//! number, so arrivals can be told apart: an echo of an outstanding datagram, a duplicate, a late
//! one, a reordered one.

use std::collections::VecDeque;

use super::outcome::{Done, Left, Sent, Unanswered};

/// The number of settled datagrams that are remembered, to tell duplicates from stray datagrams. An
/// echo further behind is not counted.
const HISTORY: usize = 1024;
/// The number of given-up datagrams remembered beyond that, to recognise late echoes. At a high
/// rate, many others are settled before a late echo arrives.
const GIVEN_UP: usize = 4096;

/// The datagrams of one socket that are queued, outstanding, or settled recently.
#[derive(Debug)]
pub struct DatagramsInFlight {
    /// The maximum of outstanding datagrams. Others stay queued.
    depth: usize,
    queue: VecDeque<Queued>,
    /// The sent datagrams by sequence number, from `base` on.
    slots: VecDeque<Slot>,
    base: u64,
    /// Given-up datagrams before `base` without a late echo, in ascending order.
    given_up: VecDeque<GivenUp>,
    /// No datagram before this sequence number is outstanding.
    settled_before: u64,
    out: usize,
    /// One more than the highest sequence number received.
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

#[derive(Clone, Copy, Debug)]
struct GivenUp {
    sequence: u64,
    size: u32,
    counted: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Out,
    /// Its echo came.
    Done,
    /// Its echo came, and it or a copy of it was wrong.
    Wrong,
    GivenUp,
    /// Its echo came after it was given up.
    Late,
}

/// A datagram to send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Next {
    /// Its sequence number.
    pub sequence: u64,
    /// Its payload bytes, including the sequence number.
    pub size: u32,
}

/// The kind of a received datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arrival {
    /// The echo of an outstanding datagram.
    Echo {
        /// The message that is done.
        done: Done,
        /// Whether a later one came back first (Type-P-Reordered, RFC 4737).
        reordered: bool,
    },
    /// A second echo of the same datagram.
    Duplicate {
        /// Whether the message counts. If that is not remembered, it does not.
        counted: bool,
        /// Its size in bytes, if that is remembered.
        size: Option<u32>,
    },
    /// The echo of a given-up datagram.
    Late {
        /// Whether the message counts.
        counted: bool,
        /// Its size in bytes.
        size: u32,
    },
    /// A datagram that answers none of those sent.
    Stray,
}

impl DatagramsInFlight {
    /// An empty queue. `depth` limits the outstanding datagrams.
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

    /// Queues a datagram of `size` bytes and returns whether it has to wait for its socket, not
    /// only for the client. `writable` is whether the socket could take it now, as far as is known;
    /// `counted` is whether it belongs to the measured window.
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

    /// Notes that the socket is full. Reports the intended time of each counted datagram that now
    /// begins to wait for it.
    pub fn hold(&mut self, mut newly_held: impl FnMut(u64)) {
        for queued in self.queue.iter_mut().filter(|queued| !queued.held) {
            queued.held = true;
            if queued.counted {
                newly_held(queued.intended);
            }
        }
    }

    /// Whether any datagram was sent.
    pub fn has_sent(&self) -> bool {
        self.next_sequence() > 0
    }

    /// The next datagram to send, if one is queued and the depth allows it.
    pub fn next(&self) -> Option<Next> {
        let queued = self.queue.front().filter(|_| self.out < self.depth)?;
        Some(Next {
            sequence: self.next_sequence(),
            size: queued.size,
        })
    }

    /// Records that [`DatagramsInFlight::next`] was sent by a call that began at `began`.
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

    /// Records the arrival of a datagram with this sequence number.
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
        let (counted, size) = (slot.counted, slot.size);
        match slot.state {
            State::Done | State::Wrong | State::Late => {
                let size = Some(size);
                return Arrival::Duplicate { counted, size };
            }
            State::GivenUp => {
                // A further echo counts as a duplicate.
                slot.state = State::Late;
                return Arrival::Late { counted, size };
            }
            State::Out => slot.state = State::Done,
        }
        let done = Done {
            intended: slot.intended,
            write_began: slot.began,
            size,
            counted,
        };
        self.out -= 1;
        let reordered = sequence < self.next_expected;
        self.next_expected = self.next_expected.max(sequence + 1);
        self.forget_settled();
        Arrival::Echo { done, reordered }
    }

    /// The arrival of a datagram that is no longer in `slots`.
    fn received_long_after(&mut self, sequence: u64) -> Arrival {
        let place = self
            .given_up
            .binary_search_by_key(&sequence, |given_up| given_up.sequence);
        match place.ok().and_then(|index| self.given_up.remove(index)) {
            Some(GivenUp { counted, size, .. }) => Arrival::Late { counted, size },
            None => Arrival::Duplicate {
                counted: false,
                size: None,
            },
        }
    }

    /// Notes that an echo of the datagram with this sequence number was wrong. Returns whether it is
    /// the first wrong one of a message that counts and whose echo came in time.
    pub fn note_wrong(&mut self, sequence: u64) -> bool {
        let index = sequence.checked_sub(self.base);
        let slot = index.and_then(|index| self.slots.get_mut(index as usize));
        match slot {
            Some(slot) if slot.state == State::Done => {
                slot.state = State::Wrong;
                slot.counted
            }
            _ => false,
        }
    }

    /// The datagrams that are remembered with their sizes, by sequence number: those that are out, and
    /// those that were settled recently.
    pub fn remembered(&self) -> impl Iterator<Item = Next> {
        (self.base..).zip(&self.slots).map(|(sequence, slot)| Next {
            sequence,
            size: slot.size,
        })
    }

    /// Gives up every datagram sent at or before `began`. They count as lost, because UDP does not
    /// guarantee delivery.
    pub fn expire(&mut self, began: u64) -> Unanswered {
        let mut unanswered = Unanswered::default();
        let skip = (self.settled_before - self.base) as usize;
        for slot in self.slots.iter_mut().skip(skip) {
            if slot.began > began {
                break;
            }
            if slot.state == State::Out {
                slot.state = State::GivenUp;
                unanswered.places += 1;
                unanswered.lost += u64::from(slot.counted);
            }
        }
        self.out -= unanswered.places;
        self.forget_settled();
        unanswered
    }

    /// When sending of the oldest outstanding datagram began.
    pub fn oldest_write(&self) -> Option<u64> {
        let skip = (self.settled_before - self.base) as usize;
        self.slots.get(skip).map(|slot| slot.began)
    }

    /// Datagrams queued or outstanding.
    pub fn len(&self) -> usize {
        self.queue.len() + self.out
    }

    /// Whether no datagram is queued or outstanding.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counted datagrams that are outstanding or queued.
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

    /// Advances to the oldest outstanding datagram, and forgets the oldest settled ones.
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
                self.given_up.push_back(GivenUp {
                    sequence: self.base,
                    size: slot.size,
                    counted: slot.counted,
                });
            }
            self.base += 1;
        }
    }
}

#[cfg(test)]
mod tests;
