//! The load: one thread, level-triggered epoll, in a closed loop. It is the same for every server and
//! shares nothing with loadgen.
//!
//! Every byte that comes back is compared with what was sent, and at the end exactly as much must have
//! come back as went out; otherwise there is no outcome but an error.

mod churn;
mod datagram;
mod discard;
mod flow;
mod idle;
mod pattern;
mod stream;
mod window;

use std::fmt;
use std::io;
use std::net::SocketAddrV4;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::procfs::{Memory, Usage};

pub use window::{Gauge, NoGauge};

/// How long nothing may come back before the load gives up.
const STALL: Duration = Duration::from_secs(10);

/// What connections do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Messages over TCP, each sent when an earlier one came back.
    Echo,
    /// Connect, one message there and back, close, from many source addresses.
    Churn,
    /// Few connections with much in flight: a stream there and back.
    Stream,
    /// A stream to a server that throws it away.
    Discard,
    /// Messages over UDP, one socket for each peer.
    Udp,
    /// Bursts of datagrams from one peer, given to the kernel at once (UDP_SEGMENT).
    UdpBulk,
    /// Connections that echoed once and say nothing more.
    Idle,
}

/// Which service of a server a workload needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Echo over TCP.
    Echo,
    /// Discard over TCP.
    Discard,
    /// Echo over UDP.
    UdpEcho,
}

impl Workload {
    /// All, in the order of the tables.
    pub const ALL: [Self; 7] = [
        Self::Echo,
        Self::Churn,
        Self::Stream,
        Self::Discard,
        Self::Udp,
        Self::UdpBulk,
        Self::Idle,
    ];

    /// The service that it needs.
    #[must_use]
    pub fn service(self) -> Service {
        match self {
            Self::Echo | Self::Churn | Self::Stream | Self::Idle => Service::Echo,
            Self::Discard => Service::Discard,
            Self::Udp | Self::UdpBulk => Service::UdpEcho,
        }
    }

    /// How many connections, how large and how many messages, unless told otherwise.
    #[must_use]
    pub fn usual_shape(self) -> Shape {
        let (connections, size, depth) = match self {
            Self::Echo | Self::Churn => (50, 64, 1),
            Self::Stream => (4, 256 * 1024, 4),
            Self::Discard => (4, 256 * 1024, 1),
            Self::Udp => (100, 64, 1),
            Self::UdpBulk => (1, 1200, 64),
            Self::Idle => (10_000, 64, 1),
        };
        Shape {
            connections,
            size,
            depth,
        }
    }

    /// What one operation is called.
    #[must_use]
    pub fn operation(self) -> &'static str {
        match self {
            Self::Echo | Self::Stream | Self::Udp | Self::UdpBulk => "echo",
            Self::Churn => "setup",
            Self::Discard => "write",
            Self::Idle => "connection",
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Echo => "echo",
            Self::Churn => "churn",
            Self::Stream => "stream",
            Self::Discard => "discard",
            Self::Udp => "udp",
            Self::UdpBulk => "udp-bulk",
            Self::Idle => "idle",
        })
    }
}

/// How many connections, how large and how many messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Connections, or UDP sockets.
    pub connections: usize,
    /// Bytes of a message.
    pub size: usize,
    /// Messages in flight on each connection.
    pub depth: usize,
}

impl Shape {
    /// Bytes in flight over all connections.
    #[must_use]
    pub fn in_flight(self) -> usize {
        self.connections * self.size * self.depth
    }
}

/// When a load ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// After a window of this length, which opens after the warm-up.
    Window {
        /// What is sent at first and not measured.
        warm_up: Duration,
        /// What is measured.
        window: Duration,
    },
    /// After exactly so many operations.
    Count(u64),
}

/// What the load does besides counting what comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// Every byte is compared, and every latency recorded.
    All,
    /// Nothing: the least that a client can do, to compare another with.
    None,
}

/// A load to be put on a server.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Where the server listens.
    pub target: SocketAddrV4,
    /// What connections do.
    pub workload: Workload,
    /// How many and how large.
    pub shape: Shape,
    /// When it ends.
    pub length: Length,
    /// What is checked.
    pub checks: Checks,
}

/// What came of a load, everything over one and the same window.
#[derive(Debug)]
pub struct Outcome {
    /// Operations that were completed.
    pub operations: u64,
    /// Bytes that were echoed, or thrown away.
    pub bytes: u64,
    /// Length of the window.
    pub wall: Duration,
    /// What the server used.
    pub server: Usage,
    /// Processor time of the loading thread in nanoseconds.
    pub client_cpu_ns: u64,
    /// Latencies in nanoseconds; empty where the workload has none or they were not recorded.
    pub latency: Histogram<u64>,
    /// The server's memory while the connections are open.
    pub memory: Memory,
    /// The same with the first few connections only, and how many came after them.
    pub memory_before: Option<(Memory, usize)>,
}

/// Puts a load on a server and tells what came of it.
///
/// # Errors
/// What failed, in words, among it every answer that is wrong, missing or too much.
pub fn run(order: &Order, gauge: &dyn Gauge) -> io::Result<Outcome> {
    match order.workload {
        Workload::Echo | Workload::Stream => stream::run(order, gauge),
        Workload::Churn => churn::run(order, gauge),
        Workload::Discard => discard::run(order, gauge),
        Workload::Udp | Workload::UdpBulk => datagram::run(order, gauge),
        Workload::Idle => idle::run(order, gauge),
    }
}

/// An error of the load, with what it was doing.
fn context(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
