//! Data in which every byte depends on its position and its connection, so that a check locates a
//! loss, a duplicate, a swap or a byte of another connection.

use std::sync::LazyLock;

/// The length of the table below: a prime, so that no buffer size divides it.
const LAP: usize = 1_000_003;

/// Random bytes, made once, because a test without optimisation can copy and compare a hundred
/// megabytes quickly, but not compute them.
static TABLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let words = (0..=LAP as u64 / 8).flat_map(|index| mix(index).to_le_bytes());
    words.take(LAP).collect()
});

/// An endless pseudo-random stream of bytes: repeated laps of the table, each from another position
/// that depends on the number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pattern(pub(crate) u64);

impl Pattern {
    /// The bytes from `offset` on.
    pub(crate) fn fill(self, mut offset: u64, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let (lap, within) = (offset / LAP as u64, (offset % LAP as u64) as usize);
            let start = (mix(self.0 ^ mix(lap)) % LAP as u64) as usize;
            let piece = &TABLE[(start + within) % LAP..];
            let count = piece.len().min(bytes.len()).min(LAP - within);
            let (head, rest) = bytes.split_at_mut(count);
            head.copy_from_slice(&piece[..count]);
            bytes = rest;
            offset += count as u64;
        }
    }

    /// The first `count` bytes.
    pub(crate) fn bytes(self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.fill(0, &mut bytes);
        bytes
    }

    /// Panics unless `bytes` equals the stream from `offset` on.
    #[track_caller]
    pub(crate) fn check(self, offset: u64, bytes: &[u8]) {
        let mut expected = vec![0; bytes.len()];
        self.fill(offset, &mut expected);
        if bytes != expected {
            let wrong = bytes.iter().zip(&expected).position(|(a, b)| a != b);
            let wrong = offset + wrong.unwrap_or(0) as u64;
            panic!("byte {wrong} of the stream is not what was sent");
        }
    }
}

/// A seeded generator of choices, so that a failing run can be repeated.
#[derive(Debug)]
pub(crate) struct Choices(u64);

impl Choices {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 to `bound` - 1.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(1);
        (mix(self.0) % bound as u64) as usize
    }
}

/// The finalizer of splitmix64: every bit of the input changes half of the output.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
