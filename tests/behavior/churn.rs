//! Connections open and close in random order, so that descriptors and slab keys are reused all the
//! time: none ever sees another's bytes, events or end.

use std::num::NonZeroUsize;

use echomark::Config;
use echomark::metrics::CloseReason;

use crate::support::pattern::{Choices, Pattern};
use crate::support::{Client, Running, config, in_parallel};

const THREADS: usize = 4;
const STEPS: u64 = 1500;
/// Open at a time in one thread: enough that several close and connect within one turn of the loop.
const MAX_OPEN: usize = 12;

#[test]
fn no_connection_sees_anything_of_another() {
    let server = Running::start(config());
    let connections = churn(&server, 1);
    let metrics = server.wait_for_all_closed(connections);
    assert_eq!(metrics.closed(CloseReason::Error), 0, "{metrics:#?}");
}

#[test]
fn nor_does_one_with_a_small_buffer_and_several_workers() {
    let server = Running::start(Config {
        workers: NonZeroUsize::new(3).unwrap(),
        read_buffer: NonZeroUsize::new(512).unwrap(),
        ..config()
    });
    let connections = churn(&server, 1000);
    let metrics = server.wait_for_all_closed(connections);
    assert_eq!(metrics.closed(CloseReason::Error), 0, "{metrics:#?}");
}

/// Several threads, each with a seeded order of events. Returns the number of connections.
#[track_caller]
fn churn(server: &Running, seed: u64) -> u64 {
    let connections = in_parallel(THREADS, |thread| {
        churn_in_one_thread(server, seed + thread as u64)
    });
    connections.into_iter().sum()
}

/// One end of a connection and how far its stream is.
struct Peer {
    client: Client,
    pattern: Pattern,
    sent: u64,
    received: u64,
}

impl Peer {
    fn send(&mut self, count: usize) {
        let mut bytes = vec![0; count];
        self.pattern.fill(self.sent, &mut bytes);
        self.client.send(&bytes);
        self.sent += count as u64;
    }

    fn receive_up_to(&mut self, to: u64) {
        self.client.receive_stream(self.pattern, self.received, to);
        self.received = to;
    }
}

fn churn_in_one_thread(server: &Running, seed: u64) -> u64 {
    /// The most bytes under way, so that no send can block.
    const MAX_UNDER_WAY: u64 = 40_000;
    let mut choices = Choices::new(seed << 32);
    let mut peers: Vec<Peer> = Vec::new();
    let mut connections = 0;
    for step in 0..STEPS {
        if peers.is_empty() || (peers.len() < MAX_OPEN && choices.below(3) == 0) {
            connections += 1;
            peers.push(Peer {
                client: server.connect(),
                pattern: Pattern(seed << 32 | step),
                sent: 0,
                received: 0,
            });
            continue;
        }
        let index = choices.below(peers.len());
        let peer = &mut peers[index];
        let under_way = peer.sent - peer.received;
        match choices.below(10) {
            0..4 if under_way < MAX_UNDER_WAY => {
                let count = [1, 100, 5000, 20_000][choices.below(4)];
                peer.send(count);
            }
            0..7 => peer.receive_up_to(peer.received + under_way / 2),
            7 => {
                let mut peer = peers.swap_remove(index);
                peer.client.half_close();
                peer.receive_up_to(peer.sent);
                peer.client.expect_end();
            }
            8 => peers.swap_remove(index).client.reset(),
            // With unread input the close is a reset, and otherwise an end.
            _ => drop(peers.swap_remove(index)),
        }
    }
    for mut peer in peers {
        peer.receive_up_to(peer.sent);
        peer.client.half_close();
        peer.client.expect_end();
    }
    connections
}
