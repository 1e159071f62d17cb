//! Access lists: which clients are served, and how the others are closed.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;

use echomark::metrics::RefuseReason;
use echomark::net::cidr::Cidr;
use echomark::{Balance, Config, Limits};

use crate::support::{Client, Running, config, config_on, in_parallel};

fn prefixes(texts: &[&str]) -> Vec<Cidr> {
    let parse = |text: &&str| text.parse().expect("a prefix");
    texts.iter().map(parse).collect()
}

fn with_lists(config: Config, allow: &[&str], deny: &[&str]) -> Running {
    Running::start(Config {
        limits: Limits {
            allow: prefixes(allow),
            deny: prefixes(deny),
            ..Limits::default()
        },
        ..config
    })
}

/// Checks which sources are served and which read an end after sending, and the count of the
/// latter.
#[track_caller]
fn check(server: &Running, address: SocketAddr, served: &[&str], denied: &[&str]) {
    let from = |source: &&str| -> Client {
        let source: IpAddr = source.parse().expect("an address");
        Client::connect_from(source, address)
    };
    let before = server.metrics().refused(RefuseReason::Denied);
    for source in served {
        from(source).echo(b"let me in");
    }
    for source in denied {
        let mut client = from(source);
        client.send(b"let me in");
        client.expect_end();
    }
    let refused = server.metrics().refused(RefuseReason::Denied) - before;
    assert_eq!(refused, denied.len() as u64);
}

#[test]
fn the_longest_prefix_decides() {
    let server = with_lists(
        config(),
        &["127.0.0.0/8", "127.1.1.0/24"],
        &["127.1.0.0/16", "127.1.1.7"],
    );
    check(
        &server,
        server.address(),
        &["127.0.0.1", "127.1.1.6", "127.1.1.8", "127.2.0.1"],
        &["127.1.0.1", "127.1.1.7", "127.1.2.1"],
    );
}

#[test]
fn an_allow_list_denies_all_other_addresses() {
    let server = with_lists(config(), &["127.0.0.2", "10.0.0.0/8"], &[]);
    check(
        &server,
        server.address(),
        &["127.0.0.2"],
        &["127.0.0.1", "127.0.0.3"],
    );
    let server = with_lists(config(), &[], &["127.0.0.2", "10.0.0.0/8"]);
    check(
        &server,
        server.address(),
        &["127.0.0.1", "127.0.0.3"],
        &["127.0.0.2"],
    );
}

/// A listener for both families sees an IPv4 peer as an IPv4-mapped IPv6 address.
#[test]
fn an_ipv4_peer_of_an_ipv6_listener_is_an_ipv4_peer() {
    let server = with_lists(config_on("[::]"), &[], &["127.0.0.2", "::1"]);
    let port = server.address().port();
    let v4 = SocketAddr::from(([127, 0, 0, 1], port));
    let v6 = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port));
    check(&server, v4, &["127.0.0.1", "127.0.0.3"], &["127.0.0.2"]);
    check(&server, v6, &[], &["::1"]);
    let server = with_lists(config_on("[::]"), &["::ffff:127.0.0.0/120"], &["127.0.0.2"]);
    let v4 = SocketAddr::from(([127, 0, 0, 1], server.address().port()));
    check(&server, v4, &["127.0.0.1"], &["127.0.0.2", "127.0.1.1"]);
}

/// After a reset the peer could not tell that it was refused.
#[test]
fn a_denied_peer_that_goes_on_talking_reads_an_end_and_no_reset() {
    let server = with_lists(config(), &[], &["127.0.0.1"]);
    let mut client = server.connect();
    client.send(&[0; 1 << 20]);
    client.half_close();
    client.expect_end();
    let metrics = server.metrics();
    assert_eq!((metrics.accepted, metrics.received_bytes), (0, 0));
}

#[test]
fn a_storm_of_denied_peers_leaves_the_others_alone() {
    const THREADS: usize = 8;
    const EACH: usize = 100;
    for balance in [Balance::Kernel, Balance::LeastConnections] {
        let config = Config {
            workers: NonZeroUsize::new(3).unwrap(),
            balance,
            ..config()
        };
        let server = with_lists(config, &[], &["127.0.0.2/31"]);
        in_parallel(THREADS, |index| {
            for _ in 0..EACH {
                let source = IpAddr::from([127, 0, 0, index as u8 % 4 + 1]);
                let mut client = Client::connect_from(source, server.address());
                client.send(b"?");
                match index % 4 {
                    1 | 2 => client.expect_end(),
                    _ => assert_eq!(client.receive(1), b"?"),
                }
            }
        });
        let half = (THREADS * EACH / 2) as u64;
        let metrics = server.wait_for_all_closed(half);
        assert_eq!(metrics.refused(RefuseReason::Denied), half);
    }
}
