//! Campaigns of the load generator: long tests with faults at random, each of which prints figures. They are not
//! part of the usual tests; docs/reliability.md says how to run them and what they have found.

use std::io::Write;
use std::path::PathBuf;

mod network;
mod outages;
mod replacements;
mod support;
mod tail;

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

/// The echod that was built beside this loadgen.
pub(crate) fn echod() -> PathBuf {
    let echod = PathBuf::from(env!("CARGO_BIN_EXE_loadgen")).with_file_name("echod");
    assert!(echod.exists(), "build echod first: cargo build -p echomark");
    echod
}

/// Random numbers from a seed (Steele, Lea and Flood's SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1, without 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
