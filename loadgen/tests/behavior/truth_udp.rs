//! Datagrams: the server's treatment, and the outcome in the result.

use std::time::Duration;

use echomark::metrics::Fault;
use loadgen::plan::{Load, Plan, Target};
use loadgen::result::{Code, Status};
use loadgen::{RunResult, plan::Workload};

use crate::known::Known;
use crate::known::datagrams::UdpServer;
use crate::known::ordered::Ordered;
use crate::support::{codes, constant, number, plan, run};

/// Messages of a run, for half a second.
pub(crate) const MESSAGES: u64 = 1000;
const RATE: f64 = 2000.0;

/// One flow at a constant rate, so that messages arrive in the order of sending.
pub(crate) fn single(target: Target) -> Plan {
    Plan {
        connections: number(1),
        load: constant(RATE),
        timeout: Duration::from_secs(2),
        ..plan(target)
    }
}

fn assert_all_arrived(result: &RunResult) {
    assert_eq!(result.messages.sent, MESSAGES);
    assert_eq!(result.messages.stray, 0);
}

/// As many were lost as the server dropped. On a busy machine others take longer than the timeout:
/// they are lost too, and late, but for those whose answer comes when the run is over; and one that was
/// sent late may not have had its time at the end.
#[track_caller]
fn assert_lost(result: &RunResult, dropped: u64) {
    const MAX_OUT: u64 = 16;
    let messages = &result.messages;
    let missing = messages.lost + messages.unfinished;
    let is_explained = (dropped..=dropped + messages.late + MAX_OUT).contains(&missing);
    assert!(is_explained, "{dropped} dropped: {messages:?}");
    if messages.late == 0 {
        assert_eq!(missing, dropped);
    }
}

#[test]
fn as_many_are_lost_as_the_server_drops() {
    let server = Ordered::start("udp", "drop=15%&seed=3");
    let result = run(&Plan {
        timeout: Duration::from_millis(300),
        ..single(server.target())
    });
    assert_all_arrived(&result);
    let dropped = server.count(Fault::Drop);
    assert!((100..200).contains(&dropped), "{dropped}");
    assert_lost(&result, dropped);
    let missing = result.messages.lost + result.messages.unfinished;
    assert_eq!(result.messages.received, MESSAGES - missing);
    assert!(codes(&result).contains(&&Code::Missing));
}

#[test]
fn a_closed_loop_gets_over_what_is_dropped() {
    let server = Ordered::start("udp", "drop=1%&seed=4");
    let result = run(&Plan {
        timeout: Duration::from_millis(100),
        load: Load::Closed {
            pipeline: number(4),
        },
        ..plan(server.target())
    });
    assert!(result.messages.received > 100);
    assert_lost(&result, server.count(Fault::Drop));
    assert_eq!(result.messages.unfinished, 0);
}

#[test]
fn each_second_echo_is_a_duplicate() {
    let server = Ordered::start("udp", "duplicate=10%&seed=5");
    let result = run(&single(server.target()));
    assert_all_arrived(&result);
    assert_eq!(result.messages.received, MESSAGES);
    let duplicated = server.count(Fault::Duplicate);
    assert!((50..150).contains(&duplicated), "{duplicated}");
    assert_eq!(result.messages.duplicated, duplicated);
    assert_eq!(result.messages.reordered, 0);
    // Networks may do that.
    assert!(!codes(&result).contains(&&Code::Corrupt));
}

#[test]
fn each_swapped_pair_is_one_reordered() {
    let server = Ordered::start("udp", "reorder=12%&seed=6");
    let result = run(&single(server.target()));
    assert_all_arrived(&result);
    assert_eq!(result.messages.received, MESSAGES);
    let swapped = server.count(Fault::Reorder);
    assert!((50..170).contains(&swapped), "{swapped}");
    // One that is not followed within 10 ms leaves alone: the last, or on a busy machine others.
    let reordered = result.messages.reordered;
    assert!(
        reordered <= swapped && reordered + 20 > swapped,
        "{reordered} {swapped}"
    );
    assert_eq!(result.messages.duplicated, 0);
}

#[test]
fn an_answer_after_the_timeout_is_late_and_its_message_lost() {
    const TIMEOUT: Duration = Duration::from_millis(100);
    for rate in [2000.0, 20_000.0] {
        // Those of the first half, so that all of them come before the run ends.
        let half = rate as u64 / 4;
        let server = Known::udp(move |arrival| {
            if arrival.number < half && arrival.number % 10 == 5 {
                TIMEOUT * 2
            } else {
                Duration::ZERO
            }
        });
        let result = run(&Plan {
            load: constant(rate),
            timeout: TIMEOUT,
            ..single(server.target())
        });
        let report = server.finish();
        let truth = report
            .served
            .iter()
            .filter(|served| served.took >= TIMEOUT * 2)
            .count() as u64;
        assert!(truth >= half / 10);
        let messages = &result.messages;
        assert!(messages.late >= half / 10, "{messages:?}");
        assert!(messages.late <= messages.lost, "{rate}: {messages:?}");
        // On a busy machine others are lost too, and may come when the run is over.
        if messages.lost == truth {
            assert_eq!(messages.late, messages.lost, "{rate}: {messages:?}");
        }
        assert_eq!(messages.duplicated, 0);
    }
}

#[test]
fn each_changed_byte_is_a_corrupt_datagram() {
    let server = UdpServer::start(|datagram| {
        if datagram.number % 50 == 7 {
            let at = datagram.number as usize % (datagram.bytes.len() - 8);
            datagram.bytes[8 + at] ^= 0x40;
        }
        datagram.answer();
    });
    let result = run(&single(server.target()));
    assert_all_arrived(&result);
    assert_eq!(result.messages.corrupt, 20);
    assert_eq!(result.messages.verified, MESSAGES - 20);
    // Of datagram 7, byte 8 + 7 is the first one that is changed.
    let corruption = result.client.first_corruption.unwrap();
    assert_eq!((corruption.sequence, corruption.offset), (Some(7), 15));
    assert_eq!(result.verdict.status, Status::Invalid);
    assert!(codes(&result).contains(&&Code::Corrupt));
}

#[test]
fn a_truncated_datagram_is_corrupt() {
    let server = UdpServer::start(|datagram| {
        let whole = datagram.bytes.len();
        let count = if datagram.number % 100 == 0 {
            whole - 1
        } else {
            whole
        };
        datagram
            .socket
            .send_to(&datagram.bytes[..count], datagram.from)
            .unwrap();
    });
    let result = run(&Plan {
        workload: Workload::Request,
        ..single(server.target())
    });
    assert_all_arrived(&result);
    assert_eq!(result.messages.corrupt, 10);
}
