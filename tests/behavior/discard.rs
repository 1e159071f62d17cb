//! Discard (RFC 863): input is counted, discarded and never answered, and its end is the end of the
//! connection.

use std::num::NonZeroUsize;

use echomark::metrics::CloseReason;
use echomark::{Config, Server, Service};

use crate::support::pattern::Pattern;
use crate::support::{Client, Running, addresses, config_for, in_parallel};

const HUNDRED_MEGABYTES: u64 = 100_000_000;

fn discarding() -> Config {
    config_for(Service::Discard, "tcp://127.0.0.1:0")
}

#[test]
fn a_hundred_megabytes_are_counted_and_nothing_comes_back() {
    let server = Running::start(discarding());
    let mut client = server.connect();
    client.send_stream(Pattern(1), HUNDRED_MEGABYTES);
    client.half_close();
    client.expect_end();
    let metrics = server.wait_for_all_closed(1);
    assert_eq!(metrics.received_bytes, HUNDRED_MEGABYTES);
    assert_eq!(metrics.sent_bytes, 0);
    assert_eq!(metrics.closed(CloseReason::Finished), 1);
}

/// The kernel discards the bytes: no read buffer bounds their number per call.
#[test]
fn nothing_is_copied() {
    const BYTES: u64 = 20_000_000;
    let server = Running::start(Config {
        read_buffer: NonZeroUsize::MIN,
        ..discarding()
    });
    let mut client = server.connect();
    client.send_stream(Pattern(1), BYTES);
    client.half_close();
    client.expect_end();
    let metrics = server.wait_for_all_closed(1);
    assert_eq!(metrics.received_bytes, BYTES);
    // With a buffer of one byte, this number of turns would have copied almost nothing.
    assert!(metrics.loop_iterations < BYTES / 1000, "{metrics:#?}");
}

#[test]
fn urgent_data_is_counted_like_any_other() {
    const ROUNDS: u64 = 300;
    let server = Running::start(discarding());
    let mut client = server.connect();
    for round in 1..=ROUNDS {
        client.send(b"abc");
        client.send_urgent(b"X");
        client.send(b"def");
        server.wait_for_metrics("urgent data", |it| it.received_bytes == 7 * round);
    }
    client.send_urgent(b"Y");
    client.half_close();
    client.expect_end();
    let metrics = server.wait_for_all_closed(1);
    assert_eq!(metrics.received_bytes, 7 * ROUNDS + 1);
}

/// All input waits in the kernel before the server's first read, and a read stops at the mark.
#[test]
fn data_and_end_behind_an_urgent_mark_need_no_event_of_their_own() {
    const CLIENTS: usize = 50;
    let server = Server::bind(discarding()).expect("a free port");
    let address = addresses(&server)[0];
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(address)).collect();
    for client in &mut clients {
        client.send(b"abc");
        client.send_urgent(b"X");
        client.send(b"def");
        client.half_close();
    }
    let server = Running::run(server);
    for client in &mut clients {
        client.expect_end();
    }
    let metrics = server.wait_for_all_closed(CLIENTS as u64);
    assert_eq!(metrics.received_bytes, 7 * CLIENTS as u64);
    assert_eq!(metrics.closed(CloseReason::Finished), CLIENTS as u64);
}

/// A call takes at most a mebibyte, and what lies behind it raises no event.
#[test]
fn more_than_one_call_takes_is_taken_by_the_next() {
    const BYTES: u64 = 3 << 20;
    let server = Running::start(discarding());
    in_parallel(4, |index| {
        for _ in 0..5 {
            let mut client = server.connect();
            client.send_stream(Pattern(index as u64), BYTES);
            client.half_close();
            client.expect_end();
        }
    });
    let metrics = server.wait_for_all_closed(20);
    assert_eq!(metrics.received_bytes, 20 * BYTES);
}

#[test]
fn a_close_right_behind_the_last_byte_leaks_nothing() {
    const CONNECTIONS: u64 = 1000;
    let server = Running::start(Config {
        workers: NonZeroUsize::new(2).unwrap(),
        ..discarding()
    });
    for _ in 0..CONNECTIONS {
        server.connect().send(b"farewell");
    }
    let metrics = server.wait_for_all_closed(CONNECTIONS);
    assert_eq!(metrics.closed(CloseReason::Finished), CONNECTIONS);
    assert_eq!(metrics.received_bytes, 8 * CONNECTIONS);
}
