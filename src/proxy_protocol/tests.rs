use proptest::prelude::*;

use super::*;

/// A header of version 2.
fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    header.extend(body);
    header
}

fn value(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut value = vec![kind];
    value.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
    value.extend(bytes);
    value
}

const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 0, 7];

fn addresses(client: &str, server: &str) -> Option<Addresses> {
    Some(Addresses {
        client: client.parse().unwrap(),
        server: server.parse().unwrap(),
    })
}

#[track_caller]
fn header(input: &[u8]) -> Header<'_> {
    match parse(input) {
        Ok(Begin::Header(header)) => header,
        other => panic!("{other:?} of {}", input.escape_ascii()),
    }
}

/// The examples of section 2.1.
#[test]
fn lines_are_read() {
    for (line, expected) in [
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            addresses("255.255.255.255:65535", "255.255.255.255:65535"),
        ),
        (
            "PROXY TCP6 ffff:f:ffff:ffff:ffff:ffff:ffff:ffff ::1 65535 0\r\n",
            addresses("[ffff:f:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[::1]:0"),
        ),
        (
            "PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n",
            addresses("[::ffff:192.0.2.1]:1", "[::1]:2"),
        ),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff:f:ffff:ffff 1 what ever\r\n", None),
    ] {
        let input = format!("{line}behind it");
        let header = header(input.as_bytes());
        assert_eq!(header.version, ProxyVersion::V1);
        assert_eq!(header.bytes, line.as_bytes());
        assert_eq!(header.addresses, expected, "{line}");
    }
}

#[test]
fn bad_lines_are_refused() {
    for line in [
        "PROXY \r\n",
        "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        "PROXY TCP4 1.2.3.4 ::1 1 2\r\n",
        "PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n\r\n",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY UNKNOWNX\r\n",
    ] {
        assert_eq!(parse(line.as_bytes()), Err(ProxyError::Malformed), "{line}");
    }
    let endless = [LINE_START, &[b'x'; 200]].concat();
    assert_eq!(parse(&endless[..106]), Ok(Begin::Incomplete));
    assert_eq!(parse(&endless[..107]), Err(ProxyError::TooLong));
}

#[test]
fn binary_headers_are_read() {
    let bytes = binary(0x21, 0x11, &V4);
    let expected = addresses("192.0.2.1:4660", "198.51.100.2:7");
    assert_eq!(header(&bytes).addresses, expected);
    assert_eq!(header(&bytes).bytes.len(), 28);

    let mut v6 = [0; 36];
    v6[15] = 1;
    v6[31] = 2;
    v6[33] = 5;
    v6[35] = 6;
    let bytes = binary(0x21, 0x21, &v6);
    assert_eq!(header(&bytes).addresses, addresses("[::1]:5", "[::2]:6"));

    let values = [
        value(0xe0, b"unknown"),
        value(2, b"example.org"),
        value(5, b"\0\xff"),
        value(4, b""),
    ];
    let bytes = binary(0x21, 0x11, &[&V4[..], &values.concat()].concat());
    let found = header(&bytes);
    assert_eq!(found.authority, Some("example.org"));
    assert_eq!(found.unique_id, Some(&b"\0\xff"[..]));
    assert_eq!(found.bytes, bytes);

    for (command, family, body) in [
        (0x21, 0x00, &b""[..]),
        (0x21, 0x31, &[b'/'; 216]),
        (0x20, 0x00, b""),
        // Whatever is in it, a local connection is the proxy's own.
        (0x20, 0x11, &V4),
        (0x20, 0xff, b"not a value"),
    ] {
        let bytes = binary(command, family, body);
        assert_eq!(header(&bytes).addresses, None);
        assert_eq!(header(&bytes).bytes, bytes);
    }
}

#[test]
fn bad_binary_headers_are_refused() {
    use ProxyError::{Checksum, Malformed, TooLong, Unsupported};
    let values = |values: &[u8]| binary(0x21, 0x11, &[&V4, values].concat());
    for (bytes, error) in [
        (binary(0x11, 0x11, &V4), Unsupported),
        (binary(0x22, 0x11, &V4), Unsupported),
        (binary(0x21, 0x41, &V4), Unsupported),
        (binary(0x21, 0x13, &V4), Unsupported),
        (binary(0x21, 0x11, &V4[..11]), Malformed),
        (binary(0x21, 0x21, &V4), Malformed),
        (binary(0x21, 0x11, &[0; 521]), TooLong),
        (values(&[1]), Malformed),
        (values(&[1, 0]), Malformed),
        (values(&[1, 0, 1]), Malformed),
        (values(&value(2, b"\xff")), Malformed),
        (values(&value(3, b"\0\0\0")), Malformed),
        (values(&value(3, b"\0\0\0\0")), Checksum),
        (values(&value(5, &[0; 129])), Malformed),
    ] {
        assert_eq!(parse(&bytes), Err(error), "{}", bytes.escape_ascii());
    }
    // A header that is too long is refused once its length has arrived.
    assert_eq!(parse(&binary(0x21, 0x11, &[0; 521])[..16]), Err(TooLong));
}

