//! Connections that the server ends by its own decision: the echo so far arrives although input is
//! left unread, and then the end of the stream, not a reset.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use echomark::metrics::CloseReason;
use echomark::{Config, Limits, Server};

use crate::support::pattern::Pattern;
use crate::support::{Client, Running, addresses, closed, config, wait_until};

fn closing_after(idle: Duration) -> Running {
    Running::start(Config {
        limits: Limits {
            idle_timeout: Some(idle),
            ..Limits::default()
        },
        ..config()
    })
}

#[test]
fn an_idle_connection_is_ended_and_an_active_one_is_not() {
    // Longer than a busy machine delays this thread's next message.
    let server = closing_after(Duration::from_secs(2));
    let mut active = server.connect();
    active.echo(b"here first");
    let mut idle = server.connect();
    idle.echo(b"here second");
    // From here on the idle client does nothing. The active one is older, so if activity did not
    // count, it would be closed first.
    wait_until("end of the idle connection", || {
        active.echo(b"busy");
        let read = idle.receive_at_once(&mut [0]);
        read.expect("an end, not a reset") == Some(0)
    });
    active.echo(b"still there");
    drop(idle);
    server.wait_for_metrics("one close", |metrics| {
        metrics.active == 1 && metrics.closed(CloseReason::IdleTimeout) == 1
    });
    active.half_close();
    active.expect_end();
}

#[test]
fn a_connection_that_never_speaks_is_idle_too() {
    let server = closing_after(Duration::from_millis(100));
    let mut client = server.connect();
    client.expect_end();
    drop(client);
    let metrics = server.wait_for_all_closed(1);
    assert_eq!(metrics.closed(CloseReason::IdleTimeout), 1);
}

#[test]
fn the_echo_to_an_idle_peer_arrives_although_it_sent_more() {
    let server = closing_after(Duration::from_secs(2));
    let pattern = Pattern(1);
    let mut client = Client::connect_with_buffers(server.address(), 64 << 10);
    // Stuck: output waits for the client, input waits unread in the kernel.
    let stuck = || server.metrics().backlog_bytes > 0;
    client.send_until_blocked(pattern, stuck);
    // The client does nothing until the server has closed the connection.
    let metrics = server.wait_for_all_closed(1);
    assert_eq!(metrics.closed(CloseReason::IdleTimeout), 1);
    client.receive_stream(pattern, 0, metrics.sent_bytes);
    client.expect_end();
}

#[test]
fn the_echo_arrives_although_the_peer_continues_sending() {
    let mut config = config();
    // The unread echo is small, so that reading it takes almost no time.
    config.tuning.send_buffer = Some(64 << 10);
    let server = Running::start(Config {
        drain_timeout: Duration::from_millis(100),
        ..config
    });
    let pattern = Pattern(2);
    let mut client = Client::connect_with_buffers(server.address(), 64 << 10);
    let sender = Client::of(&client);
    let ended = AtomicBool::new(false);
    let received = thread::scope(|scope| {
        scope.spawn(|| {
            let mut sent = 0;
            let mut chunk = [0; 4096];
            wait_until("end of the stream", || {
                pattern.fill(sent, &mut chunk);
                sent += sender.send_in_a_moment(&chunk) as u64;
                ended.load(Ordering::Relaxed)
            });
        });
        server.wait_for_metrics("backlog", |metrics| metrics.backlog_bytes > 0);
        server.handle.drain();
        let mut received = 0;
        let mut buffer = [0; 64 << 10];
        loop {
            let count = client.read(&mut buffer).expect("an end, not a reset");
            if count == 0 {
                break;
            }
            pattern.check(received, &buffer[..count]);
            received += count as u64;
        }
        ended.store(true, Ordering::Relaxed);
        received
    });
    drop((client, sender));
    let metrics = server.join();
    assert_eq!(metrics.closed(CloseReason::DrainTimeout), 1, "{metrics:#?}");
    assert_eq!(received, metrics.sent_bytes);
}

/// Both deadlines are due in one turn of the loop. The second must not cut short the lingering that
/// the first began.
#[test]
fn a_connection_that_is_idle_when_the_drain_ends_is_ended_in_good_order() {
    const TIMEOUT: Duration = Duration::from_millis(40);
    let server = Server::bind(Config {
        limits: Limits {
            idle_timeout: Some(TIMEOUT),
            ..Limits::default()
        },
        drain_timeout: TIMEOUT,
        ..config()
    })
    .expect("a free port");
    // Accepted in the turn in which the drain begins, so that both timeouts begin there.
    let mut client = Client::connect(addresses(&server)[0]);
    server.handle().drain();
    let server = Running::run(server);
    client.expect_end();
    // The server still reads input of a peer that has not seen the end yet.
    client.send(b"a word that crossed the farewell");
    client.half_close();
    client.expect_end();
    assert_eq!(closed(&server.join()), 1);
}
