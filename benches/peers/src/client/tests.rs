//! The client notices what a server does wrong: such a turn has no outcome.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process;
use std::thread;

use std::time::{Duration, Instant};

use super::*;
use super::{pattern::Pattern, window::Window};

/// Serves each connection with `serve`, on a thread of its own.
fn serve(serve: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream));
        }
    });
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Echoes; `spoil` may change what goes back, of which it knows how many reads came before.
fn echo_with(mut stream: TcpStream, spoil: fn(u32, &mut Vec<u8>)) {
    let mut buffer = vec![0; 64 * 1024];
    for turn in 0.. {
        let Ok(len @ 1..) = stream.read(&mut buffer) else {
            return;
        };
        let mut bytes = buffer[..len].to_vec();
        spoil(turn, &mut bytes);
        if bytes.is_empty() || stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

fn load(target: SocketAddr, workload: Workload, count: u64) -> Load {
    Load {
        target,
        server: process::id(),
        workload,
        shape: Shape::new(3, 100, 2),
        length: Length::Count(count),
        checks: Checks::All,
    }
}

fn run(target: SocketAddr, workload: Workload) -> Result<Outcome, String> {
    super::run(&load(target, workload, 50)).map_err(|e| e.to_string())
}

#[test]
fn an_honest_server_is_counted_exactly() {
    let target = serve(|stream| echo_with(stream, |_, _| {}));
    for workload in [Workload::Echo, Workload::Churn] {
        let outcome = run(target, workload).unwrap();
        assert_eq!(
            (outcome.operations, outcome.bytes),
            (50, 5000),
            "{workload:?}"
        );
        assert_eq!(outcome.latency_ns.len(), 50, "{workload:?}");
    }
}

#[test]
fn a_wrong_byte_fails() {
    let target = serve(|stream| {
        echo_with(stream, |turn, bytes| {
            if turn == 5 {
                bytes[7] ^= 1;
            }
        });
    });
    assert!(
        run(target, Workload::Echo)
            .unwrap_err()
            .contains("other bytes came back")
    );
}

#[test]
fn a_wrong_first_byte_fails() {
    let target = serve(|stream| echo_with(stream, |_, bytes| bytes[0] ^= 1));
    for workload in [Workload::Echo, Workload::Churn, Workload::Idle] {
        let mut load = load(target, workload, 200);
        load.shape.connections = 101;
        let error = super::run(&load).unwrap_err().to_string();
        assert!(
            error.contains("other bytes came back"),
            "{workload:?}: {error}"
        );
    }
}

#[test]
fn a_byte_too_many_fails() {
    let target = serve(|stream| {
        echo_with(stream, |turn, bytes| {
            if turn == 3 {
                bytes.extend_from_within(..1);
            }
        });
    });
    let error = run(target, Workload::Echo).unwrap_err();
    assert!(error.contains("came back"), "{error}");
}

#[test]
fn a_connection_that_ends_fails() {
    let target = serve(|stream| {
        echo_with(stream, |turn, bytes| {
            if turn == 4 {
                bytes.clear();
            }
        });
    });
    let error = run(target, Workload::Echo).unwrap_err();
    assert!(
        error.contains("closed a connection") || error.contains("reset"),
        "{error}"
    );
}

#[test]
fn nobody_there_fails() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let target = (Ipv4Addr::LOCALHOST, port).into();
    for workload in [Workload::Echo, Workload::Churn, Workload::Discard] {
        assert!(run(target, workload).is_err(), "{workload:?}");
    }
}

#[test]
fn a_datagram_of_another_length_fails() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((len, source)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..len - 1], source);
        }
    });
    let target = (Ipv4Addr::LOCALHOST, port).into();
    let error = run(target, Workload::Udp).unwrap_err();
    assert!(error.contains("another length"), "{error}");
}

#[test]
fn a_discard_server_that_answers_fails() {
    let target = serve(|stream| echo_with(stream, |_, _| {}));
    assert!(
        run(target, Workload::Discard)
            .unwrap_err()
            .contains("answered")
    );
}

#[test]
fn all_that_was_written_to_a_discard_server_is_counted() {
    let target = serve(|mut stream| {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(1..) = stream.read(&mut buffer) {}
    });
    let outcome = run(target, Workload::Discard).unwrap();
    assert!(outcome.operations >= 50);
    assert_eq!(outcome.bytes, outcome.operations * 100);
}

#[test]
fn bursts_of_datagrams_end_with_what_does_not_fill_one() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((len, source)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..len], source);
        }
    });
    let mut load = load(target, Workload::UdpBulk, 53);
    load.shape.depth = 8;
    let outcome = super::run(&load).unwrap();
    assert_eq!((outcome.operations, outcome.bytes), (53, 5300));
}

#[test]
fn the_pattern_repeats_and_shows_a_wrong_byte_and_a_shift() {
    let pattern = Pattern::new(10, 30);
    let message = pattern.at(0, 10).to_vec();
    assert_eq!(pattern.at(7, 6), [&message[7..], &message[..3]].concat());
    assert_eq!(pattern.at(9, 1000).len(), 31);
    for size in [2, 64, 1024, 70_000] {
        let pattern = Pattern::new(size, size);
        let mut message = pattern.at(0, size).to_vec();
        assert!(pattern.matches(0, &message));
        assert!(!pattern.matches(1, &message), "{size}: a shift by one");
        message[size - 1] ^= 1;
        assert!(!pattern.matches(0, &message), "{size}: one bit");
    }
}

#[test]
fn neither_the_warm_up_nor_what_follows_the_window_counts() {
    let target = (Ipv4Addr::LOCALHOST, 1).into();
    let mut load = load(target, Workload::Echo, 0);
    load.length = Length::Window {
        warm_up: Duration::from_secs(1),
        window: Duration::from_secs(2),
    };
    let mut window = Window::new(&load).unwrap();
    let begun = Instant::now();
    let at = |seconds| begun + Duration::from_secs(seconds);
    window.record(Duration::from_micros(1));
    window.turn(begun, 50, 500).unwrap();
    window.turn(at(2), 100, 1000).unwrap();
    window.record(Duration::from_millis(2));
    assert_eq!(window.admit(5), 5);
    assert!(!window.is_closed());
    window.turn(at(5), 300, 3000).unwrap();
    window.record(Duration::from_micros(3));
    assert_eq!(window.admit(5), 0);
    window.turn(at(9), 900, 9000).unwrap();
    let outcome = window.outcome().unwrap();
    assert_eq!((outcome.operations, outcome.bytes), (200, 2000));
    assert_eq!(outcome.latency_ns.len(), 1);
    assert!(
        Window::new(&load).unwrap().outcome().is_err(),
        "it never closed"
    );
}

#[test]
fn a_count_admits_exactly_as_many_and_ends_with_the_last_answer() {
    let target = (Ipv4Addr::LOCALHOST, 1).into();
    let mut window = Window::new(&load(target, Workload::Echo, 10)).unwrap();
    assert_eq!(
        [window.admit(7), window.admit(7), window.admit(7)],
        [7, 3, 0]
    );
    window.turn(Instant::now(), 9, 90).unwrap();
    assert!(!window.is_closed());
    window.turn(Instant::now(), 10, 100).unwrap();
    assert!(window.is_closed());
}
