//! Targets that do not serve: no echo servers, and servers that leave connections out or end in the
//! run. The verdict names the cause first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use loadgen::RunResult;
use loadgen::plan::Plan;
use loadgen::result::{Code, Status};

use crate::support::{PlainServer, codes, constant, number, plan, run, server, wait_until};

/// The text of the first reason, which has this code.
#[track_caller]
fn first_reason<'a>(result: &'a RunResult, code: &Code) -> &'a str {
    let reason = &result.verdict.reasons[0];
    assert_eq!(reason.code, *code, "{:?}", result.verdict.reasons);
    assert_eq!(result.verdict.status, Status::Invalid);
    &reason.text
}

/// Runs a plan of an hour against a target that is no echo server, and returns the reason. Nothing
/// waits for that hour.
#[track_caller]
fn no_echo(target: &PlainServer, plan_of: impl Fn(Plan) -> Plan) -> String {
    let hour = Duration::from_secs(3600);
    let began = Instant::now();
    let result = run(&plan_of(Plan {
        duration: Some(hour),
        warmup: hour,
        timeout: Duration::from_secs(5),
        repeat: number(3),
        ..plan(server(target))
    }));
    assert!(began.elapsed() < hour / 60);
    assert!(!result.interrupted);
    first_reason(&result, &Code::NoEcho).to_owned()
}

#[test]
fn a_discard_server_is_no_echo_server() {
    let target = PlainServer::start(|_, _| true);
    let text = no_echo(&target, |plan| plan);
    // Four connections, a message of 64 bytes each, in the warm-up.
    assert!(text.starts_with("256 bytes were sent"), "{text}");
    assert!(text.contains("--direction up"), "{text}");
    let open = no_echo(&target, |plan| Plan {
        load: constant(1000.0),
        ..plan
    });
    assert!(open.contains("nothing came back"), "{open}");
}

#[test]
fn an_http_server_is_no_echo_server_and_shown_by_its_first_bytes() {
    const ANSWER: &[u8] =
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    // Longer than the message, and shorter than it.
    for answer in [ANSWER, &ANSWER[..26]] {
        let target = PlainServer::start(move |peer, _| {
            peer.send(answer);
            false
        });
        for threads in [1, 2] {
            let text = no_echo(&target, |plan| Plan {
                threads: number(threads),
                ..plan
            });
            assert!(text.contains(r"HTTP/1.1 400 Bad Request\r\n"), "{text}");
        }
    }
}

#[test]
fn a_slow_server_is_an_echo_server() {
    let target = PlainServer::start(|peer, bytes| {
        std::thread::park_timeout(Duration::from_millis(700));
        peer.send(bytes)
    });
    let result = run(&plan(server(&target)));
    assert!(!codes(&result).contains(&&Code::NoEcho));
    assert!(!codes(&result).contains(&&Code::NotServed));
}

#[test]
fn connections_that_the_server_leaves_out_are_counted_first() {
    let target = PlainServer::at_most(4);
    for load in [plan(server(&target)).load, constant(1000.0)] {
        let result = run(&Plan {
            connections: number(10),
            load,
            ..plan(server(&target))
        });
        let text = first_reason(&result, &Code::NotServed);
        assert!(text.starts_with("6 of 10 connections"), "{text}");
        // Closed with the message unread, it is reset.
        let is_told = text.contains("closed by the server") || text.contains("reset");
        assert!(is_told, "{text}");
    }
}

#[test]
fn connections_that_are_never_answered_are_counted_first() {
    let begun = AtomicU64::new(0);
    let target = PlainServer::start(move |peer, bytes| {
        let is_answered = peer.received > 0 || begun.fetch_add(1, Ordering::Relaxed) < 5;
        !is_answered || peer.send(bytes)
    });
    let result = run(&Plan {
        connections: number(8),
        timeout: Duration::from_millis(200),
        ..plan(server(&target))
    });
    let text = first_reason(&result, &Code::NotServed);
    assert!(text.starts_with("3 of 8 connections"), "{text}");
    assert!(text.contains("no answer"), "{text}");
}

#[test]
fn a_server_that_ends_in_the_run_is_the_first_reason() {
    for load in [plan(crate::support::embedded()).load, constant(400.0)] {
        let has_ended = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&has_ended);
        let target = PlainServer::start(move |peer, bytes| {
            peer.send(bytes) && !ends.load(Ordering::Relaxed)
        });
        let plan = Plan {
            load,
            duration: Some(Duration::from_secs(1)),
            timeout: Duration::from_secs(1),
            ..plan(server(&target))
        };
        let result = std::thread::scope(|scope| {
            let running = scope.spawn(|| run(&plan));
            wait_until("some echoes", || target.bytes() > 64 * 50);
            has_ended.store(true, Ordering::Relaxed);
            drop(target);
            running.join().unwrap()
        });
        let text = first_reason(&result, &Code::NotServed);
        assert!(text.contains("refused"), "{text}");
        assert!(result.connections.failed > 0);
    }
}
