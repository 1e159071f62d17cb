//! The task of a measuring thread, and its reports.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};

use echomark::tls::{Agreed, Refusal};

use super::backends::BackendReport;
use super::connection::{Address, ConnectError, Unserved};
use super::cpu::CpuUse;
use super::histogram::BucketCounts;
use super::interval::Interval;
use super::payload::Payload;
use super::priority::{Granted, Scheduling};
use super::schedule::Share;
use super::slice::Slice;
use super::sys::TcpInfo;
use super::tcp::TcpTotals;
use crate::plan::Plan;
use crate::result::Corruption;

/// The input of a thread.
#[derive(Debug)]
pub(crate) struct Task {
    /// The thread's number among all measuring threads,
    pub(crate) worker: usize,
    /// and among the threads of its plan.
    pub(crate) index: usize,
    pub(crate) plan: Arc<Plan>,
    pub(crate) payload: Arc<Payload>,
    /// One address for each target, in the plan's order.
    pub(crate) addresses: Arc<[Address]>,
    pub(crate) reports: Sender<Report>,
    /// Receives the start of the schedule, once every thread is connected. Closed if the run fails
    /// before.
    pub(crate) go: Receiver<u64>,
    /// Each flag ends the run early: one is set by the user, the other when another thread fails.
    pub(crate) stop: [Arc<AtomicBool>; 2],
    pub(crate) scheduling: Scheduling,
    /// Whether the target echoes, as far as any thread of the plan knows.
    pub(crate) echo: Arc<EchoState>,
    /// The rate set by the user, as bits of an f64; 0 for the plan's rate.
    pub(crate) rate: Arc<AtomicU64>,
}

/// What the threads of a plan tell each other of the target.
#[derive(Debug, Default)]
pub(crate) struct EchoState {
    /// A byte came back as it was sent.
    pub(crate) is_seen: AtomicBool,
    /// A thread ended its window, because nothing came back right.
    pub(crate) is_given_up: AtomicBool,
}

impl Task {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.iter().any(|flag| flag.load(Ordering::Relaxed))
    }

    /// The flows of the run that belong to this thread.
    pub(crate) fn share(&self) -> Share {
        Share::of_thread(&self.plan, self.index)
    }
}

/// A thread's report to the coordinator.
#[derive(Debug)]
pub(crate) enum Report {
    /// Every connect succeeded or failed.
    Connected {
        worker: usize,
        opened: usize,
        /// The first failed connect: the number of its target, and the error.
        failure: Option<(usize, io::Error)>,
    },
    /// The records of an interval; `None` if there are none.
    Slice {
        worker: usize,
        interval: Interval,
        /// The end of the interval, or of the window if that came first. In the ramp, relative to
        /// the first connect.
        end: u64,
        slice: Option<Box<Slice<BucketCounts>>>,
    },
    /// The thread has finished and reported every slice.
    Finished {
        worker: usize,
        account: Box<Account>,
        flows: Vec<FlowReport>,
        tcp: TcpTotals,
        /// The servers that greeted its connections.
        backends: Vec<BackendReport>,
        /// What its TLS handshakes agreed on.
        agreed: Vec<Agreed>,
    },
    /// The thread can't continue.
    Failed { worker: usize, failure: Failure },
}

impl Report {
    /// The number of the reporting thread.
    pub(crate) fn worker(&self) -> usize {
        match *self {
            Self::Connected { worker, .. }
            | Self::Slice { worker, .. }
            | Self::Finished { worker, .. }
            | Self::Failed { worker, .. } => worker,
        }
    }
}

/// Why a thread can't continue.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An unexpected failure of a system call.
    System(io::Error),
    /// The target with this number accepts connections and closes them without an echo.
    ClosesAtOnce { target: usize },
    /// The target with this number ends connections by TLS before it echoes anything.
    Tls { target: usize, refusal: Refusal },
    /// No socket receives datagrams at the target with this number.
    Refused { target: usize },
}

/// A thread's account of the run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    /// When it really started: the start, and how late it was with its first message.
    pub(crate) began_at: u64,
    /// When it recorded its last echo or gave up.
    pub(crate) finished_at: u64,
    /// The end of its window: by plan, by an interruption, or at the last message of a given
    /// number. Outstanding messages do not change it.
    pub(crate) window_ended_at: u64,
    /// Its CPU time within the window.
    pub(crate) cpu: CpuUse,
    /// What it got of the scheduler.
    pub(crate) scheduling: Granted,
    /// The stop flag ended its window.
    pub(crate) was_interrupted: bool,
    /// Payload bytes written during the whole run,
    pub(crate) bytes_out: u64,
    /// and payload bytes that came back or were acknowledged.
    pub(crate) bytes_in: u64,
    /// Whether anything came back as it was sent.
    pub(crate) has_echo: bool,
    /// What came first, if it was something else.
    pub(crate) foreign: Option<Foreign>,
    /// Failed connects.
    pub(crate) connect_errors: ConnectErrors,
    /// The first wrong byte: when it came, and its position.
    pub(crate) corruption: Option<(u64, Corruption)>,
}

/// The beginning of what a server sent instead of an echo.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Foreign {
    bytes: [u8; Self::MAX_BYTES],
    length: usize,
}

impl Foreign {
    /// Enough to recognize a protocol, and few enough for a line.
    const MAX_BYTES: usize = 32;

    pub(crate) fn new(received: &[u8]) -> Self {
        let length = received.len().min(Self::MAX_BYTES);
        let mut bytes = [0; Self::MAX_BYTES];
        bytes[..length].copy_from_slice(&received[..length]);
        Self { bytes, length }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The commonest error of failed connects (Boyer and Moore's majority vote).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ConnectErrors {
    error: Option<ConnectError>,
    lead: u64,
}

impl ConnectErrors {
    pub(crate) fn add(&mut self, error: &io::Error) {
        self.vote(error.into(), 1);
    }

    /// Adds those of another thread.
    pub(crate) fn merge(&mut self, other: Self) {
        if let Some(error) = other.error {
            self.vote(error, other.lead);
        }
    }

    fn vote(&mut self, error: ConnectError, votes: u64) {
        if self.error == Some(error) {
            self.lead += votes;
        } else if self.lead >= votes {
            self.lead -= votes;
        } else {
            (self.error, self.lead) = (Some(error), votes - self.lead);
        }
    }

    pub(crate) fn commonest(&self) -> Option<ConnectError> {
        self.error
    }
}

/// A flow's messages in the window.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct FlowShare {
    pub(crate) messages: u64,
    /// The sum of the messages' response times.
    pub(crate) response_ns: u64,
}

impl FlowShare {
    /// Adds a message and its response time.
    #[inline]
    pub(super) fn add(&mut self, response_ns: u64) {
        self.messages += 1;
        self.response_ns += response_ns;
    }
}

/// A flow's results over the run.
#[derive(Clone, Debug)]
pub(crate) struct FlowReport {
    /// Its number in the whole run.
    pub(crate) number: usize,
    pub(crate) target: usize,
    pub(crate) share: FlowShare,
    /// Whether a connection was open at the end.
    pub(crate) is_open: bool,
    /// Why the server did not serve it; `None` if it did.
    pub(crate) unserved: Option<Unserved>,
    /// The client's port of that connection,
    pub(crate) local_port: Option<u16>,
    /// the CPU that last processed its incoming packets (SO_INCOMING_CPU, socket(7)),
    pub(crate) incoming_cpu: Option<usize>,
    /// and its TCP_INFO.
    pub(crate) tcp: Option<Box<TcpInfo>>,
}
