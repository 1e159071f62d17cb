//! A hierarchical timing wheel for many deadlines.
//!
//! After Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (SOSP 1987), scheme 7, with
//! slots of powers of 64 as in the Linux kernel's old timer wheel and a bit mask of the occupied
//! slots in each level. Arming and cancelling take constant time; a deadline moves down a level at
//! most ten times before it is due. No clock is read: time is a number of ticks that the caller
//! passes, and the reactor's tick is a millisecond.

use crate::memory::allocation::{OutOfMemory, try_reserve};

/// Slots per level: one bit each in a `u64`.
const SLOTS: usize = 64;
const SLOT_BITS: u32 = SLOTS.trailing_zeros();
/// Enough levels of six bits for any 64-bit deadline, so none has to be clamped.
const LEVELS: usize = (u64::BITS.div_ceil(SLOT_BITS)) as usize;
/// Marks the end of a list, and a node without a list.
const NIL: u32 = u32::MAX;

/// A set of deadlines, at most one for each id. Ids are small numbers, such as keys of a slab: the
/// wheel keeps a node for every id up to the largest one ever armed.
#[derive(Debug)]
pub struct Timers {
    now: u64,
    armed: usize,
    occupied: [u64; LEVELS],
    heads: [[u32; SLOTS]; LEVELS],
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    deadline: u64,
    previous: u32,
    next: u32,
    /// Level × 64 + slot, or [`UNARMED`].
    position: u16,
}

const UNARMED: u16 = u16::MAX;

impl Timers {
    /// An empty set whose time starts at `now`.
    pub fn new(now: u64) -> Self {
        Self {
            now,
            armed: 0,
            occupied: [0; LEVELS],
            heads: [[NIL; SLOTS]; LEVELS],
            nodes: Vec::new(),
        }
    }

    /// Makes room for the ids below `ids`, so that arming them allocates nothing.
    pub(crate) fn try_reserve(&mut self, ids: usize) -> Result<(), OutOfMemory> {
        try_reserve(&mut self.nodes, ids)
    }

    /// Sets the deadline of `id`, replacing the one it had. A deadline that is not in the future is
    /// due at the next tick.
    ///
    /// # Panics
    /// When `id` does not fit 32 bits, which no key of a slab of descriptors does.
    pub fn arm(&mut self, id: usize, deadline: u64) {
        assert!(id < NIL as usize, "timer ids are small");
        self.cancel(id);
        if id >= self.nodes.len() {
            const FREE: Node = Node {
                deadline: 0,
                previous: NIL,
                next: NIL,
                position: UNARMED,
            };
            self.nodes.resize(id + 1, FREE);
        }
        self.nodes[id].deadline = deadline.max(self.now.saturating_add(1));
        self.link(id as u32);
        self.armed += 1;
    }

    /// Removes the deadline of `id`, if it has one.
    pub fn cancel(&mut self, id: usize) {
        if self.is_armed(id) {
            self.unlink(id as u32);
            self.armed -= 1;
        }
    }

    /// Whether `id` has a deadline. One that [`Timers::advance`] reported has none until it is armed
    /// again.
    pub fn is_armed(&self, id: usize) -> bool {
        self.nodes.get(id).is_some_and(|n| n.position != UNARMED)
    }

    /// The deadline of `id`, if it has one.
    pub fn deadline(&self, id: usize) -> Option<u64> {
        let node = self.nodes.get(id)?;
        (node.position != UNARMED).then_some(node.deadline)
    }

    /// Advances the time to `now` and appends to `due` the ids whose deadline has passed. They are
    /// no longer armed. Time never goes back: an earlier `now` changes nothing.
    pub fn advance(&mut self, now: u64, due: &mut Vec<usize>) {
        // Each round empties one slot, and what it holds goes to a lower level or out: with LEVELS
        // levels that ends after at most LEVELS rounds for each deadline.
        while let Some((level, slot, start)) = self.first_slot() {
            if start > now {
                break;
            }
            self.now = start;
            let mut id = std::mem::replace(&mut self.heads[level][slot], NIL);
            self.occupied[level] &= !(1 << slot);
            while id != NIL {
                let node = &mut self.nodes[id as usize];
                let next = node.next;
                if node.deadline <= start {
                    node.position = UNARMED;
                    self.armed -= 1;
                    due.push(id as usize);
                } else {
                    self.link(id);
                }
                id = next;
            }
        }
        self.now = self.now.max(now);
    }

    /// The next time at which [`Timers::advance`] has work: the nearest deadline, or an earlier
    /// time at which deadlines move down a level.
    pub fn next_deadline(&self) -> Option<u64> {
        self.first_slot().map(|(_, _, start)| start)
    }

