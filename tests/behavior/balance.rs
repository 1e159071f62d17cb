//! The least loaded worker serves: connections are distributed evenly, and none is lost between the
//! worker that accepts and the worker that serves.

use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use echomark::metrics::CloseReason;
use echomark::{Balance, Config, Server, Service};

use crate::support::pattern::Pattern;
use crate::support::{
    Client, DEADLINE, Running, addresses, config, config_on, connect_until_refused, in_parallel,
    wait_until,
};

const WORKERS: usize = 4;

fn balanced(config: Config) -> Config {
    Config {
        workers: NonZeroUsize::new(WORKERS).unwrap(),
        balance: Balance::LeastConnections,
        ..config
    }
}

/// Connections open at each worker.
fn active(server: &Running) -> Vec<u64> {
    let workers = server.handle.workers();
    workers.iter().map(|worker| worker.active).collect()
}

#[track_caller]
fn assert_even(server: &Running) {
    let active = active(server);
    let (min, max) = (active.iter().min(), active.iter().max());
    assert!(max.unwrap() - min.unwrap() <= 1, "{active:?}");
}

/// Connects `count` clients one after the other, each served before the next, and returns them with
/// their workers.
#[track_caller]
fn connect(server: &Running, count: usize) -> Vec<(usize, Client)> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        let before = active(server);
        let mut client = server.connect();
        client.echo(b"who serves me?");
        let now = active(server);
        let mut changed = before.iter().zip(&now).map(|(before, now)| now - before);
        let worker = changed.position(|more| more == 1).expect("a worker");
        clients.push((worker, client));
    }
    clients
}

#[test]
fn idle_connections_are_spread_evenly_however_they_come() {
    let server = Running::start(balanced(config()));
    let one_by_one = connect(&server, 42);
    assert_even(&server);
    let at_once = in_parallel(7, |_| {
        let mut clients: Vec<_> = (0..17).map(|_| server.connect()).collect();
        clients.iter_mut().for_each(|client| client.echo(b"hello"));
        clients
    });
    assert_even(&server);
    drop((one_by_one, at_once));
    server.wait_for_all_closed(42 + 7 * 17);
}

/// More connections than an inbox holds wait before the workers start.
#[test]
fn a_queue_is_spread_evenly_too() {
    const CLIENTS: usize = 1500;
    let server = Server::bind(balanced(config())).expect("a free port");
    let address = addresses(&server)[0];
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(address)).collect();
    let server = Running::run(server);
    for client in &mut clients {
        client.echo(b"I was here before");
    }
    assert_even(&server);
    drop(clients);
    server.wait_for_all_closed(CLIENTS as u64);
}

#[test]
fn new_connections_go_to_workers_with_closed_connections() {
    const EACH: usize = 10;
    let server = Running::start(balanced(config()));
    let mut clients = connect(&server, WORKERS * EACH);
    for worker in 0..WORKERS {
        clients.retain(|(by, _)| *by != worker);
        server.wait_for_metrics("free places", |it| {
            it.active == (EACH * (WORKERS - 1)) as u64
        });
        let next = connect(&server, EACH);
        assert!(next.iter().all(|(by, _)| *by == worker), "to {worker}");
        clients.extend(next);
        assert_even(&server);
    }
}

#[test]
fn every_connection_of_a_storm_is_served() {
    const THREADS: usize = 8;
    const EACH: usize = 150;
    let mut config = balanced(config());
    // Two listeners, both accepted by one worker.
    config.services.extend(config.services.clone());
    let server = Running::start(config);
    let barrier = Barrier::new(THREADS);
    let staying = in_parallel(THREADS, |thread| {
        let address = server.addresses[thread % 2];
        barrier.wait();
        let mut clients: Vec<_> = (0..EACH).map(|_| Client::connect(address)).collect();
        for client in &mut clients {
            client.echo_stream(Pattern(thread as u64), 3000);
        }
        // Half of them leave at once, in different ways, while others connect.
        barrier.wait();
        for (index, client) in clients.split_off(EACH / 2).into_iter().enumerate() {
            if index % 2 == 0 {
                client.reset();
            }
            clients.push(Client::connect(address));
        }
        for client in &mut clients {
            client.echo(b"I stay");
        }
        clients
    });
    let total = (THREADS * EACH) as u64;
    server.wait_for_metrics("only those that stay", |it| it.active == total);
    drop(staying);
    server.wait_for_all_closed(total + total / 2);
}

