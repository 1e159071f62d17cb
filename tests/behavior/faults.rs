//! Failing system calls: strace(1) makes calls of the real program fail in ways that a test can't
//! provoke otherwise.
//!
//! Short counts are not possible this way: strace replaces the result of a call, not its effect.
//! Socket buffers as small as the kernel allows make it cut reads and writes short by itself.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::support::echod::{Echod, PROGRAM, Signal};
use crate::support::pattern::Pattern;
use crate::support::strace::with_faults;
use crate::support::tools::require;
use crate::support::{Client, End, wait_for, wait_until};

const TCP: &str = "--echo=tcp://127.0.0.1:0";
const ADMIN: &str = "--admin=127.0.0.1:0";
const ONE_WORKER: &str = "--workers=1";

#[track_caller]
fn start(faults: &[&str], args: &[&str]) -> Echod {
    Echod::start_command(with_faults(faults, PROGRAM).args(args))
}

/// Every accept fails for a second.
#[test]
fn without_resources_it_rests_until_accepting_works_again() {
    require!("strace");
    for error in ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"] {
        // A worker's first call finds nothing or the first connection; all calls of the next half
        // second fail.
        let fault = format!("accept4:error={error}:when=2..11");
        let mut echod = start(&[&fault], &[TCP, ADMIN, ONE_WORKER]);
        let (start, before) = (Instant::now(), echod.cpu_time());
        let mut first = echod.connect();
        first.echo(b"before or later");
        let mut later = echod.connect();
        later.echo(b"as soon as it works");
        let (elapsed, used) = (start.elapsed(), echod.cpu_time() - before);
        assert!(used < elapsed / 2, "used {used:?} of {elapsed:?}");
        first.echo(b"after");
        echod.wait_for_log("cannot accept; trying again");
        echod.wait_for_log("accepting again");
        let sample = format!("echod_accept_errors_total{{error=\"{error}\"}}");
        // A failure is counted before the client is served.
        assert!((9..=10).contains(&echod.metric(&sample)), "{error}");
        assert_eq!(echod.logged("cannot accept; trying"), 1, "said once");
    }
}

/// Every second accept meets a connection that is gone.
#[test]
fn a_connection_that_is_gone_before_it_is_accepted_hurts_no_other() {
    require!("strace");
    const CLIENTS: u64 = 20;
    for error in ["ECONNABORTED", "EPROTO", "ENETDOWN"] {
        let fault = format!("accept4:error={error}:when=1+2");
        let echod = start(&[&fault], &[TCP, ADMIN, ONE_WORKER]);
        for _ in 0..CLIENTS {
            echod.connect().echo(b"next, please");
        }
        let sample = format!("echod_accept_errors_total{{error=\"{error}\"}}");
        assert!(echod.metric(&sample) >= CLIENTS);
        assert_eq!(echod.metric("echod_connections_accepted_total"), CLIENTS);
    }
}

/// Some calls fail with each kind of temporary error, and counts are short all the time.
#[test]
fn no_byte_is_lost_or_doubled_when_reads_and_writes_fail() {
    require!("strace");
    for error in ["EINTR", "ENOBUFS", "ENOMEM"] {
        // The thread that waits for signals makes two such calls.
        let receive = format!("recvfrom:error={error}:when=3..60+3");
        let send = format!("sendto:error={error}:when=1..61+3");
        let echod = start(
            &[&receive, &send],
            &[
                TCP,
                ADMIN,
                ONE_WORKER,
                "--recv-buffer=4k",
                "--send-buffer=4k",
            ],
        );
        let mut client = echod.connect();
        client.echo_stream(Pattern(1), 1 << 20);
        client.half_close();
        client.expect_end();
        for bytes in ["echod_received_bytes_total", "echod_sent_bytes_total"] {
            assert_eq!(echod.metric(bytes), 1 << 20, "{bytes} with {error}");
        }
        wait_until("the end of the connection", || {
            echod.metric("echod_connections_closed_total{reason=\"finished\"}") == 1
        });
        assert_eq!(echod.metric("echod_backlog_bytes"), 0);
    }
}

