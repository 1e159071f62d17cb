//! The cost of a connection in counts that do not depend on the machine's speed.

use std::collections::HashMap;
use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use crate::support::Directory;
use crate::support::tools::require;

/// Socket, connect, watch, send, receive, half-close, receive the end, close. The port of the server is
/// none that the kernel would choose for a client, as those of services are: then no connection can be
/// one of a socket with itself, and nobody has to look.
#[test]
fn a_connection_of_churn_costs_eight_system_calls() {
    require!("strace");
    const CONNECTIONS: u64 = 200;
    const CALLS: [&str; 12] = [
        "socket",
        "connect",
        "epoll_ctl",
        "sendto",
        "recvfrom",
        "shutdown",
        "close",
        "setsockopt",
        "getsockopt",
        "getpeername",
        "getsockname",
        "bind",
    ];
    let (listener, port) = (20_000..30_000)
        .find_map(|port| Some((TcpListener::bind(("127.0.0.1", port)).ok()?, port)))
        .expect("a free port below those of clients");
    // It serves until the end of the process.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            thread::spawn(move || {
                let mut copy = stream.try_clone().expect("a descriptor");
                std::io::copy(&mut stream, &mut copy)
            });
        }
    });
    let directory = Directory::new("costs");
    let calls_of = |connections: u64| {
        let trace = directory.path(&format!("{connections}.txt"));
        let output = Command::new("strace")
            .args(["--quiet=all", "--signal=none", "-f", "--seccomp-bpf"])
            .arg(format!("--trace={}", CALLS.join(",")))
            .arg(format!("--output={}", trace.display()))
            .arg(env!("CARGO_BIN_EXE_loadgen"))
            .args([
                "run",
                &format!("tcp://127.0.0.1:{port}"),
                "--workload=churn",
                "-w0",
            ])
            .args(["--threads=1", "-c4", &format!("-n{connections}")])
            .output()
            .expect("strace starts");
        // The verdict may be anything on a traced client.
        assert!(
            [Some(0), Some(97)].contains(&output.status.code()),
            "{output:?}"
        );
        let trace = fs::read_to_string(trace).expect("the trace");
        let mut calls: HashMap<&str, u64> = HashMap::new();
        for line in trace.lines() {
            // A line that was interrupted goes on in another, which has only the result.
            if let Some((call, _)) = line.split_once('(')
                && let Some(call) = CALLS.iter().find(|name| call.ends_with(*name))
            {
                *calls.entry(call).or_default() += 1;
            }
        }
        calls
    };
    let [few, many] = [CONNECTIONS, 2 * CONNECTIONS].map(calls_of);
    let of = |calls: &HashMap<&str, u64>, call| calls.get(call).copied().unwrap_or(0);
    let each: HashMap<_, _> = CALLS
        .into_iter()
        .map(|call| (call, of(&many, call).saturating_sub(of(&few, call))))
        .filter(|(_, more)| *more > 0)
        .map(|(call, more)| (call, more as f64 / CONNECTIONS as f64))
        .collect();
    let total: f64 = each.values().sum();
    // An event may find nothing to read.
    assert!((8.0..8.2).contains(&total), "{total}: {each:?}");
}
