//! The characters of RFC 864: lines of 72 of the 95 printable characters, each line starting one
//! further on in their ring.
//!
//! One table holds them, so that any part of the stream is a slice and needs no copy.

/// The printable ASCII characters, from space to tilde.
const CHARACTERS: usize = 95;

/// A line with its carriage return and line feed.
pub(crate) const LINE: usize = 74;

/// The stream repeats after this number of bytes.
pub(crate) const CYCLE: usize = CHARACTERS * LINE;

/// The longest slice that [`from`] returns, larger than any datagram.
pub(crate) const MAX_LEN: usize = 1 << 16;

/// The `len` bytes of the endless stream from `offset` on.
///
/// # Panics
/// When `offset` is not below [`CYCLE`] or `len` is above [`MAX_LEN`].
pub(crate) fn from(offset: usize, len: usize) -> &'static [u8] {
    assert!(offset < CYCLE && len <= MAX_LEN);
    &TABLE[offset..][..len]
}

static TABLE: [u8; CYCLE + MAX_LEN] = table();

const fn table() -> [u8; CYCLE + MAX_LEN] {
    let mut table = [0; CYCLE + MAX_LEN];
    let mut at = 0;
    while at < table.len() {
        let (line, column) = (at / LINE, at % LINE);
        table[at] = match column {
            72 => b'\r',
            73 => b'\n',
            _ => b' ' + ((line + column) % CHARACTERS) as u8,
        };
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_lines_are_those_of_the_rfc() {
        let text = std::str::from_utf8(from(0, CYCLE)).unwrap();
        let lines: Vec<_> = text.split_terminator("\r\n").collect();
        assert_eq!(lines.len(), 95);
        assert!(lines.iter().all(|line| line.len() == 72));
        // The first two lines of the example in RFC 864, which starts at the exclamation mark.
        assert_eq!(
            lines[1..3],
            [
                r##"!"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefgh"##,
                r##""#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefghi"##,
            ]
        );
        assert!(lines[94].starts_with("~ !"));
    }

    proptest! {
        #[test]
        fn the_stream_goes_round(offset in 0..CYCLE, len in 0..=MAX_LEN) {
            let slice = from(offset, len);
            prop_assert_eq!(slice.len(), len);
            let ring = from(0, CYCLE).iter().cycle().skip(offset);
            prop_assert!(slice.iter().eq(ring.take(len)));
        }
    }
}
