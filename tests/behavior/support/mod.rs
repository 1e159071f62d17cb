//! Helpers of the tests: a server that ends with its test, a client that can't hang, and waits for
//! a condition.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use echomark::metrics::{CloseReason, Snapshot};
use echomark::net::endpoint::Endpoint;
use echomark::{Config, Error, Handle, Server, Service};
use socket2::{Domain, SockRef, Socket, Type};

pub(crate) mod directory;
pub(crate) mod echod;
pub(crate) mod generation;
pub(crate) mod pattern;
pub(crate) mod shells;
pub(crate) mod strace;
pub(crate) mod tools;

use pattern::Pattern;

/// The time after which a step counts as hanging, far above the needs of a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Returns once `condition` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Repeats `attempt` until it returns a value.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    /// Leaves the processor to the server between two attempts.
    const PAUSE: Duration = Duration::from_millis(1);
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        thread::park_timeout(PAUSE);
    }
}

/// Runs `task` in `threads` threads at once, each with its index, and returns their results.
#[track_caller]
pub(crate) fn in_parallel<T: Send>(threads: usize, task: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let task = &task;
    thread::scope(|scope| {
        let mut running = Vec::with_capacity(threads);
        for index in 0..threads {
            running.push(scope.spawn(move || task(index)));
        }
        let results = running.into_iter().map(|thread| thread.join());
        results
            .map(|result| result.expect("no thread panics"))
            .collect()
    })
}

/// Sets a flag when dropped, also by a panic, so that threads that wait for the flag end.
pub(crate) struct AtEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Connects and echoes again and again until the port is closed, and counts those served.
#[track_caller]
pub(crate) fn connect_until_refused(address: SocketAddr, served: &AtomicUsize) {
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
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
                return;
            }
        }
    }
    panic!("the listeners were not closed");
}

/// Connects, echoes and closes again and again until told to stop; counts the rounds.
#[track_caller]
pub(crate) fn churn(address: SocketAddr, stop: &AtomicBool, rounds: &AtomicUsize) {
    while !stop.load(Ordering::Relaxed) {
        let mut client = Client::connect(address);
        client.echo(b"served by whom?");
        client.echo(&[9; 5000]);
        client.half_close();
        client.expect_end();
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}

/// One worker that echoes on a free port of `host`.
pub(crate) fn config_on(host: &str) -> Config {
    let endpoint = format!("tcp://{host}:0");
    Config {
        services: vec![(Service::Echo, endpoint.parse().expect("an endpoint"))],
        workers: NonZeroUsize::MIN,
        ..Config::default()
    }
}

/// One worker that echoes on a free port of 127.0.0.1.
pub(crate) fn config() -> Config {
    config_on("127.0.0.1")
}

/// One worker with a service on an endpoint.
#[track_caller]
pub(crate) fn config_for(service: Service, endpoint: &str) -> Config {
    Config {
        services: vec![(service, endpoint.parse().expect("an endpoint"))],
        ..config()
    }
}

/// The addresses that a server listens on, in the order of its services; a Unix socket has none.
pub(crate) fn addresses(server: &Server) -> Vec<SocketAddr> {
    let endpoints = server.endpoints().iter();
    endpoints
        .filter(|(_, endpoint)| !matches!(endpoint, Endpoint::Unix(_)))
        .map(|(_, endpoint)| endpoint.resolve().expect("bound addresses are numeric")[0])
        .collect()
}

/// A server in this process. Dropping it stops and joins it.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    pub(crate) addresses: Vec<SocketAddr>,
    thread: Option<JoinHandle<Result<Snapshot, Error>>>,
}

impl Running {
    #[track_caller]
    pub(crate) fn start(config: Config) -> Self {
        Self::run(Server::bind(config).expect("a free port can be bound"))
    }

