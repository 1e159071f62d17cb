//! The server as a library: bound before it runs, controlled from other threads, counted exactly.

use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::thread;

use echomark::metrics::{CloseReason, RefuseReason};
use echomark::net::endpoint::Endpoint;
use echomark::{Config, Error, Server, Service};

use crate::support::pattern::Pattern;
use crate::support::{
    Client, Running, addresses, config, config_on, in_parallel, wait_for, wait_until,
};

#[test]
fn a_server_that_never_runs_gives_its_port_back() {
    // An address that no other test uses, so that no other test can get the port meanwhile.
    let server = Server::bind(Config {
        workers: NonZeroUsize::new(3).unwrap(),
        ..config_on("127.0.0.13")
    })
    .expect("a free port");
    let address = addresses(&server)[0];
    let handle = server.handle();
    assert!(TcpListener::bind(address).is_err(), "the port is taken");
    drop(server);
    wait_until_free(address);
    // Calls on the handle of a dropped server have no effect.
    handle.drain();
    handle.stop();
}

#[test]
fn a_server_that_ended_gives_its_port_back() {
    let server = Running::start(config_on("127.0.0.14"));
    let address = server.address();
    server.connect().echo(b"Hello, World!");
    server.handle.stop();
    server.join();
    wait_until_free(address);
}

/// Not at once, because a child process of another test may have copies of all descriptors for a
/// moment, between fork(2) and execve(2).
#[track_caller]
fn wait_until_free(address: SocketAddr) {
    wait_until("free port", || TcpListener::bind(address).is_ok());
}

#[test]
fn a_stop_from_another_thread_ends_it_with_connections_open() {
    let server = Running::start(Config {
        workers: NonZeroUsize::new(2).unwrap(),
        ..config()
    });
    let mut clients: Vec<_> = (0..10).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.echo(b"Hello, World!");
    }
    let handle = server.handle.clone();
    thread::spawn(move || handle.stop())
        .join()
        .expect("stop does not panic");
    let metrics = server.join();
    assert_eq!(metrics.closed(CloseReason::Stopped), 10);
    assert_eq!(metrics.active, 0);
}

#[test]
fn a_stop_before_the_run_ends_it_at_once() {
    let server = Server::bind(config()).expect("a free port");
    server.handle().stop();
    let metrics = Running::run(server).join();
    assert_eq!(metrics.accepted, 0);
}

#[test]
fn the_counters_match_the_traffic_exactly() {
    const CLIENTS: u64 = 30;
    let server = Running::start(Config {
        workers: NonZeroUsize::new(3).unwrap(),
        ..config()
    });
    let bytes = in_parallel(CLIENTS as usize, |index| {
        let mut client = server.connect();
        let bytes = (index as u64 + 1) * 10_007;
        client.echo_stream(Pattern(index as u64), bytes);
        client.half_close();
        client.expect_end();
        bytes
    });
    let bytes: u64 = bytes.into_iter().sum();
    let metrics = server.wait_for_all_closed(CLIENTS);
    assert_eq!(metrics.received_bytes, bytes);
    assert_eq!(metrics.sent_bytes, bytes);
    assert_eq!(metrics.closed(CloseReason::Finished), CLIENTS);
    assert_eq!(metrics.refused(RefuseReason::MaxConnections), 0);
    // `run` returns the same counters at the end.
    server.handle.drain();
    let total = server.join();
    assert_eq!(total.received_bytes, bytes);
    assert_eq!(total.accepted, CLIENTS);
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address");
    let mut config = config();
    config.services[0].1 = Endpoint::Tcp(address.into());
    match Server::bind(config) {
        Err(error @ Error::Bind { .. }) => {
            assert!(error.to_string().contains(&address.to_string()), "{error}");
        }
        other => panic!("expected an address in use, got {other:?}"),
    }
}

/// Both families at one port, in either order, and IPv6 alone takes both.
#[test]
fn a_port_can_be_served_on_both_families() {
    for hosts in [["0.0.0.0", "[::]"], ["[::]", "0.0.0.0"]] {
        let (server, port) = wait_for("a port that is free on both", || {
            let probe = TcpListener::bind("[::]:0").expect("a free port");
            let port = probe.local_addr().expect("an address").port();
            drop(probe);
            // Another test may be faster to take it.
            let server = Server::bind(on_port(port, hosts)).ok()?;
            Some((Running::run(server), port))
        });
        for host in ["127.0.0.1", "::1"] {
            let address = SocketAddr::new(host.parse().unwrap(), port);
            Client::connect(address).echo(b"either way");
        }
        server.handle.drain();
        server.join();
    }
    let server = Running::start(config_on("[::]"));
    let port = server.address().port();
    Client::connect(SocketAddr::new("127.0.0.1".parse().unwrap(), port)).echo(b"mapped");
}

fn on_port(port: u16, hosts: [&str; 2]) -> Config {
    let mut services = Vec::new();
    for host in hosts {
        for scheme in ["tcp", "udp"] {
            let endpoint = format!("{scheme}://{host}:{port}");
            services.push((Service::Echo, endpoint.parse().expect("an endpoint")));
        }
    }
    Config {
        services,
        workers: NonZeroUsize::new(2).unwrap(),
        ..config()
    }
}
