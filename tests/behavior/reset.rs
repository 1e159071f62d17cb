//! A reset may come at any moment: each closes one connection once and frees its resources.

use echomark::metrics::CloseReason;

use crate::support::pattern::Pattern;
use crate::support::{Client, Running, config};

#[test]
fn resets_at_any_moment_close_one_connection_each() {
    const ROUNDS: u64 = 200;
    const KINDS: u64 = 5;
    let server = Running::start(config());
    let address = server.address();
    for round in 0..ROUNDS {
        // Before any data.
        Client::connect(address).reset();
        // With input that the server may not have read.
        let mut client = Client::connect(address);
        client.send(&Pattern(round).bytes(10_000));
        client.reset();
        // With output that the peer has not read.
        let mut client = Client::connect(address);
        client.send(b"an echo that nobody reads");
        assert_eq!(client.peek(&mut [0]).expect("an echo"), 1);
        client.reset();
        // After all that was sent came back.
        let mut client = Client::connect(address);
        client.echo(b"Hello, World!");
        client.reset();
        // After the half-close, before or after its answer.
        let mut client = Client::connect(address);
        client.send(b"last words");
        client.half_close();
        client.reset();
    }
    let metrics = server.wait_for_all_closed(ROUNDS * KINDS);
    assert_eq!(metrics.closed(CloseReason::Error), 0, "{metrics:#?}");
    assert!(metrics.closed(CloseReason::Reset) >= ROUNDS * 4);
    assert_idle(&server);
}

#[test]
fn a_reset_frees_the_backlog() {
    const ROUNDS: u64 = 20;
    let server = Running::start(config());
    for round in 0..ROUNDS {
        let client = Client::connect_with_buffers(server.address(), 16 << 10);
        client.send_until_blocked(Pattern(round), || server.metrics().backlog_bytes > 0);
        if round % 2 == 1 {
            client.half_close();
        }
        client.reset();
        server.wait_for_all_closed(round + 1);
    }
    let metrics = server.metrics();
    assert_eq!(metrics.closed(CloseReason::Reset), ROUNDS, "{metrics:#?}");
    assert_idle(&server);
}

#[test]
fn a_reset_in_the_middle_of_a_stream_harms_no_other() {
    const ROUNDS: u64 = 50;
    let server = Running::start(config());
    let mut other = server.connect();
    for round in 0..ROUNDS {
        let mut client = server.connect();
        client.send(&Pattern(round).bytes(200_000));
        client.receive_stream(Pattern(round), 0, 1000);
        other.send(b"in between");
        client.reset();
        assert_eq!(other.receive(10), b"in between");
    }
    server.wait_for_metrics("one connection", |metrics| metrics.active == 1);
    assert_idle(&server);
    drop(other);
    server.wait_for_all_closed(ROUNDS + 2);
}

/// A loop that spins on unhandled events would take many turns for each round trip.
#[track_caller]
fn assert_idle(server: &Running) {
    const ROUND_TRIPS: u64 = 500;
    let mut client = server.connect();
    client.echo(b"first");
    let before = server.metrics().loop_iterations;
    for _ in 0..ROUND_TRIPS {
        client.echo(b"ping");
    }
    let turns = server.metrics().loop_iterations - before;
    assert!(
        turns < 3 * ROUND_TRIPS,
        "{turns} turns for {ROUND_TRIPS} round trips"
    );
    client.half_close();
    client.expect_end();
}
