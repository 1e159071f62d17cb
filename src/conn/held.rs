//! What a connection with faults holds back: answers in the order in which they leave, each with its
//! time. What they cost is taken from the budget for backlogs before the message is read.

use std::collections::VecDeque;

use crate::memory::allocation::{OutOfMemory, try_copy, try_reserve_queue};
use crate::memory::{Budget, cost};

/// The most that one read takes, and so the longest message.
pub(super) const MAX_MESSAGE: usize = 64 << 10;
/// A connection that holds as much reads no more: the rest stays in the kernel, and TCP's window tells
/// the peer to stop.
const MAX_HELD: usize = 1 << 20;
/// How long an answer that is to change places with the next one waits for it.
const MAX_SWAP_NS: u64 = 10_000_000;

/// Answers of one connection that have not left yet.
#[derive(Debug, Default)]
pub(super) struct Held {
    queue: VecDeque<Item>,
    /// The answer that is to leave behind the next one.
    swapped: Option<Swapped>,
    /// Bytes of them.
    len: usize,
    /// The memory that they cost.
    cost: usize,
}

/// One step of what leaves.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) due_ns: u64,
    pub(super) action: Action,
}

/// What is done when it is due.
#[derive(Debug)]
pub(super) enum Action {
    /// Sends this, from an offset on.
    Send(Vec<u8>, usize),
    /// Resets the connection.
    Reset,
    /// Ends the connection behind what was sent.
    Close,
}

#[derive(Debug)]
struct Swapped {
    item: Item,
    until_ns: u64,
}

/// Room for one message, taken from the budget.
#[derive(Debug)]
pub(super) struct Room(usize);

impl Room {
    /// Takes as much as a message of this length and its duplicate may cost; `None` if less is free.
    pub(super) fn take(budget: &Budget, len: usize) -> Option<Self> {
        let needed = 2 * cost(len);
        budget.try_take(needed).then_some(Self(needed))
    }

    /// Gives back what was not used.
    pub(super) fn give_back(self, budget: &Budget) {
        budget.give_back(self.0);
    }
}

impl Held {
    /// Whether one more message may be read.
    pub(super) fn has_room(&self) -> bool {
        self.cost < MAX_HELD
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.swapped.is_none()
    }

    /// A copy of an answer, to be pushed.
    pub(super) fn copy(&mut self, bytes: &[u8], room: &mut Room) -> Result<Vec<u8>, OutOfMemory> {
        // One for a swapped answer.
        let total = self.queue.len() + 2;
        try_reserve_queue(&mut self.queue, total)?;
        let copy = try_copy(bytes)?;
        let taken = cost(copy.capacity());
        room.0 -= taken;
        self.cost += taken;
        self.len += copy.len();
        Ok(copy)
    }

    /// Appends an action: it is not done before those that came earlier.
    pub(super) fn push(&mut self, due_ns: u64, action: Action) {
        self.append(Item { due_ns, action });
        if let Some(Swapped { item, .. }) = self.swapped.take() {
            self.append(item);
        }
    }

    /// Keeps an answer to append it behind the next one. If another is kept, it is the next one.
    ///
    /// Returns whether it is kept.
    pub(super) fn swap(&mut self, due_ns: u64, action: Action, now_ns: u64) -> bool {
        if self.swapped.is_some() {
            self.push(due_ns, action);
            return false;
        }
        self.swapped = Some(Swapped {
            item: Item { due_ns, action },
            until_ns: now_ns.saturating_add(MAX_SWAP_NS),
        });
        true
    }

    /// Appends an answer that was kept for the next one, if its time is over.
    pub(super) fn expire_swapped(&mut self, now_ns: u64) {
        if self
            .swapped
            .as_ref()
            .is_some_and(|it| it.until_ns <= now_ns)
        {
            self.release_swapped();
        }
    }

    /// The same at once: there is no next one.
    pub(super) fn release_swapped(&mut self) {
        if let Some(Swapped { item, .. }) = self.swapped.take() {
            self.append(item);
        }
    }

    /// Order comes before time.
    fn append(&mut self, mut item: Item) {
        if let Some(last) = self.queue.back() {
            item.due_ns = item.due_ns.max(last.due_ns);
        }
        self.queue.push_back(item);
    }

    /// The first step, if it is due.
    pub(super) fn due(&mut self, now_ns: u64) -> Option<&mut Action> {
        let first = self.queue.front_mut()?;
        (first.due_ns <= now_ns).then_some(&mut first.action)
    }

    /// Notes that `count` bytes of the first step were sent.
    pub(super) fn note_sent(&mut self, count: usize, budget: &Budget) {
        if let Some(Item {
            action: Action::Send(bytes, sent),
            ..
        }) = self.queue.front_mut()
        {
            *sent += count;
            self.len -= count;
            if *sent >= bytes.len() {
                let freed = cost(bytes.capacity());
                self.cost -= freed;
                budget.give_back(freed);
                self.queue.pop_front();
            }
        }
    }

