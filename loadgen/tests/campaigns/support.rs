//! What campaigns share, with the tests and with each other.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::echod;
use crate::network::Process;

#[path = "../../../tests/behavior/support/tools.rs"]
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "campaigns use some of the helpers"
)]
pub(crate) mod tools;

/// An endpoint of this host that nothing listens on.
pub(crate) fn free_endpoint() -> String {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("tcp://{}", free.local_addr().unwrap())
}

/// An echod on this endpoint, ready.
pub(crate) fn start(endpoint: &str, options: &[&str]) -> Process {
    let mut child = Command::new(echod())
        .args(["--echo", endpoint, "--workers", "1"])
        .args(options)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let is_ready = lines.any(|line| line.is_ok_and(|line| line == "ready"));
    assert!(is_ready, "echod ended");
    Process(child)
}