    /// Whether no deadline is set.
    pub fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// The earliest occupied slot and the time at which it begins.
    ///
    /// All deadlines of a level share the bits of `now` above that level and have a slot after the
    /// current one, so every deadline of a lower level comes before those of a higher level.
    fn first_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|&mask| mask != 0)?;
        let slot = self.occupied[level].trailing_zeros() as usize;
        let shift = level as u32 * SLOT_BITS;
        let above = self
            .now
            .checked_shr(shift + SLOT_BITS)
            .and_then(|high| high.checked_shl(shift + SLOT_BITS))
            .unwrap_or(0);
        Some((level, slot, above | (slot as u64) << shift))
    }

    fn link(&mut self, id: u32) {
        let node = &mut self.nodes[id as usize];
        let highest_difference = 63 - (node.deadline ^ self.now).leading_zeros().min(63);
        let level = (highest_difference / SLOT_BITS) as usize;
        let slot = (node.deadline >> (level as u32 * SLOT_BITS)) as usize % SLOTS;
        let head = self.heads[level][slot];
        node.position = (level * SLOTS + slot) as u16;
        node.previous = NIL;
        node.next = head;
        if head != NIL {
            self.nodes[head as usize].previous = id;
        }
        self.heads[level][slot] = id;
        self.occupied[level] |= 1 << slot;
    }

    fn unlink(&mut self, id: u32) {
        let node = &mut self.nodes[id as usize];
        let (level, slot) = (
            usize::from(node.position) / SLOTS,
            usize::from(node.position) % SLOTS,
        );
        let (previous, next) = (node.previous, node.next);
        node.position = UNARMED;
        if next != NIL {
            self.nodes[next as usize].previous = previous;
        }
        if previous != NIL {
            self.nodes[previous as usize].next = next;
        } else {
            self.heads[level][slot] = next;
            if next == NIL {
                self.occupied[level] &= !(1 << slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn due_at(timers: &mut Timers, now: u64) -> Vec<usize> {
        let mut due = Vec::new();
        timers.advance(now, &mut due);
        due.sort_unstable();
        due
    }

    #[test]
    fn a_deadline_is_due_at_its_tick_and_not_before() {
        for deadline in [1, 63, 64, 65, 4095, 4096, 100_000, 1 << 40, u64::MAX] {
            let mut timers = Timers::new(0);
            timers.arm(3, deadline);
            assert!(due_at(&mut timers, deadline - 1).is_empty(), "{deadline}");
            assert_eq!(due_at(&mut timers, deadline), [3], "{deadline}");
            assert!(timers.is_empty());
            assert_eq!(timers.next_deadline(), None);
        }
    }

    #[test]
    fn arming_again_replaces_and_cancelling_forgets() {
        let mut timers = Timers::new(1000);
        timers.arm(0, 1010);
        timers.arm(0, 1500);
        timers.arm(1, 1020);
        timers.cancel(1);
        timers.cancel(7);
        assert!(due_at(&mut timers, 1499).is_empty());
        assert!(timers.is_armed(0) && !timers.is_armed(1) && !timers.is_armed(7));
        assert_eq!(due_at(&mut timers, 2000), [0]);
        assert!(!timers.is_armed(0));
    }

    #[test]
    fn a_past_deadline_is_due_at_the_next_tick() {
        let mut timers = Timers::new(50);
        timers.arm(0, 10);
        assert_eq!(timers.next_deadline(), Some(51));
        assert_eq!(due_at(&mut timers, 51), [0]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Arm(usize, u64),
        Cancel(usize),
        Advance(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let distance = prop_oneof![0_u64..130, 0_u64..10_000, 0_u64..10_000_000_000];
        prop_oneof![
            (0_usize..20, distance.clone()).prop_map(|(id, d)| Step::Arm(id, d)),
            (0_usize..20).prop_map(Step::Cancel),
            distance.prop_map(Step::Advance),
        ]
    }

    proptest! {
        #[test]
        fn the_wheel_agrees_with_a_sorted_map(
            start in any::<u32>(),
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let mut now = u64::from(start);
            let mut timers = Timers::new(now);
            let mut model = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Arm(id, distance) => {
                        timers.arm(id, now + distance);
                        model.insert(id, now + distance.max(1));
                    }
                    Step::Cancel(id) => {
                        timers.cancel(id);
                        model.remove(&id);
                    }
                    Step::Advance(distance) => {
                        now += distance;
                        let expected: Vec<_> =
                            model.iter().filter(|(_, d)| **d <= now).map(|(id, _)| *id).collect();
                        model.retain(|_, deadline| *deadline > now);
                        prop_assert_eq!(due_at(&mut timers, now), expected);
                    }
                }
                prop_assert_eq!(timers.is_empty(), model.is_empty());
                for id in 0..20 {
                    prop_assert_eq!(timers.deadline(id), model.get(&id).copied());
                }
                // Never after the nearest deadline, so that a poll can't oversleep it; always in
                // the future, so that a loop can't spin on it.
                match (timers.next_deadline(), model.values().min()) {
                    (Some(next), Some(&nearest)) => prop_assert!(now < next && next <= nearest),
                    (next, nearest) => prop_assert!(next.is_none() && nearest.is_none()),
                }
            }
        }
    }
}
