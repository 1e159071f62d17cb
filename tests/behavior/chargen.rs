//! Character generator (RFC 864): the pattern comes without a gap, as fast as the peer takes it,
//! regardless of the peer's input, until it closes.

use std::io::Read;
use std::thread;

use echomark::metrics::CloseReason;
use echomark::{Config, Service};

use crate::support::pattern::Pattern;
use crate::support::{Client, Running, config_for, in_parallel};

/// After 95 lines the pattern starts anew.
const CYCLE: u64 = 95 * 74;

fn generating() -> Config {
    config_for(Service::Chargen, "tcp://127.0.0.1:0")
}

/// The byte of the stream at `offset` as the RFC defines it: lines of 72 of the 95 printable
/// characters, each line starting one further on than the last.
fn character(offset: u64) -> u8 {
    let (line, column) = (offset / 74, offset % 74);
    match column {
        72 => b'\r',
        73 => b'\n',
        _ => b' ' + ((line + column) % 95) as u8,
    }
}

#[track_caller]
fn check(offset: u64, bytes: &[u8]) {
    let wrong = (offset..)
        .zip(bytes)
        .find(|&(at, &byte)| byte != character(at));
    if let Some((at, &byte)) = wrong {
        let (byte, expected) = (char::from(byte), char::from(character(at)));
        panic!("byte {at} of the stream is {byte:?} and not {expected:?}");
    }
}

/// Reads the stream from `from` up to `to` in pieces of up to `size` bytes.
#[track_caller]
fn read_on(client: &mut Client, from: u64, to: u64, size: usize) {
    let mut buffer = vec![0; size];
    let mut at = from;
    while at < to {
        let most = size.min((to - at) as usize);
        let count = client.read(&mut buffer[..most]).expect("receive");
        assert!(count > 0, "the stream ended after {at} bytes");
        check(at, &buffer[..count]);
        at += count as u64;
    }
}

#[test]
fn the_stream_is_that_of_the_rfc_at_any_read_size() {
    let server = Running::start(generating());
    for size in [1, 7, 73, 74, 75, 1000, 7029, 7030, 7031, 65_536, 300_000] {
        let mut client = server.connect();
        read_on(&mut client, 0, 3 * CYCLE + 1, size);
        read_on(&mut client, 3 * CYCLE + 1, 3 * CYCLE + 2_000, size);
    }
    server.wait_for_all_closed(11);
}

/// Room appears in odd amounts, so that the stream resumes anywhere in the pattern.
#[test]
fn the_stream_goes_on_wherever_a_write_was_cut() {
    const CLIENTS: usize = 4;
    let mut config = generating();
    config.tuning.send_buffer = Some(30_000);
    let server = Running::start(config);
    in_parallel(CLIENTS, |index| {
        let mut client = server.connect();
        read_on(&mut client, 0, 2 << 20, 5_003 << index);
    });
    server.wait_for_all_closed(CLIENTS as u64);
}

/// A peer that does not read costs neither processor time nor memory; when it reads it gets the
/// stream without a gap, after any number of stops.
#[test]
fn only_the_peers_window_limits_the_stream() {
    const ROUNDS: usize = 3;
    let mut config = generating();
    config.tuning.send_buffer = Some(64 << 10);
    let server = Running::start(config);
    let mut client = Client::connect_with_buffers(server.address(), 64 << 10);
    let mut at = 0;
    for _ in 0..ROUNDS {
        let metrics = server.wait_until_at_rest();
        assert_eq!(metrics.backlog_bytes, 0, "the pattern is never kept");
        assert!(metrics.sent_bytes > at);
        let to = metrics.sent_bytes + 1_000_003;
        read_on(&mut client, at, to, 64 << 10);
        at = to;
    }
    let stuck = server.wait_until_at_rest();
    assert!(
        stuck.sent_bytes - at < 8 << 20,
        "more than the buffers on the way hold: {stuck:#?}"
    );
}

#[test]
fn input_is_thrown_away_while_the_stream_flows() {
    const BYTES: u64 = 10_000_000;
    let server = Running::start(generating());
    let mut client = server.connect();
    let mut sender = Client::of(&client);
    thread::scope(|scope| {
        scope.spawn(move || sender.send_stream(Pattern(1), BYTES));
        read_on(&mut client, 0, 4_000_000, 64 << 10);
    });
    server.wait_for_metrics("all of the input", |it| it.received_bytes == BYTES);
    client.send_urgent(b"!");
    client.send(b"?");
    server.wait_for_metrics("urgent input", |it| it.received_bytes == BYTES + 2);
    read_on(&mut client, 4_000_000, 5_000_000, 64 << 10);
}

/// A server that reads only when it can write would block this peer for ever.
#[test]
fn input_is_thrown_away_while_the_peer_does_not_read() {
    const BYTES: u64 = 10_000_000;
    let server = Running::start(generating());
    let mut client = server.connect();
    let stuck = server.wait_until_at_rest();
    client.send_stream(Pattern(1), BYTES);
    server.wait_for_metrics("all of the input", |it| it.received_bytes == BYTES);
    read_on(&mut client, 0, stuck.sent_bytes + 1, 64 << 10);
}

#[test]
fn a_half_close_does_not_end_the_stream_and_a_close_does() {
    let server = Running::start(generating());
    let mut client = server.connect();
    read_on(&mut client, 0, 100, 100);
    client.send(b"the last words");
    client.half_close();
    server.wait_for_metrics("the last words", |it| it.received_bytes == 14);
    let sent = server.wait_until_at_rest().sent_bytes;
    read_on(&mut client, 100, sent + (4 << 20), 64 << 10);
    assert_eq!(server.metrics().active, 1);
    drop(client);
    server.wait_for_all_closed(1);
}

#[test]
fn a_close_at_any_moment_ends_the_stream_and_leaks_nothing() {
    const CONNECTIONS: u64 = 300;
    let server = Running::start(generating());
    for index in 0..CONNECTIONS {
        let mut client = server.connect();
        match index % 4 {
            // Nothing was read, and usually output waits.
            0 => {}
            1 => read_on(&mut client, 0, 1 + index * 100, 1000),
            2 => client.half_close(),
            _ => {
                client.reset();
                continue;
            }
        }
        drop(client);
    }
    let metrics = server.wait_for_all_closed(CONNECTIONS);
    let ended = metrics.closed(CloseReason::Finished) + metrics.closed(CloseReason::Reset);
    assert_eq!(ended, CONNECTIONS, "{metrics:#?}");
}
