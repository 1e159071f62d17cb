//! The subject of a certificate as text (RFC 4514). The input is whatever the peer's certificate holds.

use std::fmt::Write;

/// The most bytes of text; a longer subject is cut, which `…` shows.
pub(super) const MAX_LEN: usize = 512;

/// How a subject goes on behind what is left of it.
const CUT: char = '…';

/// The tags of DER that a name is made of (X.690, 8).
mod tag {
    pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
    pub(super) const UTF8_STRING: u8 = 0x0c;
    pub(super) const NUMERIC_STRING: u8 = 0x12;
    pub(super) const PRINTABLE_STRING: u8 = 0x13;
    pub(super) const IA5_STRING: u8 = 0x16;
    pub(super) const BMP_STRING: u8 = 0x1e;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const SET: u8 = 0x31;
}

/// The short names of attributes (RFC 4514, section 3), and that of mail addresses, which it does not list.
const SHORT_NAMES: [(&[u8], &str); 10] = [
    (&[0x55, 0x04, 0x03], "CN"),
    (&[0x55, 0x04, 0x06], "C"),
    (&[0x55, 0x04, 0x07], "L"),
    (&[0x55, 0x04, 0x08], "ST"),
    (&[0x55, 0x04, 0x09], "STREET"),
    (&[0x55, 0x04, 0x0a], "O"),
    (&[0x55, 0x04, 0x0b], "OU"),
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01],
        "emailAddress",
    ),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19],
        "DC",
    ),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01],
        "UID",
    ),
];

/// One element of DER, and what follows it.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    /// With its tag and length.
    whole: &'a [u8],
    rest: &'a [u8],
}

/// The text of a name in DER, without its outer tag and length. `None` if it is not one.
pub(super) fn text_of(name: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let part = element(rest).filter(|it| it.tag == tag::SET)?;
        parts.push(part.content);
        rest = part.rest;
    }
    let mut text = String::new();
    // The most significant one is the last of the text.
    for (index, part) in parts.into_iter().rev().enumerate() {
        if index > 0 {
            text.push(',');
        }
        push_part(&mut text, part)?;
        if text.len() > MAX_LEN {
            cut(&mut text);
            break;
        }
    }
    Some(text)
}

/// Appends the attributes that make one part.
fn push_part(text: &mut String, mut part: &[u8]) -> Option<()> {
    let mut is_first = true;
    while !part.is_empty() {
        let attribute = element(part).filter(|it| it.tag == tag::SEQUENCE)?;
        let kind = element(attribute.content).filter(|it| it.tag == tag::OBJECT_IDENTIFIER)?;
        let value = element(kind.rest)?;
        if !std::mem::take(&mut is_first) {
            text.push('+');
        }
        push_attribute(text, kind.content, &value)?;
        part = attribute.rest;
    }
    Some(())
}

fn push_attribute(text: &mut String, kind: &[u8], value: &Element<'_>) -> Option<()> {
    match SHORT_NAMES.iter().find(|(known, _)| *known == kind) {
        Some((_, name)) => {
            text.push_str(name);
            text.push('=');
            match string_of(value) {
                Some(string) => push_escaped(text, &string),
                None => push_hexadecimal(text, value.whole),
            }
        }
        None => {
            push_identifier(text, kind)?;
            text.push('=');
            push_hexadecimal(text, value.whole);
        }
    }
    Some(())
}

/// The first element, with its length in as many bytes as a certificate may need.
fn element(input: &[u8]) -> Option<Element<'_>> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => {
            let (&[len], rest) = rest.split_first_chunk()?;
            (usize::from(len), rest)
        }
        0x82 => {
            let (&len, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(len)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some(Element {
        tag,
        content,
        whole: &input[..input.len() - rest.len()],
        rest,
    })
}

fn string_of(value: &Element<'_>) -> Option<String> {
    let content = value.content;
    match value.tag {
        tag::UTF8_STRING => str::from_utf8(content).ok().map(str::to_owned),
        tag::NUMERIC_STRING | tag::PRINTABLE_STRING | tag::IA5_STRING => {
            let text = str::from_utf8(content).ok().filter(|it| it.is_ascii())?;
            Some(text.to_owned())
        }
        tag::BMP_STRING => {
            let (units, rest) = content.as_chunks::<2>();
            let units: Vec<_> = units.iter().map(|&it| u16::from_be_bytes(it)).collect();
            let is_whole = rest.is_empty();
            String::from_utf16(&units).ok().filter(|_| is_whole)
        }
        _ => None,
    }
}

/// Appends a value with the escapes of RFC 4514, section 2.4.
fn push_escaped(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (index, c) in value.chars().enumerate() {
        match c {
            '\0' => text.push_str("\\00"),
            ' ' if index == 0 || index == last => text.push_str("\\ "),
            '#' if index == 0 => text.push_str("\\#"),
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', c]),
            c => text.push(c),
        }
        if text.len() > MAX_LEN {
            return;
        }
    }
}

fn push_hexadecimal(text: &mut String, bytes: &[u8]) {
    text.push('#');
    for byte in bytes.iter().take(MAX_LEN) {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02X}");
    }
}

