//! A peer at full speed can't starve others: every other peer gets a turn soon.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::num::NonZeroUsize;
use std::thread;

use echomark::{Config, Server, Service};

use crate::support::pattern::Pattern;
use crate::support::{Client, Running, addresses, config, config_for};

#[test]
fn greedy_peers_leave_the_others_their_turn() {
    const PEERS: u64 = 4;
    /// Small, so that the peers can always send faster than the server echoes.
    const READ_BUFFER: usize = 4 << 10;
    /// The most bytes echoed to one peer before another's turn: a few times four reads.
    const SHARE: u64 = 4 * 4 * READ_BUFFER as u64;
    const ROUND_TRIPS: usize = 200;
    let server = Running::start(Config {
        read_buffer: NonZeroUsize::new(READ_BUFFER).unwrap(),
        ..config()
    });
    let peers: Vec<_> = (0..PEERS).map(|_| server.connect()).collect();
    let mut client = server.connect();
    thread::scope(|scope| {
        let hang_up = HangUp(&peers);
        for peer in &peers {
            let (mut sender, mut receiver) = (Client::of(peer), Client::of(peer));
            // Both end with an error or an end once the connection is shut down.
            scope.spawn(move || {
                let chunk = Pattern(1).bytes(256 << 10);
                while sender.write_all(&chunk).is_ok() {}
            });
            scope.spawn(move || {
                let mut buffer = vec![0; 256 << 10];
                while receiver.read(&mut buffer).is_ok_and(|count| count > 0) {}
            });
        }
        server.wait_for_metrics("greedy peers at work", |metrics| {
            metrics.received_bytes > PEERS << 20
        });
        // The bytes that the server takes from the greedy peers while a message waits for its echo.
        // The scheduler may delay this thread, so the median round trip counts.
        let mut meanwhile: Vec<_> = (0..ROUND_TRIPS)
            .map(|_| {
                let before = server.metrics().received_bytes;
                client.echo(b"May I?");
                server.metrics().received_bytes - before
            })
            .collect();
        drop(hang_up);
        meanwhile.sort_unstable();
        let typical = meanwhile[ROUND_TRIPS / 2];
        assert!(
            typical <= SHARE * PEERS,
            "{typical} bytes of {PEERS} greedy peers before one echo: {meanwhile:?}"
        );
    });
    drop(peers);
    drop(client);
    server.wait_for_all_closed(PEERS + 1);
}

/// All input waits in the kernel, so only the server's budget ends a turn.
#[test]
fn one_turn_of_the_loop_takes_a_bounded_amount_from_a_peer() {
    const READ_BUFFER: usize = 256;
    /// The most bytes echoed to one peer in a turn: a few times four reads.
    const SHARE: usize = 4 * 4 * READ_BUFFER;
    /// Below any initial receive window.
    const BYTES: usize = 60_000;
    let server = Server::bind(Config {
        read_buffer: NonZeroUsize::new(READ_BUFFER).unwrap(),
        ..config()
    })
    .expect("a free port");
    let address = addresses(&server)[0];
    let mut peers: Vec<_> = (0..4).map(|_| Client::connect(address)).collect();
    for peer in &mut peers {
        peer.send(&Pattern(1).bytes(BYTES));
    }
    let server = Running::run(server);
    for peer in &mut peers {
        peer.receive_stream(Pattern(1), 0, BYTES as u64);
    }
    let turns = server.metrics().loop_iterations;
    assert!(
        turns > (BYTES / SHARE) as u64,
        "{turns} turns for {BYTES} bytes of each peer"
    );
}

#[test]
fn greedy_receivers_leave_the_others_their_turn() {
    const PEERS: u64 = 4;
    /// The most bytes sent to one peer before another's turn: a few times the budget of a turn,
    /// which is four writes of 64 KiB.
    const SHARE: u64 = 4 * (256 << 10);
    const ROUND_TRIPS: usize = 200;
    let mut config = config();
    let chargen = config_for(Service::Chargen, "tcp://127.0.0.1:0");
    config.services.extend(chargen.services);
    let server = Running::start(config);
    let peers: Vec<_> = (0..PEERS)
        .map(|_| Client::connect(server.addresses[1]))
        .collect();
    let mut client = server.connect();
    thread::scope(|scope| {
        let hang_up = HangUp(&peers);
        for peer in &peers {
            let mut receiver = Client::of(peer);
            scope.spawn(move || {
                let mut buffer = vec![0; 256 << 10];
                while receiver.read(&mut buffer).is_ok_and(|count| count > 0) {}
            });
        }
        server.wait_for_metrics("greedy peers at work", |metrics| {
            metrics.sent_bytes > PEERS << 20
        });
        let mut meanwhile: Vec<_> = (0..ROUND_TRIPS)
            .map(|_| {
                let before = server.metrics().sent_bytes;
                client.echo(b"May I?");
                server.metrics().sent_bytes - before
            })
            .collect();
        drop(hang_up);
        meanwhile.sort_unstable();
        // The scheduler may delay this thread, so the median round trip counts.
        let typical = meanwhile[ROUND_TRIPS / 2];
        assert!(
            typical <= SHARE * PEERS,
            "{typical} bytes for {PEERS} greedy peers before one echo: {meanwhile:?}"
        );
    });
    drop((peers, client));
    server.wait_for_all_closed(PEERS + 1);
}

/// Shuts the connections down, also when the test fails, so that no thread goes on for ever.
struct HangUp<'a>(&'a [Client]);

impl Drop for HangUp<'_> {
    fn drop(&mut self) {
        for client in self.0 {
            // It fails only for a connection that is gone already.
            let _ = client.shutdown(Shutdown::Both);
        }
    }
}
