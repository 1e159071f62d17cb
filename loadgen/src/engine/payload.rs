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

/// Bytes of a block, and different places in the table where one may begin. With both at 16 KiB the
/// table fits the fastest cache of any machine of today.
const BLOCK: usize = 16 << 10;

/// Bytes of a datagram's sequence number, and so of the smallest datagram.
pub const SEQUENCE_BYTES: usize = size_of::<u64>();

/// The table that all streams of a run are cut from.
#[derive(Debug)]
pub struct Payload {
    table: Box<[u8; 2 * BLOCK]>,
    seed: u64,
}

/// Cuts one message after the other from a stream, as long as they lie in one block: then the next one
/// begins where the last one ended, and nothing is to be looked up.
#[derive(Clone, Copy, Debug)]
pub struct Cutter {
    stream: StreamId,
    /// Where in the table the next message begins, and how much of the block is left from there.
    next: usize,
    left: usize,
    last: Stretch,
}

/// A stretch of the table.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stretch {
    begin: usize,
    end: usize,
}

impl Cutter {
    /// Of `stream`.
    pub fn new(stream: StreamId) -> Self {
        Self {
            stream,
            next: 0,
            left: 0,
            last: Stretch::default(),
        }
    }

    /// The stream.
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// The next `size` bytes of the stream, which are those at `position`; `None` if they lie in two
    /// blocks.
    #[inline]
    pub fn cut(&mut self, position: u64, size: usize) -> Option<Stretch> {
        if size > self.left {
            self.seek(position);
            if size > self.left {
                return None;
            }
        }
        let end = self.next + size;
        self.last = Stretch {
            begin: self.next,
            end,
        };
        self.next = end;
        self.left -= size;
        Some(self.last)
    }

    /// What was cut last; nothing if the stream went on without it.
    #[inline]
    pub fn last(&self) -> Stretch {
        self.last
    }

    /// Notes that bytes of the stream were taken without it.
    #[inline]
    pub fn lose_track(&mut self) {
        self.left = 0;
        self.last = Stretch::default();
    }

    #[cold]
    fn seek(&mut self, position: u64) {
        let within = (position % BLOCK as u64) as usize;
        self.next = self.stream.begin_of(position / BLOCK as u64) + within;
        self.left = BLOCK - within;
    }
}

impl StreamId {
    /// Where in the table a block begins.
    #[inline]
    fn begin_of(self, block: u64) -> usize {
        mix(self.0.wrapping_add(block)) as usize % BLOCK
    }
}

/// Names the stream of one connection; a connection made anew has a new one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StreamId(u64);

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
        let end = begin + most.min(BLOCK - within);
        self.bytes(Stretch { begin, end })
    }

    /// The bytes of a stretch.
    #[inline]
    pub fn bytes(&self, stretch: Stretch) -> &[u8] {
        &self.table[stretch.begin..stretch.end]
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(payload: &Payload, stream: StreamId, position: u64, length: usize) -> Vec<u8> {
        let mut pieces = [IoSlice::new(&[]); 16];
        payload
            .pieces(stream, position, length as u64, &mut pieces)
            .iter()
            .flat_map(|piece| piece.to_vec())
            .collect()
    }

    #[test]
    fn streams_of_two_connections_differ() {
        let payload = Payload::new(1);
        let (a, b, c) = (
            payload.stream(0, 0),
            payload.stream(1, 0),
            payload.stream(0, 1),
        );
        assert_ne!(bytes(&payload, a, 0, 64), bytes(&payload, b, 0, 64));
        assert_ne!(bytes(&payload, a, 0, 64), bytes(&payload, c, 0, 64));
    }

    proptest! {
        /// Messages of any sizes, some of them cut and some taken without the cutter.
        #[test]
        fn what_is_cut_is_what_lies_at_the_position(
            steps in prop::collection::vec((1_usize..9_000, any::<bool>()), 1..50),
        ) {
            let payload = Payload::new(7);
            let stream = payload.stream(3, 0);
            let mut cutter = Cutter::new(stream);
            let mut position = 0;
            for (size, is_cut) in steps {
                let whole = bytes(&payload, stream, position, size);
                match is_cut.then(|| cutter.cut(position, size)) {
                    Some(Some(stretch)) => {
                        prop_assert_eq!(payload.bytes(stretch), &whole);
                        prop_assert_eq!(cutter.last(), stretch);
                    }
                    Some(None) => {
                        let in_block = payload.piece(stream, position, size).len();
                        prop_assert!(in_block < size);
                        cutter.lose_track();
                    }
                    None => cutter.lose_track(),
                }
                position += size as u64;
            }
        }

        #[test]
        fn a_datagram_is_known_again_and_no_other_is_taken_for_it(
            sequence in any::<u64>(),
            size in 8_u32..65_508,
            at in any::<prop::sample::Index>(),
            flip in 1_u8..=255,
        ) {
            let payload = Payload::new(7);
            let stream = payload.stream(3, 0);
            let mut bytes = Vec::new();
            payload.fill_datagram(stream, sequence, size, &mut bytes);
            prop_assert_eq!(bytes.len(), size as usize);
            prop_assert_eq!(sequence_of(&bytes), Some(sequence));
            prop_assert!(payload.is_datagram(stream, sequence, &bytes));
            bytes[at.index(size as usize)] ^= flip;
            prop_assert!(!payload.is_datagram(stream, sequence, &bytes));
        }

        #[test]
        fn a_byte_depends_on_its_position_and_not_on_how_it_is_cut(
            seed in any::<u64>(),
            position in 0_u64..200_000,
            lengths in prop::collection::vec(1_usize..20_000, 1..6),
        ) {
            let payload = Payload::new(seed);
            let stream = payload.stream(3, 0);
            let total: usize = lengths.iter().sum();
            let whole = bytes(&payload, stream, position, total);
            prop_assert_eq!(whole.len(), total);
            let mut at = 0;
            for length in lengths {
                let part = bytes(&payload, stream, position + at as u64, length);
                prop_assert_eq!(&part[..], &whole[at..at + length]);
                at += length;
            }
            prop_assert_eq!(payload.first_difference(stream, position, &whole), None);
        }

        #[test]
        fn a_changed_byte_shows_at_its_offset(
            position in 0_u64..200_000,
            length in 1_usize..40_000,
            at in any::<prop::sample::Index>(),
            flip in 1_u8..=255,
        ) {
            let payload = Payload::new(7);
            let stream = payload.stream(0, 0);
            let mut received = bytes(&payload, stream, position, length);
            let at = at.index(length);
            received[at] ^= flip;
            prop_assert_eq!(payload.first_difference(stream, position, &received), Some(at));
        }

        #[test]
        fn a_shift_shows_within_a_few_bytes(
            position in 0_u64..200_000,
            shift in 1_u64..100_000,
        ) {
            let payload = Payload::new(7);
            let stream = payload.stream(0, 0);
            let received = bytes(&payload, stream, position + shift, 32_768);
            prop_assert!(payload.first_difference(stream, position, &received).is_some());
        }
    }
}
