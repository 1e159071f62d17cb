//! Leaving in good order: on a signal the program takes what the kernel had completed, refuses what
//! comes later, lets open connections finish within a bound, and ends with exit code 0.

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use echomark::metrics::CloseReason;
use echomark::{Config, Server};

use crate::support::echod::{Echod, Exit, PROGRAM};
use crate::support::strace::with_faults;
use crate::support::{
    Client, DEADLINE, Running, addresses, config, config_on, in_parallel, wait_until,
};

/// An address of this machine that no other test uses, so that a port which this one gave up
/// can't be another's by now.
const OWN_ADDRESS: &str = "127.0.0.11";
const OWN_ENDPOINT: &str = "--echo=tcp://127.0.0.11:0";

#[track_caller]
fn wait_until_refused(address: SocketAddr) {
    wait_until("refused connects", || match Client::try_connect(address) {
        // Its handshake was complete before the listener closed.
        Ok(mut client) => {
            client.echo(b"in time");
            false
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            true
        }
    });
}

#[track_caller]
fn assert_orderly(exit: &Exit) {
    assert_eq!(exit.code, Some(0), "{exit:#?}");
    assert_eq!(exit.stdout.len(), 2, "{exit:#?}");
}

#[test]
fn a_signal_lets_open_connections_finish() {
    for signal in ["TERM", "INT"] {
        let echod = Echod::start(&[OWN_ENDPOINT, "--workers=2", "--drain-timeout=10m"]);
        let address = echod.address();
        let mut client = echod.connect();
        client.echo(b"before");
        echod.signal(signal);
        wait_until_refused(address);
        client.echo(b"during");
        client.echo(&[7; 100_000]);
        client.half_close();
        client.expect_end();
        assert_orderly(&echod.wait_for_exit());
    }
}

/// Whoever waits for it to be ready may rely on that: a handler comes first, however slowly.
#[test]
fn a_signal_right_after_ready_is_obeyed() {
    for signal in ["TERM", "INT", "HUP"] {
        let mut command = with_faults(&["rt_sigaction:delay_enter=50ms"], PROGRAM);
        let echod = Echod::start_command(command.arg("--echo=tcp://127.0.0.1:0"));
        echod.signal(signal);
        if signal == "HUP" {
            echod.connect().echo(b"still there");
            echod.signal("TERM");
        }
        assert_orderly(&echod.wait_for_exit());
    }
}

#[test]
fn without_connections_a_signal_ends_it() {
    for signal in ["TERM", "INT"] {
        let echod = Echod::start(&["--echo=tcp://127.0.0.1:0", "--drain-timeout=10m"]);
        echod.signal(signal);
        assert_orderly(&echod.wait_for_exit());
    }
}

#[test]
fn the_drain_timeout_ends_what_is_left() {
    let echod = Echod::start(&["--echo=tcp://127.0.0.1:0", "--drain-timeout=100ms"]);
    let mut client = echod.connect();
    client.echo(b"here to stay");
    echod.signal("TERM");
    client.expect_end();
    // It does not wait for this client to close, which it never does.
    assert_orderly(&echod.wait_for_exit());
}

#[test]
fn a_second_signal_ends_everything_at_once() {
    for signals in [["TERM", "TERM"], ["INT", "INT"], ["TERM", "INT"]] {
        let mut echod = Echod::start(&["--echo=tcp://127.0.0.1:0", "--drain-timeout=10m"]);
        let mut client = echod.connect();
        client.echo(b"here to stay");
        echod.signal(signals[0]);
        echod.wait_for_log("a second signal stops");
        client.echo(b"still here");
        echod.signal(signals[1]);
        assert_orderly(&echod.wait_for_exit());
        // In good order or by a reset, but not open.
        let _ = client.read(&mut [0]).inspect(|&count| assert_eq!(count, 0));
    }
}

#[test]
fn connections_are_accepted_during_the_drain_delay() {
    let mut echod = Echod::start(&["--echo=tcp://127.0.0.1:0", "--drain-delay=10m"]);
    echod.signal("TERM");
    echod.wait_for_log("a second signal stops");
    echod.connect().echo(b"not too late");
    echod.signal("TERM");
    assert_orderly(&echod.wait_for_exit());
}

/// Connections that the kernel completed before the server first looked, and a drain that was asked
/// for before that as well.
#[test]
fn a_drain_serves_all_that_waits_to_be_accepted() {
    const CLIENTS: usize = 500;
    let server = Server::bind(Config {
        workers: NonZeroUsize::new(3).unwrap(),
        ..config()
    })
    .expect("a free port");
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

/// Connects never stop while the listeners close. Each that succeeds is served.
#[test]
fn no_connect_that_succeeds_is_lost_when_the_listeners_close() {
    const ROUNDS: usize = 10;
    const THREADS: usize = 4;
    for _ in 0..ROUNDS {
        let server = Running::start(Config {
            workers: NonZeroUsize::new(3).unwrap(),
            drain_timeout: Duration::from_secs(600),
            ..config_on(OWN_ADDRESS)
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

#[track_caller]
fn connect_until_refused(address: SocketAddr, served: &AtomicUsize) {
    /// A connect that the closing listener ignores is tried again by the kernel only after a
    /// second.
    const PATIENCE: Duration = Duration::from_millis(100);
    let end = Instant::now() + DEADLINE;
    // Without a pause, so that some connect falls into every moment of the drain.
    while Instant::now() < end {
        match Client::try_connect_for(PATIENCE, address) {
            Ok(mut client) => {
                client.echo(b"am I served?");
                served.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                return;
            }
        }
    }
    panic!("the listeners were not closed");
}

/// While ended connections wait for their peers, the loop sleeps.
#[test]
fn a_drain_timeout_of_next_to_nothing_does_not_spin() {
    for drain_timeout in [Duration::ZERO, Duration::from_millis(10)] {
        let server = Running::start(Config {
            drain_timeout,
            ..config()
        });
        let mut client = server.connect();
        client.echo(b"here to stay");
        let before = server.metrics().loop_iterations;
        server.handle.drain();
        client.expect_end();
        let metrics = server.join();
        let turns = metrics.loop_iterations - before;
        assert!(turns < 100, "{turns} turns for one connection to end");
        assert_eq!(metrics.closed(CloseReason::DrainTimeout), 1);
    }
}
