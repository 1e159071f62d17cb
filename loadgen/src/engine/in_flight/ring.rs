//! A queue whose elements keep their numbers.

use std::ops::{Index, IndexMut};

/// A queue of elements that are numbered from 0 on in the order of their arrival. It grows when it
/// is full. An element is found by its number with a mask.
#[derive(Clone, Debug)]
pub(super) struct Ring<T> {
    /// Their number is a power of two.
    slots: Box<[T]>,
    /// The number of the oldest element,
    first: usize,
    /// and of the next one to arrive.
    end: usize,
}

impl<T: Copy + Default> Ring<T> {
    pub(super) fn new() -> Self {
        Self {
            slots: Box::new([T::default()]),
            first: 0,
            end: 0,
        }
    }

    /// The number of the oldest element.
    pub(super) fn first(&self) -> usize {
        self.first
    }

    /// The number of the next element.
    #[inline]
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// Adds an element.
    #[inline]
    pub(super) fn push(&mut self, element: T) {
        if self.end - self.first == self.slots.len() {
            self.grow();
        }
        let end = self.end;
        self.end += 1;
        self[end] = element;
    }

    /// Removes the elements before `number`.
    #[inline]
    pub(super) fn remove_before(&mut self, number: usize) {
        debug_assert!(self.first <= number && number <= self.end);
        self.first = number;
    }

    #[cold]
    fn grow(&mut self) {
        let mut grown = Self {
            slots: vec![T::default(); 2 * self.slots.len()].into(),
            ..*self
        };
        for number in self.first..self.end {
            grown[number] = self[number];
        }
        *self = grown;
    }
}

impl<T> Index<usize> for Ring<T> {
    type Output = T;

    #[inline]
    fn index(&self, number: usize) -> &T {
        &self.slots[number & (self.slots.len() - 1)]
    }
}

impl<T> IndexMut<usize> for Ring<T> {
    #[inline]
    fn index_mut(&mut self, number: usize) -> &mut T {
        &mut self.slots[number & (self.slots.len() - 1)]
    }
}

#[cfg(test)]
mod tests;
