//! All bytes that a client sends before its half-close come back, and then the stream ends.
//! Whenever the end arrives, the connection is closed and counted as finished.

use std::thread;

use echomark::Server;
use echomark::metrics::CloseReason;

use crate::support::pattern::Pattern;
use crate::support::{Client, Running, addresses, config, wait_until};

const HUNDRED_MEGABYTES: u64 = 100_000_000;

/// A server holds at most one buffer for a peer, so the kernel's buffers limit the bytes under way
/// at the half-close. The client reads only when nothing more fits.
#[test]
fn a_hundred_megabytes_sent_before_the_half_close_come_back() {
    const CHUNK: usize = 64 << 10;
    let server = Running::start(config());
    let pattern = Pattern(1);
    let mut client = server.connect();
    let (mut sent, mut received) = (0, 0);
    let mut chunk = vec![0; CHUNK];
    let mut back = vec![0; CHUNK];
    while sent < HUNDRED_MEGABYTES {
        let len = CHUNK.min((HUNDRED_MEGABYTES - sent) as usize);
        pattern.fill(sent, &mut chunk[..len]);
        wait_until("room to send or an echo", || {
            let taken = client.send_at_once(&chunk[..len]);
            sent += taken as u64;
            if taken > 0 {
                return true;
            }
            let echoed = client.receive_at_once(&mut back).expect("receive");
            let Some(echoed) = echoed else { return false };
            assert!(echoed > 0, "the stream ended before its half-close");
            pattern.check(received, &back[..echoed]);
            received += echoed as u64;
            true
        });
    }
    client.half_close();
    let under_way = HUNDRED_MEGABYTES - received;
    assert!(
        under_way > 64 << 10,
        "only {under_way} bytes were under way"
    );
    client.receive_stream(pattern, received, HUNDRED_MEGABYTES);
    client.expect_end();
    let metrics = server.wait_for_all_closed(1);
    assert_eq!(metrics.closed(CloseReason::Finished), 1);
}

#[test]
fn a_hundred_megabytes_come_back_while_they_are_sent() {
    let server = Running::start(config());
    let pattern = Pattern(2);
    let mut client = server.connect();
    let mut sender = Client::of(&client);
    let sending = thread::spawn(move || {
        sender.send_stream(pattern, HUNDRED_MEGABYTES);
        sender.half_close();
    });
    client.receive_stream(pattern, 0, HUNDRED_MEGABYTES);
    client.expect_end();
    sending.join().expect("everything was sent");
    let metrics = server.wait_for_all_closed(1);
    assert_eq!(metrics.closed(CloseReason::Finished), 1);
    assert_eq!(metrics.received_bytes, HUNDRED_MEGABYTES);
    assert_eq!(metrics.sent_bytes, HUNDRED_MEGABYTES);
}

/// The end waits in the client's kernel, because the server's takes no more.
#[test]
fn an_end_that_can_not_be_sent_yet_is_seen_later() {
    let server = Running::start(config());
    let pattern = Pattern(3);
    let mut client = Client::connect_with_buffers(server.address(), 64 << 10);
    let sent = client.send_until_blocked(pattern, || server.metrics().backlog_bytes > 0);
    client.half_close();
    client.receive_stream(pattern, 0, sent);
    client.expect_end();
    let metrics = server.wait_for_all_closed(1);
    assert_eq!(metrics.closed(CloseReason::Finished), 1);
}

/// The end reaches the server while it still has output to return and input to read.
#[test]
fn an_end_behind_input_that_the_server_could_not_read_yet_is_seen() {
    const ROUNDS: u64 = 10;
    let server = Running::start(config());
    for round in 0..ROUNDS {
        let pattern = Pattern(round);
        let mut client = Client::connect_with_buffers(server.address(), 64 << 10);
        let mut sent = 0;
        let mut chunk = [0; 8 << 10];
        wait_until("backlog", || {
            pattern.fill(sent, &mut chunk);
            sent += client.send_at_once(&chunk) as u64;
            server.metrics().backlog_bytes > 0
        });
        pattern.fill(sent, &mut chunk);
        sent += client.send_at_once(&chunk) as u64;
        client.half_close();
        client.receive_stream(pattern, 0, sent);
        client.expect_end();
        let metrics = server.wait_for_all_closed(round + 1);
        assert_eq!(metrics.closed(CloseReason::Finished), round + 1);
    }
}

/// Data and end both wait in the kernel before the server's first turn: there is only one event,
/// and a read shorter than the buffer doesn't mean that nothing is left.
#[test]
fn data_and_end_that_arrive_before_the_first_read_are_both_seen() {
    const SIZES: [usize; 8] = [0, 1, 1000, 65_535, 65_536, 65_537, 100_000, 131_072];
    const ROUNDS: usize = 50;
    let server = Server::bind(config()).expect("a free port");
    let address = addresses(&server)[0];
    let mut clients: Vec<_> = (0..ROUNDS)
        .flat_map(|_| SIZES)
        .enumerate()
        .map(|(index, size)| {
            let mut client = Client::connect(address);
            client.send(&Pattern(index as u64).bytes(size));
            client.half_close();
            (client, size as u64)
        })
        .collect();
    let server = Running::run(server);
    for (index, (client, size)) in clients.iter_mut().enumerate() {
        client.receive_stream(Pattern(index as u64), 0, *size);
        client.expect_end();
    }
    let count = clients.len() as u64;
    let metrics = server.wait_for_all_closed(count);
    assert_eq!(metrics.closed(CloseReason::Finished), count);
}

/// The end arrives with the last data, during the server's turn or after the echo: in any order, no
/// connection may stay open.
#[test]
fn an_end_at_any_moment_closes_the_connection() {
    const CONNECTIONS: u64 = 1500;
    let server = Running::start(config());
    for index in 0..CONNECTIONS {
        let mut client = server.connect();
        client.send(b"the last words");
        match index % 3 {
            // At once: usually one segment right behind the other.
            0 => client.half_close(),
            // While the server is about to read, or has just read.
            1 => {
                wait_until("a byte at the server or on its way back", || {
                    server.metrics().received_bytes > index * 14
                        || client.peek(&mut [0]).is_ok_and(|count| count > 0)
                });
                client.half_close();
            }
            // After the echo.
            _ => {
                assert_eq!(client.peek(&mut [0]).expect("an echo"), 1);
                client.half_close();
            }
        }
        assert_eq!(client.receive(14), b"the last words");
        client.expect_end();
    }
    let metrics = server.wait_for_all_closed(CONNECTIONS);
    assert_eq!(metrics.closed(CloseReason::Finished), CONNECTIONS);
}

/// As above, with close(2) right behind the last write instead of a half-close.
#[test]
fn a_close_right_behind_the_last_byte_leaks_nothing() {
    const CONNECTIONS: u64 = 1000;
    let server = Running::start(config());
    for _ in 0..CONNECTIONS {
        server.connect().send(b"farewell");
    }
    let metrics = server.wait_for_all_closed(CONNECTIONS);
    // The echo may meet a closed socket, which answers with a reset.
    let ended = metrics.closed(CloseReason::Finished) + metrics.closed(CloseReason::Reset);
    assert_eq!(ended, CONNECTIONS, "{metrics:#?}");
    assert_eq!(metrics.received_bytes, 8 * CONNECTIONS);
}
