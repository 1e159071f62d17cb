//! The begin of a connection as a PROXY header: decided once, within the bound, whatever arrives.

#![no_main]

use echomark::internal::{Begin, MAX_PROXY_HEADER_LEN, parse_proxy_header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut decided = None;
    for len in 0..=input.len().min(2 * MAX_PROXY_HEADER_LEN) {
        let begin = parse_proxy_header(&input[..len]);
        if let Ok(Begin::Header(header)) = &begin {
            assert!(header.bytes.len() <= len.min(MAX_PROXY_HEADER_LEN));
        }
        match (&decided, begin) {
            (Some(earlier), begin) => assert_eq!(*earlier, begin),
            (None, Ok(Begin::Incomplete)) => assert!(len < MAX_PROXY_HEADER_LEN),
            (None, begin) => decided = Some(begin),
        }
    }
});
