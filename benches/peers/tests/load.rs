//! The load notices what a server does wrong: such a turn has no outcome.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::thread;

use echomark_peers::load::{self, Checks, Length, NoGauge, Order, Outcome, Shape, Workload};

/// Serves each connection with `serve`, on a thread of its own.
fn serve(serve: fn(TcpStream)) -> SocketAddrV4 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream));
        }
    });
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
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

fn order(target: SocketAddrV4, workload: Workload, count: u64) -> Order {
    Order {
        target,
        workload,
        shape: Shape {
            connections: 3,
            size: 100,
            depth: 2,
        },
        length: Length::Count(count),
        checks: Checks::All,
    }
}

fn run(target: SocketAddrV4, workload: Workload) -> Result<Outcome, String> {
    load::run(&order(target, workload, 50), &NoGauge).map_err(|e| e.to_string())
}

#[test]
fn an_honest_server_is_counted_exactly() {
    let target = serve(|stream| echo_with(stream, |_, _| {}));
    for workload in [Workload::Echo, Workload::Churn] {
        let outcome = run(target, workload).unwrap();
        assert_eq!(
            (outcome.operations, outcome.bytes),
            (50, 5000),
            "{workload}"
        );
        assert_eq!(outcome.latency.len(), 50, "{workload}");
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
        let mut order = order(target, workload, 200);
        order.shape.connections = 101;
        let error = load::run(&order, &NoGauge).unwrap_err().to_string();
        assert!(
            error.contains("other bytes came back"),
            "{workload}: {error}"
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
    let target = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    for workload in [Workload::Echo, Workload::Churn, Workload::Discard] {
        assert!(run(target, workload).is_err(), "{workload}");
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
    let target = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
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
