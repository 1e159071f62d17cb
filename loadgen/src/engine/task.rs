//! What a measuring thread is told, and what it reports.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};

use super::connection::Address;
use super::cpu::CpuUse;
use super::histogram::BucketCounts;
use super::interval::Interval;
use super::payload::Payload;
use super::schedule::Share;
use super::slice::Slice;
use super::sys::TcpInfo;
use super::tcp::TcpTotals;
use crate::plan::Plan;

/// What a thread needs to know.
#[derive(Debug)]
pub(crate) struct Task {
    /// The thread's number among all that report,
    pub(crate) worker: usize,
    /// and among those of its plan.
    pub(crate) index: usize,
    pub(crate) plan: Arc<Plan>,
    pub(crate) payload: Arc<Payload>,
    /// One address for each target, in the plan's order.
    pub(crate) addresses: Arc<[Address]>,
    pub(crate) reports: Sender<Report>,
    /// The start of the schedule, once every thread is connected; closed if there will be none.
    pub(crate) go: Receiver<u64>,
    /// Each of them ends the run early when it is set: by the user, or when another thread failed.
    pub(crate) stop: [Arc<AtomicBool>; 2],
    /// The rate that the user sets from now on, as bits of an f64; 0 for the plan's.
    pub(crate) rate: Arc<AtomicU64>,
}

impl Task {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.iter().any(|flag| flag.load(Ordering::Relaxed))
    }

    /// The thread's flows among those of the run.
    pub(crate) fn share(&self) -> Share {
        Share {
            total: self.plan.connections.get(),
            first: self.index,
            stride: self.plan.threads.get(),
        }
    }
}

/// What a thread tells the coordinator.
#[derive(Debug)]
pub(crate) enum Report {
    /// Every connection was made or failed.
    Connected {
        worker: usize,
        opened: usize,
        /// The first that failed: its target's number, and why.
        failure: Option<(usize, io::Error)>,
    },
    /// What was recorded in an interval; `None` if nothing.
    Slice {
        worker: usize,
        interval: Interval,
        /// When the interval ended, by plan or because the window did; in the ramp, since the first
        /// connect.
        end: u64,
        slice: Option<Box<Slice<BucketCounts>>>,
    },
    /// The thread is done; it has reported every slice.
    Finished {
        worker: usize,
        account: Account,
        flows: Vec<FlowReport>,
        tcp: TcpTotals,
    },
    /// The thread can't go on.
    Failed { worker: usize, failure: Failure },
}

impl Report {
    /// The number of the thread that sent it.
    pub(crate) fn worker(&self) -> usize {
        match *self {
            Self::Connected { worker, .. }
            | Self::Slice { worker, .. }
            | Self::Finished { worker, .. }
            | Self::Failed { worker, .. } => worker,
        }
    }
}

/// Why a thread can't go on.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A system call failed that should not.
    System(io::Error),
    /// The target with this number accepts connections and closes them without an echo.
    ClosesAtOnce { target: usize },
    /// No socket receives the datagrams that are sent to the target with this number.
    Refused { target: usize },
}

/// A thread's account of itself over the run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    /// When it recorded its last echo, or gave up waiting.
    pub(crate) finished_at: u64,
    /// When its window ended: by plan, by an interruption, or with the last message of a given
    /// number. What was still out then does not change it.
    pub(crate) window_ended_at: u64,
    /// What it used of the processors within the window.
    pub(crate) cpu: CpuUse,
    /// The stop flag ended its window.
    pub(crate) was_interrupted: bool,
    /// Payload bytes of the whole run that were handed to the kernel,
    pub(crate) bytes_out: u64,
    /// and that came back or were acknowledged.
    pub(crate) bytes_in: u64,
    /// Where the first wrong byte was: flow, and offset in its stream.
    pub(crate) corruption: Option<(usize, u64)>,
}

/// What one flow had of the window.
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

/// What one flow had of the run.
#[derive(Clone, Debug)]
pub(crate) struct FlowReport {
    /// Its number in the whole run.
    pub(crate) number: usize,
    pub(crate) target: usize,
    pub(crate) share: FlowShare,
    /// Whether a connection stood at the end.
    pub(crate) is_open: bool,
    /// Of that connection: the client's port,
    pub(crate) local_port: Option<u16>,
    /// the CPU that last processed its incoming packets (SO_INCOMING_CPU, socket(7)),
    pub(crate) incoming_cpu: Option<usize>,
    /// and what TCP says of it.
    pub(crate) tcp: Option<Box<TcpInfo>>,
}
