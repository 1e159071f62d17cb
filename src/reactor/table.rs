//! A table with stable keys, whose growth may fail.

use crate::memory::allocation::{OutOfMemory, try_reserve};

/// Values by small keys. A key is free again once its value is removed.
#[derive(Debug)]
pub(super) struct Table<T> {
    slots: Vec<Slot<T>>,
    /// The next key; its slot names the one after it.
    next: usize,
    len: usize,
}

#[derive(Debug)]
enum Slot<T> {
    Vacant { next: usize },
    Occupied(T),
}

impl<T> Table<T> {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            next: 0,
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// All keys that have a value, and perhaps others.
    pub(super) fn keys(&self) -> std::ops::Range<usize> {
        0..self.slots.len()
    }

    /// The key of the next value, once there is memory for it.
    pub(super) fn try_next_key(&mut self) -> Result<usize, OutOfMemory> {
        if self.next == self.slots.len() {
            try_reserve(&mut self.slots, self.next + 1)?;
        }
        Ok(self.next)
    }

    /// Inserts the value of the key from [`Table::try_next_key`], which made room for it.
    pub(super) fn insert(&mut self, value: T) {
        let slot = Slot::Occupied(value);
        if let Some(vacant) = self.slots.get_mut(self.next) {
            if let Slot::Vacant { next } = std::mem::replace(vacant, slot) {
                self.next = next;
            }
        } else {
            self.slots.push(slot);
            self.next = self.slots.len();
        }
        self.len += 1;
    }

    #[inline(always)]
    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        match self.slots.get_mut(key) {
            Some(Slot::Occupied(value)) => Some(value),
            Some(Slot::Vacant { .. }) | None => None,
        }
    }

    pub(super) fn remove(&mut self, key: usize) -> Option<T> {
        let slot = self.slots.get_mut(key)?;
        let next = self.next;
        match std::mem::replace(slot, Slot::Vacant { next }) {
            Slot::Occupied(value) => {
                self.next = key;
                self.len -= 1;
                Some(value)
            }
            vacant @ Slot::Vacant { .. } => {
                *slot = vacant;
                None
            }
        }
    }
}

#[cfg(test)]
impl<T> Table<T> {
    pub(super) fn get(&self, key: usize) -> Option<&T> {
        match self.slots.get(key)? {
            Slot::Occupied(value) => Some(value),
            Slot::Vacant { .. } => None,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(key, slot)| match slot {
            Slot::Occupied(value) => Some((key, value)),
            Slot::Vacant { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_agrees_with_a_map_and_reuses_keys(
            steps in prop::collection::vec((any::<bool>(), 0_usize..20), 0..200),
        ) {
            let mut table = Table::new();
            let (mut model, mut most) = (BTreeMap::new(), 0);
            for (number, (inserts, key)) in steps.into_iter().enumerate() {
                if inserts {
                    let key = table.try_next_key().unwrap();
                    table.insert(number);
                    prop_assert_eq!(model.insert(key, number), None);
                } else {
                    prop_assert_eq!(table.remove(key), model.remove(&key));
                }
                most = most.max(model.len());
                prop_assert_eq!(table.len(), model.len());
                prop_assert!(table.keys().end <= most, "free keys are used first");
                prop_assert!(table.iter().eq(model.iter().map(|(key, value)| (*key, value))));
                for key in table.keys() {
                    prop_assert_eq!(table.get_mut(key).copied(), model.get(&key).copied());
                }
            }
        }
    }
}
