//! The cost of our own code per echo: `Conn::pump` over a stream in memory.
//!
//! Measured: noting the kernel's report and one or two calls of `pump`: the decisions, the
//! counters, and the memory and copying of the backlog when there is one.
//!
//! Not measured: the kernel. The stream's calls return at once and move no byte, so every copy is
//! our own. Like system calls, they are not inlined. The event loop around `pump` is not part of it
//! either.
//!
//! To read it: an echo over a socket takes microseconds, nearly all in the kernel, so that the ten
//! nanoseconds or so of `short_read` are lost in it. They should stay that few; `full_buffer`
//! should cost one more read and nothing for its size, and only `short_write`, the case of a slow
//! reader, should allocate memory.

use std::cell::Cell;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use echomark::Service;
use echomark::internal::Scratch;
use echomark::internal::WorkerMetrics;
use echomark::internal::{Conn, Next};
use echomark::net::pipe::SplicePipe;
use echomark::net::readiness::Readiness;
use echomark::net::stream::Stream;
use echomark::net::units::format_size;

const BUFFER: usize = 64 << 10;

fn pump(c: &mut Criterion) {
    let mut group = c.benchmark_group("pump");

    // The common echo: less than the buffer holds, so that one read and one write suffice.
    let mut short_read = Fixture::new(64);
    group.bench_function(BenchmarkId::new("short_read", "64B"), |b| {
        b.iter(|| short_read.echo_whole());
    });
    short_read.assert_echoed(0);

    // After a full read only another read tells whether more is left.
    let mut full_buffer = Fixture::new(BUFFER);
    group.bench_function(BenchmarkId::new("full_buffer", "64KiB"), |b| {
        b.iter(|| full_buffer.echo_whole());
    });
    full_buffer.assert_echoed(0);

    // The socket takes a quarter, then nothing, then the rest.
    for len in [64, BUFFER] {
        let mut short_write = Fixture::new(len);
        let id = BenchmarkId::new("short_write", format_size(len as u64));
        group.bench_function(id, |b| {
            b.iter(|| short_write.echo_in_two(len / 4));
        });
        short_write.assert_echoed(1);
    }
    group.finish();
}

/// A connection whose peer sends messages of one length, with a reactor's scratch and metrics.
struct Fixture {
    peer: Rc<Peer>,
    conn: Conn<Memory>,
    scratch: Scratch<SplicePipe>,
    metrics: WorkerMetrics,
    message_len: usize,
    messages: u64,
}

impl Fixture {
    fn new(message_len: usize) -> Self {
        let peer = Rc::new(Peer::default());
        Self {
            conn: Conn::new(Memory(Rc::clone(&peer)), Service::Echo),
            peer,
            scratch: Scratch::new(BUFFER),
            metrics: WorkerMetrics::default(),
            message_len,
            messages: 0,
        }
    }

    /// One message that the socket takes at once.
    fn echo_whole(&mut self) {
        self.messages += 1;
        self.peer.unread.set(self.message_len);
        self.peer.room.set(usize::MAX);
        self.pump(Readiness::READABLE);
    }

    /// One message of which the socket takes `first` bytes, and the rest once there is room again.
    fn echo_in_two(&mut self, first: usize) {
        self.messages += 1;
        self.peer.unread.set(self.message_len);
        self.peer.room.set(first);
        self.pump(Readiness::READABLE);
        self.peer.room.set(usize::MAX);
        self.pump(Readiness::WRITABLE);
    }

    fn pump(&mut self, readiness: Readiness) {
        self.conn.note(black_box(readiness));
        let next = self.conn.pump(&mut self.scratch, &self.metrics);
        assert_eq!(next, Next::Wait);
    }

    /// Checks by the counters that every message went through, with this number of short writes in
    /// total.
    fn assert_echoed(&self, short_writes: u64) {
        let counted = self.metrics.snapshot();
        let bytes = self.messages * self.message_len as u64;
        assert_eq!(counted.received_bytes, bytes);
        assert_eq!(counted.sent_bytes, bytes);
        assert_eq!(counted.short_writes, self.messages * short_writes);
        assert_eq!(counted.backlog_bytes, 0);
    }
}

/// The state of the socket, set between the calls of `pump`.
#[derive(Debug, Default)]
struct Peer {
    /// Bytes that arrived and were not read.
    unread: Cell<usize>,
    /// Bytes that can be written before a write would block.
    room: Cell<usize>,
}

/// The connection's end of it.
#[derive(Debug)]
struct Memory(Rc<Peer>);

impl Read for Memory {
    #[inline(never)]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        take(&self.0.unread, buffer.len())
    }
}

impl Write for Memory {
    #[inline(never)]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        take(&self.0.room, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Memory {
    type Pipe = SplicePipe;

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reset_on_close(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn peek(&mut self, _: &mut [u8]) -> io::Result<usize> {
        unreachable!("there is memory for backlogs")
    }

    fn drained_by_short_read(&self) -> bool {
        true
    }

    fn open_pipe(&self) -> io::Result<SplicePipe> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn fill(&mut self, _: &mut SplicePipe, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn pour(&mut self, _: &mut SplicePipe) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn take(available: &Cell<usize>, max: usize) -> io::Result<usize> {
    match available.get().min(max) {
        // A simple kind, as cheap as the kernel's errno.
        0 => Err(io::ErrorKind::WouldBlock.into()),
        count => {
            available.set(available.get() - count);
            Ok(count)
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = pump
}
criterion_main!(benches);
