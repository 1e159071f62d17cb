//! The cost of a connection: opening it, one byte and its echo, and an orderly close.
//!
//! Measured: connect, one byte there and back, the client's half-close, the server's end of stream,
//! close. The server with its one worker accepts, registers, echoes, reads the end and closes; the
//! client's calls and the kernel's work on both sides are part of the time, and both share one CPU.
//!
//! Not measured: connections that are reset or refused, more than 64 at a time, a full backlog, or
//! connecting over a network, where the handshake waits for the distance.
//!
//! To read it: `elem/s` counts connections. With one `at_once` the threads pass the CPU to each
//! other at every step. With 64 each step is done for all of them before the next, so that the time
//! is nearer to a connection's processor time, including the client's part. Most of it is the
//! kernel's, and it depends on the number of TIME_WAIT entries of the last minute.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use echomark::metrics::CloseReason;

use support::TestServer;

mod support;

/// Listening ports that the connections take turns on.
///
/// The side that closes first holds the connection in TIME_WAIT (RFC 9293 section 3.6), for a
/// minute on Linux. Here that is the client, and with one listening port, some 28 000 connections
/// would occupy all its ports. SO_LINGER 0 does not help: set before the server's end is read, it
/// resets the connection, which is a different close; set afterwards, it comes too late, because
/// the kernel has already replaced the socket by a TIME_WAIT entry. Reuse of such entries on
/// loopback (tcp_tw_reuse) depends on the system's settings. Only the pair of addresses must be
/// unique, so each further listening port makes all of the client's ports available again.
const PORTS: usize = 16;

fn main() {
    let (cpu, _) = support::pin_client();
    let mut criterion = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    accept_close(&mut criterion, cpu);
    criterion.final_summary();
}

fn accept_close(c: &mut Criterion, cpu: usize) {
    let mut group = c.benchmark_group("accept_close");
    for count in [1, 64] {
        let mut server = TestServer::start(support::config(PORTS), cpu);
        let mut open = Vec::with_capacity(count);
        let mut closed = 0;
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("at_once", count), |b| {
            b.iter(|| {
                open.extend((0..count).map(|_| server.connect()));
                open.iter_mut().for_each(send);
                open.iter_mut().for_each(receive);
                open.iter_mut().for_each(send_end);
                open.iter_mut().for_each(receive_end);
                open.clear();
                closed += count as u64;
            });
        });
        let counted = server.stop();
        assert_eq!(counted.accepted, closed);
        assert_eq!(counted.closed(CloseReason::Finished), closed);
    }
    group.finish();
}

const BYTE: u8 = b'e';

fn send(stream: &mut TcpStream) {
    stream.write_all(&[BYTE]).expect("the server reads");
}

fn receive(stream: &mut TcpStream) {
    let mut echo = [0];
    stream.read_exact(&mut echo).expect("the server answers");
    assert_eq!(echo, [BYTE]);
}

fn send_end(stream: &mut TcpStream) {
    stream.shutdown(Shutdown::Write).expect("it is connected");
}

fn receive_end(stream: &mut TcpStream) {
    let count = stream.read(&mut [0]).expect("the server ends in order");
    assert_eq!(count, 0, "nothing follows the echo");
}
