//! Timeouts and ends of windows are where they are said to be, and bytes are counted where their
//! messages are.

use std::num::NonZeroU64;
use std::thread;
use std::time::{Duration, Instant};

use loadgen::plan::{Close, Plan, Workload};
use loadgen::result::Code;

use crate::known::ordered::Ordered;
use crate::known::{Known, SIZE};
use crate::support::{DEADLINE, PlainServer, constant, number, plan, run, server};

/// Far more than the timeout, and far less than 20 ms.
const DELAY: Duration = Duration::from_millis(12);
const TIMEOUT: Duration = Duration::from_millis(5);

/// Each answer takes 12 ms or more, so none is within a timeout of 5 ms.
#[test]
fn no_answer_is_received_after_the_timeout() {
    let closed = plan(crate::support::embedded()).load;
    for workload in [
        Workload::Request,
        Workload::Churn {
            close: Close::Orderly,
        },
    ] {
        for load in [closed.clone(), constant(200.0)] {
            let target = Known::tcp(|_| DELAY);
            let result = run(&Plan {
                workload,
                load,
                timeout: TIMEOUT,
                ..plan(target.target())
            });
            let messages = &result.messages;
            let what = format!("{workload:?}: {messages:?}");
            assert_eq!(messages.received, 0, "{what}");
            assert!(messages.timed_out > 0, "{what}");
        }
    }
    let target = Known::udp(|_| DELAY);
    let result = run(&Plan {
        timeout: TIMEOUT,
        ..plan(target.target())
    });
    let messages = &result.messages;
    assert_eq!(messages.received, 0, "{messages:?}");
    assert!(messages.lost > 0 && messages.late > 0, "{messages:?}");
}

/// After the window as in it: of ten messages in 100 ms, each on its own connection, the last four are
/// answered 120 to 150 ms after the start, before the wait for answers ends at 160 ms.
#[test]
fn no_answer_is_received_after_the_timeout_when_the_window_is_over() {
    let target = Ordered::start("tcp", "delay=70ms");
    let result = run(&Plan {
        connections: number(10),
        duration: Some(Duration::from_millis(100)),
        load: constant(100.0),
        timeout: Duration::from_millis(60),
        ..plan(target.target())
    });
    assert_eq!(result.messages.received, 0, "{:?}", result.messages);
}

/// The window of n messages at a rate is as long as n gaps, wherever between two messages it begins.
#[test]
fn a_number_of_messages_at_a_rate_has_that_rate() {
    let target = PlainServer::echo();
    for (threads, connections) in [(1, 1), (2, 2), (2, 3)] {
        for (rate, messages) in [(20.0, 2), (20.0, 7), (500.0, 100)] {
            for duration in [None, Some(DEADLINE)] {
                let result = run(&Plan {
                    threads: number(threads),
                    connections: number(connections),
                    load: constant(rate),
                    requests: NonZeroU64::new(messages),
                    duration,
                    warmup: Duration::from_millis(30),
                    ..plan(server(&target))
                });
                let what = format!("{messages} at {rate}/s on {connections}, {duration:?}");
                assert_eq!(result.messages.sent, messages, "{what}");
                let expected = messages as f64 / rate;
                let error = (result.duration_s - expected).abs();
                assert!(error < 1e-6, "{what}: {} s", result.duration_s);
                let offered = result.rate.offered;
                assert!((offered / rate - 1.0).abs() < 1e-6, "{what}: {offered}");
            }
        }
    }
}

/// A window that is shorter than the messages take ends them.
#[test]
fn a_number_of_messages_does_not_lengthen_the_window() {
    let target = PlainServer::echo();
    let began = Instant::now();
    let result = run(&Plan {
        load: constant(100.0),
        requests: NonZeroU64::new(1_000_000),
        duration: Some(Duration::from_millis(200)),
        ..plan(server(&target))
    });
    assert!(began.elapsed() < DEADLINE);
    assert_eq!(result.messages.sent, 20);
    assert!((result.duration_s - 0.2).abs() < 1e-9);
}

