//! What messages consist of: all are alike, so that a stream of them is periodic and any part of it
//! is one slice. Pure.

/// One message over and over.
#[derive(Debug)]
pub(super) struct Pattern {
    size: usize,
    bytes: Vec<u8>,
}

impl Pattern {
    /// Messages of `size` bytes, of which [`Pattern::at`] shows up to `reach` bytes at once.
    pub(super) fn new(size: usize, reach: usize) -> Self {
        // Neither neighbours nor bytes a power of two apart are alike.
        let byte = |i: usize| (i % size).wrapping_mul(0x9e37_79b1).to_be_bytes()[4];
        Self {
            size,
            bytes: (0..size + reach).map(byte).collect(),
        }
    }

    /// `len` bytes of the stream from `offset` in a message on, or as many as the reach allows.
    pub(super) fn at(&self, offset: usize, len: usize) -> &[u8] {
        debug_assert!(offset < self.size);
        let end = self.bytes.len().min(offset.saturating_add(len));
        &self.bytes[offset..end]
    }

    /// Are these the bytes of the stream from `offset` in a message on?
    pub(super) fn matches(&self, offset: usize, bytes: &[u8]) -> bool {
        self.at(offset, bytes.len()) == bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_repeats_the_message() {
        let pattern = Pattern::new(10, 30);
        let message = pattern.at(0, 10).to_vec();
        assert_eq!(pattern.at(7, 6), [&message[7..], &message[..3]].concat());
        assert_eq!(&pattern.at(7, 26)[20..], pattern.at(7, 6));
        assert_eq!(pattern.at(9, 1000).len(), 31);
    }

    #[test]
    fn a_wrong_byte_and_a_shift_are_noticed() {
        for size in [2, 64, 1024, 70_000] {
            let pattern = Pattern::new(size, size);
            let mut message = pattern.at(0, size).to_vec();
            assert!(pattern.matches(0, &message));
            assert!(!pattern.matches(1, &message), "{size}: a shift by one");
            message[size - 1] ^= 1;
            assert!(!pattern.matches(0, &message), "{size}: one bit");
        }
    }
}
