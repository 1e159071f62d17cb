//! Every peer echoes every byte, in small messages and in ones that no socket takes at once; the
//! driver says so, and says who could not take part.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The peers that are built with this package.
const OWN: [&str; 10] = [
    "epoll-lt",
    "epoll-et",
    "mio",
    "tokio",
    "tokio-multi",
    "monoio",
    "monoio-uring",
    "smol",
    "compio",
    "compio-uring",
];

fn driver(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peers"));
    command.args(arguments).output().unwrap()
}

/// Measures in short turns and returns the only cell, whatever the exit code.
#[track_caller]
fn cell(name: &str, arguments: &[&str]) -> Value {
    let json = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.json"));
    let path = json.to_str().unwrap();
    let short = [
        "--prebuilt",
        "-r",
        "1",
        "-d",
        "0.1",
        "--warm-up",
        "0",
        "--json",
        path,
    ];
    let output = driver(&[&["compare"], arguments, &short].concat());
    let text = std::fs::read_to_string(&json);
    let text = text.unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let result: Value = serde_json::from_str(&text).unwrap();
    result["tables"][0].clone()
}

/// Every peer that could take part did, without a failure.
#[track_caller]
fn assert_all_served(cell: &Value, peers: &[&str]) {
    assert_eq!(cell["failures"], Value::Array(vec![]), "{cell:#}");
    let absent: Vec<&str> = cell["absent"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    // Only the kernel may keep a peer away, by having no io_uring.
    assert!(
        absent.iter().all(|peer| peer.ends_with("-uring")),
        "{cell:#}"
    );
    let rows = cell["rows"].as_array().unwrap();
    let measured: Vec<&str> = rows
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    let expected: Vec<&str> = peers
        .iter()
        .copied()
        .filter(|p| !absent.contains(p))
        .collect();
    assert_eq!(measured, expected);
    for row in rows {
        let values = &row["samples"][0]["values"];
        for metric in ["server_cpu", "rate", "resident", "server_busy"] {
            assert!(values[metric].as_f64().unwrap() > 0.0, "{metric}: {row:#}");
        }
    }
}

#[test]
fn every_peer_echoes_small_messages() {
    let cell = cell("small", &[&OWN[..], &["-c", "20", "-s", "64"]].concat());
    assert_all_served(&cell, &OWN);
}

#[test]
fn every_peer_echoes_under_back_pressure() {
    let cell = cell(
        "large",
        &[&OWN[..], &["-c", "8", "-s", "1MiB", "-p", "4"]].concat(),
    );
    assert_all_served(&cell, &OWN);
}

#[test]
fn every_peer_serves_connection_after_connection() {
    let cell = cell("churn", &[&OWN[..], &["-w", "churn", "-c", "10"]].concat());
    assert_all_served(&cell, &OWN);
}

#[test]
fn the_bare_loop_serves_every_workload() {
    for workload in ["discard", "udp", "udp-bulk", "stream"] {
        assert_all_served(
            &cell(workload, &["epoll-lt", "-w", workload]),
            &["epoll-lt"],
        );
    }
}

#[test]
fn every_peer_with_tls_serves_every_workload_of_it() {
    let own = ["rustls-mio", "tokio-rustls"];
    for workload in ["tls-echo", "tls-stream", "tls-full", "tls-resumed"] {
        let arguments = [&own[..], &["-w", workload, "-c", "5"]].concat();
        assert_all_served(&cell(workload, &arguments), &own);
    }
    let cell = cell("tls-absent", &["epoll-lt", "tokio", "-w", "tls-echo"]);
    assert_eq!(cell["absent"].as_object().unwrap().len(), 2, "{cell:#}");
}

#[test]
fn idle_connections_are_weighed() {
    let cell = cell("idle", &["epoll-lt", "tokio", "-w", "idle", "-c", "300"]);
    let of = |row: usize| {
        let values = &cell["rows"][row]["samples"][0]["values"];
        values["anonymous_memory"].as_f64().unwrap()
    };
    // tokio has a task and a buffer for each, of which an echo touches a page at least.
    assert!(of(0) < 1000.0 && of(1) > 1000.0, "{cell:#}");
}

#[test]
fn a_command_of_the_users_takes_part() {
    let server: PathBuf = env!("CARGO_BIN_EXE_peer-smol").into();
    let mine = format!("mine={}", server.display());
    let missing = "missing=/none/such {port}";
    let cell = cell("given", &["epoll-lt", "--peer", &mine, "--peer", missing]);
    let failures = cell["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 1, "{cell:#}");
    assert!(
        failures[0].as_str().unwrap().contains("/none/such"),
        "{cell:#}"
    );
    assert!(
        cell["rows"][1]["server_cpu"]["ratio"]["median"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    assert_eq!(cell["rows"][2]["samples"], serde_json::json!([null]));
}

#[test]
fn mistakes_are_named() {
    let says = |arguments: &[&str], what: &str| {
        let output = driver(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && stderr.contains(what),
            "{stderr}"
        );
    };
    says(&["compare", "nginx"], "tokio-multi");
    says(&["compare", "mio", "mio", "--prebuilt"], "same name");
    says(&["compare", "mio", "-w", "nothing"], "udp-bulk");
}
