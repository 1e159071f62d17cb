//! Cost of one turn of a measuring thread's loop: one epoll_wait(2), and for each connection the
//! read of an echo, its verification and recording, and the write of the next message. The system
//! calls are included, on Unix sockets, whose kernel path is short. The server's side is not: it
//! runs between the turns, on the same thread, with the clock stopped.
//!
//! The throughput is in messages per second; its inverse is the cost per message.

use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use loadgen::internal::Bench;
use loadgen::plan::sizes::Sizes;
use loadgen::plan::{Load, Plan, Target};

const MESSAGE: usize = 64;

fn plan(connections: usize, verify: bool) -> Plan {
    let number = |number| NonZeroUsize::new(number).expect("a number above 0");
    Plan {
        target: Target::Embedded {
            embedded_workers: number(1),
        },
        connections: number(connections),
        threads: number(1),
        load: Load::Closed {
            pipeline: number(1),
        },
        size: Sizes::Fixed(MESSAGE as u32),
        duration: Some(Duration::from_secs(3600)),
        warmup: Duration::ZERO,
        timeout: Duration::from_secs(60),
        seed: 1,
        verify,
        interval: Duration::from_secs(1),
        ..Plan::default()
    }
}

/// Echoes one message on each connection.
fn echo(peers: &mut [UnixStream]) {
    let mut message = [0; MESSAGE];
    for peer in peers {
        peer.read_exact(&mut message).expect("a message");
        peer.write_all(&message).expect("room for its echo");
    }
}

fn turn(criterion: &mut Criterion) {
    let path = std::env::temp_dir().join(format!("loadgen-turn-{}.sock", std::process::id()));
    let mut group = criterion.benchmark_group("turn");
    for (connections, verify) in [(1, true), (16, true), (16, false), (256, true)] {
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a listener");
        let mut bench = Bench::new(&plan(connections, verify), &path);
        let mut peers: Vec<UnixStream> = (0..connections)
            .map(|_| listener.accept().expect("a connection").0)
            .collect();
        // The first messages are sent, and the events of connecting are consumed.
        while bench.outstanding() < connections {
            bench.turn();
        }
        let name = if verify { "verified" } else { "not verified" };
        group.throughput(Throughput::Elements(connections as u64));
        group.bench_function(BenchmarkId::new(name, connections), |bencher| {
            bencher.iter_custom(|iterations| {
                let mut spent = Duration::ZERO;
                for _ in 0..iterations {
                    echo(&mut peers);
                    let began = Instant::now();
                    bench.turn();
                    spent += began.elapsed();
                }
                spent
            });
        });
        assert_eq!(bench.outstanding(), connections);
    }
    let _ = std::fs::remove_file(&path);
    group.finish();
}

criterion_group!(benches, turn);
criterion_main!(benches);
