//! Limits of an open connection: enough moved bytes (stall) and a maximum age (lifetime); and a
//! reload of limits, which reaches open connections.

use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::time::Duration;

use echomark::metrics::{CloseReason, RefuseReason};
use echomark::{Config, Limits, Service};

use crate::support::echod::Echod;
use crate::support::pattern::Pattern;
use crate::support::{Client, Running, config, config_for, in_parallel, wait_for, wait_until};

/// Longer than a busy machine delays a thread's next message.
const LONG: Duration = Duration::from_secs(2);
const SHORT: Duration = Duration::from_millis(100);

fn with_limits(limits: Limits) -> Running {
    Running::start(Config { limits, ..config() })
}

fn stalling_after(timeout: Duration, bytes: u64) -> Limits {
    Limits {
        stall_timeout: Some(timeout),
        stall_bytes: bytes,
        ..Limits::default()
    }
}

/// Sends a byte now and then until the server ends the connection.
#[track_caller]
fn drip_until_ended(client: &mut Client) {
    wait_until("end of a connection that drips", || {
        // After the server's end a write may fail; the read comes first.
        client.send(b".");
        let mut echo = [0; 64];
        client
            .receive_at_once(&mut echo)
            .expect("an end, not a reset")
            == Some(0)
    });
}

#[test]
fn drips_refresh_the_idle_timeout_and_not_the_stall_timeout() {
    let server = with_limits(Limits {
        idle_timeout: Some(LONG),
        ..stalling_after(4 * SHORT, 1 << 20)
    });
    let mut client = server.connect();
    drip_until_ended(&mut client);
    drop(client);
    let metrics = server.wait_for_all_closed(1);
    assert_eq!(metrics.closed(CloseReason::Stalled), 1, "{metrics:#?}");
}

#[test]
fn bytes_moved_in_the_past_do_not_count() {
    let server = with_limits(stalling_after(SHORT, 1024));
    let mut client = server.connect();
    client.echo(&[1; 100_000]);
    drip_until_ended(&mut client);
    drop(client);
    let metrics = server.wait_for_all_closed(1);
    assert_eq!(metrics.closed(CloseReason::Stalled), 1, "{metrics:#?}");
}

#[test]
fn a_peer_that_never_reads_stalls() {
    let services = [Service::Echo, Service::Chargen];
    in_parallel(services.len(), |index| {
        let service = services[index];
        let server = Running::start(Config {
            limits: stalling_after(5 * SHORT, 1024),
            ..config_for(service, "tcp://127.0.0.1:0")
        });
        let client = Client::connect_with_buffers(server.address(), 64 << 10);
        if service == Service::Echo {
            client.send_until_blocked(Pattern(1), || {
                let metrics = server.metrics();
                metrics.backlog_bytes > 0 || metrics.closed(CloseReason::Stalled) > 0
            });
        }
        let metrics = server.wait_for_all_closed(1);
        assert_eq!(metrics.closed(CloseReason::Stalled), 1, "{metrics:#?}");
    });
}

#[test]
fn busy_connections_do_not_stall() {
    let mut config = config();
    for service in [Service::Discard, Service::Chargen] {
        config
            .services
            .extend(config_for(service, "tcp://127.0.0.1:0").services);
    }
    let server = Running::start(Config {
        limits: stalling_after(LONG, 10_000),
        ..config
    });
    let mut busy: Vec<_> = server
        .addresses
        .iter()
        .map(|&address| Client::connect(address))
        .collect();
    // Opened later, so its window ends after the first window of the others.
    let mut dripping = server.connect();
    let mut buffer = [0; 64 << 10];
    wait_until("end of the one that drips", || {
        let [echo, discard, chargen] = &mut busy[..] else {
            unreachable!("one for each service");
        };
        echo.echo(&[1; 1000]);
        discard.send(&[1; 1000]);
        assert!(chargen.read(&mut buffer).expect("characters") > 0);
        let read = dripping
            .write_all(b".")
            .and_then(|()| dripping.receive_at_once(&mut buffer));
        // A byte that the server has not read makes the end a reset.
        read.is_err() || matches!(read, Ok(Some(0)))
    });
    drop(dripping);
    let metrics = server.wait_for_metrics("one close", |it| it.active == 3);
    assert_eq!(metrics.closed(CloseReason::Stalled), 1);
    busy[0].echo(b"still there");
}

