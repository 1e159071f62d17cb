//! The cost of an echo and of a connection, in counts that do not depend on the machine's speed:
//! system calls and memory. Instructions are counted by `.ci/instructions`, allocations by
//! `tests/allocations.rs`.

use std::collections::HashMap;
use std::ops::Sub;

use crate::support::directory::Directory;
use crate::support::echod::{Echod, Signal};
use crate::support::tools::require;
use crate::support::{Client, strace};

const MESSAGE: [u8; 64] = [7; 64];

/// System calls of the worker's thread.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Calls {
    receive: i64,
    receive_nothing: i64,
    send: i64,
    wait: i64,
    control: i64,
}

impl Calls {
    /// The worker's calls in the trace of all threads by strace(1).
    #[track_caller]
    fn of_worker(trace: &str) -> Self {
        let mut threads: HashMap<&str, Self> = HashMap::new();
        for (thread, call) in trace.lines().filter_map(|line| line.split_once(' ')) {
            let calls = threads.entry(thread).or_default();
            let call = call.trim_start();
            // The second half of an interrupted line has only the call's result.
            let name = call.trim_start_matches("<... ");
            calls.receive_nothing +=
                i64::from(name.starts_with("recvfrom") && call.contains("EAGAIN"));
            calls.receive += i64::from(call.starts_with("recvfrom("));
            // A signal's handler sends a byte, on whichever thread it runs.
            let is_echo = call.contains(", 64, ");
            calls.send += i64::from(call.starts_with("sendto(") && is_echo);
            calls.wait += i64::from(call.starts_with("epoll_wait("));
            calls.control += i64::from(call.starts_with("epoll_ctl("));
        }
        let worker = threads.into_values().max_by_key(|calls| calls.send);
        worker.expect("a thread that sends")
    }

    fn of_each_echo(self) -> i64 {
        self.receive + self.send + self.wait
    }
}

impl Sub for Calls {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            receive: self.receive - other.receive,
            receive_nothing: self.receive_nothing - other.receive_nothing,
            send: self.send - other.send,
            wait: self.wait - other.wait,
            control: self.control - other.control,
        }
    }
}

/// The calls for a number of connections with `rounds` echoes on each. A connection sends its next
/// message after the echo, and the tracer slows only the server: with many connections it never
/// runs out of work.
#[track_caller]
fn calls_for(connections: usize, rounds: usize) -> Calls {
    let directory = Directory::new();
    let trace = directory.join("trace");
    let mut command = strace::recorder(&trace, "recvfrom,sendto,epoll_wait,epoll_ctl,exit_group");
    let args = ["--echo=tcp://127.0.0.1:0", "--workers=1"];
    let echod = Echod::start_command(command.args(args));
    let mut clients: Vec<Client> = (0..connections).map(|_| echod.connect()).collect();
    for client in &mut clients {
        client.send(&MESSAGE);
    }
    for round in 1..=rounds {
        for client in &mut clients {
            assert_eq!(client.receive(MESSAGE.len()), MESSAGE);
            if round < rounds {
                client.send(&MESSAGE);
            }
        }
    }
    echod.signal(Signal::TERM);
    drop(clients);
    assert_eq!(echod.wait_for_exit().code, Some(0));
    Calls::of_worker(&strace::recorded(&trace))
}

/// The calls of `rounds` more rounds: those for starting, connecting and ending cancel out.
#[track_caller]
fn calls_of_rounds(connections: usize, rounds: usize) -> Calls {
    const FIRST: usize = 20;
    calls_for(connections, FIRST + rounds) - calls_for(connections, FIRST)
}

#[test]
fn an_echo_of_a_busy_server_is_one_read_one_write_and_a_share_of_a_wait() {
    require!("strace");
    const CONNECTIONS: usize = 50;
    const ROUNDS: usize = 100;
    const ECHOES: i64 = (CONNECTIONS * ROUNDS) as i64;
    let mut waits = Vec::new();
    // If the machine delays the client, the server may be without work now and then.
    for _ in 0..5 {
        let calls = calls_of_rounds(CONNECTIONS, ROUNDS);
        assert_eq!((calls.receive, calls.send), (ECHOES, ECHOES), "{calls:?}");
        assert_eq!(
            calls.receive_nothing, 0,
            "no call to learn of EAGAIN: {calls:?}"
        );
        assert_eq!(calls.control, 0, "registered once: {calls:?}");
        waits.push(calls.wait);
        if calls.of_each_echo() * 100 <= ECHOES * 205 {
            return;
        }
    }
    panic!("more than 2.05 system calls for an echo: {waits:?} waits for {ECHOES} echoes");
}

#[test]
fn an_echo_of_one_connection_is_three_system_calls() {
    require!("strace");
    const ROUNDS: i64 = 500;
    /// Starting, connecting and ending take a few turns of the loop, more or less.
    const OTHER_TURNS: u64 = 10;
    let calls = calls_of_rounds(1, ROUNDS as usize);
    assert_eq!((calls.receive, calls.send), (ROUNDS, ROUNDS), "{calls:?}");
    assert_eq!(calls.receive_nothing, 0, "{calls:?}");
    assert!(calls.wait.abs_diff(ROUNDS) <= OTHER_TURNS, "{calls:?}");
}

#[test]
fn a_connection_is_registered_once() {
    require!("strace");
    const MORE: usize = 40;
    let calls = calls_for(MORE + 10, 2) - calls_for(10, 2);
    assert_eq!(calls.control, MORE as i64, "{calls:?}");
}

#[test]
fn an_idle_connection_costs_less_than_96_bytes() {
    const CONNECTIONS: u64 = 4000;
    echomark::net::descriptors::raise_descriptor_limit().expect("a limit");
    let echod = Echod::start(&["--echo=tcp://127.0.0.1:0", "--workers=1"]);
    let connect = || {
        let mut client = echod.connect();
        client.echo(&MESSAGE);
        client
    };
    // Memory that exists from the first connections on does not depend on their number.
    let mut clients: Vec<Client> = (0..50).map(|_| connect()).collect();
    let before = echod.private_bytes();
    clients.extend((0..CONNECTIONS).map(|_| connect()));
    let each = echod.private_bytes().saturating_sub(before) / CONNECTIONS;
    assert!(each <= 96, "{each} bytes for each connection");
}
