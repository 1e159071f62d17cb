//! Memory for what peers send and never read back: a budget for all of them, and no end of the
//! process when an allocation fails.

use std::net::SocketAddr;
use std::process::Command;

use echomark::{Config, Service};

use crate::support::echod::{Echod, PROGRAM, page};
use crate::support::pattern::Pattern;
use crate::support::{Client, Running, config, config_for, wait_until};

/// Small, so that many peers don't fill the kernel's memory.
const SOCKET_BUFFER: usize = 32 << 10;
/// Bytes for each peer: more than the buffers on the way hold.
const FLOOD: usize = 512 << 10;

#[test]
fn peers_that_never_read_share_a_budget_and_lose_nothing() {
    const PEERS: u64 = 100;
    const BUDGET: u64 = 800 << 10;
    let config = config();
    let server = Running::start(Config {
        backlog_memory: Some(BUDGET),
        ..small_buffers(config)
    });
    let peers: Vec<_> = (0..PEERS)
        .map(|number| flood(&server, Pattern(number)))
        .collect();
    let metrics = server.metrics();
    assert!(metrics.backlog_bytes <= BUDGET, "{metrics:#?}");
    assert!(metrics.peeked_reads > 0, "the budget was not reached");
    // They delay nobody, with or without memory.
    let mut other = server.connect();
    other.echo_stream(Pattern(PEERS), 1 << 20);
    for (number, (mut peer, sent)) in peers.into_iter().enumerate() {
        peer.receive_stream(Pattern(number as u64), 0, sent);
        peer.half_close();
        peer.expect_end();
    }
    server.wait_for_metrics("end of the backlogs", |metrics| {
        metrics.backlog_bytes == 0 && metrics.received_bytes == metrics.sent_bytes
    });
    // The budget is free again.
    let before = server.metrics().peeked_reads;
    other.echo(b"as at the start");
    assert_eq!(server.metrics().peeked_reads, before);
}

#[test]
fn without_any_budget_an_echo_only_costs_more() {
    for service in [Service::Echo, Service::Discard, Service::Chargen] {
        let server = Running::start(Config {
            backlog_memory: Some(0),
            ..config_for(service, "tcp://127.0.0.1:0")
        });
        let mut client = server.connect();
        match service {
            Service::Echo => {
                client.echo(b"small");
                client.echo_stream(Pattern(1), 10 << 20);
                client.send_urgent(b"urgent");
                assert_eq!(client.receive(6), b"urgent");
                client.half_close();
                client.expect_end();
                let metrics = server.wait_for_all_closed(1);
                assert_eq!(metrics.received_bytes, metrics.sent_bytes);
                assert!(metrics.peeked_reads > 0);
            }
            Service::Discard => {
                client.send_stream(Pattern(1), 1 << 20);
                client.half_close();
                client.expect_end();
            }
            Service::Chargen => assert_eq!(client.receive(100_000).len(), 100_000),
            Service::Whoami => unreachable!("not listed"),
        }
    }
}

/// With a limit on its address space (RLIMIT_AS), some allocations for these peers fail.
#[test]
fn at_the_limit_of_its_memory_it_goes_on() {
    const PEERS: usize = 2000;
    const HEADROOM: u64 = 4 << 20;
    let size = SOCKET_BUFFER.to_string();
    // The C library reserves address space for each thread's memory, which would count before it is
    // used.
    let mut command = Command::new(PROGRAM);
    let echod = Echod::start_command(command.env("MALLOC_ARENA_MAX", "1").args([
        "--echo=tcp://127.0.0.1:0",
        "--workers=2",
        "--backlog-memory=off",
        &format!("--send-buffer={size}"),
        &format!("--recv-buffer={size}"),
    ]));
    let mut other = echod.connect();
    other.echo(b"before");
    let mut peers = connect(echod.address(), PEERS);
    // A connection for which there is no memory at its start may be refused, so all are open first.
    for peer in &mut peers {
        peer.echo(b"open");
    }
    echod.limit_memory(HEADROOM);
    flood_all(&peers);
    for round in 0..20 {
        other.echo_stream(Pattern(round), 10_000);
    }
    // Nobody was closed for it.
    for peer in &mut peers {
        let read = peer.receive_at_once(&mut [0]);
        assert!(read.is_ok_and(|it| it != Some(0)), "a peer was closed");
    }
    drop(peers);
    wait_until("free memory", || {
        other.echo_stream(Pattern(1), 1 << 20);
        Client::try_connect(echod.address()).is_ok_and(|mut it| {
            it.echo(b"as before");
            true
        })
    });
}

/// Some allocations can't fail in order: those for a scrape, and for lines of the log.
#[test]
fn at_the_limit_of_its_memory_scrapes_and_log_lines_end_nothing() {
    const PEERS: usize = 2000;
    const HEADROOM: u64 = 4 << 20;
    let size = SOCKET_BUFFER.to_string();
    let mut command = Command::new(PROGRAM);
    let mut echod = Echod::start_command(command.env("MALLOC_ARENA_MAX", "1").args([
        "--echo=tcp://127.0.0.1:0",
        "--admin=127.0.0.1:0",
        "--workers=1",
        "--log-level=debug",
        "--backlog-memory=off",
        &format!("--send-buffer={size}"),
        &format!("--recv-buffer={size}"),
    ]));
    let admin = echod.address_of("admin http://");
    let mut other = echod.connect();
    other.echo(b"before");
    echod.limit_memory(HEADROOM);
    let peers = connect(echod.address(), PEERS);
    flood_all(&peers);
    for round in 0..50 {
        // There may be no memory for an answer.
        for path in ["/metrics", "/info", "/livez"] {
            let _ = page(admin, path);
        }
        // A line of the log each time.
        drop(Client::try_connect(echod.address()));
        assert!(echod.is_running(), "it ended in round {round}");
        other.echo_stream(Pattern(round), 10_000);
    }
    drop(peers);
    wait_until("a scrape", || page(admin, "/metrics").is_some());
    other.echo(b"as before");
}

fn small_buffers(mut config: Config) -> Config {
    config.tuning.send_buffer = Some(SOCKET_BUFFER);
    config.tuning.recv_buffer = Some(SOCKET_BUFFER);
    config
}

/// A peer that sends until the server takes no more, and reads nothing.
#[track_caller]
fn flood(server: &Running, pattern: Pattern) -> (Client, u64) {
    /// Tries in a row that moved nothing.
    const QUIET: usize = 3;
    let client = Client::connect_with_buffers(server.address(), SOCKET_BUFFER);
    let mut chunk = vec![0; 16 << 10];
    let (mut sent, mut quiet) = (0, 0);
    wait_until("back-pressure", || {
        pattern.fill(sent, &mut chunk);
        let taken = client.send_at_once(&chunk);
        sent += taken as u64;
        quiet = if taken == 0 { quiet + 1 } else { 0 };
        quiet == QUIET
    });
    (client, sent)
}

#[track_caller]
fn connect(address: SocketAddr, count: usize) -> Vec<Client> {
    let connect = |_| Client::connect_with_buffers(address, SOCKET_BUFFER);
    (0..count).map(connect).collect()
}

/// Each peer sends as much as fits on the way, and reads nothing.
#[track_caller]
fn flood_all(peers: &[Client]) {
    let chunk = Pattern(0).bytes(FLOOD);
    for _ in 0..3 {
        for peer in peers {
            peer.send_at_once(&chunk);
        }
    }
}