#[test]
fn while_there_is_no_memory_to_read_or_write_it_rests() {
    require!("strace");
    for call in ["recvfrom", "sendto"] {
        // The thread that waits for signals makes two such calls.
        let fault = format!("{call}:error=ENOBUFS:when=3..42");
        let echod = start(&[&fault], &[TCP, ONE_WORKER]);
        let mut other = echod.connect();
        other.echo(b"before");
        other.echo(b"before");
        let mut client = echod.connect();
        let (start, before) = (Instant::now(), echod.cpu_time());
        client.echo(b"when there is memory");
        let (elapsed, used) = (start.elapsed(), echod.cpu_time() - before);
        assert!(used < elapsed / 2, "{call}: used {used:?} of {elapsed:?}");
        other.echo(b"after");
    }
}

#[test]
fn an_interrupted_wait_is_no_event_and_no_failure() {
    require!("strace");
    let echod = start(
        &["?epoll_wait,epoll_pwait:error=EINTR:when=1+2"],
        &[TCP, ADMIN, ONE_WORKER, "--idle-timeout=1s"],
    );
    let mut client = echod.connect();
    for _ in 0..20 {
        client.echo(b"interrupted?");
    }
    client.echo_stream(Pattern(2), 1 << 20);
    // Timers still fire.
    client.expect_end();
    let closed = "echod_connections_closed_total{reason=\"idle_timeout\"}";
    wait_until("the count", || echod.metric(closed) == 1);
    echod.signal(Signal::TERM);
    assert_eq!(echod.wait_for_exit().code, Some(0));
}

/// The kernel has no memory to register the fifth connection, or no watch (max_user_watches).
#[test]
fn a_connection_that_cannot_be_registered_is_refused_and_returns_its_permit() {
    require!("strace");
    for (limit, error) in [
        ("--max-connections=1", "ENOMEM"),
        ("--max-connections-per-ip=1", "ENOSPC"),
    ] {
        // The thread that starts the server makes four such calls, for two wakers and listeners.
        let fault = format!("epoll_ctl:error={error}:when=5");
        let mut echod = start(&[&fault], &[TCP, ADMIN, ONE_WORKER, limit]);
        for _ in 0..4 {
            let mut client = echod.connect();
            client.echo(b"one after the other");
            client.half_close();
            client.expect_end();
        }
        echod.connect().expect_end();
        echod.wait_for_log("cannot accept; trying again");
        let mut client = echod.connect();
        client.echo(b"the place is free");
        echod.wait_for_log("accepting again");
        let refused = "echod_connections_refused_total{reason=\"resources\"}";
        assert_eq!(echod.metric(refused), 1);
        assert_eq!(echod.metric("echod_connections_accepted_total"), 5);
        // Now it is taken.
        echod.connect().expect_end();
        client.echo(b"mine");
    }
}

/// While no connection can be registered, each retry refuses one.
#[test]
fn without_epoll_watches_it_rests() {
    require!("strace");
    const REFUSED: u64 = 10;
    // The first two calls are for the waker and the listener, and of the worker for the first two
    // connections.
    let echod = start(&["epoll_ctl:error=ENOSPC:when=3..12"], &[TCP, ONE_WORKER]);
    let mut open: Vec<_> = (0..2).map(|_| echod.connect()).collect();
    for client in &mut open {
        client.echo(b"in time");
    }
    let (start, before) = (Instant::now(), echod.cpu_time());
    let clients: Vec<_> = (0..REFUSED + 5).map(|_| echod.connect()).collect();
    for mut client in clients {
        client.half_close();
        let ended = client.receive_all(Pattern(0));
        assert_eq!(ended, (0, End::InOrder), "refused or served");
    }
    let (elapsed, used) = (start.elapsed(), echod.cpu_time() - before);
    assert!(elapsed >= Duration::from_millis(40) * (REFUSED - 1) as u32);
    assert!(used < elapsed / 2, "used {used:?} of {elapsed:?}");
    for client in &mut open {
        client.echo(b"as before");
    }
    echod.connect().echo(b"served again");
}

