//! Times at which connections and UDP sockets with faults have to act, exact to the nanosecond. Pure;
//! the timers of the reactor count milliseconds.

use crate::memory::allocation::{OutOfMemory, try_reserve};

/// Marks an id without an alarm.
const UNSET: u32 = u32::MAX;

/// A set of alarms, at most one for each id: a binary heap that knows where each id is. Ids are small
/// numbers, such as keys of a slab.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    /// Times and ids, none earlier than that at half its index.
    heap: Vec<(u64, u32)>,
    /// The place of each id in the heap.
    places: Vec<u32>,
}

/// Whose alarm it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AlarmOf {
    /// The connection with this slab key.
    Conn(usize),
    /// The worker's UDP socket with this index.
    Datagrams(usize),
}

impl AlarmOf {
    /// There are few UDP sockets, and as many ids of theirs.
    pub(super) fn id(self) -> usize {
        match self {
            Self::Conn(key) => 2 * key,
            Self::Datagrams(index) => 2 * index + 1,
        }
    }

    pub(super) fn of(id: usize) -> Self {
        if id.is_multiple_of(2) {
            Self::Conn(id / 2)
        } else {
            Self::Datagrams(id / 2)
        }
    }
}

impl Alarms {
    /// Makes room for the ids up to this one, so that setting them allocates nothing.
    pub(super) fn try_reserve(&mut self, id: usize) -> Result<(), OutOfMemory> {
        try_reserve(&mut self.places, id + 1)?;
        try_reserve(&mut self.heap, id + 1)
    }

    /// Sets the alarm of `id`, in place of the one it had.
    pub(super) fn set(&mut self, id: usize, at_ns: u64) {
        if id >= self.places.len() {
            self.places.resize(id + 1, UNSET);
        }
        let place = match self.places[id] {
            UNSET => {
                self.heap.push((at_ns, id as u32));
                self.heap.len() - 1
            }
            place => {
                self.heap[place as usize].0 = at_ns;
                place as usize
            }
        };
        self.settle(place);
    }

    /// Removes the alarm of `id`, if it has one.
    pub(super) fn cancel(&mut self, id: usize) {
        let Some(&place) = self.places.get(id).filter(|it| **it != UNSET) else {
            return;
        };
        self.places[id] = UNSET;
        self.heap.swap_remove(place as usize);
        if (place as usize) < self.heap.len() {
            self.settle(place as usize);
        }
    }

    /// The earliest alarm.
    pub(super) fn next(&self) -> Option<u64> {
        self.heap.first().map(|(at_ns, _)| *at_ns)
    }

    /// Removes an alarm that is due, the earliest first, and returns its id.
    pub(super) fn pop_due(&mut self, now_ns: u64) -> Option<usize> {
        let &(at_ns, id) = self.heap.first()?;
        if at_ns > now_ns {
            return None;
        }
        self.cancel(id as usize);
        Some(id as usize)
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Moves an item up or down to where it belongs.
    fn settle(&mut self, mut place: usize) {
        while place > 0 && self.heap[place] < self.heap[(place - 1) / 2] {
            self.heap.swap(place, (place - 1) / 2);
            self.note_place(place);
            place = (place - 1) / 2;
        }
        loop {
            let children = (2 * place + 1..2 * place + 3).filter(|it| *it < self.heap.len());
            let Some(least) = children.min_by_key(|it| self.heap[*it]) else {
                break;
            };
            if self.heap[place] <= self.heap[least] {
                break;
            }
            self.heap.swap(place, least);
            self.note_place(place);
            place = least;
        }
        self.note_place(place);
    }

    fn note_place(&mut self, place: usize) {
        let id = self.heap[place].1 as usize;
        self.places[id] = place as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        Set(usize, u64),
        Cancel(usize),
        Advance(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_usize..20, 0_u64..100).prop_map(|(id, after)| Step::Set(id, after)),
            (0_usize..20).prop_map(Step::Cancel),
            (0_u64..60).prop_map(Step::Advance),
        ]
    }

    proptest! {
        #[test]
        fn alarms_agree_with_a_sorted_map(steps in prop::collection::vec(step(), 1..300)) {
            let mut alarms = Alarms::default();
            let mut model = BTreeMap::new();
            let mut now = 0;
            for step in steps {
                match step {
                    Step::Set(id, after) => {
                        alarms.set(id, now + after);
                        model.insert(id, now + after);
                    }
                    Step::Cancel(id) => {
                        alarms.cancel(id);
                        model.remove(&id);
                    }
                    Step::Advance(by) => {
                        now += by;
                        let mut last = 0;
                        while let Some(id) = alarms.pop_due(now) {
                            let at = model.remove(&id).expect("it was set");
                            prop_assert!(last <= at && at <= now, "in order, and due");
                            last = at;
                        }
                        prop_assert!(model.values().all(|at| *at > now), "all that are due");
                    }
                }
                prop_assert_eq!(alarms.next(), model.values().min().copied());
                prop_assert_eq!(alarms.len(), model.len());
            }
        }
    }

    #[test]
    fn ids_convert_back() {
        for of in [
            AlarmOf::Conn(0),
            AlarmOf::Conn(7),
            AlarmOf::Datagrams(0),
            AlarmOf::Datagrams(3),
        ] {
            assert_eq!(AlarmOf::of(of.id()), of);
        }
    }
}
