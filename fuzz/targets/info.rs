//! Whatever an admin port answers to the questions of a run, what comes of it is a result that is written
//! as it was read, and counts nothing that the server did not. A byte of zero ends each answer; the last
//! one stands for those that are missing.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use loadgen::RunResult;
use loadgen::admin::{AdminUrl, Info, read};
use loadgen::result::ServerResult;

static CLIENT: LazyLock<RunResult> = LazyLock::new(|| {
    let stored = include_bytes!("../seeds/result/closed");
    serde_json::from_slice(stored).expect("the seed is a result")
});
static ADMIN: LazyLock<AdminUrl> =
    LazyLock::new(|| "http://127.0.0.1:1".parse().expect("is a URL"));

fuzz_target!(|bytes: &[u8]| {
    let answers: Result<Vec<Info>, _> = bytes.split(|&byte| byte == 0).map(read).collect();
    let Ok(answers) = answers else { return };
    let Some(last) = answers.last() else { return };
    let moments: [&Info; 4] = std::array::from_fn(|index| answers.get(index).unwrap_or(last));
    let server = loadgen::internal::beside(&CLIENT, &ADMIN, moments);
    let written = serde_json::to_vec(&server).expect("a result can be written");
    let read: ServerResult =
        serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(read, server);
    let counted = &moments[2].counters;
    let window = server.window.expect("there was one");
    assert!(window.received_bytes <= counted.received_bytes_total);
    assert!(window.sent_bytes <= counted.sent_bytes_total);
    assert!(window.cpu_s >= 0.0 && window.messages >= 0.0);
});
