//! Runs in a separate network namespace: exhausted ports, a slow link. Skipped if a namespace can't
//! be created.

use std::process::{Command, Output};

use serde_json::Value;

use crate::known::show;
use crate::support::tools::{require, skip};

/// Requirements besides programs.
const NAMESPACE: &str = "a network namespace";

/// Runs the program with an embedded server in a new network namespace that `setup` has prepared.
/// `None` if the namespace can't be created.
fn run_in_namespace(setup: &str, arguments: &[&str]) -> Option<Output> {
    let script = format!("ip link set lo up && {setup} || exit 77; exec \"$0\" run \"$@\"");
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-c", &script])
        .arg(env!("CARGO_BIN_EXE_loadgen"))
        .args(arguments)
        .output();
    match output {
        // unshare(1) exits with 1, and the program prints nothing.
        Ok(output) if !is_refused(&output) => Some(output),
        other => {
            show(&format!("no network namespace: {other:?}"));
            None
        }
    }
}

fn is_refused(output: &Output) -> bool {
    let stderr = String::from_utf8_lossy(&output.stderr);
    output.status.code() == Some(77) || stderr.starts_with("unshare:")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn codes(json: &Value) -> Vec<&str> {
    let reasons = json["verdict"]["reasons"].as_array().unwrap();
    reasons
        .iter()
        .map(|reason| reason["code"].as_str().unwrap())
        .collect()
}

/// Leaves the client only this number of ports. The server has one of them.
const TEN_PORTS: &str = "echo '40000 40009' > /proc/sys/net/ipv4/ip_local_port_range";

/// Leaves the client the target's port alone. Nobody listens there.
const ONE_PORT: &str = "echo '40004 40004' > /proc/sys/net/ipv4/ip_local_port_range";

#[test]
fn a_socket_connected_to_itself_is_no_server() {
    require!("ip", "sh", "unshare");
    for scheme in ["tcp", "udp"] {
        let target = format!("{scheme}://127.0.0.1:40004");
        let arguments = [&target, "-c", "1", "-t", "1", "-d", "200ms", "--json", "-"];
        let Some(output) = run_in_namespace(ONE_PORT, &arguments) else {
            skip!(NAMESPACE);
        };
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("refused"), "{stderr}");
    }
}

const CHURN: [&str; 10] = [
    "--workload",
    "churn",
    "-c",
    "2",
    "-t",
    "1",
    "-n",
    "200",
    "--json",
    "-",
];

#[test]
fn orderly_closes_use_up_the_ports() {
    require!("ip", "sh", "unshare");
    let Some(output) = run_in_namespace(TEN_PORTS, &[&CHURN[..], &["-d", "300ms"]].concat()) else {
        skip!(NAMESPACE);
    };
    let json = json(&output);
    assert_eq!(output.status.code(), Some(97));
    assert!(codes(&json).contains(&"out_of_ports"), "{:?}", codes(&json));
    let count = |pointer: &str| json.pointer(pointer).unwrap().as_u64().unwrap();
    let opened = count("/connections/opened");
    // The server uses one of ten, and the test connection before the start another.
    assert!((5..=10).contains(&opened), "{opened}");
    assert_eq!(count("/messages/received"), opened - 1);
    assert_eq!(
        count("/connections/out_of_ports"),
        count("/connections/failed")
    );
    assert_eq!(count("/messages/lost"), count("/connections/failed"));
}

#[test]
fn resets_leave_no_port_in_time_wait() {
    require!("ip", "sh", "unshare");
    let reset = [&CHURN[..], &["--close", "reset"]].concat();
    let Some(output) = run_in_namespace(TEN_PORTS, &reset) else {
        skip!(NAMESPACE);
    };
    let json = json(&output);
    // All but the test connection before the start, which closes in an orderly way.
    assert_eq!(json["messages"]["verified"], 200);
    assert_eq!(json["connections"]["failed"], 0);
    assert_eq!(json["connections"]["opened"], 201);
}

#[test]
fn more_sources_have_more_ports() {
    require!("ip", "sh", "unshare");
    let sources = [&CHURN[..], &["--source", "127.1.0.0/24"]].concat();
    let Some(output) = run_in_namespace(TEN_PORTS, &sources) else {
        skip!(NAMESPACE);
    };
    let json = json(&output);
    assert_eq!(json["messages"]["verified"], 200);
    assert_eq!(json["connections"]["failed"], 0);
}

#[test]
fn without_any_port_the_error_says_so() {
    require!("ip", "sh", "unshare");
    // The server has the only port.
    let one_port = "echo '40000 40000' > /proc/sys/net/ipv4/ip_local_port_range";
    let Some(output) = run_in_namespace(one_port, &["-c", "1", "-d", "100ms"]) else {
        skip!(NAMESPACE);
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for part in ["tcp://127.0.0.1:40000", "port", "--source"] {
        assert!(stderr.contains(part), "{part:?} is not in {stderr}");
    }
}

#[test]
fn a_slow_link_that_drops_is_what_limits_a_stream() {
    require!("ip", "sh", "tc", "unshare");
    // 100 Mbit/s with room for little more than a packet of the loopback device.
    let slow = "tc qdisc add dev lo root tbf rate 100mbit burst 70k limit 200k";
    let arguments = [
        "--workload",
        "stream",
        "--direction",
        "up",
        "-c",
        "2",
        "-d",
        "1s",
        "-w",
        "500ms",
        "--congestion",
        "cubic",
        "--json",
        "-",
    ];
    let Some(output) = run_in_namespace(slow, &arguments) else {
        skip!(NAMESPACE);
    };
    let json = json(&output);
    let tcp = &json["tcp"];
    assert!(tcp["retransmits"].as_u64().unwrap() > 0, "{tcp}");
    assert_eq!(tcp["limit"]["code"], "network", "{tcp}");
    let bits = json["throughput"]["received_bits_per_s"].as_f64().unwrap();
    show(&format!("over 100 Mbit/s: {bits} bit/s"));
    // What was acknowledged before the window and seen in it counts in it, on a busy machine.
    assert!(bits < 115e6, "{bits}");
}
