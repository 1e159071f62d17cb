//! Bytes that wait.

/// Bytes in order, of which the first ones may be taken already. Holds memory only while there are any.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    taken: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes that are not taken.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// Appends a copy.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.bytes.reserve_exact(bytes.len());
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Takes the first bytes, and frees the memory after the last one.
    pub(super) fn take(&mut self, count: usize) {
        self.taken += count;
        if self.taken == self.bytes.len() {
            *self = Self::default();
        }
    }

    /// Bytes of memory that it holds.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}
