//! A stored result that can be read is written as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loadgen::RunResult;

fuzz_target!(|bytes: &[u8]| {
    let Ok(result) = serde_json::from_slice::<RunResult>(bytes) else {
        return;
    };
    let written = serde_json::to_vec(&result).expect("a result can be written");
    let read: RunResult = serde_json::from_slice(&written).expect("what was written can be read");
    let again = serde_json::to_vec(&read).expect("a result can be written");
    assert_eq!(written, again);
    let _ = loadgen::report::text::render(&result);
    let _ = loadgen::report::csv::render(&result);
    let _ = loadgen::report::prometheus::render(&result);
});