/// The waker's eventfd can't be written to for a while: a worker that was handed a connection
/// learns of it all the same, and so do all workers of a signal.
#[test]
fn a_wake_up_that_fails_is_not_lost() {
    require!("strace");
    for error in ["EINTR", "ENOMEM"] {
        let fault = format!("write:error={error}:when=2..5");
        let echod = start(
            &[&fault],
            &[TCP, "--workers=2", "--balance=least-connections"],
        );
        for _ in 0..8 {
            let mut client = echod.connect();
            client.echo(b"handed over");
            client.half_close();
            client.expect_end();
        }
        echod.signal(Signal::TERM);
        assert_eq!(echod.wait_for_exit().code, Some(0));
    }
}

/// A lack of any resource at the start is reported in one line, and nothing is left running.
#[test]
fn a_start_without_resources_fails_in_one_line() {
    require!("strace");
    for fault in [
        "socket:error=EMFILE:when=1",
        "socket:error=ENOMEM:when=2",
        "bind:error=ENOMEM:when=1",
        "listen:error=EADDRINUSE:when=1",
        "epoll_create1:error=EMFILE:when=1",
        "epoll_create1:error=ENOMEM:when=2",
        "eventfd2:error=EMFILE:when=1",
        "eventfd2:error=ENFILE:when=2",
        "epoll_ctl:error=ENOSPC:when=1",
        "epoll_ctl:error=ENOMEM:when=3",
        // A thread each: for signals, for what goes with the server, for the two workers.
        "?clone,clone3:error=EAGAIN:when=1",
        "?clone,clone3:error=EAGAIN:when=2",
        "?clone,clone3:error=EAGAIN:when=3",
        "?clone,clone3:error=EAGAIN:when=4",
    ] {
        let mut command = with_faults(&[fault], PROGRAM);
        let exit = Echod::run_to_end(command.args([TCP, "--workers=2", "--log-level=error"]));
        assert_eq!(exit.code, Some(1), "{fault}: {exit:#?}");
        assert_eq!(exit.stderr.len(), 1, "{fault}: {exit:#?}");
        assert!(exit.stderr[0].starts_with("echod: "), "{fault}: {exit:#?}");
    }
}

#[test]
fn datagrams_are_answered_again_after_failures() {
    require!("strace");
    for error in ["EINTR", "ENOBUFS", "ENOMEM"] {
        let receive = format!("recvmmsg:error={error}:when=1..41+2");
        let send = format!("sendmmsg:error={error}:when=2..42+2");
        let echod = start(
            &[&receive, &send],
            &["--echo=udp://127.0.0.1:0", ADMIN, ONE_WORKER],
        );
        let address = echod.address_of("echo udp://");
        for number in 0..12_u8 {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
            socket.connect(address).expect("an address");
            let patience = Some(Duration::from_millis(50));
            socket.set_read_timeout(patience).expect("a timeout");
            let mut back = [0; 64];
            // An answer that the kernel did not take is lost, as any datagram may be.
            let count = wait_for("an answer", || {
                socket.send(&[number; 3]).expect("send");
                socket.recv(&mut back).ok()
            });
            assert_eq!(back[..count], [number; 3]);
        }
        let lost = echod.metric("echod_udp_dropped_datagrams_total{reason=\"send_error\"}");
        assert_eq!(
            lost == 0,
            error == "EINTR",
            "{lost} answers lost by {error}"
        );
    }
}

/// No memory to receive datagrams, permanently.
#[test]
fn while_there_is_no_memory_for_datagrams_it_rests() {
    require!("strace");
    let echod = start(
        &["recvmmsg:error=ENOMEM:when=1+"],
        &[
            "--echo=udp://127.0.0.1:0",
            "--echo=tcp://127.0.0.1:0",
            ADMIN,
            ONE_WORKER,
        ],
    );
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = echod.address_of("echo udp://");
    socket.send_to(b"anybody?", address).expect("send");
    let mut client = Client::connect(echod.address_of("echo tcp://"));
    let turns = || echod.metric("echod_loop_iterations_total{worker=\"0\"}");
    let (start, before) = (Instant::now(), turns());
    wait_until("some tries", || turns() > before + 10);
    client.echo(b"not kept waiting");
    let (elapsed, turned) = (start.elapsed(), turns() - before);
    // It tries again every 20 ms.
    let most = elapsed.as_millis() as u64 / 20 + 10;
    assert!(turned <= most, "{turned} turns in {elapsed:?}");
}
