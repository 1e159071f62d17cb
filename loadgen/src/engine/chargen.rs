//! The output of a chargen server (RFC 864): lines of 72 characters from a ring. Each line begins
//! one character later than the line before. Two rings are in use. inetd and echod send the 95
//! printable characters from the space on. xinetd sends the 93 characters from `!` to `}` and
//! restarts after 95 lines.
//!
//! Both patterns repeat after 95 lines, so verification is a memcmp with a table of that cycle.

/// Characters of a line, without and with its line end.
const LINE: usize = 72;
const LINE_BYTES: usize = LINE + 2;
/// Lines, and bytes, after which a pattern repeats.
const LINES: usize = 95;
const CYCLE: usize = LINES * LINE_BYTES;

/// A pattern, from its first byte on: two cycles, so that one cycle is contiguous wherever it begins.
type Table = [u8; 2 * CYCLE];

static INETD: Table = table(b' ', 95);
static XINETD: Table = table(b'!', 93);

/// The pattern that a connection's server sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pattern {
    /// No byte has arrived yet.
    Unknown,
    /// The pattern of inetd and echod.
    Inetd,
    /// The pattern of xinetd.
    Xinetd,
    /// Another pattern, which RFC 864 allows. It can't be verified.
    Foreign,
}

impl Pattern {
    /// The first index at which `bytes`, received at `position` of the stream, differ from the
    /// pattern. The first byte of the stream selects the pattern.
    pub fn first_difference(&mut self, position: u64, bytes: &[u8]) -> Option<usize> {
        if *self == Self::Unknown {
            *self = match bytes.first()? {
                b' ' => Self::Inetd,
                b'!' => Self::Xinetd,
                _ => Self::Foreign,
            };
        }
        let table = self.table()?;
        let mut done = 0;
        while done < bytes.len() {
            let begin = ((position + done as u64) % CYCLE as u64) as usize;
            let rest = &bytes[done..];
            let got = &rest[..rest.len().min(CYCLE)];
            let expected = &table[begin..begin + got.len()];
            if got != expected {
                let mut pairs = got.iter().zip(expected);
                return Some(done + pairs.position(|(got, expected)| got != expected)?);
            }
            done += got.len();
        }
        None
    }

    /// Whether every byte can be verified.
    pub fn is_known(self) -> bool {
        self.table().is_some()
    }

    fn table(self) -> Option<&'static Table> {
        match self {
            Self::Inetd => Some(&INETD),
            Self::Xinetd => Some(&XINETD),
            Self::Unknown | Self::Foreign => None,
        }
    }
}

/// The table for a ring of `length` characters that begins with `first`.
const fn table(first: u8, length: usize) -> Table {
    let mut table = [0; 2 * CYCLE];
    let mut position = 0;
    while position < table.len() {
        let (line, column) = (position / LINE_BYTES, position % LINE_BYTES);
        table[position] = if column < LINE {
            first + ((line % LINES + column) % length) as u8
        } else if column == LINE {
            b'\r'
        } else {
            b'\n'
        };
        position += 1;
    }
    table
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
            let position = line * LINE_BYTES as u64;
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
