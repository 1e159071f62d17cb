//! Lists of flows that want something.

use std::collections::VecDeque;

/// A list of flows in which each is at most once.
#[derive(Debug)]
pub(super) struct Marked {
    keys: VecDeque<usize>,
    is_marked: Box<[bool]>,
}

impl Marked {
    pub(super) fn new(flows: usize) -> Self {
        Self {
            keys: VecDeque::with_capacity(flows),
            is_marked: vec![false; flows].into_boxed_slice(),
        }
    }

    pub(super) fn push(&mut self, key: usize) {
        if !std::mem::replace(&mut self.is_marked[key], true) {
            self.keys.push_back(key);
        }
    }

    pub(super) fn pop(&mut self) -> Option<usize> {
        let key = self.keys.pop_front()?;
        self.is_marked[key] = false;
        Some(key)
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}
