//! The contents of messages: a pseudo-random byte stream for each connection. Each byte depends on
//! its position alone.
//!
//! So an echo that loses, repeats, swaps or changes bytes differs from the sent bytes at that exact
//! offset, whatever the message size and however reads split the stream. No stream is ever
//! generated. Each block of a stream is a part of one random table; a hash of the connection and
//! the block's number selects the part. Sending takes bytes straight from the table, and
//! verification runs at the speed of memcmp. A shift by whole blocks goes unnoticed with a chance
//! of 1 in 16 384 for each block.

use std::io::IoSlice;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::plan::sizes::MIN_DATAGRAM;

/// Bytes of a block, and number of places in the table where a block may begin. With 16 KiB each,
/// the table fits the L1 or L2 cache of current machines.
const BLOCK: usize = 16 << 10;

/// Bytes of a datagram's sequence number.
const SEQUENCE_BYTES: usize = MIN_DATAGRAM as usize;

/// Bytes of a random stream that tell it from others.
const MIN_DISTINCT: usize = 8;

/// The table that contains all blocks of a run's streams.
#[derive(Debug)]
pub struct Payload {
    table: [u8; 2 * BLOCK],
    seed: u64,
}

/// The stream of one connection. Each reconnect gets a new stream.
#[derive(Clone, Copy, Debug)]
pub struct ByteStream {
    id: u64,
    /// The position at which the block used last begins,
    block_begin: u64,
    /// and where it begins in the table. Kept, because the next bytes are mostly of the same block.
    table_begin: usize,
}

impl ByteStream {
    fn new(id: u64) -> Self {
        Self {
            id,
            block_begin: 0,
            table_begin: Self::place(id, 0),
        }
    }

    /// The index of `position` in its block, which is the one used last from now on.
    #[inline]
    fn enter(&mut self, position: u64) -> usize {
        let within = position.wrapping_sub(self.block_begin);
        if within < BLOCK as u64 {
            return within as usize;
        }
        self.change_block(position);
        (position % BLOCK as u64) as usize
    }

    #[cold]
    fn change_block(&mut self, position: u64) {
        self.block_begin = position - position % BLOCK as u64;
        self.table_begin = Self::place(self.id, position / BLOCK as u64);
    }

    fn place(id: u64, block: u64) -> usize {
        (mix(id.wrapping_add(block)) % BLOCK as u64) as usize
    }
}

impl Payload {
    /// A table and streams determined by `seed` alone.
    pub fn new(seed: u64) -> Self {
        let mut table = [0; 2 * BLOCK];
        Xoshiro256PlusPlus::seed_from_u64(seed).fill_bytes(&mut table);
        Self { table, seed }
    }

    /// The stream of the `incarnation`-th socket of flow `flow`.
    pub fn stream(&self, flow: usize, incarnation: u32) -> ByteStream {
        ByteStream::new(mix(
            self.seed ^ mix((flow as u64) << 32 | u64::from(incarnation))
        ))
    }

    /// The bytes of `stream` from `position` on: the longest contiguous piece, at most `most`
    /// bytes, and at least one byte unless `most` is zero.
    pub fn piece(&self, stream: &mut ByteStream, position: u64, most: usize) -> &[u8] {
        let rest = self.rest_of_block(stream, position);
        &rest[..most.min(rest.len())]
    }

    /// The `length` bytes of `stream` from `position` on, if they are one contiguous piece.
    #[inline]
    pub fn whole(&self, stream: &mut ByteStream, position: u64, length: usize) -> Option<&[u8]> {
        self.rest_of_block(stream, position).get(..length)
    }

    /// The bytes of `stream` from `position` to the end of the block.
    #[inline]
    fn rest_of_block(&self, stream: &mut ByteStream, position: u64) -> &[u8] {
        let within = stream.enter(position);
        // The remainder, which changes nothing, shows the compiler that a whole block follows.
        let begin = stream.table_begin % BLOCK;
        &self.table[begin..begin + BLOCK][within..]
    }

    /// Fills `pieces` with the bytes from `position` on, up to `most` bytes, and returns the filled
    /// pieces.
    pub fn pieces<'a, 'b>(
        &'a self,
        stream: &mut ByteStream,
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

    /// Builds the datagram with this sequence number: the number, then bytes of `stream`, `size`
    /// bytes in all.
    pub fn fill_datagram(
        &self,
        stream: &mut ByteStream,
        sequence: u64,
        size: u32,
        bytes: &mut Vec<u8>,
    ) {
        bytes.clear();
        bytes.extend_from_slice(&sequence.to_le_bytes());
        let begin = datagram_begin(sequence);
        // Each iteration adds at least one byte.
        while bytes.len() < size as usize {
            let left = size as usize - bytes.len();
            let position = begin + bytes.len() as u64;
            bytes.extend_from_slice(self.piece(stream, position, left));
        }
    }

    /// The first index at which `bytes` differ from the datagram of `stream` with this sequence
    /// number; the length of `bytes` if they are too short for a sequence number.
    pub fn datagram_difference(
        &self,
        stream: &mut ByteStream,
        sequence: u64,
        bytes: &[u8],
    ) -> Option<usize> {
        let Some((number, rest)) = bytes.split_at_checked(SEQUENCE_BYTES) else {
            return Some(bytes.len());
        };
        let mut pairs = number.iter().zip(sequence.to_le_bytes());
        let position = datagram_begin(sequence) + SEQUENCE_BYTES as u64;
        pairs
            .position(|(&got, expected)| got != expected)
            .or_else(|| {
                let index = self.first_difference(stream, position, rest)?;
                Some(SEQUENCE_BYTES + index)
            })
    }

    /// Whether the bytes behind the sequence number are those of the datagram of `stream` with this
    /// number. Not if there are so few of them that others could be the same.
    pub fn is_content_of(&self, stream: &mut ByteStream, sequence: u64, bytes: &[u8]) -> bool {
        let position = datagram_begin(sequence) + SEQUENCE_BYTES as u64;
        bytes
            .split_at_checked(SEQUENCE_BYTES)
            .is_some_and(|(_, rest)| {
                rest.len() >= MIN_DISTINCT
                    && self.first_difference(stream, position, rest).is_none()
            })
    }

    /// The first index at which `bytes`, received at `position` of `stream`, differ from the sent
    /// bytes.
    #[inline]
    pub fn first_difference(
        &self,
        stream: &mut ByteStream,
        position: u64,
        bytes: &[u8],
    ) -> Option<usize> {
        match self.whole(stream, position, bytes.len()) {
            Some(sent) if sent == bytes => None,
            _ => self.find_difference(stream, position, bytes),
        }
    }

    /// The slow path: the bytes span several blocks or are wrong.
    #[cold]
    fn find_difference(
        &self,
        stream: &mut ByteStream,
        position: u64,
        bytes: &[u8],
    ) -> Option<usize> {
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

/// The sequence number of a datagram; `None` if the datagram is too short.
pub fn sequence_of(datagram: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*datagram.first_chunk()?))
}

/// Where a datagram's bytes begin in its stream. The parts of different datagrams do not overlap.
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
