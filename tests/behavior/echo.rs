//! Every byte comes back: over IPv4 and IPv6, at any size, for many clients at once, with any setup
//! of workers.

use std::io::Read;
use std::num::NonZeroUsize;
use std::thread;
use std::time::Duration;

use echomark::{Config, Spin};

use crate::support::pattern::Pattern;
use crate::support::{Client, Running, config, config_on, in_parallel, wait_until};

#[test]
fn messages_of_any_size_come_back() {
    let server = Running::start(config());
    let mut client = server.connect();
    for (index, size) in [
        1,
        2,
        7,
        64,
        1000,
        1448,
        4096,
        (64 << 10) - 1,
        64 << 10,
        (64 << 10) + 1,
        300_000,
        1 << 20,
    ]
    .into_iter()
    .enumerate()
    {
        client.echo_stream(Pattern(index as u64), size);
    }
    client.half_close();
    client.expect_end();
}

#[test]
fn every_endpoint_of_a_server_echoes() {
    let mut config = config();
    config.services.extend(config_on("[::1]").services);
    config.services.extend(config_on("127.0.0.1").services);
    let server = Running::start(Config {
        workers: NonZeroUsize::new(2).unwrap(),
        ..config
    });
    assert_eq!(server.addresses.len(), 3);
    assert!(server.addresses[0].is_ipv4() && server.addresses[1].is_ipv6());
    let mut clients: Vec<_> = server
        .addresses
        .iter()
        .map(|&address| Client::connect(address))
        .collect();
    for client in &mut clients {
        client.echo(b"Hello, World!");
    }
}

#[test]
fn many_clients_at_once_each_get_their_own_bytes() {
    const CLIENTS: usize = 64;
    const BYTES: u64 = 256 << 10;
    let server = Running::start(Config {
        workers: NonZeroUsize::new(3).unwrap(),
        ..config()
    });
    in_parallel(CLIENTS, |index| {
        let mut client = server.connect();
        for size in [1, 100, BYTES] {
            client.echo_stream(Pattern(index as u64), size);
        }
    });
    server.wait_for_all_closed(CLIENTS as u64);
}

#[test]
fn a_read_buffer_of_one_byte_echoes_as_well() {
    let server = Running::start(Config {
        read_buffer: NonZeroUsize::MIN,
        ..config()
    });
    let mut client = server.connect();
    client.echo_stream(Pattern(1), 5000);
    client.half_close();
    client.expect_end();
}

#[test]
fn workers_that_never_sleep_echo() {
    echoes_with(Config {
        spin: Spin::Always,
        ..config()
    });
}

#[test]
fn workers_that_stay_awake_for_a_while_echo_while_awake_and_asleep() {
    for spin in [Spin::For(Duration::from_millis(20)), Spin::Auto] {
        echoes_and_falls_asleep(spin);
    }
}

#[track_caller]
fn echoes_and_falls_asleep(spin: Spin) {
    let server = Running::start(Config { spin, ..config() });
    let mut client = server.connect();
    client.echo_stream(Pattern(1), 100_000);
    // An awake loop turns all the time; once it sleeps, two reads of its counter agree.
    let mut turns = server.metrics().loop_iterations;
    let mut idle = server.connect();
    idle.set_read_timeout(Some(Duration::from_millis(50)))
        .expect("a timeout");
    wait_until("sleeping worker", || {
        // Nothing is sent on this connection: this waits for the timeout of the read.
        assert!(idle.read(&mut [0]).is_err());
        let before = std::mem::replace(&mut turns, server.metrics().loop_iterations);
        before == turns
    });
    client.echo(b"Are you asleep?");
}

#[test]
fn pinned_workers_echo() {
    echoes_with(Config {
        pin: true,
        // One more than there may be processors: the last shares one with the first.
        workers: config().workers.saturating_add(available_cpus()),
        ..config()
    });
}

#[track_caller]
fn echoes_with(config: Config) {
    let clients = 2 * config.workers.get();
    let server = Running::start(config);
    let mut clients: Vec<_> = (0..clients).map(|_| server.connect()).collect();
    for (seed, client) in clients.iter_mut().enumerate() {
        client.echo_stream(Pattern(seed as u64), 100_000);
        client.half_close();
        client.expect_end();
    }
}

fn available_cpus() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
