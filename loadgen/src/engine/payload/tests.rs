//! A byte of a stream depends on its position alone, and a wrong one shows there.

use super::*;
use proptest::prelude::*;

fn bytes(payload: &Payload, stream: &mut ByteStream, position: u64, length: usize) -> Vec<u8> {
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
    let (mut a, mut b, mut c) = (
        payload.stream(0, 0),
        payload.stream(1, 0),
        payload.stream(0, 1),
    );
    assert_ne!(
        bytes(&payload, &mut a, 0, 64),
        bytes(&payload, &mut b, 0, 64)
    );
    assert_ne!(
        bytes(&payload, &mut a, 0, 64),
        bytes(&payload, &mut c, 0, 64)
    );
}

proptest! {
    #[test]
    fn a_datagram_is_known_again_and_no_other_is_taken_for_it(
        sequence in any::<u64>(),
        size in 8_u32..65_508,
        at in any::<prop::sample::Index>(),
        flip in 1_u8..=255,
    ) {
        let payload = Payload::new(7);
        let mut stream = payload.stream(3, 0);
        let mut bytes = Vec::new();
        payload.fill_datagram(&mut stream, sequence, size, &mut bytes);
        prop_assert_eq!(bytes.len(), size as usize);
        prop_assert_eq!(sequence_of(&bytes), Some(sequence));
        prop_assert_eq!(payload.datagram_difference(&mut stream, sequence, &bytes), None);
        let at = at.index(size as usize);
        bytes[at] ^= flip;
        prop_assert_eq!(payload.datagram_difference(&mut stream, sequence, &bytes), Some(at));
        // Sixteen bytes in all are few enough to be another datagram's by chance.
        let is_number = at < 8 && size >= 16;
        prop_assert_eq!(payload.is_content_of(&mut stream, sequence, &bytes), is_number);
    }

    #[test]
    fn a_byte_depends_on_its_position_and_not_on_how_it_is_cut(
        seed in any::<u64>(),
        position in 0_u64..200_000,
        lengths in prop::collection::vec(1_usize..20_000, 1..6),
    ) {
        let payload = Payload::new(seed);
        let mut stream = payload.stream(3, 0);
        let total: usize = lengths.iter().sum();
        let whole = bytes(&payload, &mut stream, position, total);
        prop_assert_eq!(whole.len(), total);
        let mut at = 0;
        for length in lengths {
            let part = bytes(&payload, &mut stream, position + at as u64, length);
            prop_assert_eq!(&part[..], &whole[at..at + length]);
            at += length;
        }
        prop_assert_eq!(payload.first_difference(&mut stream, position, &whole), None);
    }

    #[test]
    fn a_changed_byte_shows_at_its_offset(
        position in 0_u64..200_000,
        length in 1_usize..40_000,
        at in any::<prop::sample::Index>(),
        flip in 1_u8..=255,
    ) {
        let payload = Payload::new(7);
        let mut stream = payload.stream(0, 0);
        let mut received = bytes(&payload, &mut stream, position, length);
        let at = at.index(length);
        received[at] ^= flip;
        prop_assert_eq!(payload.first_difference(&mut stream, position, &received), Some(at));
    }

    #[test]
    fn a_shift_shows_within_a_few_bytes(
        position in 0_u64..200_000,
        shift in 1_u64..100_000,
    ) {
        let payload = Payload::new(7);
        let mut stream = payload.stream(0, 0);
        let received = bytes(&payload, &mut stream, position + shift, 32_768);
        prop_assert!(payload.first_difference(&mut stream, position, &received).is_some());
    }
}
