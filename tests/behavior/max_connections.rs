//! The limits on connections, in total, from each address and per second, hold exactly, and a
//! refused client reads an end, not a reset.

use std::io::Read;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use echomark::metrics::RefuseReason;
use echomark::{Balance, Config, Limits};

use crate::support::{Client, Running, config, in_parallel, wait_until};

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

/// Three workers with these limits.
fn with_limits(balance: Balance, limits: Limits) -> Running {
    Running::start(Config {
        workers: NonZeroUsize::new(3).unwrap(),
        balance,
        limits,
        ..config()
    })
}

const BALANCES: [Balance; 2] = [Balance::Kernel, Balance::LeastConnections];

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
    // Served clients stay connected until all have tried.
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
                // Before the server can see the close.
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
fn a_returned_permit_is_used_again() {
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

/// A refused client that sends a lot before it reads is not reset meanwhile: after a reset it could
/// not tell that it was refused.
#[test]
fn a_refused_client_may_talk_before_it_listens() {
    let server = limited(1);
    let mut clients: Vec<_> = (0..LIMIT).map(|_| server.connect()).collect();
    assert!(clients.iter_mut().all(is_served));
    let mut refused = server.connect();
    refused.send(&[0; 1 << 20]);
    refused.expect_end();
}

/// From several addresses at once, by several threads for each.
#[test]
fn exactly_as_many_as_allowed_are_served_from_each_address_in_a_storm() {
    const PER_IP: usize = 7;
    const ADDRESSES: usize = 3;
    const THREADS: usize = 3 * ADDRESSES;
    const CLIENTS_PER_THREAD: usize = 15;
    for balance in BALANCES {
        let server = with_limits(
            balance,
            Limits {
                max_connections_per_ip: NonZeroUsize::new(PER_IP),
                ..Limits::default()
            },
        );
        let source = |thread: usize| IpAddr::from([127, 0, 0, (thread % ADDRESSES) as u8 + 1]);
        // Twice, because all permits have to be returned.
        for round in 1..=2 {
            let barrier = Barrier::new(THREADS);
            let served = in_parallel(THREADS, |thread| {
                barrier.wait();
                let mut clients: Vec<_> = (0..CLIENTS_PER_THREAD)
                    .map(|_| Client::connect_from(source(thread), server.address()))
                    .collect();
                clients.retain_mut(is_served);
                clients
            });
            for address in 0..ADDRESSES {
                let of_address = served.iter().skip(address).step_by(ADDRESSES);
                assert_eq!(of_address.map(Vec::len).sum::<usize>(), PER_IP);
            }
            drop(served);
            let metrics = server.wait_for_all_closed((round * ADDRESSES * PER_IP) as u64);
            let refused = round * (THREADS * CLIENTS_PER_THREAD - ADDRESSES * PER_IP);
            let counted = metrics.refused(RefuseReason::MaxConnectionsPerIp);
            assert_eq!(counted, refused as u64);
        }
    }
}

#[test]
fn the_limit_per_address_holds_while_clients_come_and_go() {
    const PER_IP: usize = 5;
    const THREADS: usize = 6;
    const ROUNDS: usize = 60;
    for balance in BALANCES {
        let server = with_limits(
            balance,
            Limits {
                max_connections_per_ip: NonZeroUsize::new(PER_IP),
                ..Limits::default()
            },
        );
        let served_now = [AtomicUsize::new(0), AtomicUsize::new(0)];
        let served = in_parallel(THREADS, |thread| {
            let served_now = &served_now[thread % 2];
            let source = IpAddr::from([127, 0, 0, thread as u8 % 2 + 1]);
            let mut served = 0;
            for _ in 0..ROUNDS {
                let mut clients: Vec<_> = (0..3)
                    .map(|_| Client::connect_from(source, server.address()))
                    .collect();
                clients.retain_mut(|client| {
                    let is_served = is_served(client);
                    if is_served {
                        let now = served_now.fetch_add(1, Ordering::SeqCst) + 1;
                        assert!(now <= PER_IP, "{now} are served at once");
                    }
                    is_served
                });
                served += clients.len() as u64;
                for client in clients {
                    // Before the server can see the close.
                    served_now.fetch_sub(1, Ordering::SeqCst);
                    client.reset();
                }
            }
            served
        });
        let served = served.into_iter().sum();
        let metrics = server.wait_for_all_closed(served);
        let refused = (3 * THREADS * ROUNDS) as u64 - served;
        let counted = metrics.refused(RefuseReason::MaxConnectionsPerIp);
        assert_eq!(counted, refused);
    }
}

/// The rate is so low that it grants only its burst while the test runs.
#[test]
fn no_more_than_the_rate_allows_are_served_in_a_storm() {
    const THREADS: usize = 6;
    const CLIENTS_PER_THREAD: usize = 10;
    for balance in BALANCES {
        let limits = |accept_rate| Limits {
            accept_rate: Some(accept_rate),
            ..Limits::default()
        };
        let server = with_limits(balance, limits(1e-9));
        let served = in_parallel(THREADS, |_| {
            let mut clients: Vec<_> = (0..CLIENTS_PER_THREAD).map(|_| server.connect()).collect();
            clients.retain_mut(is_served);
            clients.len()
        });
        assert_eq!(served.into_iter().sum::<usize>(), 1);
        let metrics = server.wait_for_all_closed(1);
        let refused = (THREADS * CLIENTS_PER_THREAD - 1) as u64;
        assert_eq!(metrics.refused(RefuseReason::AcceptRate), refused);
        // A raised rate takes effect without waiting for the old one.
        server.handle.set_limits(&limits(1e6));
        wait_until("a served connection", || is_served(&mut server.connect()));
    }
}

#[test]
fn a_refusal_by_one_limit_takes_nothing_of_another() {
    let server = with_limits(
        Balance::Kernel,
        Limits {
            max_connections: NonZeroUsize::new(2),
            max_connections_per_ip: NonZeroUsize::new(1),
            accept_rate: Some(2.0),
            deny: vec!["127.0.0.9".parse().expect("a prefix")],
            ..Limits::default()
        },
    );
    let connect = |last| Client::connect_from(IpAddr::from([127, 0, 0, last]), server.address());
    let mut first = connect(1);
    assert!(is_served(&mut first));
    for _ in 0..20 {
        assert!(!is_served(&mut connect(9)), "denied");
        assert!(!is_served(&mut connect(1)), "one of its address is there");
    }
    // Of the rate's two tokens, only the first client took one.
    assert!(is_served(&mut connect(2)));
    first.echo(b"still there");
    let metrics = server.metrics();
    assert_eq!(metrics.accepted, 2);
    assert_eq!(metrics.refused(RefuseReason::Denied), 20);
    assert_eq!(metrics.refused(RefuseReason::MaxConnections), 0);
}

/// Each address has a rate of its own; a Unix socket's peer has none.
#[test]
fn each_address_is_served_at_most_at_its_accept_rate() {
    /// So low that it grants only its burst while the test runs.
    const ONE_EVER: f64 = 1e-9;
    const EACH: usize = 5;
    for balance in BALANCES {
        let server = with_limits(
            balance,
            Limits {
                accept_rate_per_ip: Some(ONE_EVER),
                ..Limits::default()
            },
        );
        let served = in_parallel(4, |index| {
            let source: IpAddr = format!("127.0.0.{}", index + 1).parse().unwrap();
            let connect = |_: &usize| Client::connect_from(source, server.address());
            (0..EACH)
                .filter(|turn| is_served(&mut connect(turn)))
                .count()
        });
        assert_eq!(served, [1; 4]);
        let metrics = server.wait_for_all_closed(4);
        let refused = metrics.refused(RefuseReason::AcceptRatePerIp);
        assert_eq!(refused, 4 * (EACH as u64 - 1));
    }
}
