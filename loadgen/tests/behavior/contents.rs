//! Where the first wrong byte is, and that it makes a run invalid, whatever becomes of its message.

use std::num::NonZeroU64;
use std::time::Duration;

use loadgen::RunResult;
use loadgen::plan::{Close, Load, Plan, Workload};
use loadgen::result::{Code, Corruption, Status};

use crate::known::datagrams::UdpServer;
use crate::known::streams::{AfterFault, Edit, edited, truncated};
use crate::support::{PlainServer, codes, number, plan, run, server};
use crate::truth_udp::{MESSAGES, single};

/// Bytes of a message.
const SIZE: u64 = 64;

/// One connection with `pipeline` messages in flight, and a few messages.
fn few(target: &PlainServer, pipeline: usize) -> Plan {
    Plan {
        connections: number(1),
        load: Load::Closed {
            pipeline: number(pipeline),
        },
        requests: NonZeroU64::new(8),
        timeout: Duration::from_millis(200),
        ..plan(server(target))
    }
}

#[track_caller]
fn assert_wrong_at(result: &RunResult, offset: u64, sequence: Option<u64>, what: &str) {
    let expected = Corruption {
        connection: 0,
        offset,
        sequence,
    };
    assert_eq!(result.client.first_corruption, Some(expected), "{what}");
    assert_eq!(result.verdict.status, Status::Invalid, "{what}");
    assert!(codes(result).contains(&&Code::Corrupt), "{what}");
}

/// The offset of an insertion is that of the inserted byte, because it differs from the byte that was
/// sent there. The offset of a change is that of the changed byte.
#[test]
fn a_wrong_byte_s_offset_does_not_depend_on_how_reads_are_cut() {
    // Within a message, at its ends, and within and at the end of a later one.
    for at in [0, 17, SIZE - 1, 3 * SIZE + 40, 4 * SIZE - 1] {
        for edit in [Edit::Insert, Edit::Flip] {
            for cut in [None, Some(0), Some(1), Some(9)] {
                for pipeline in [1, 4] {
                    let target = edited(at, edit, cut);
                    let result = run(&few(&target, pipeline));
                    let what = format!("{edit:?} at {at}, cut {cut:?}, pipeline {pipeline}");
                    assert_wrong_at(&result, at, None, &what);
                }
            }
        }
    }
}

/// Without the byte at `at`, the next one is in its place, and so on: the first wrong byte is the first
/// one that differs from its successor.
#[test]
fn a_missing_byte_s_offset_does_not_depend_on_how_reads_are_cut() {
    let mut found = Vec::new();
    for cut in [None, Some(0), Some(1), Some(9)] {
        let target = edited(SIZE + 20, Edit::Drop, cut);
        let result = run(&few(&target, 4));
        let corruption = result.client.first_corruption.unwrap();
        assert_wrong_at(&result, corruption.offset, None, "a missing byte");
        found.push(corruption.offset);
    }
    // The contents depend on the seed alone. One of 256 bytes equals its successor.
    assert!(found.iter().all(|&offset| offset == found[0]), "{found:?}");
    assert!((SIZE + 20..SIZE + 24).contains(&found[0]), "{found:?}");
}

/// What a server sends beyond the echo differs from the bytes that are sent next.
#[test]
fn a_surplus_byte_is_wrong_at_the_end_of_what_was_sent() {
    for workload in [
        Workload::Request,
        Workload::Churn {
            close: Close::Orderly,
        },
    ] {
        let target = PlainServer::start(|peer, bytes| {
            let mut answer = bytes.to_vec();
            if peer.received == 0 {
                answer.push(0);
            }
            peer.send(&answer)
        });
        let result = run(&Plan {
            workload,
            ..few(&target, 1)
        });
        assert_wrong_at(&result, SIZE, None, "a surplus byte");
        assert!(result.messages.duplicated > 0);
    }
}

#[test]
fn a_wrong_byte_of_a_message_that_is_never_complete_makes_the_run_invalid() {
    let at = 5 * SIZE + 3;
    for end in [AfterFault::Silence, AfterFault::Close] {
        // Timed out or lost in the window, and unfinished at the end of it.
        for timeout in [100, 2000].map(Duration::from_millis) {
            let target = truncated(at, 10, end);
            let result = run(&Plan {
                requests: NonZeroU64::new(6),
                timeout,
                ..few(&target, 1)
            });
            let what = format!("{end:?}, {timeout:?}");
            assert_wrong_at(&result, at, None, &what);
            let messages = &result.messages;
            assert_eq!((messages.received, messages.corrupt), (5, 0), "{what}");
            assert_eq!(messages.sent, 6, "{what}");
        }
    }
    let target = truncated(3, 10, AfterFault::Close);
    let result = run(&Plan {
        workload: Workload::Churn {
            close: Close::Orderly,
        },
        ..few(&target, 1)
    });
    assert_wrong_at(&result, 3, None, "churn");
}

