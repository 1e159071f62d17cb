//! Request and response by datagrams, as book-keeping without socket or clock. A datagram carries a
//! sequence number, so what comes back is told apart: the echo of one that is out, a second one of
//! the same, one that comes when it had been given up, one that was overtaken.

use std::collections::VecDeque;

use super::{Abandoned, Done, Left, Sent};

/// How many datagrams that are settled are remembered, to tell a duplicate from a stray one. An echo
/// that is further behind than that is not counted.
const HISTORY: usize = 1024;
/// How many that were given up are remembered beyond that, to know them when they come late: at a
/// high rate, many others are settled within the time that they take.
const GIVEN_UP: usize = 4096;

/// The datagrams of one socket that are queued, out, or settled not long ago.
#[derive(Debug)]
pub struct Datagrams {
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

impl Datagrams {
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

    /// Notes that the call that sent [`Datagrams::next`] began at `began`.
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

    /// The size that the datagram with this sequence number had when it was sent, as long as it is
    /// remembered.
    pub fn size_of(&self, sequence: u64) -> Option<u32> {
        let index = sequence.checked_sub(self.base)?;
        Some(self.slots.get(usize::try_from(index).ok()?)?.size)
    }

    /// Notes that a datagram with this sequence number arrived, and whether it was as it was sent.
    pub fn received(&mut self, sequence: u64, intact: bool) -> Arrival {
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
            intact,
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Queues and sends `count` datagrams, one each nanosecond.
    fn send(datagrams: &mut Datagrams, count: u64) {
        for time in 0..count {
            datagrams.push(time, 64, true, true);
            datagrams.sent(time).unwrap();
        }
    }

    #[test]
    fn arrivals_are_told_apart() {
        let mut datagrams = Datagrams::new(None);
        send(&mut datagrams, 4);
        let echo = |intended, reordered| Arrival::Echo {
            done: Done {
                intended,
                write_began: intended,
                intact: true,
                counted: true,
            },
            reordered,
        };
        assert_eq!(datagrams.received(1, true), echo(1, false));
        assert_eq!(datagrams.received(0, true), echo(0, true));
        assert_eq!(
            datagrams.received(1, true),
            Arrival::Duplicate { counted: true }
        );
        assert_eq!(datagrams.received(4, true), Arrival::Stray);
        let abandoned = datagrams.expire(2);
        assert_eq!((abandoned.places, abandoned.lost), (1, 1));
        assert_eq!(datagrams.received(2, true), Arrival::Late { counted: true });
        assert_eq!(
            datagrams.received(2, true),
            Arrival::Duplicate { counted: true }
        );
        assert_eq!(datagrams.received(3, true), echo(3, false));
        assert!(datagrams.is_empty());
        assert_eq!(datagrams.oldest_write(), None);
    }

    #[test]
    fn depth_counts_what_is_out_wherever_it_is_in_the_order() {
        let mut datagrams = Datagrams::new(Some(2));
        for time in 0..3 {
            let held = datagrams.push(time, 64, true, true);
            assert_eq!(held, time == 2);
        }
        datagrams.sent(10).unwrap();
        datagrams.sent(11).unwrap();
        assert_eq!(datagrams.next(), None);
        datagrams.received(1, true);
        assert_eq!(datagrams.next().unwrap().sequence, 2);
        assert!(datagrams.sent(12).unwrap().held);
        assert_eq!(datagrams.oldest_write(), Some(10));
    }

    #[test]
    fn the_memory_of_what_is_settled_is_bounded() {
        let mut datagrams = Datagrams::new(None);
        for sequence in 0..10 * HISTORY as u64 {
            datagrams.push(sequence, 64, true, true);
            datagrams.sent(sequence).unwrap();
            datagrams.received(sequence, true);
        }
        assert!(datagrams.slots.len() <= HISTORY + 1);
        assert_eq!(
            datagrams.received(0, true),
            Arrival::Duplicate { counted: false }
        );
        assert_eq!(datagrams.size_of(0), None);
        assert_eq!(datagrams.size_of(10 * HISTORY as u64 - 1), Some(64));
    }

    #[test]
    fn one_that_was_given_up_is_late_however_many_were_settled_since() {
        let mut datagrams = Datagrams::new(None);
        let count = 3 * (HISTORY + GIVEN_UP) as u64;
        // Every second one is lost.
        for sequence in 0..count {
            datagrams.push(sequence, 64, true, true);
            datagrams.sent(sequence).unwrap();
            if sequence % 2 == 0 {
                datagrams.received(sequence, true);
            }
        }
        assert_eq!(datagrams.expire(count).lost, count / 2);
        let late = Arrival::Late { counted: true };
        let duplicate = Arrival::Duplicate { counted: false };
        let newest = count - 1;
        assert_eq!(datagrams.received(newest, true), late);
        let remembered = newest - (HISTORY + GIVEN_UP) as u64;
        assert_eq!(datagrams.received(remembered, true), late);
        assert_eq!(datagrams.received(remembered, true), duplicate);
        assert_eq!(datagrams.received(remembered - 1, true), duplicate);
        // The memory of them is bounded too.
        assert!(datagrams.given_up.len() <= GIVEN_UP);
        assert_eq!(datagrams.received(1, true), duplicate);
    }

    proptest! {
        /// Whatever is sent, echoed, duplicated, reordered and given up: each counted datagram ends
        /// in exactly one place.
        #[test]
        fn the_books_balance(
            depth in prop::option::of(1_usize..8),
            warm_up in 0_u64..10,
            steps in prop::collection::vec((0_u8..5, any::<prop::sample::Index>()), 0..300),
        ) {
            let mut datagrams = Datagrams::new(depth);
            let (mut pushed, mut counted, mut sent, mut done, mut lost) = (0, 0, 0, 0, 0);
            let mut numbers = 0_usize;
            for (time, (step, index)) in steps.into_iter().enumerate() {
                match step {
                    0 | 1 => {
                        datagrams.push(pushed, 64, true, pushed >= warm_up);
                        counted += u64::from(pushed >= warm_up);
                        pushed += 1;
                    }
                    2 if datagrams.next().is_some() => {
                        sent += u64::from(datagrams.sent(time as u64).unwrap().counted);
                        numbers += 1;
                    }
                    3 if numbers > 0 => {
                        if let Arrival::Echo { done: message, .. } =
                            datagrams.received(index.index(numbers) as u64, true)
                        {
                            done += u64::from(message.counted);
                        }
                    }
                    4 if time % 7 == 0 => lost += datagrams.expire(time as u64 / 2).lost,
                    _ => {}
                }
                let left = datagrams.left();
                prop_assert!(depth.is_none_or(|depth| left.out <= depth as u64));
                prop_assert_eq!(counted, sent + left.queued);
                prop_assert_eq!(sent, done + lost + left.out);
                let is_out = datagrams.slots.iter().find(|slot| slot.state == State::Out);
                prop_assert_eq!(datagrams.oldest_write(), is_out.map(|slot| slot.began));
            }
        }
    }
}
