//! Campaigns: long tests with random faults, each of which prints figures. They are not part of the
//! usual tests; docs/reliability.md says how to run them and what they have found.

use std::io::Write;

mod hand_over;
mod soak;
#[path = "../behavior/support/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "campaigns use some of the helpers"
)]
mod support;
mod system_calls;

/// A number from the environment.
pub(crate) fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable} is not a number: {text}")),
        Err(_) => default,
    }
}

/// Prints a line at once, which the test harness would keep back.
pub(crate) fn say(line: &str) {
    // A closed stderr loses the figures, not the campaign.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}
