//! What the messages consist of: a pseudo-random byte stream for every connection, in which each
//! byte depends on its position.
//!
//! An echo that loses, repeats, swaps or changes bytes therefore differs from what was sent at the
//! exact offset where it happens, whatever the size of the messages and wherever reads cut them.
//! A stream is never generated: it is cut into blocks, and each block is a stretch of one random
//! table, at a place that a hash of the connection and the block's number decides. So what is sent
//! is sent straight out of the table, and what arrives is compared with it at the speed of memcmp.
//! A shift by whole blocks goes unnoticed with a chance of 1 in 16 384 for each block.

use std::io::IoSlice;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::plan::sizes::MIN_DATAGRAM;

/// Bytes of a block, and different places in the table where one may begin. With both at 16 KiB the
/// table fits the fastest cache of any machine of today.
const BLOCK: usize = 16 << 10;

/// Bytes of a datagram's sequence number.
const SEQUENCE_BYTES: usize = MIN_DATAGRAM as usize;

/// The table that all streams of a run are cut from.
#[derive(Debug)]
pub struct Payload {
    table: Box<[u8; 2 * BLOCK]>,
    seed: u64,
}

/// Names the stream of one connection; a connection made anew has a new one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StreamId(u64);

impl StreamId {
    /// Where in the table a block begins.
    #[inline]
    fn begin_of(self, block: u64) -> usize {
        mix(self.0.wrapping_add(block)) as usize % BLOCK
    }
}

impl Payload {
    /// A table and streams that `seed` alone decides.
    pub fn new(seed: u64) -> Self {
        let mut table = Box::new([0; 2 * BLOCK]);
        Xoshiro256PlusPlus::seed_from_u64(seed).fill_bytes(&mut *table);
        Self { table, seed }
    }

    /// The stream of the `incarnation`-th socket of flow `flow`.
    pub fn stream(&self, flow: usize, incarnation: u32) -> StreamId {
        StreamId(mix(
            self.seed ^ mix((flow as u64) << 32 | u64::from(incarnation))
        ))
    }

    /// The bytes of `stream` from `position` on: as many as lie in one piece, at most `most`, and
    /// at least one if `most` is not zero.
    #[inline]
    pub fn piece(&self, stream: StreamId, position: u64, most: usize) -> &[u8] {
        let within = (position % BLOCK as u64) as usize;
        let begin = stream.begin_of(position / BLOCK as u64) + within;
        &self.table[begin..begin + most.min(BLOCK - within)]
    }

    /// Fills `pieces` with what follows `position` and returns the filled ones, `most` bytes or as
    /// much as fits.
    pub fn pieces<'a, 'b>(
        &'a self,
        stream: StreamId,
        position: u64,
        most: u64,
        pieces: &'b mut [IoSlice<'a>],
    ) -> &'b [IoSlice<'a>] {
        let mut filled = 0;
        let mut done = 0;
        for piece in &mut *pieces {
            if done == most {
                break;
            }
            let left = usize::try_from(most - done).unwrap_or(usize::MAX);
            let bytes = self.piece(stream, position + done, left);
            done += bytes.len() as u64;
            *piece = IoSlice::new(bytes);
            filled += 1;
        }
        &pieces[..filled]
    }

    /// Puts the datagram with this sequence number together: the number, and a stretch of `stream` of
    /// its own, `size` bytes in all.
    pub fn fill_datagram(&self, stream: StreamId, sequence: u64, size: u32, bytes: &mut Vec<u8>) {
        bytes.clear();
        bytes.extend_from_slice(&sequence.to_le_bytes());
        let begin = datagram_begin(sequence);
        // Each turn adds at least a byte.
        while bytes.len() < size as usize {
            let left = size as usize - bytes.len();
            let position = begin + bytes.len() as u64;
            bytes.extend_from_slice(self.piece(stream, position, left));
        }
    }

    /// Whether `bytes` are the datagram of `stream` with this sequence number.
    pub fn is_datagram(&self, stream: StreamId, sequence: u64, bytes: &[u8]) -> bool {
        let Some((number, rest)) = bytes.split_at_checked(SEQUENCE_BYTES) else {
            return false;
        };
        let position = datagram_begin(sequence) + SEQUENCE_BYTES as u64;
        number == sequence.to_le_bytes() && self.first_difference(stream, position, rest).is_none()
    }

    /// Where `bytes`, received at `position` of `stream`, first differ from what was sent there.
    #[inline]
    pub fn first_difference(&self, stream: StreamId, position: u64, bytes: &[u8]) -> Option<usize> {
        if self.piece(stream, position, bytes.len()) == bytes {
            return None;
        }
        self.find_difference(stream, position, bytes)
    }

    /// The same, of bytes that lie in several blocks or are not right.
    #[cold]
    fn find_difference(&self, stream: StreamId, position: u64, bytes: &[u8]) -> Option<usize> {
        let mut done = 0;
        while done < bytes.len() {
            let rest = &bytes[done..];
            let expected = self.piece(stream, position + done as u64, rest.len());
            let got = &rest[..expected.len()];
            if got != expected {
                return got
                    .iter()
                    .zip(expected)
                    .position(|(got, expected)| got != expected)
                    .map(|offset| done + offset);
            }
            done += expected.len();
        }
        None
    }
}

/// The sequence number that a datagram carries; `None` if it is too short for one.
pub fn sequence_of(datagram: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*datagram.first_chunk()?))
}

/// Where the stretch of a datagram begins in its stream: far enough from the next one's.
fn datagram_begin(sequence: u64) -> u64 {
    sequence.wrapping_mul(1 << 17) & (u64::MAX >> 1)
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a bijection in which every bit
/// of the input changes every bit of the output half of the time.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests;
