//! A queue of flow keys.

use std::collections::VecDeque;

/// A queue that contains each flow at most once.
#[derive(Debug)]
pub(super) struct KeyQueue {
    keys: VecDeque<usize>,
    is_queued: Box<[bool]>,
}

impl KeyQueue {
    pub(super) fn new(flows: usize) -> Self {
        Self {
            keys: VecDeque::with_capacity(flows),
            is_queued: vec![false; flows].into_boxed_slice(),
        }
    }

    pub(super) fn push(&mut self, key: usize) {
        if !std::mem::replace(&mut self.is_queued[key], true) {
            self.keys.push_back(key);
        }
    }

    pub(super) fn pop(&mut self) -> Option<usize> {
        let key = self.keys.pop_front()?;
        self.is_queued[key] = false;
        Some(key)
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}