/// Of a thousand answers, a hundred are sent again, with bit 3 of byte 28 changed.
#[test]
fn a_wrong_copy_of_a_right_answer_is_corrupt() {
    let server = UdpServer::start(|datagram| {
        datagram.answer();
        if datagram.number % 10 == 4 {
            datagram.answer_flipped(28, 3);
        }
    });
    let result = run(&single(server.target()));
    assert_wrong_at(&result, 28, Some(4), "a wrong copy");
    let messages = &result.messages;
    assert_eq!(messages.sent, MESSAGES);
    assert_eq!(messages.received, MESSAGES);
    assert_eq!(messages.duplicated, 100);
    assert_eq!((messages.corrupt, messages.verified), (100, MESSAGES - 100));
}

/// One answer has to be compared although its message was given up: it comes three timeouts late.
#[test]
fn a_wrong_answer_after_the_timeout_makes_the_run_invalid() {
    let mut held = None;
    let server = UdpServer::start(move |datagram| {
        match datagram.number {
            5 => {
                let mut bytes = datagram.bytes.to_vec();
                bytes[40] ^= 1;
                held = Some(bytes);
                return;
            }
            // 150 ms later, at 2000 per second.
            305 => datagram.send(&held.take().unwrap()),
            _ => {}
        }
        datagram.answer();
    });
    let result = run(&Plan {
        timeout: Duration::from_millis(50),
        ..single(server.target())
    });
    // On a busy machine others are late too.
    assert!(result.messages.late >= 1);
    assert!(result.messages.lost >= 1);
    assert_wrong_at(&result, 40, Some(5), "late");
}

/// Each fiftieth answer has one bit of its sequence number changed: to the number of one that is
/// settled, of one that is out, and of one that was not sent yet. It remains the answer to its own
/// message, as the other bytes show: nothing is lost and nothing came twice.
#[test]
fn a_wrong_sequence_number_is_a_wrong_byte_of_its_own_message() {
    // Of datagram 8n + 7, and of the fourth of eight that are answered together.
    for (byte, bit, together, first) in [(0, 0, 1, 7), (2, 4, 1, 7), (0, 2, 8, 3)] {
        let mut held: Vec<Vec<u8>> = Vec::new();
        let server = UdpServer::start(move |datagram| {
            held.push(datagram.bytes.to_vec());
            if held.len() < together {
                return;
            }
            for mut bytes in held.drain(..) {
                if bytes[0] % 40 == first && bytes[0] < 200 {
                    bytes[byte] ^= 1 << bit;
                }
                datagram.send(&bytes);
            }
        });
        let result = run(&single(server.target()));
        let what = format!("bit {bit} of byte {byte}, {together} together");
        let messages = &result.messages;
        assert_eq!(messages.received, MESSAGES, "{what}: {messages:?}");
        // Of the numbers 0 to 999, whose lowest byte is first + 40n below 200.
        let corrupt = (0..MESSAGES)
            .map(|sequence| sequence as u8)
            .filter(|&low| low % 40 == first && low < 200)
            .count() as u64;
        assert_eq!(messages.corrupt, corrupt, "{what}: {messages:?}");
        let others = [
            messages.lost,
            messages.duplicated,
            messages.stray,
            messages.unfinished,
        ];
        assert_eq!(others, [0; 4], "{what}: {messages:?}");
        assert_wrong_at(&result, byte as u64, Some(first.into()), &what);
    }
}

#[test]
fn a_datagram_that_answers_nothing_is_wrong_in_its_sequence_number() {
    let server = UdpServer::start(|datagram| {
        datagram.answer();
        match datagram.number {
            3 => datagram.send(&[0xff; 64]),
            4 => datagram.send(b"short"),
            _ => {}
        }
    });
    let result = run(&single(server.target()));
    assert_eq!(result.messages.stray, 2);
    assert_wrong_at(&result, 0, Some(u64::MAX), "stray");
}
