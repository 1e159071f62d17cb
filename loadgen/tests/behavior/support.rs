//! Servers with known behaviour, and short plans.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use echomark::net::endpoint::Endpoint;
use loadgen::observer::Unobserved;
use loadgen::plan::{Direction, Load, Plan, Spacing, Target};
use loadgen::profile::Profile;
use loadgen::result::Code;
use loadgen::{Control, RunError, RunResult};

use crate::schema;

#[path = "../../../tests/behavior/support/shells.rs"]
pub(crate) mod shells;
#[path = "../../../tests/behavior/support/tools.rs"]
pub(crate) mod tools;

/// Deadline of every wait, far above the needs of a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Echo servers with a thread per connection and blocking calls.
pub(crate) struct PlainServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    connections: AtomicU64,
    /// Number of them served now.
    served: AtomicU64,
    bytes: AtomicU64,
    /// Sent on each connection before anything is read.
    greeting: &'static [u8],
}

/// The behaviour of a server on the bytes read from one connection: it writes, and returns whether
/// to continue.
pub(crate) type Behavior = dyn Fn(&mut Peer, &[u8]) -> bool + Send + Sync;

/// One connection, as its behaviour sees it.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    /// Bytes read before those at hand.
    pub(crate) received: u64,
}

impl Peer {
    /// Writes. If the client is gone, the connection ends.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(&self) {
        socket2::SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .expect("SO_LINGER can be set on any socket");
    }
}

impl PlainServer {
    /// An honest echo.
    pub(crate) fn echo() -> Self {
        Self::start(|peer, bytes| peer.send(bytes))
    }

    /// A server on a free port that treats all connections alike.
    pub(crate) fn start(
        behavior: impl Fn(&mut Peer, &[u8]) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::start_if(|_| true, behavior)
    }

    /// An honest echo that serves a limited number of connections at a time and closes the others
    /// at once.
    pub(crate) fn at_most(connections: u64) -> Self {
        Self::admitting(
            b"",
            move |_, served| served < connections,
            |peer, bytes| peer.send(bytes),
        )
    }

    /// A server that speaks first on each connection, and then behaves.
    pub(crate) fn greeting(
        greeting: &'static [u8],
        behavior: impl Fn(&mut Peer, &[u8]) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::admitting(greeting, |_, _| true, behavior)
    }

    /// A server that serves the connections accepted by `admit` and closes the others at once.
    pub(crate) fn start_if(
        admit: impl Fn(u64) -> bool + Send + 'static,
        behavior: impl Fn(&mut Peer, &[u8]) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::admitting(b"", move |number, _| admit(number), behavior)
    }

    /// The same, where `admit` gets the number of the connection and the number being served.
    fn admitting(
        greeting: &'static [u8],
        admit: impl Fn(u64, u64) -> bool + Send + 'static,
        behavior: impl Fn(&mut Peer, &[u8]) -> bool + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            greeting,
            ..Shared::default()
        });
        let behavior: Arc<Behavior> = Arc::new(behavior);
        let acceptor = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if shared.stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let number = shared.connections.fetch_add(1, Ordering::Relaxed);
                    if !admit(number, shared.served.load(Ordering::Relaxed)) {
                        continue;
                    }
                    let (shared, behavior) = (Arc::clone(&shared), Arc::clone(&behavior));
                    shared.served.fetch_add(1, Ordering::Relaxed);
                    thread::spawn(move || {
                        serve(stream, &shared, &*behavior);
                        shared.served.fetch_sub(1, Ordering::Relaxed);
                    });
                }
            })
        };
        Self {
            address,
            shared,
            acceptor: Some(acceptor),
        }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::Tcp(self.address.into())
    }

    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for PlainServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes the acceptor. Connections end with their clients.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn serve(stream: TcpStream, shared: &Shared, behavior: &Behavior) {
    stream.set_nodelay(true).unwrap();
    let mut peer = Peer {
        stream,
        received: 0,
    };
    if !peer.send(shared.greeting) {
        return;
    }
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count) = peer.stream.read(&mut buffer) {
        if count == 0 || !behavior(&mut peer, &buffer[..count]) {
            break;
        }
        peer.received += count as u64;
        shared.bytes.fetch_add(count as u64, Ordering::Relaxed);
    }
    let _ = peer.stream.shutdown(Shutdown::Both);
}

/// A gate for all connections of a server. While it is closed, no connection is answered.
#[derive(Default)]
pub(crate) struct Gate {
    is_closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn pass(&self) {
        let closed = self.is_closed.lock().unwrap();
        drop(self.opened.wait_while(closed, |closed| *closed).unwrap());
    }

    /// Closes the gate for `duration` and returns how long it really was closed.
    pub(crate) fn close_for(&self, duration: Duration) -> Duration {
        *self.is_closed.lock().unwrap() = true;
        let closed_at = Instant::now();
        // An uninterruptible wait: the stall is the experiment, not synchronisation.
        while let Some(left) = duration.checked_sub(closed_at.elapsed()) {
            thread::park_timeout(left);
        }
        *self.is_closed.lock().unwrap() = false;
        let closed_for = closed_at.elapsed();
        self.opened.notify_all();
        closed_for
    }
}

