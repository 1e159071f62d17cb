//! The limit on connections holds exactly, and whoever is refused reads an end, not a reset.

use std::io::Read;
use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use echomark::metrics::RefuseReason;
use echomark::{Config, Limits};

use crate::support::{Client, Running, config, in_parallel};

const LIMIT: usize = 20;

fn limited(workers: usize) -> Running {
    Running::start(Config {
        limits: Limits {
            max_connections: NonZeroUsize::new(LIMIT),
            ..Limits::default()
        },
        workers: NonZeroUsize::new(workers).unwrap(),
        ..config()
    })
}

/// Whether the server echoes what this client sends, rather than refusing it in good order.
#[track_caller]
fn is_served(client: &mut Client) -> bool {
    client.send(b"?");
    client.read(&mut [0]).expect("an echo or an end") == 1
}

#[test]
fn exactly_as_many_as_allowed_are_served_in_a_storm() {
    const THREADS: usize = 10;
    const CLIENTS_PER_THREAD: usize = 20;
    let server = limited(2);
    let barrier = Barrier::new(THREADS);
    // Nobody leaves before everybody knows: all that are served are kept.
    let served = in_parallel(THREADS, |_| {
        barrier.wait();
        let mut clients: Vec<_> = (0..CLIENTS_PER_THREAD).map(|_| server.connect()).collect();
        clients.retain_mut(is_served);
        for client in &mut clients {
            client.echo(b"one of the lucky few");
        }
        clients
    });
    let served: Vec<_> = served.into_iter().flatten().collect();
    assert_eq!(served.len(), LIMIT);
    drop(served);
    let metrics = server.wait_for_all_closed(LIMIT as u64);
    let refused = (THREADS * CLIENTS_PER_THREAD - LIMIT) as u64;
    assert_eq!(metrics.refused(RefuseReason::MaxConnections), refused);
}

#[test]
fn the_limit_holds_while_clients_come_and_go() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 100;
    /// More in total than the limit allows.
    const CLIENTS_PER_THREAD: usize = 4;
    let server = limited(2);
    let served_now = AtomicUsize::new(0);
    let served = in_parallel(THREADS, |_| {
        let mut served = 0;
        for _ in 0..ROUNDS {
            let mut clients: Vec<_> = (0..CLIENTS_PER_THREAD).map(|_| server.connect()).collect();
            clients.retain_mut(|client| {
                let is_served = is_served(client);
                if is_served {
                    let now = served_now.fetch_add(1, Ordering::SeqCst) + 1;
                    assert!(now <= LIMIT, "{now} are served at once");
                }
                is_served
            });
            served += clients.len();
            for client in clients {
                // Before the server can know that its place is free.
                served_now.fetch_sub(1, Ordering::SeqCst);
                drop(client);
            }
        }
        served
    });
    let served: usize = served.into_iter().sum();
    let metrics = server.wait_for_all_closed(served as u64);
    let refused = (THREADS * ROUNDS * CLIENTS_PER_THREAD - served) as u64;
    assert_eq!(metrics.refused(RefuseReason::MaxConnections), refused);
}

#[test]
fn a_place_that_becomes_free_is_used_again() {
    const ROUNDS: usize = 5;
    let server = limited(1);
    let mut clients: Vec<_> = (0..LIMIT).map(|_| server.connect()).collect();
    assert!(clients.iter_mut().all(is_served));
    for round in 0..ROUNDS {
        assert!(!is_served(&mut server.connect()), "one above the limit");
        drop(clients.remove(round));
        server.wait_for_metrics("a free place", |m| m.active == LIMIT as u64 - 1);
        let mut next = server.connect();
        assert!(is_served(&mut next), "a free place was not given");
        clients.push(next);
    }
    drop(clients);
    let metrics = server.wait_for_all_closed((LIMIT + ROUNDS) as u64);
    assert_eq!(metrics.refused(RefuseReason::MaxConnections), ROUNDS as u64);
}

/// A refused client that says a lot before it listens is not reset while it speaks, which would
/// take from it that it was refused in good order.
#[test]
fn a_refused_client_may_talk_before_it_listens() {
    let server = limited(1);
    let mut clients: Vec<_> = (0..LIMIT).map(|_| server.connect()).collect();
    assert!(clients.iter_mut().all(is_served));
    let mut refused = server.connect();
    refused.send(&[0; 1 << 20]);
    refused.expect_end();
}
