//! Induced faults of the client and its host: none passes as a valid result. That clean runs pass
//! can't be tested where others use the machine; docs/calibration.md has those runs.

use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::program::kill;
use crate::support::tools::{require, skip};
use crate::support::{PlainServer, wait_until};

/// Long enough for a percent of any window here.
const FREEZE: Duration = Duration::from_millis(300);

fn loadgen() -> &'static str {
    env!("CARGO_BIN_EXE_loadgen")
}

/// The status and the codes of the verdict printed as JSON.
#[track_caller]
fn verdict(output: &Output) -> (String, Vec<String>) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let json: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("no result: {error}; {stderr}"));
    let verdict = &json["verdict"];
    let codes = verdict["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .map(|reason| reason["code"].as_str().unwrap().to_owned())
        .collect();
    (verdict["status"].as_str().unwrap().to_owned(), codes)
}

#[track_caller]
fn assert_caught(output: &Output, expected: &[&str]) {
    let (status, codes) = verdict(output);
    assert_ne!(status, "valid");
    assert!(
        codes.iter().any(|code| expected.contains(&code.as_str())),
        "{codes:?} has none of {expected:?}"
    );
}

/// What disturbances touched is not vouched for: of the messages beyond the vouched percentile, they
/// are at most half.
#[track_caller]
fn assert_not_vouched(output: &Output, touched: impl Fn(f64) -> f64) {
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = json["latency_ns"]["response"]["count"].as_f64().unwrap();
    let vouched = &json["verdict"]["vouched_percentile"];
    if let Some(percentile) = vouched.as_f64() {
        let beyond = count * (1.0 - percentile / 100.0);
        let touched = touched(count);
        assert!(
            beyond + 1e-6 >= 2.0 * touched,
            "p{percentile} of {count} messages, of which {touched} were touched"
        );
    }
}

/// Processes that occupy a CPU completely until they are dropped.
struct Hogs(Vec<Child>);

impl Hogs {
    fn on(cpu: &str, count: usize) -> Self {
        let hog = || {
            Command::new("taskset")
                .args(["-c", cpu, "sh", "-c", "while :; do :; done"])
                .spawn()
                .unwrap()
        };
        Self((0..count).map(|_| hog()).collect())
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}

/// The first CPU that this process may use.
fn first_cpu() -> String {
    let cpus = echomark::net::affinity::allowed_cpus().unwrap();
    cpus[0].to_string()
}

#[test]
fn a_processor_that_others_use_is_noticed() {
    require!("sh", "taskset");
    let cpu = first_cpu();
    let _hogs = Hogs::on(&cpu, 2);
    for load in [&["-R", "2k"][..], &["-c", "4"]] {
        let output = Command::new("taskset")
            .args(["-c", &cpu, loadgen(), "run", "-d", "1s", "-w", "200ms"])
            .args(load)
            .args(["--json", "-"])
            .output()
            .unwrap();
        assert_caught(&output, &["send_lag", "preempted", "hiccups"]);
        // With a third of the CPU, far more than a tenth of them.
        assert_not_vouched(&output, |count| count / 10.0);
    }
}

/// The result of a client that is stopped for some time in a window of two seconds.
fn frozen(target: &PlainServer, load: &[&str], length: Duration) -> Output {
    let before = target.bytes();
    let child = Command::new(loadgen())
        .args(["run", &target.endpoint().to_string(), "-d", "2s", "-w", "0"])
        .args(load)
        .args(["--json", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("messages flow", || target.bytes() > before + 64_000);
    kill(&child, Signal::STOP);
    let stopped_at = Instant::now();
    while let Some(left) = length.checked_sub(stopped_at.elapsed()) {
        thread::park_timeout(left);
    }
    kill(&child, Signal::CONT);
    child.wait_with_output().unwrap()
}

#[test]
fn a_client_that_is_frozen_notices_it() {
    let target = PlainServer::echo();
    for (load, expected) in [
        (&["-R", "2k"][..], &["send_lag"][..]),
        (&["-c", "4"], &["standstill"]),
    ] {
        let output = frozen(&target, load, FREEZE);
        assert_caught(&output, expected);
        // An open loop goes on meanwhile. A closed loop stops, and only what is in flight waits.
        let is_open = load[0] == "-R";
        assert_not_vouched(&output, |count| if is_open { count * 0.14 } else { 4.0 });
    }
}

#[test]
fn a_short_freeze_spoils_what_it_touched_and_no_more() {
    const SHORT: Duration = Duration::from_millis(25);
    let target = PlainServer::echo();
    let closed = frozen(&target, &["-c", "4"], SHORT);
    assert_not_vouched(&closed, |_| 4.0);
    let open = frozen(&target, &["-R", "2k"], SHORT);
    assert_not_vouched(&open, |count| count * 0.012);
}

/// A network namespace for this test, until it is dropped.
struct Namespace(String);

impl Namespace {
    /// `None` if it can't be created.
    fn new(name: &str) -> Option<Self> {
        let namespace = Self(format!("loadgen-{name}-{}", std::process::id()));
        let is_made = ip(&["netns", "add", &namespace.0])
            && namespace.run(&["ip", "link", "set", "lo", "up"]);
        is_made.then_some(namespace)
    }

    fn run(&self, command: &[&str]) -> bool {
        ip(&[&["netns", "exec", &self.0], command].concat())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&["netns", "del", &self.0]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip")
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}

#[test]
fn a_network_that_does_not_carry_the_load_is_noticed() {
    require!("ip", "tc");
    let Some(namespace) = Namespace::new("starved") else {
        skip!("a network namespace");
    };
    let limit = ["rate", "2mbit", "burst", "10kb", "latency", "50ms"];
    let qdisc = ["tc", "qdisc", "add", "dev", "lo", "root", "tbf"];
    if !namespace.run(&[&qdisc[..], &limit].concat()) {
        skip!("a kernel with the queueing discipline tbf");
    }
    // Eight times the capacity of the network.
    let output = Command::new("ip")
        .args(["netns", "exec", &namespace.0, loadgen(), "run"])
        .args(["-R", "2k", "-s", "1000B", "-d", "1s", "-w", "0"])
        .args(["--timeout", "1s", "--json", "-"])
        .output()
        .unwrap();
    assert_caught(&output, &["rate_not_achieved"]);
    assert_eq!(output.status.code(), Some(97));
}
