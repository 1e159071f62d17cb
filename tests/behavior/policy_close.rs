//! Connections that the server ends by its own decision: the echo so far arrives. Then comes the end
//! of the stream if everything came back, and a reset if something was cut off.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use echomark::metrics::CloseReason;
use echomark::{Config, Limits, Server};

use crate::support::pattern::Pattern;
use crate::support::{Client, End, Running, addresses, closed, config, wait_until};

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
fn an_idle_peer_that_sent_more_than_came_back_is_reset() {
    let server = closing_after(Duration::from_secs(2));
    let pattern = Pattern(1);
    let mut client = Client::connect_with_buffers(server.address(), 64 << 10);
    // Stuck: output waits for the client, input waits unread in the kernel.
    let stuck = || server.metrics().backlog_bytes > 0;
    client.send_until_blocked(pattern, stuck);
    // The client does nothing until the server has closed the connection.
    let metrics = server.wait_for_all_closed(1);
    assert_eq!(metrics.closed(CloseReason::IdleTimeout), 1);
    // Its own kernel has a part of the echo; the rest waited for room, and was cut off.
    let (received, end) = client.receive_all(pattern);
    assert_eq!(end, End::Reset);
    assert!((1..=metrics.sent_bytes).contains(&received));
}

/// Output that waits for a peer is cut off by every limit that ends its connection.
#[test]
fn whatever_limit_cuts_an_echo_off_resets_the_connection() {
    let unlimited = Limits::default();
    let limit = Some(Duration::from_millis(500));
    for (limits, reason) in [
        (
            Limits {
                stall_timeout: limit,
                ..unlimited.clone()
            },
            CloseReason::Stalled,
        ),
        (
            Limits {
                lifetime: limit,
                ..unlimited
            },
            CloseReason::Lifetime,
        ),
    ] {
        let server = Running::start(Config { limits, ..config() });
        let pattern = Pattern(3);
        let mut client = Client::connect_with_buffers(server.address(), 64 << 10);
        // The limit may end it before it is stuck.
        let stuck = || server.metrics().backlog_bytes > 0 || closed(&server.metrics()) > 0;
        client.send_until_blocked(pattern, stuck);
        let metrics = server.wait_for_all_closed(1);
        assert_eq!(metrics.closed(reason), 1);
        assert_eq!(client.receive_all(pattern).1, End::Reset, "{reason:?}");
    }
}

/// A second signal ends the program at once.
#[test]
fn a_stop_that_cuts_an_echo_off_resets_the_connection() {
    let server = Running::start(config());
    let pattern = Pattern(4);
    let mut client = Client::connect_with_buffers(server.address(), 64 << 10);
    client.send_until_blocked(pattern, || server.metrics().backlog_bytes > 0);
    server.handle.stop();
    let metrics = server.join();
    assert_eq!(metrics.closed(CloseReason::Stopped), 1);
    assert_eq!(client.receive_all(pattern).1, End::Reset);
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
    let (received, _) = thread::scope(|scope| {
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
        let received = client.receive_all(pattern);
        ended.store(true, Ordering::Relaxed);
        received
    });
    drop((client, sender));
    let metrics = server.join();
    assert_eq!(metrics.closed(CloseReason::DrainTimeout), 1, "{metrics:#?}");
    // Whether something was cut off depends on the moment.
    assert_eq!(received, metrics.sent_bytes, "{metrics:#?}");
}

/// A stream that is under way when the drain timeout ends: it comes back in part.
#[test]
fn a_drain_that_cuts_an_echo_off_resets_the_connection() {
    let server = Running::start(Config {
        drain_timeout: Duration::from_millis(100),
        ..config()
    });
    let pattern = Pattern(5);
    let mut client = Client::connect_with_buffers(server.address(), 64 << 10);
    client.send_until_blocked(pattern, || server.metrics().backlog_bytes > 0);
    server.handle.drain();
    server.wait_for_metrics("the end of the drain", |metrics| metrics.backlog_bytes == 0);
    // What was echoed until then may be read for a moment.
    let (received, end) = client.receive_all(pattern);
    let metrics = server.join();
    assert_eq!(metrics.closed(CloseReason::DrainTimeout), 1, "{metrics:#?}");
    assert_eq!((received, end), (metrics.sent_bytes, End::Reset));
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
