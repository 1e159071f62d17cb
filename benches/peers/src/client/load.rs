//! What is asked of the client, and what came of it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use clap::ValueEnum;
use hdrhistogram::Histogram;
use rustix::io::Errno;

use crate::process::{Memory, Usage};

/// The client gives up when nothing has come back for so long.
pub(super) const MAX_SILENCE: Duration = Duration::from_secs(10);

/// What connections do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Messages over TCP, each sent when an earlier one came back
    Echo,
    /// Connect, one message there and back, close, from many source addresses
    Churn,
    /// Few connections with much in flight: a stream there and back
    Stream,
    /// A stream to a server that throws it away
    Discard,
    /// Messages over UDP, one socket for each peer
    Udp,
    /// Bursts of datagrams from one peer, given to the kernel at once (UDP_SEGMENT)
    UdpBulk,
    /// Memory of connections that echoed once and say nothing more
    Idle,
    /// As echo, over TLS 1.3
    TlsEcho,
    /// As stream, over TLS 1.3
    TlsStream,
    /// Connect, a full handshake of TLS 1.3, one message there and back, close
    TlsFull,
    /// The same with a resumed handshake
    TlsResumed,
    /// As idle, over TLS 1.3
    TlsIdle,
}

/// Which service of a server a workload needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Echo,
    Discard,
    UdpEcho,
    TlsEcho,
}

impl Workload {
    pub(crate) fn service(self) -> Service {
        match self {
            Self::Echo | Self::Churn | Self::Stream | Self::Idle => Service::Echo,
            Self::Discard => Service::Discard,
            Self::Udp | Self::UdpBulk => Service::UdpEcho,
            Self::TlsEcho | Self::TlsStream | Self::TlsFull | Self::TlsResumed | Self::TlsIdle => {
                Service::TlsEcho
            }
        }
    }

    /// The shape unless the user says otherwise.
    pub(crate) fn default_shape(self) -> Shape {
        match self {
            Self::Echo | Self::Churn | Self::TlsEcho | Self::TlsFull | Self::TlsResumed => {
                Shape::new(50, 64, 1)
            }
            Self::Stream | Self::TlsStream => Shape::new(4, 256 * 1024, 4),
            Self::Discard => Shape::new(4, 256 * 1024, 1),
            Self::Udp => Shape::new(100, 64, 1),
            Self::UdpBulk => Shape::new(1, 1200, 64),
            Self::Idle => Shape::new(10_000, 64, 1),
            Self::TlsIdle => Shape::new(5000, 64, 1),
        }
    }

    /// The unit that figures are given in.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Echo | Self::Udp | Self::UdpBulk | Self::TlsEcho => "echo",
            Self::Churn | Self::TlsFull | Self::TlsResumed => "setup",
            Self::Stream | Self::Discard | Self::TlsStream => "MiB",
            Self::Idle | Self::TlsIdle => "connection",
        }
    }
}

/// How many connections, or UDP sockets, how many bytes in a message, and how many messages in flight on
/// each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) connections: usize,
    pub(crate) size: usize,
    pub(crate) depth: usize,
}

impl Shape {
    pub(crate) fn new(connections: usize, size: usize, depth: usize) -> Self {
        Self {
            connections,
            size,
            depth,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (connections, depth) = (self.connections, self.depth);
        let size = bytesize::ByteSize::b(self.size as u64);
        write!(f, "{connections} connections, {size}, {depth} in flight")
    }
}

/// When a load ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// After a window of this length, which opens after the warm-up.
    Window { warm_up: Duration, window: Duration },
    /// After exactly so many operations.
    Count(u64),
}

/// What the client does besides counting what comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checks {
    /// It compares every byte and records every latency.
    All,
    /// Nothing: the least that a client can do, to compare another with.
    None,
}

/// A load to be put on a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) target: SocketAddr,
    /// The process whose processor time and memory are read.
    pub(crate) server: u32,
    pub(crate) workload: Workload,
    pub(crate) shape: Shape,
    pub(crate) length: Length,
    pub(crate) checks: Checks,
}

/// What came of a load, everything over one and the same window.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) operations: u64,
    pub(crate) bytes: u64,
    pub(crate) wall: Duration,
    pub(crate) server: Usage,
    pub(crate) client_cpu: Duration,
    /// Empty where the workload has none or they were not recorded.
    pub(crate) latency_ns: Histogram<u64>,
    /// The server's memory while the connections are open.
    pub(crate) memory: Memory,
    /// The same with the first few connections only, and how many came after them.
    pub(crate) memory_before: Option<(Memory, usize)>,
}

pub(super) fn failed(what: impl Into<String>) -> io::Error {
    io::Error::other(what.into())
}

/// Something that a socket refused, or nothing if it only can't do it now.
pub(super) fn unless_blocked<T>(
    result: rustix::io::Result<T>,
    doing: &str,
) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(e) => Err(failed(format!("{doing}: {}", io::Error::from(e)))),
    }
}
