//! The content of messages: all are alike, so that a stream of them is periodic and any part of it
//! is one slice. Pure.

/// One message over and over.
#[derive(Debug)]
pub(super) struct Pattern {
    bytes: Vec<u8>,
}

impl Pattern {
    /// Messages of `size` bytes, of which [`Pattern::at`] shows up to `reach` bytes at once.
    pub(super) fn new(size: usize, reach: usize) -> Self {
        // Neither neighbours nor bytes a power of two apart are alike.
        let byte = |i: usize| (i % size).wrapping_mul(0x9e37_79b1).to_be_bytes()[4];
        Self {
            bytes: (0..size + reach).map(byte).collect(),
        }
    }

    /// `len` bytes of the stream from `offset` in a message on, or as many as the reach allows.
    pub(super) fn at(&self, offset: usize, len: usize) -> &[u8] {
        let end = self.bytes.len().min(offset.saturating_add(len));
        &self.bytes[offset..end]
    }

    /// Are these the bytes of the stream from `offset` in a message on?
    pub(super) fn matches(&self, offset: usize, bytes: &[u8]) -> bool {
        self.at(offset, bytes.len()) == bytes
    }
}