/// Moved bytes count in both directions, as documented.
#[test]
fn returned_bytes_count_as_moved() {
    let server = with_limits(stalling_after(SHORT, 1500));
    let mut enough = server.connect();
    enough.echo(&[1; 1000]);
    let mut too_little = server.connect();
    too_little.echo(&[1; 500]);
    too_little.expect_end();
    // The window of the first began and ended before.
    enough.echo(&[1; 1000]);
    drop(too_little);
    let metrics = server.wait_for_metrics("one close", |it| it.active == 1);
    assert_eq!(metrics.closed(CloseReason::Stalled), 1, "{metrics:#?}");
}

/// A silent connection is subject to the idle timeout and not to the stall timeout.
#[test]
fn a_silent_connection_does_not_stall() {
    let server = with_limits(stalling_after(SHORT, 1024));
    let mut silent = server.connect();
    let mut dripping = server.connect();
    drip_until_ended(&mut dripping);
    silent.echo(b"now I speak");
}

#[test]
fn a_lifetime_is_absolute() {
    for service in Service::ALL {
        let server = Running::start(Config {
            limits: Limits {
                idle_timeout: Some(LONG),
                lifetime: Some(3 * SHORT),
                ..Limits::default()
            },
            ..config_for(service, "tcp://127.0.0.1:0")
        });
        let mut client = server.connect();
        let mut buffer = [0; 64 << 10];
        wait_until("end of its life", || {
            if service != Service::Chargen {
                client.send(b"busy");
            }
            let read = client.receive_at_once(&mut buffer);
            read.expect("an end, not a reset") == Some(0)
        });
        drop(client);
        let metrics = server.wait_for_all_closed(1);
        assert_eq!(metrics.closed(CloseReason::Lifetime), 1, "{metrics:#?}");
    }
}

#[test]
fn a_new_time_limit_reaches_connections_that_are_open() {
    let cases = [
        (
            CloseReason::IdleTimeout,
            Limits {
                idle_timeout: Some(SHORT),
                ..Limits::default()
            },
        ),
        (
            CloseReason::Lifetime,
            Limits {
                lifetime: Some(SHORT),
                ..Limits::default()
            },
        ),
    ];
    for before in [None, Some(10 * LONG)] {
        for (reason, limits) in &cases {
            let server = with_limits(Limits {
                idle_timeout: before,
                ..Limits::default()
            });
            let mut client = server.connect();
            client.echo(b"before");
            server.handle.set_limits(limits);
            client.expect_end();
            drop(client);
            let metrics = server.wait_for_all_closed(1);
            assert_eq!(metrics.closed(*reason), 1, "{metrics:#?}");
        }
    }
}

/// No byte moves any more when the limit is set, so no byte can open a window.
#[test]
fn a_new_stall_limit_reaches_peers_that_stopped_reading_before() {
    let cases = [
        (Service::Echo, None),
        (Service::Echo, Some(30 * LONG)),
        (Service::Chargen, None),
        (Service::Chargen, Some(30 * LONG)),
    ];
    in_parallel(cases.len(), |index| {
        let (service, idle_timeout) = cases[index];
        let server = Running::start(Config {
            limits: Limits {
                idle_timeout,
                ..Limits::default()
            },
            ..config_for(service, "tcp://127.0.0.1:0")
        });
        let client = Client::connect_with_buffers(server.address(), 64 << 10);
        if service == Service::Echo {
            client.send_until_blocked(Pattern(1), || server.metrics().backlog_bytes > 0);
        } else {
            server.wait_until_at_rest();
        }
        server.handle.set_limits(&stalling_after(SHORT, 1024));
        let metrics = server.wait_for_all_closed(1);
        assert_eq!(metrics.closed(CloseReason::Stalled), 1, "{metrics:#?}");
    });
}

#[test]
fn a_limit_that_is_lifted_lets_open_connections_be() {
    let limits = Limits {
        idle_timeout: Some(LONG),
        lifetime: Some(LONG),
        ..stalling_after(LONG, 1 << 20)
    };
    let server = with_limits(limits.clone());
    let mut client = server.connect();
    client.echo(b"before");
    server.handle.set_limits(&Limits::default());
    // Starts later under the old limits, and shows when they have expired.
    let other = with_limits(limits);
    other.connect().expect_end();
    client.echo(b"after");
}