    /// Runs a server that was bound before, so that clients may have connected already.
    pub(crate) fn run(server: Server) -> Self {
        Self {
            handle: server.handle(),
            addresses: addresses(&server),
            thread: Some(thread::spawn(|| server.run())),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    pub(crate) fn metrics(&self) -> Snapshot {
        self.handle.metrics()
    }

    /// Returns the counters once they fulfil `condition`. They are not read at one moment: only what
    /// the condition asks for is known.
    #[track_caller]
    pub(crate) fn wait_for_metrics(
        &self,
        what: &str,
        condition: impl Fn(&Snapshot) -> bool,
    ) -> Snapshot {
        let end = Instant::now() + DEADLINE;
        loop {
            let metrics = self.metrics();
            if condition(&metrics) {
                return metrics;
            }
            assert!(Instant::now() < end, "no {what} in {metrics:#?}");
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Waits until the server has sent bytes and then sleeps, and returns its counters.
    #[track_caller]
    pub(crate) fn wait_until_at_rest(&self) -> Snapshot {
        /// A moment in which a server that is awake turns many times.
        const MOMENT: Duration = Duration::from_millis(20);
        let mut before = self.metrics();
        wait_until("a server at rest", || {
            thread::park_timeout(MOMENT);
            let now = self.metrics();
            let last = std::mem::replace(&mut before, now);
            now.sent_bytes > 0 && now.loop_iterations == last.loop_iterations
        });
        before
    }

    /// Waits until `count` connections were served and all of them are gone.
    #[track_caller]
    pub(crate) fn wait_for_all_closed(&self, count: u64) -> Snapshot {
        self.wait_for_metrics("end of all connections", |metrics| {
            metrics.active == 0 && closed(metrics) >= count
        });
        // The counters above may have been read while the last ones changed.
        let metrics = self.metrics();
        assert_eq!(metrics.accepted, count, "connections accepted");
        assert_eq!(closed(&metrics), count, "each closed once: {metrics:#?}");
        assert_eq!(metrics.backlog_bytes, 0, "no backlog outlives its peer");
        metrics
    }

    /// Waits until the server has ended by itself and returns its final counters.
    #[track_caller]
    pub(crate) fn join(mut self) -> Snapshot {
        self.end().expect("the server was not joined yet")
    }

    #[track_caller]
    fn end(&mut self) -> Option<Snapshot> {
        let thread = self.thread.take()?;
        wait_until("end of the server", || thread.is_finished());
        let result = thread.join().expect("run does not panic");
        Some(result.expect("the server ends without an error"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
        // Another panic while one unwinds would hide the first.
        if !thread::panicking() {
            self.end();
        }
    }
}

/// Connections closed for any reason.
pub(crate) fn closed(metrics: &Snapshot) -> u64 {
    CloseReason::ALL
        .iter()
        .map(|&reason| metrics.closed(reason))
        .sum()
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// The peer shut its side down.
    InOrder,
    Reset,
}

/// A plain socket with a deadline for every call. Unlike the socket, it panics on errors.
pub(crate) struct Client(TcpStream);

impl Client {
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        match Self::try_connect(address) {
            Ok(client) => client,
            Err(error) => panic!("cannot connect to {address}: {error}"),
        }
    }

    pub(crate) fn try_connect(address: SocketAddr) -> io::Result<Self> {
        Self::try_connect_for(DEADLINE, address)
    }

    pub(crate) fn try_connect_for(patience: Duration, address: SocketAddr) -> io::Result<Self> {
        Self::new(TcpStream::connect_timeout(&address, patience)?)
    }

    /// Connects from an address of this machine.
    #[track_caller]
    pub(crate) fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        Self::try_connect_from(source, address)
            .unwrap_or_else(|error| panic!("cannot connect from {source} to {address}: {error}"))
    }

    pub(crate) fn try_connect_from(source: IpAddr, address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        socket.connect_timeout(&address.into(), DEADLINE)?;
        Self::new(socket.into())
    }

    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Another handle on the same connection, which ends when both are dropped.
    #[track_caller]
    pub(crate) fn of(client: &Self) -> Self {
        Self(client.0.try_clone().expect("another descriptor"))
    }

    /// Connects with buffers so small that the connection soon pushes back.
    #[track_caller]
    pub(crate) fn connect_with_buffers(address: SocketAddr, size: usize) -> Self {
        let client = Self::connect(address);
        let socket = SockRef::from(&client.0);
        socket.set_send_buffer_size(size).expect("SO_SNDBUF");
        socket.set_recv_buffer_size(size).expect("SO_RCVBUF");
        client
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("send");
    }

    #[track_caller]
    pub(crate) fn receive(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).expect("receive");
        bytes
    }

    /// Sends `bytes` and marks the last one as urgent.
    #[track_caller]
    pub(crate) fn send_urgent(&self, bytes: &[u8]) {
        let sent = SockRef::from(&self.0).send_out_of_band(bytes);
        assert_eq!(sent.expect("send with MSG_OOB"), bytes.len());
    }

    /// Receives a line, without its end; what there is of it before the end of the stream.
    #[track_caller]
    pub(crate) fn receive_line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while self.0.read(&mut byte).expect("a line") > 0 && byte != *b"\n" {
            line.extend(byte);
        }
        String::from_utf8(line).expect("UTF-8")
    }

    /// Sends `bytes` and expects them back.
    #[track_caller]
    pub(crate) fn echo(&mut self, bytes: &[u8]) {
        self.send(bytes);
        let back = self.receive(bytes.len());
        assert!(back == bytes, "sent {bytes:?}, received {back:?}");
    }

    /// Sends the first `count` bytes of `pattern` and checks them as they come back, both at the
    /// same time: the buffers on the way may hold less.
    #[track_caller]
    pub(crate) fn echo_stream(&mut self, pattern: Pattern, count: u64) {
        let mut sender = Self::of(self);
        thread::scope(|scope| {
            scope.spawn(move || sender.send_stream(pattern, count));
            self.receive_stream(pattern, 0, count);
        });
    }

    /// Sends the first `count` bytes of `pattern`.
    #[track_caller]
    pub(crate) fn send_stream(&mut self, pattern: Pattern, count: u64) {
        for (offset, len) in chunks(0, count) {
            let mut chunk = vec![0; len];
            pattern.fill(offset, &mut chunk);
            self.send(&chunk);
        }
    }

    /// Sends from the start of `pattern` until the socket takes no more and the server is stuck
    /// too, and returns the number of bytes.
    #[track_caller]
    pub(crate) fn send_until_blocked(
        &self,
        pattern: Pattern,
        server_is_stuck: impl Fn() -> bool,
    ) -> u64 {
        let mut sent = 0;
        let mut chunk = vec![0; 16 << 10];
        wait_until("back-pressure", || {
            loop {
                pattern.fill(sent, &mut chunk);
                // Checked before the write: a server that is stuck now is stuck afterwards.
                let stuck = server_is_stuck();
                let taken = self.send_at_once(&chunk);
                sent += taken as u64;
                if taken == 0 {
                    return stuck;
                }
            }
        });
        sent
    }

    /// Receives the bytes of `pattern` from offset `from` up to `to`, and checks them.
    #[track_caller]
    pub(crate) fn receive_stream(&mut self, pattern: Pattern, from: u64, to: u64) {
        for (offset, len) in chunks(from, to) {
            pattern.check(offset, &self.receive(len));
        }
    }

    /// Receives the stream to its end, checks it against `pattern`, and returns its length and how
    /// it ended.
    #[track_caller]
    pub(crate) fn receive_all(&mut self, pattern: Pattern) -> (u64, End) {
        let mut received = 0;
        let mut buffer = [0; 64 << 10];
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => return (received, End::InOrder),
                Ok(count) => {
                    pattern.check(received, &buffer[..count]);
                    received += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return (received, End::Reset);
                }
                Err(error) => panic!("neither an end nor a reset: {error}"),
            }
        }
    }

