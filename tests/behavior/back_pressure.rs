//! Flow control end to end: the server stops reading from a peer that does not read. Such a peer
//! costs a bounded amount of memory, delays no other, and gets everything when it reads at last.

use std::num::NonZeroUsize;

use echomark::Config;

use crate::support::echod::Echod;
use crate::support::pattern::Pattern;
use crate::support::{Client, Running, config, wait_until};

const READ_BUFFER: u64 = 64 << 10;
/// Small enough that a thousand peers don't fill the kernel's memory, and large enough that the
/// server still has a backlog for each of them.
const SOCKET_BUFFER: usize = 32 << 10;

#[test]
fn a_peer_that_reads_late_gets_everything() {
    let server = Running::start(config());
    let pattern = Pattern(1);
    let mut client = server.connect();
    let sent = client.send_until_blocked(pattern, || server.metrics().backlog_bytes > 0);
    assert!(server.metrics().short_writes > 0);
    client.receive_stream(pattern, 0, sent);
    server.wait_for_metrics("end of the backlog", |metrics| {
        metrics.backlog_bytes == 0 && metrics.received_bytes == sent && metrics.sent_bytes == sent
    });
    client.echo(b"still there");
}

/// Each read of the peer makes room and wakes the server, without any other event: the peer sends
/// nothing more.
#[test]
fn every_time_that_room_appears_more_arrives() {
    const ROUNDS: u64 = 20;
    let mut config = config();
    config.tuning.send_buffer = Some(SOCKET_BUFFER);
    let server = Running::start(Config {
        read_buffer: NonZeroUsize::new(5000).unwrap(),
        ..config
    });
    for round in 0..ROUNDS {
        let pattern = Pattern(round);
        let mut client = Client::connect_with_buffers(server.address(), 64 << 10);
        let sent = client.send_until_blocked(pattern, || server.metrics().backlog_bytes > 0);
        client.receive_stream(pattern, 0, sent);
        client.half_close();
        client.expect_end();
        drop(client);
        server.wait_for_all_closed(round + 1);
    }
}

#[test]
fn the_backlog_of_peers_that_never_read_is_at_most_one_buffer_each() {
    const PEERS: u64 = 50;
    let mut config = config();
    config.tuning.send_buffer = Some(SOCKET_BUFFER);
    config.tuning.recv_buffer = Some(SOCKET_BUFFER);
    config.read_buffer = NonZeroUsize::new(READ_BUFFER as usize).unwrap();
    let server = Running::start(config);
    let mut peers = flood(server.address(), PEERS as usize, || {
        let metrics = server.metrics();
        assert!(metrics.backlog_bytes <= PEERS * READ_BUFFER, "{metrics:#?}");
    });
    server.wait_for_metrics(
        "backlog that is what was received and not sent",
        |metrics| {
            metrics.backlog_bytes > 0
                && metrics.received_bytes == metrics.sent_bytes + metrics.backlog_bytes
        },
    );
    for peer in peers.drain(..) {
        peer.reset();
    }
    server.wait_for_all_closed(PEERS);
}

#[test]
fn a_thousand_peers_that_never_read_cost_no_more_than_a_buffer_each() {
    const PEERS: usize = 1000;
    const LIMIT: u64 = PEERS as u64 * READ_BUFFER + (32 << 20);
    let size = SOCKET_BUFFER.to_string();
    let echod = Echod::start(&[
        "--echo=tcp://127.0.0.1:0",
        "--workers=2",
        &format!("--read-buffer={READ_BUFFER}"),
        &format!("--send-buffer={size}"),
        &format!("--recv-buffer={size}"),
    ]);
    let mut other = echod.connect();
    let mut messages = 0;
    let peers = flood(echod.address(), PEERS, || {
        other.echo_stream(Pattern(messages), 1000);
        messages += 1;
        let resident = echod.resident_bytes();
        assert!(resident < LIMIT, "{resident} bytes for {PEERS} peers");
    });
    // They are still connected, and other clients are still served.
    for _ in 0..100 {
        other.echo_stream(Pattern(messages), 100_000);
        messages += 1;
    }
    assert!(echod.resident_bytes() < LIMIT);
    drop(peers);
}

/// Connects `count` peers that never read and send until the server takes no more from any of them.
/// Calls `each_round` in between.
#[track_caller]
fn flood(address: std::net::SocketAddr, count: usize, mut each_round: impl FnMut()) -> Vec<Client> {
    /// More than all buffers on the way hold. A server without back-pressure would take more, and
    /// exceed the limit on its memory.
    const MAX_SENT: usize = 1 << 20;
    /// Rounds in a row in which no peer could send. Each takes at least as long as a round trip of
    /// another client or the pause between two rounds, enough for the server to read.
    const QUIET_ROUNDS: usize = 20;
    let mut peers: Vec<_> = (0..count)
        .map(|_| (Client::connect_with_buffers(address, SOCKET_BUFFER), 0))
        .collect();
    let chunk = Pattern(0).bytes(16 << 10);
    let mut quiet_rounds = 0;
    wait_until("peers that can't send any more", || {
        let mut quiet = true;
        for (peer, sent) in &mut peers {
            let taken = peer.send_at_once(&chunk);
            quiet &= taken == 0;
            *sent += taken;
            assert!(
                *sent < MAX_SENT,
                "a peer that never reads sent {sent} bytes"
            );
        }
        each_round();
        quiet_rounds = if quiet { quiet_rounds + 1 } else { 0 };
        quiet_rounds == QUIET_ROUNDS
    });
    peers.into_iter().map(|(peer, _)| peer).collect()
}