    /// When the first step is due.
    pub(super) fn next_ns(&self) -> Option<u64> {
        self.queue.front().map(|it| it.due_ns)
    }

    /// When an answer has waited for the next one long enough.
    pub(super) fn swap_ends_ns(&self) -> Option<u64> {
        self.swapped.as_ref().map(|it| it.until_ns)
    }

    /// Drops all, and returns how many bytes there were.
    pub(super) fn clear(&mut self, budget: &Budget) -> usize {
        budget.give_back(self.cost);
        std::mem::take(self).len
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub(super) fn cost(&self) -> usize {
        self.cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The first bytes of what leaves, in order, at this time.
    fn leave(held: &mut Held, now_ns: u64, budget: &Budget) -> Vec<u8> {
        let mut left = Vec::new();
        while let Some(Action::Send(bytes, sent)) = held.due(now_ns) {
            left.push(bytes[*sent]);
            let count = bytes.len() - *sent;
            held.note_sent(count, budget);
        }
        left
    }

    fn push(held: &mut Held, due_ns: u64, byte: u8, budget: &Budget) {
        let mut room = Room::take(budget, 1).unwrap();
        let copy = held.copy(&[byte], &mut room).unwrap();
        held.push(due_ns, Action::Send(copy, 0));
        room.give_back(budget);
    }

    fn swap(held: &mut Held, due_ns: u64, byte: u8, budget: &Budget) -> bool {
        let mut room = Room::take(budget, 1).unwrap();
        let copy = held.copy(&[byte], &mut room).unwrap();
        room.give_back(budget);
        held.swap(due_ns, Action::Send(copy, 0), 0)
    }

    #[test]
    fn order_comes_before_time() {
        let budget = Budget::new(None);
        let mut held = Held::default();
        push(&mut held, 50, 1, &budget);
        push(&mut held, 20, 2, &budget);
        push(&mut held, 60, 3, &budget);
        assert!(leave(&mut held, 49, &budget).is_empty());
        assert_eq!(held.next_ns(), Some(50));
        assert_eq!(leave(&mut held, 50, &budget), [1, 2]);
        assert_eq!(leave(&mut held, 60, &budget), [3]);
        assert!(held.is_empty() && budget.free() == usize::MAX);
    }

    #[test]
    fn a_swapped_answer_leaves_behind_the_next_or_when_its_time_is_over() {
        let budget = Budget::new(None);
        let mut held = Held::default();
        assert!(swap(&mut held, 5, 1, &budget));
        // It is the next one itself.
        assert!(!swap(&mut held, 5, 2, &budget));
        assert_eq!(leave(&mut held, 5, &budget), [2, 1]);
        assert!(swap(&mut held, 5, 3, &budget));
        held.expire_swapped(MAX_SWAP_NS - 1);
        assert!(leave(&mut held, MAX_SWAP_NS - 1, &budget).is_empty());
        assert_eq!(held.swap_ends_ns(), Some(MAX_SWAP_NS));
        held.expire_swapped(MAX_SWAP_NS);
        assert_eq!(leave(&mut held, MAX_SWAP_NS, &budget), [3]);
        assert!(held.is_empty());
    }

    proptest! {
        /// Whatever is held, the budget is what is free and what it costs, and no more is held than
        /// the bound and one message.
        #[test]
        fn the_budget_is_kept(
            limit in 0_u64..4_000_000,
            steps in prop::collection::vec((0_usize..=MAX_MESSAGE, any::<bool>(), 0_u64..3), 1..200),
        ) {
            let budget = Budget::new(Some(limit));
            let mut held = Held::default();
            for (now_ns, (len, twice, wait)) in (0..).zip(steps) {
                if held.has_room() && let Some(mut room) = Room::take(&budget, len) {
                    for _ in 0..=usize::from(twice) {
                        let copy = held.copy(&vec![7; len], &mut room).unwrap();
                        held.push(now_ns + wait, Action::Send(copy, 0));
                    }
                    room.give_back(&budget);
                }
                prop_assert!(held.cost() <= MAX_HELD + 2 * cost(MAX_MESSAGE));
                prop_assert_eq!(held.cost() + budget.free(), limit as usize);
                while let Some(Action::Send(bytes, sent)) = held.due(now_ns) {
                    // In halves.
                    let left = bytes.len() - *sent;
                    held.note_sent(left.div_ceil(2), &budget);
                }
            }
            held.clear(&budget);
            prop_assert_eq!(budget.free(), limit as usize);
        }
    }
}