/// RFC 3720 appendix B.4.
#[test]
fn the_checksum_is_castagnoli_s() {
    assert_eq!(crc32c_without(&[0; 32], 0..0), 0x8a91_36aa);
    assert_eq!(crc32c_without(&[0xff; 32], 0..0), 0x62a8_ab43);
    assert_eq!(crc32c_without(&[0xff; 32], 0..32), 0x8a91_36aa);
}

#[test]
fn other_input_is_no_header() {
    for input in [
        "x",
        "PROXX",
        "\r\nx",
        "GET / HTTP/1.1\r\n",
        "proxy TCP4",
        "PROXYTCP4",
    ] {
        assert_eq!(parse(input.as_bytes()), Ok(Begin::Other), "{input}");
    }
    for input in [
        "",
        "P",
        "PROXY ",
        "PROXY TCP4 1.2",
        "\r",
        "\r\n\r\n\0\r\nQUIT\n!",
    ] {
        assert_eq!(parse(input.as_bytes()), Ok(Begin::Incomplete), "{input}");
    }
}

fn headers() -> impl Strategy<Value = Vec<u8>> {
    let socket = |v6: bool| {
        (any::<[u8; 16]>(), any::<u16>()).prop_map(move |(bytes, port)| {
            let ip = if v6 {
                IpAddr::from(bytes)
            } else {
                IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])
            };
            SocketAddr::new(ip, port)
        })
    };
    let line = any::<bool>().prop_flat_map(move |v6| {
        let word = if v6 { "TCP6" } else { "TCP4" };
        (socket(v6), socket(v6)).prop_map(move |(a, b)| {
            let (a_ip, b_ip) = (a.ip(), b.ip());
            format!("PROXY {word} {a_ip} {b_ip} {} {}\r\n", a.port(), b.port()).into_bytes()
        })
    });
    let values = prop::collection::vec(
        (6..=255_u8, prop::collection::vec(any::<u8>(), 0..20)),
        0..5,
    );
    let binary = (any::<[u8; 36]>(), any::<bool>(), values, any::<bool>()).prop_map(
        |(body, v6, values, is_summed)| {
            let (family, len) = if v6 { (0x21, 36) } else { (0x11, 12) };
            let mut body = body[..len].to_vec();
            for (kind, bytes) in values {
                body.extend(value(kind, &bytes));
            }
            if is_summed {
                body.extend(value(3, &[0; 4]));
            }
            let mut header = binary(0x21, family, &body);
            if is_summed {
                let at = header.len() - 4..header.len();
                let sum = crc32c_without(&header, at.clone());
                header[at].copy_from_slice(&sum.to_be_bytes());
            }
            header
        },
    );
    prop_oneof![line, binary]
}

proptest! {
    #[test]
    fn a_header_is_read_however_much_has_arrived(header in headers(), behind in prop::collection::vec(any::<u8>(), 0..50)) {
        let all = [&header[..], &behind].concat();
        for len in 0..header.len() {
            prop_assert_eq!(parse(&all[..len]), Ok(Begin::Incomplete));
        }
        for len in header.len()..=all.len() {
            let Ok(Begin::Header(found)) = parse(&all[..len]) else {
                return Err(TestCaseError::fail("no header"));
            };
            prop_assert_eq!(found.bytes, &header[..]);
            prop_assert!(found.addresses.is_some());
        }
    }

    /// What is refused or decided stays so when more arrives.
    #[test]
    fn no_input_is_decided_twice(
        start in prop_oneof![Just(SIGNATURE), Just(LINE_START), Just(&b""[..])],
        rest in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let all = [start, &rest].concat();
        let mut decided = None;
        for len in 0..=all.len() {
            let begin = parse(&all[..len]);
            if let Some(earlier) = &decided {
                prop_assert_eq!(&begin, earlier);
            } else if begin != Ok(Begin::Incomplete) {
                decided = Some(begin);
            } else {
                prop_assert!(len < MAX_HEADER_LEN);
            }
        }
    }

    /// A changed bit in a header with a checksum shows, unless it makes it something else.
    #[test]
    fn a_changed_bit_of_a_summed_header_is_found(at in 16..35_usize, bit in 0..8) {
        let mut body = V4.to_vec();
        body.extend(value(3, &[0; 4]));
        let mut header = binary(0x21, 0x11, &body);
        let sum_at = header.len() - 4..header.len();
        let sum = crc32c_without(&header, sum_at.clone());
        header[sum_at].copy_from_slice(&sum.to_be_bytes());
        prop_assert!(parse(&header).is_ok());
        header[at] ^= 1_u8 << bit;
        let is_summed_still = at != 28 && at != 29 && at != 30;
        if is_summed_still {
            prop_assert_eq!(parse(&header), Err(ProxyError::Checksum));
        }
    }
}