    /// Expects the end of the stream: neither a byte nor a reset.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        // Unlike a single read, this goes on when a signal interrupts it.
        let mut rest = Vec::new();
        let result = self.0.read_to_end(&mut rest);
        assert_eq!(rest.len(), 0, "bytes before the end of the stream");
        result.expect("the end of the stream");
    }

    #[track_caller]
    pub(crate) fn half_close(&self) {
        self.0.shutdown(Shutdown::Write).expect("half-close");
    }

    /// Closes with a reset: SO_LINGER with no time (socket(7)).
    #[track_caller]
    pub(crate) fn reset(self) {
        SockRef::from(&self.0)
            .set_linger(Some(Duration::ZERO))
            .expect("SO_LINGER");
    }

    /// Writes once without blocking, and returns the number of bytes taken. Not for a connection
    /// that another thread uses: its calls would not wait either.
    #[track_caller]
    pub(crate) fn send_at_once(&self, bytes: &[u8]) -> usize {
        self.0.set_nonblocking(true).expect("O_NONBLOCK");
        let result = (&self.0).write(bytes);
        self.0.set_nonblocking(false).expect("O_NONBLOCK");
        taken(result)
    }

    /// The same for a connection that another thread reads: blocks for a moment at most.
    #[track_caller]
    pub(crate) fn send_in_a_moment(&self, bytes: &[u8]) -> usize {
        const MOMENT: Duration = Duration::from_millis(1);
        self.0.set_write_timeout(Some(MOMENT)).expect("SO_SNDTIMEO");
        taken((&self.0).write(bytes))
    }

    /// Reads once without waiting; `None` when there is nothing, not even an end. Not for a
    /// connection that another thread uses: its calls would not wait either.
    pub(crate) fn receive_at_once(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        self.0.set_nonblocking(true)?;
        let result = self.0.read(buffer);
        self.0.set_nonblocking(false)?;
        match result {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The number of bytes that a write took; 0 if there was no room.
#[track_caller]
fn taken(written: io::Result<usize>) -> usize {
    match written {
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => panic!("send: {error}"),
    }
}

/// Splits a range of a stream into pieces of a handy size: offset and length of each.
fn chunks(from: u64, to: u64) -> impl Iterator<Item = (u64, usize)> {
    const CHUNK: usize = 256 << 10;
    (from..to)
        .step_by(CHUNK)
        .map(move |offset| (offset, CHUNK.min((to - offset) as usize)))
}

impl Deref for Client {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.0
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut TcpStream {
        &mut self.0
    }
}
