//! A stored search that can be read is written as it was read, and every report of it is the same before and after.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loadgen::report::{csv, html, markdown, text};
use loadgen::result::SearchResult;

fuzz_target!(|bytes: &[u8]| {
    let Ok(stored) = serde_json::from_slice::<SearchResult>(bytes) else {
        return;
    };
    let written = serde_json::to_vec(&stored).expect("a search can be written");
    let read: SearchResult =
        serde_json::from_slice(&written).expect("what was written can be read");
    let again = serde_json::to_vec(&read).expect("a search can be written");
    assert_eq!(written, again);
    for render in [csv::render, html::render, markdown::render, text::render] {
        assert_eq!(render(&stored), render(&read));
    }
});