/// Appends an object identifier in numbers with dots.
fn push_identifier(text: &mut String, bytes: &[u8]) -> Option<()> {
    let mut number: u64 = 0;
    let mut is_first = true;
    for byte in bytes {
        number = number.checked_mul(128)? + u64::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            continue;
        }
        if std::mem::take(&mut is_first) {
            // The first byte holds two numbers.
            let root = (number / 40).min(2);
            let _ = write!(text, "{root}.{}", number - 40 * root);
        } else {
            let _ = write!(text, ".{number}");
        }
        if text.len() > 2 * MAX_LEN {
            break;
        }
        number = 0;
    }
    Some(())
}

fn cut(text: &mut String) {
    let longest = MAX_LEN - CUT.len_utf8();
    let end = (0..=longest).rev().find(|&it| text.is_char_boundary(it));
    text.truncate(end.unwrap_or(0));
    text.push(CUT);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let len = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], &len[..], content].concat()
    }

    fn attribute(kind: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        let kind = der(tag::OBJECT_IDENTIFIER, kind);
        der(tag::SEQUENCE, &[kind, der(tag, value)].concat())
    }

    fn name(parts: &[&[Vec<u8>]]) -> Vec<u8> {
        let sets = parts.iter().map(|it| der(tag::SET, &it.concat()));
        sets.collect::<Vec<_>>().concat()
    }

    const CN: &[u8] = &[0x55, 4, 3];
    const O: &[u8] = &[0x55, 4, 10];

    #[test]
    fn names_are_written_as_rfc_4514_shows_them() {
        let utf8 = |kind, value: &str| attribute(kind, tag::UTF8_STRING, value.as_bytes());
        for (parts, expected) in [
            (
                vec![vec![utf8(O, "Acme")], vec![utf8(CN, "a")]],
                "CN=a,O=Acme",
            ),
            (vec![vec![utf8(CN, "a"), utf8(O, "b")]], "CN=a+O=b"),
            (
                vec![vec![utf8(CN, "# a,b+\"\\; ")]],
                "CN=\\# a\\,b\\+\\\"\\\\\\;\\ ",
            ),
            (vec![vec![utf8(CN, "Lučić")]], "CN=Lučić"),
            (
                vec![vec![attribute(CN, tag::BMP_STRING, &[0, b'B', 1, 0x0d])]],
                "CN=Bč",
            ),
            // A kind without a short name, and a value that is no text.
            (
                vec![vec![attribute(&[0x2b, 6, 1, 4, 1, 0x8b, 0x3a], 4, b"Hi")]],
                "1.3.6.1.4.1.1466=#048200024869",
            ),
            (
                vec![vec![attribute(CN, tag::IA5_STRING, b"\xff")]],
                "CN=#16820001FF",
            ),
            (vec![], ""),
        ] {
            let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
            assert_eq!(text_of(&name(&parts)).as_deref(), Some(expected));
        }
        assert_eq!(text_of(b"no name"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_bounded_text_or_none(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            value in prop::collection::vec(any::<u8>(), 0..2000),
            kind in prop::collection::vec(any::<u8>(), 0..900),
            tag in any::<u8>(),
        ) {
            let inside = name(&[&[attribute(CN, tag, &value)], &[attribute(&kind, tag, &value)]]);
            for input in [&bytes, &inside] {
                if let Some(text) = text_of(input) {
                    prop_assert!(text.len() <= MAX_LEN, "{} bytes", text.len());
                }
            }
        }

        #[test]
        fn a_short_text_is_written_whole(value in "[a-zA-Zäöü ]{1,80}") {
            let utf8 = attribute(CN, tag::UTF8_STRING, value.as_bytes());
            let text = text_of(&name(&[&[utf8]])).unwrap();
            prop_assert_eq!(text.replace('\\', ""), format!("CN={value}"));
        }
    }
}
