//! The task of a measuring thread, and its reports.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};

use super::connection::Address;
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
    /// The rate set by the user, as bits of an f64; 0 for the plan's rate.
    pub(crate) rate: Arc<AtomicU64>,
}

impl Task {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.iter().any(|flag| flag.load(Ordering::Relaxed))
    }

    /// The flows of the run that belong to this thread.
    pub(crate) fn share(&self) -> Share {
        Share {
            total: self.plan.connections.get(),
            first: self.index,
            stride: self.plan.threads.get(),
        }
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
    /// No socket receives datagrams at the target with this number.
    Refused { target: usize },
}

/// A thread's account of the run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
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
    /// The first wrong byte: when it came, and its position.
    pub(crate) corruption: Option<(u64, Corruption)>,
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
    /// The client's port of that connection,
    pub(crate) local_port: Option<u16>,
    /// the CPU that last processed its incoming packets (SO_INCOMING_CPU, socket(7)),
    pub(crate) incoming_cpu: Option<usize>,
    /// and its TCP_INFO.
    pub(crate) tcp: Option<Box<TcpInfo>>,
}
