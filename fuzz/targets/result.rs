//! A stored result that can be read is written as it was read, and every report of it is the same before and
//! after.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loadgen::RunResult;
use loadgen::report::{csv, html, markdown, prometheus, text};

fuzz_target!(|bytes: &[u8]| {
    let Ok(result) = serde_json::from_slice::<RunResult>(bytes) else {
        return;
    };
    let written = serde_json::to_vec(&result).expect("a result can be written");
    let read: RunResult = serde_json::from_slice(&written).expect("what was written can be read");
    let again = serde_json::to_vec(&read).expect("a result can be written");
    assert_eq!(written, again);
    for render in [csv::render, html::render, markdown::render, text::render] {
        assert_eq!(render(&result), render(&read));
    }
    assert_eq!(prometheus::render(&result), prometheus::render(&read));
});
