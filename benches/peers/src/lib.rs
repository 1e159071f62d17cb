#![doc = include_str!("../README.md")]

use std::env;
use std::io::{self, Write as _};
use std::process;

pub mod bare;
pub mod tls;

/// Every server reads into buffers of this size.
pub const BUFFER_LEN: usize = 64 * 1024;

/// The most events that one wait returns.
pub const MAX_EVENTS: usize = 1024;

/// Connections that the kernel completes before they are accepted; it lowers this to its own limit.
pub const BACKLOG: i32 = 4096;

/// Prints the line that the driver waits for: the server listens at this port of 127.0.0.1.
pub fn announce(scheme: &str, port: u16) {
    let mut stdout = io::stdout().lock();
    // Without a reader there is no reason to fail: the server ends with the driver.
    let _ = writeln!(stdout, "listening {scheme}://127.0.0.1:{port}").and_then(|()| stdout.flush());
}

/// The variant of the server that the command line names; exits with 2 if it is none of these.
pub fn variant(variants: &[&'static str]) -> &'static str {
    let given = env::args().nth(1).unwrap_or_default();
    let known = variants.iter().find(|variant| **variant == given);
    known.copied().unwrap_or_else(|| {
        eprintln!("error: expected one of {}", variants.join(", "));
        process::exit(2)
    })
}

/// Raises the soft limit of descriptors to the hard one.
///
/// # Errors
/// That of setrlimit(2).
pub fn raise_descriptor_limit() -> io::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}