/// A test's own directory, removed at its end.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        /// Tests that run at once may choose the same name.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let unique = format!("loadgen-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(unique);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Its entries, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// A closed loop on four connections for half a second, without warm-up.
pub(crate) fn plan(target: Target) -> Plan {
    Plan {
        target,
        connections: number(4),
        threads: number(1),
        load: Load::Closed {
            pipeline: number(1),
        },
        duration: Some(Duration::from_millis(500)),
        warmup: Duration::ZERO,
        timeout: DEADLINE,
        seed: 1,
        interval: Duration::from_millis(100),
        ..Plan::default()
    }
}

pub(crate) fn embedded() -> Target {
    Target::Embedded {
        embedded_workers: number(1),
    }
}

pub(crate) fn server(server: &PlainServer) -> Target {
    Target::Servers {
        targets: vec![server.endpoint()],
    }
}

pub(crate) fn number(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

pub(crate) fn constant(rate: f64) -> Load {
    Load::Open {
        rate: Profile::constant(rate).unwrap(),
        arrivals: Spacing::Constant,
        pipeline: None,
    }
}

pub(crate) fn even(profile: &str) -> Load {
    Load::Open {
        rate: profile.parse().unwrap(),
        arrivals: Spacing::Constant,
        pipeline: None,
    }
}

/// Runs a plan and checks what must hold of every result. A timeout that is short for the sake of a test
/// bounds the first connects too: where a busy machine took longer for them, nothing was measured, and
/// it is tried again.
#[track_caller]
pub(crate) fn run(plan: &Plan) -> RunResult {
    let deadline = Instant::now() + DEADLINE;
    let result = loop {
        match try_run(plan) {
            Ok(result) => break result,
            Err(RunError::NoConnection { source, .. })
                if source.kind() == std::io::ErrorKind::TimedOut
                    && plan.timeout < Duration::from_secs(1)
                    && Instant::now() < deadline => {}
            Err(error) => panic!("the run failed: {error}"),
        }
    };
    check_accounts(&result);
    check_that_it_reads_back(&result);
    result
}

/// A stored result reads back equal.
#[track_caller]
fn check_that_it_reads_back(result: &RunResult) {
    let stored = serde_json::to_value(result).unwrap();
    let read: RunResult = serde_json::from_value(stored.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), stored);
}

pub(crate) fn try_run(plan: &Plan) -> Result<RunResult, RunError> {
    loadgen::run(plan, &Control::default(), &mut Unobserved)
}

/// The identities that hold in every result, whatever happened.
#[track_caller]
pub(crate) fn check_accounts(result: &RunResult) {
    let messages = &result.messages;
    assert_eq!(
        messages.sent,
        messages.received
            + messages.lost
            + messages.timed_out
            + messages.abandoned
            + messages.unfinished,
        "{messages:?}"
    );
    if result.plan.verify {
        assert_eq!(messages.received, messages.verified + messages.corrupt);
    }
    let intervals = &result.intervals;
    let sum = |field: fn(&loadgen::result::IntervalResult) -> u64| -> u64 {
        intervals.iter().map(field).sum()
    };
    assert_eq!(sum(|interval| interval.counts.sent), messages.sent);
    assert_eq!(sum(|interval| interval.counts.received), messages.received);
    assert_eq!(sum(|interval| interval.counts.lost), messages.lost);
    assert_eq!(
        sum(|interval| interval.counts.timed_out),
        messages.timed_out
    );
    assert_eq!(
        sum(|interval| interval.counts.abandoned),
        messages.abandoned
    );
    assert!(
        intervals
            .windows(2)
            .all(|pair| pair[0].end_s <= pair[1].start_s + 1e-9)
    );
    // The receive time of a block of a one-way stream is unknown.
    let has_latency = matches!(result.plan.direction(), None | Some(Direction::Echo));
    for latency in [&result.latency_ns.response, &result.latency_ns.service] {
        let count = latency.as_ref().map_or(0, |latency| latency.count());
        assert_eq!(count, if has_latency { messages.received } else { 0 });
    }
    if result.plan.is_open_loop() {
        let lag = result.latency_ns.send_lag.as_ref();
        assert_eq!(lag.map_or(0, |lag| lag.count()), messages.sent);
    }
    let (least, most) = (result.plan.size.least(), result.plan.size.most());
    assert!(result.bytes.sent <= messages.sent * u64::from(most));
    // A truncated datagram is shorter.
    let is_short = messages.corrupt > 0 && result.plan.is_datagram();
    assert!(is_short || result.bytes.received >= messages.received * u64::from(least));
    schema::check(result);
}

/// The codes of the verdict's reasons.
pub(crate) fn codes(result: &RunResult) -> Vec<&Code> {
    result
        .verdict
        .reasons
        .iter()
        .map(|reason| &reason.code)
        .collect()
}
