//! Endpoints with TLS on sockets that others bound: a service manager, or a predecessor.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use super::*;
use crate::systemd::activate;

#[test]
fn a_passed_socket_with_the_address_of_an_endpoint_is_served_with_tls() {
    require!("openssl", "python3", "sh");
    require_python!("ssl", "ssl");
    let authority = Authority::new();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let listening = socket.local_addr().expect("an address");
    let args = [
        format!("--echo=tls://{listening}"),
        "--admin=127.0.0.1:0".to_owned(),
        format!("--tls-cert={}", authority.cert("server")),
        format!("--tls-key={}", authority.key("server")),
    ];
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    // The manager keeps the socket and its queue between two runs.
    for run in 0..2 {
        // A name that a socket unit gives says nothing about TLS: the endpoint does.
        let echod = activate(&[("echo", socket.as_fd())], &args);
        assert_eq!(address(&echod), listening, "run {run}");
        assert_eq!(echod.listening().count(), 2, "no endpoint beside it");
        authority.expect(&echod, "versions", None);
        let held = authority.hold(&echod, "hold");
        echod.signal(Signal::TERM);
        held.expect_served();
        assert_eq!(echod.wait_for_exit().code, Some(0));
        // It waits in the queue for the next one, which sees no TLS in it.
        let mut waiting = TcpStream::connect(listening).expect("the socket is kept");
        waiting.write_all(b"plain text").expect("sent");
    }
}

/// A handshake that has begun is completed by the server that accepted it.
#[test]
fn a_drain_lets_a_handshake_end_and_waits_for_none_that_does_not() {
    require!("openssl", "python3");
    require_python!("ssl", "ssl");
    let authority = Authority::new();
    let handover = format!("--handover={}", authority.path("handover").display());
    let first = authority.serve(&[&handover, "--drain-timeout=10m"]);
    let half = authority.hold(&first, "hold_half");
    let second = authority.serve(&[&handover]);
    half.expect_served();
    assert_eq!(first.wait_for_exit().code, Some(0));
    authority.expect(&second, "versions", None);

    let last = authority.serve(&["--drain-timeout=100ms", "--handshake-timeout=off"]);
    let half = authority.hold(&last, "hold_half");
    last.signal(Signal::TERM);
    assert_eq!(last.wait_for_exit().code, Some(0));
    half.end();
}

/// A successor may serve an endpoint of its predecessor's with other services on other endpoints, and
/// with another certificate.
#[test]
fn a_successor_has_its_own_certificate() {
    require!("openssl", "python3");
    require_python!("ssl", "ssl");
    let authority = Authority::new();
    let handover = format!("--handover={}", authority.path("handover").display());
    let first = authority.serve(&[&handover, "--drain-timeout=10m"]);
    let held = authority.hold(&first, "hold");
    let listening = address(&first);
    authority.make("other", "ca", 30);
    let mut command = Command::new(PROGRAM);
    let second = Echod::start_command(command.args(authority.args("other")).arg(&handover));
    assert_eq!(address(&second), listening);
    let shown = s_client(&second, &["-showcerts"], "");
    let other = std::fs::read_to_string(authority.path("other.pem")).expect("a certificate");
    assert!(
        shown.contains(other.lines().nth(3).expect("a line")),
        "{shown}"
    );
    held.expect_served();
    assert_eq!(first.wait_for_exit().code, Some(0));
}