#[test]
fn new_maxima_hold_for_new_connections_and_leave_the_open_ones_alone() {
    let server = with_limits(Limits::default());
    let mut open: Vec<_> = (0..10).map(|_| server.connect()).collect();
    open.iter_mut().for_each(|client| client.echo(b"before"));
    server.handle.set_limits(&Limits {
        max_connections: NonZeroUsize::new(5),
        ..Limits::default()
    });
    // A worker applies the limit in its next turn, so the first clients may still be served.
    let mut more = Vec::new();
    wait_until("a refused connection", || {
        let mut client = server.connect();
        client.send(b"?");
        let refused = client.read(&mut [0]).expect("an echo or an end") == 0;
        more.push(client);
        refused
    });
    open.iter_mut().for_each(|client| client.echo(b"after"));
    let left = open.len() + more.len() - 1 - 4;
    open.drain(..left.min(10));
    more.clear();
    server.wait_for_metrics("four connections", |it| it.active <= 4);
    server.connect().echo(b"the fifth");
    assert!(server.metrics().refused(RefuseReason::MaxConnections) > 0);
}

#[test]
fn new_access_lists_hold_for_new_connections_and_leave_the_open_ones_alone() {
    let server = Running::start(Config {
        workers: NonZeroUsize::new(3).unwrap(),
        ..config()
    });
    let mut open: Vec<_> = (0..6).map(|_| server.connect()).collect();
    open.iter_mut().for_each(|client| client.echo(b"before"));
    server.handle.set_limits(&Limits {
        deny: vec!["127.0.0.1".parse().expect("a prefix")],
        ..Limits::default()
    });
    wait_until("refused connections", || {
        let mut client = server.connect();
        client.send(b"?");
        client.read(&mut [0]).expect("an echo or an end") == 0
    });
    open.iter_mut().for_each(|client| client.echo(b"after"));
    server.handle.set_limits(&Limits::default());
    wait_until("welcome connections", || {
        let mut client = server.connect();
        client.send(b"?");
        client.read(&mut [0]).expect("an echo or an end") == 1
    });
    open.iter_mut().for_each(|client| client.echo(b"still"));
}

/// Repeated reloads of other settings neither end a connection nor extend its time.
#[test]
fn an_unrelated_reload_disturbs_no_connection() {
    let limits = |max| Limits {
        idle_timeout: Some(LONG),
        max_connections: NonZeroUsize::new(max),
        ..Limits::default()
    };
    let server = with_limits(limits(100));
    let mut active = server.connect();
    active.echo(b"here first");
    let mut idle = server.connect();
    idle.echo(b"here second");
    let mut round = 0;
    wait_until("end of the idle connection", || {
        round += 1;
        server.handle.set_limits(&limits(100 + round % 7));
        active.echo(b"busy");
        idle.receive_at_once(&mut [0]).expect("an end") == Some(0)
    });
    active.echo(b"still there");
    drop(idle);
    let metrics = server.wait_for_metrics("one close", |it| it.active == 1);
    assert_eq!(metrics.closed(CloseReason::IdleTimeout), 1);
}

/// The kernel probes a silent connection: its keep-alive timer runs (proc_net_tcp(5): timer 2), for
/// no longer than the idle time.
#[test]
fn a_silent_connection_is_probed_by_the_kernel() {
    let echod = Echod::start(&["--echo=tcp://127.0.0.1:0", "--keepalive=50s,9s,4"]);
    let mut client = echod.connect();
    client.echo(b"and now I am silent");
    let own = client.local_addr().expect("an address").port();
    let server = echod.address().port();
    let ports = |line: &str| {
        let port = |field: Option<&str>| u16::from_str_radix(field?.rsplit_once(':')?.1, 16).ok();
        let mut fields = line.split_whitespace().skip(1);
        Some((port(fields.next())?, port(fields.next())?))
    };
    // While sent bytes are unacknowledged, another timer runs.
    let expires = wait_for("a keep-alive timer", || {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("a table");
        let line = table
            .lines()
            .find(|line| ports(line) == Some((server, own)))?;
        let (timer, expires) = line.split_whitespace().nth(5)?.split_once(':')?;
        (timer == "02").then(|| u64::from_str_radix(expires, 16).expect("a number"))
    });
    /// The unit of the table is 1/100 s (USER_HZ).
    const TICKS_PER_SECOND: u64 = 100;
    assert!(expires <= 50 * TICKS_PER_SECOND, "{expires}");
}