/// Connections that the kernel completed before the first turn of the loop, and a drain that was
/// requested before it too.
#[test]
fn a_drain_serves_all_that_waits_to_be_accepted() {
    const CLIENTS: usize = 1500;
    let server = Server::bind(balanced(config())).expect("a free port");
    let address = addresses(&server)[0];
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(address)).collect();
    server.handle().drain();
    let server = Running::run(server);
    for client in &mut clients {
        client.echo(b"I was here before");
    }
    drop(clients);
    let metrics = server.join();
    assert_eq!(metrics.accepted, CLIENTS as u64);
    assert_eq!(metrics.closed(CloseReason::DrainTimeout), 0);
}

/// Earlier input is answered even with a drain timeout of zero.
#[test]
fn a_drain_without_time_serves_all_that_waits_to_be_accepted() {
    const CLIENTS: usize = 1500;
    let server = Server::bind(Config {
        drain_timeout: Duration::ZERO,
        ..balanced(config())
    })
    .expect("a free port");
    let address = addresses(&server)[0];
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = Client::connect(address);
            client.send(b"I was here before");
            client
        })
        .collect();
    server.handle().drain();
    let server = Running::run(server);
    for client in &mut clients {
        assert_eq!(client.receive(17), b"I was here before");
        client.expect_end();
    }
    drop(clients);
    assert_eq!(server.join().accepted, CLIENTS as u64);
}

/// Connects never stop while the listener closes. Each that succeeds is served.
#[test]
fn no_connect_that_succeeds_is_lost_when_the_listener_closes() {
    const ROUNDS: usize = 10;
    const THREADS: usize = 4;
    for _ in 0..ROUNDS {
        // An address that no other test uses, so that no other test can get the port meanwhile.
        let server = Running::start(Config {
            drain_timeout: Duration::from_secs(600),
            ..balanced(config_on("127.0.0.15"))
        });
        let served = AtomicUsize::new(0);
        in_parallel(THREADS + 1, |index| {
            if index == THREADS {
                wait_until("connects", || served.load(Ordering::Relaxed) > 100);
                server.handle.drain();
            } else {
                connect_until_refused(server.address(), &served);
            }
        });
        let metrics = server.join();
        assert!(metrics.accepted as usize >= served.into_inner());
        assert_eq!(metrics.closed(CloseReason::DrainTimeout), 0);
    }
}

/// A stop meets connections in all states, also in an inbox.
#[test]
fn a_stop_in_the_middle_of_a_storm_ends_everything() {
    const THREADS: usize = 4;
    for _ in 0..10 {
        let server = Running::start(balanced(config_on("127.0.0.16")));
        let connected = AtomicUsize::new(0);
        in_parallel(THREADS + 1, |index| {
            if index == THREADS {
                wait_until("connects", || connected.load(Ordering::Relaxed) > 100);
                server.handle.stop();
                return;
            }
            let end = Instant::now() + DEADLINE;
            while let Ok(client) = Client::try_connect(server.address()) {
                connected.fetch_add(1, Ordering::Relaxed);
                client.reset();
                assert!(Instant::now() < end, "the server was not stopped");
            }
        });
        assert_eq!(server.join().active, 0);
    }
}

/// A connection keeps the service of its endpoint on every worker.
#[test]
fn each_connection_gets_the_service_of_its_endpoint() {
    let mut config = balanced(config());
    let endpoint = config.services[0].1.clone();
    config.services.push((Service::Chargen, endpoint.clone()));
    config.services.push((Service::Discard, endpoint));
    let server = Running::start(config);
    let mut clients = Vec::new();
    for round in 1..=2 * WORKERS as u64 {
        let [mut echo, mut chargen, mut discard] =
            [0, 1, 2].map(|index| Client::connect(server.addresses[index]));
        echo.echo(b"hello");
        assert_eq!(chargen.receive(5), b" !\"#$");
        let before = server.metrics().received_bytes;
        discard.send(b"hello");
        server.wait_for_metrics("input", |it| it.received_bytes == before + 5);
        discard.half_close();
        discard.expect_end();
        clients.push((echo, chargen));
        assert_eq!(server.metrics().accepted, 3 * round);
    }
}
