//! The output of a chargen server (RFC 864): lines of 72 characters from a ring. Each line begins
//! one character later than the line before. Two rings are in use. inetd and echod send the 95
//! printable characters from the space on. xinetd sends the 93 characters from `!` to `}` and
//! restarts after 95 lines.

/// Characters of a line, without and with its line end.
const LINE: u64 = 72;
const LINE_BYTES: u64 = LINE + 2;

/// The pattern that a connection's server sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pattern {
    /// No byte has arrived yet.
    Unknown,
    /// `length` characters, beginning with `first`.
    Ring {
        /// The first character of the first line.
        first: u8,
        /// Characters of the ring.
        length: u8,
        /// Lines until the first line is repeated.
        lines: u8,
    },
    /// Another pattern, which RFC 864 allows. It can't be verified.
    Foreign,
}

impl Pattern {
    /// The first index at which `bytes`, received at `position` of the stream, differ from the
    /// pattern. The first byte of the stream selects the pattern.
    pub fn first_difference(&mut self, position: u64, bytes: &[u8]) -> Option<usize> {
        if *self == Self::Unknown {
            *self = match bytes.first()? {
                b' ' => Self::Ring {
                    first: b' ',
                    length: 95,
                    lines: 95,
                },
                b'!' => Self::Ring {
                    first: b'!',
                    length: 93,
                    lines: 95,
                },
                _ => Self::Foreign,
            };
        }
        let Self::Ring {
            first,
            length,
            lines,
        } = *self
        else {
            return None;
        };
        let (mut line, mut column) = (position / LINE_BYTES, position % LINE_BYTES);
        for (index, &byte) in bytes.iter().enumerate() {
            let expected = match column {
                LINE => b'\r',
                column if column > LINE => b'\n',
                column => first + ((line % u64::from(lines) + column) % u64::from(length)) as u8,
            };
            if byte != expected {
                return Some(index);
            }
            column += 1;
            if column == LINE_BYTES {
                (line, column) = (line + 1, 0);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(first: u8, length: u8, bytes: usize) -> Vec<u8> {
        let ring: Vec<u8> = (first..first + length).collect();
        (0..)
            .flat_map(|line: usize| {
                let characters = ring.iter().cycle().skip(line % 95).take(72);
                characters.copied().chain(*b"\r\n").collect::<Vec<_>>()
            })
            .take(bytes)
            .collect()
    }

    #[test]
    fn the_pattern_of_rfc_864_is_known() {
        let text =
            b" !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefg\r\n!\"#";
        assert_eq!(Pattern::Unknown.first_difference(0, text), None);
        assert_eq!(stream(b' ', 95, text.len()), text);
        let mut foreign = Pattern::Unknown;
        assert_eq!(foreign.first_difference(0, b"hello"), None);
        assert_eq!(foreign, Pattern::Foreign);
    }

    #[test]
    fn the_pattern_of_xinetd_is_known() {
        // Its first, its last three and again its first line, as version 2.3.15.3 sends them.
        let tail = "#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghi";
        for (line, head) in [
            (0, "!\""),
            (92, "}!\""),
            (93, "!\""),
            (94, "\""),
            (95, "!\""),
        ] {
            let text = &[head, tail].concat()[..72];
            let mut pattern = Pattern::Unknown;
            assert_eq!(pattern.first_difference(0, b"!"), None);
            let position = line * LINE_BYTES;
            assert_eq!(pattern.first_difference(position, text.as_bytes()), None);
        }
    }

    proptest! {
        #[test]
        fn a_wrong_byte_is_found_wherever_the_stream_is_cut(
            ring in prop::sample::select(vec![(b' ', 95), (b'!', 93)]),
            cut in 1_usize..20_000,
            at in 1_usize..20_000,
            flip in 1_u8..=255,
        ) {
            let mut bytes = stream(ring.0, ring.1, 20_000);
            let mut pattern = Pattern::Unknown;
            prop_assert_eq!(pattern.first_difference(0, &bytes[..cut]), None);
            prop_assert_eq!(pattern.first_difference(cut as u64, &bytes[cut..]), None);
            bytes[at] ^= flip;
            let found = match pattern.first_difference(0, &bytes[..cut]) {
                Some(offset) => Some(offset),
                None => pattern
                    .first_difference(cut as u64, &bytes[cut..])
                    .map(|offset| cut + offset),
            };
            prop_assert_eq!(found, Some(at));
        }
    }
}
