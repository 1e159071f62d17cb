//! The time of an echo over loopback: one message out, all of it back.
//!
//! Measured: the round trip as one blocking client sees it, against a server with one worker. Its
//! parts are two system calls of the client, those of the server, the kernel's TCP in both
//! directions, and handing over from one thread to the other and back.
//! - `payload`, `connections`: by the size of the message and by the number of connections. Client
//!   and server share one CPU, so this is the sum of what both of them do, and it repeats well.
//! - `two_cpus`: each on its own, while the server sleeps between messages or does not.
//!
//! Not measured: a network, latency under load, its distribution, or the server's maximum rate. A
//! load generator measures those: this client waits for each answer.
//!
//! To read it: in `connections` one iteration is a round over all of them, so `elem/s` counts
//! echoes; with more of them the threads change less often for each echo. In `two_cpus` a
//! `sleeping` server and its client wake up an idle CPU for each message, and most of the time is
//! that. It varies by tenths from run to run, and other programs add to it, so that only repeated
//! differences mean something.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use echomark::metrics::Snapshot;
use echomark::net::units::format_size;
use echomark::{Config, Spin};

use support::TestServer;

mod support;

/// From this size on bytes cost more than calls, and the rate is given in bytes.
const BULK: usize = 1 << 10;
/// The message length where size does not matter.
const SMALL: usize = 64;

fn main() {
    let (cpu, other) = support::pin_client();
    let mut criterion = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
        .configure_from_args();
    payload(&mut criterion, cpu);
    connections(&mut criterion, cpu);
    if let Some(other) = other {
        two_cpus(&mut criterion, other);
    }
    criterion.final_summary();
}

fn payload(c: &mut Criterion, cpu: usize) {
    let mut group = c.benchmark_group("round_trip/payload");
    for len in [1, SMALL, 1 << 10, 16 << 10, 64 << 10] {
        let mut server = TestServer::start(support::config(1), cpu);
        let mut client = Client::new(server.connect(), len, 0);
        group.throughput(if len < BULK {
            Throughput::Elements(1)
        } else {
            Throughput::Bytes(len as u64)
        });
        group.bench_function(format_size(len as u64), |b| {
            b.iter(|| client.round_trip());
            client.verify();
        });
        assert_echoed(&server.stop(), client.sent_bytes);
    }
    group.finish();
}

fn connections(c: &mut Criterion, cpu: usize) {
    let mut group = c.benchmark_group("round_trip/connections");
    for count in [1, 10, 100] {
        let mut server = TestServer::start(support::config(1), cpu);
        let mut clients: Vec<_> = (0..count)
            .map(|index| Client::new(server.connect(), SMALL, index))
            .collect();
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(count.to_string(), |b| {
            b.iter(|| {
                clients.iter_mut().for_each(Client::send);
                clients.iter_mut().for_each(Client::receive);
            });
            clients.iter_mut().for_each(Client::verify);
        });
        assert_echoed(&server.stop(), clients.iter().map(|c| c.sent_bytes).sum());
    }
    group.finish();
}

fn two_cpus(c: &mut Criterion, cpu: usize) {
    let mut group = c.benchmark_group("round_trip/two_cpus");
    for (name, spin) in [("sleeping", Spin::Never), ("spinning", Spin::Always)] {
        let config = Config {
            spin,
            ..support::config(1)
        };
        let mut server = TestServer::start(config, cpu);
        let mut client = Client::new(server.connect(), SMALL, 0);
        group.throughput(Throughput::Elements(1));
        group.bench_function(name, |b| {
            b.iter(|| client.round_trip());
            client.verify();
        });
        assert_echoed(&server.stop(), client.sent_bytes);
    }
    group.finish();
}

/// A connection that sends the same message again and again.
struct Client {
    stream: TcpStream,
    message: Vec<u8>,
    echo: Vec<u8>,
    sent_bytes: u64,
}

impl Client {
    fn new(stream: TcpStream, len: usize, index: usize) -> Self {
        // Without it the kernel holds a small segment back while an earlier one is unacknowledged.
        stream.set_nodelay(true).expect("it is a TCP socket");
        Self {
            stream,
            // Bytes that differ by position, with a period that no length here is a multiple of,
            // and by connection: an echo that is shifted or another's does not compare equal.
            message: (index..index + len).map(|n| (n % 251) as u8).collect(),
            echo: vec![0; len],
            sent_bytes: 0,
        }
    }

    fn round_trip(&mut self) {
        self.send();
        self.receive();
    }

    /// Sends the whole message before any of the echo is read. That can't deadlock even at 64 KiB:
    /// the server goes on reading until a whole read, 64 KiB at the least, waits to be sent,
    /// and the buffers of the sockets hold the rest.
    fn send(&mut self) {
        let message = black_box(&self.message);
        self.stream.write_all(message).expect("the server reads");
        self.sent_bytes += message.len() as u64;
    }

    fn receive(&mut self) {
        let echo = black_box(&mut self.echo);
        self.stream.read_exact(echo).expect("the server answers");
    }

    /// Compares the last echo, outside of the timed part. A byte lost or doubled in any before it
    /// would have shifted this one too.
    fn verify(&mut self) {
        assert!(self.echo == self.message, "the echo is not what was sent");
        self.echo.fill(!self.message[0]);
    }
}

/// Checks by the server's counter that no iteration was cut short.
fn assert_echoed(counted: &Snapshot, sent_bytes: u64) {
    assert_eq!(counted.received_bytes, sent_bytes);
    assert_eq!(counted.sent_bytes, sent_bytes);
}