/// Answers take 30 ms or more: those to the last messages of the warm-up come in the window, and those
/// to the last of the window after it. In each interval, bytes are those of the messages.
#[test]
fn the_bytes_of_an_interval_are_those_of_its_messages() {
    let target = Ordered::start("tcp", "delay=30ms");
    let result = run(&Plan {
        load: constant(400.0),
        warmup: Duration::from_millis(100),
        duration: Some(Duration::from_millis(200)),
        interval: Duration::from_millis(50),
        ..plan(target.target())
    });
    assert_eq!(result.messages.sent, 80);
    for interval in &result.intervals {
        assert_eq!(interval.sent_bytes, interval.counts.sent * SIZE as u64);
        assert_eq!(
            interval.received_bytes,
            interval.counts.received * SIZE as u64
        );
    }
    let sent: u64 = result.intervals.iter().map(|i| i.sent_bytes).sum();
    let received: u64 = result.intervals.iter().map(|i| i.received_bytes).sum();
    assert_eq!((sent, received), (result.bytes.sent, result.bytes.received));
}

/// A server that speaks first ends each connection without an answer. With 10, 20, 40 … ms between
/// them, there are six in the first 300 ms and seven in the window.
#[test]
fn a_server_that_speaks_first_is_not_stormed_with_connections() {
    for workload in [
        Workload::Request,
        Workload::Churn {
            close: Close::Orderly,
        },
    ] {
        for load in [constant(1.0), plan(crate::support::embedded()).load] {
            let target = PlainServer::greeting(&[b'x'; 100], |_, _| true);
            let result = run(&Plan {
                workload,
                connections: number(1),
                load,
                timeout: Duration::from_secs(1),
                ..plan(server(&target))
            });
            let (connections, messages) = (target.connections(), &result.messages);
            let what = format!("{workload:?}: {connections} connections, {messages:?}");
            assert!(connections <= 9, "{what}");
            assert!(
                messages.corrupt + messages.duplicated <= messages.sent,
                "{what}"
            );
            for reason in &result.verdict.reasons {
                let count = reason.text.split(' ').next().unwrap().parse::<u64>();
                let most = match reason.code {
                    // A number of bytes.
                    Code::NoEcho => continue,
                    // A number of connections.
                    Code::NotServed => 1,
                    _ => messages.sent,
                };
                assert!(count.unwrap_or(0) <= most, "{}", reason.text);
            }
        }
    }
}

/// A server that answers 500 messages per second is asked for 1500: it loses none, and is told to lose none.
#[test]
fn an_overloaded_server_that_is_faithful_loses_nothing() {
    let target = PlainServer::start(|peer, bytes| {
        for message in bytes.chunks(64) {
            let until = Instant::now() + Duration::from_millis(2);
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                thread::park_timeout(left);
            }
            if !peer.send(message) {
                return false;
            }
        }
        true
    });
    let result = run(&Plan {
        connections: number(1),
        load: constant(1500.0),
        duration: Some(Duration::from_secs(2)),
        timeout: Duration::from_millis(300),
        ..plan(server(&target))
    });
    let messages = &result.messages;
    assert_eq!(messages.lost, 0, "{messages:?}");
    assert!(messages.timed_out > 0, "{messages:?}");
    // How many depends on the machine: between two connections, messages time out that were never sent.
    assert!(messages.abandoned > 0, "{messages:?}");
    let missing = result.verdict.reasons.iter();
    let missing = missing.filter(|reason| reason.code == Code::Missing);
    let [reason] = &missing.collect::<Vec<_>>()[..] else {
        panic!("{:?}", result.verdict);
    };
    let abandoned = format!("{} behind them were abandoned", messages.abandoned);
    assert!(reason.text.contains(&abandoned), "{}", reason.text);
}
