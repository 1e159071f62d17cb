//! What a measuring thread is told, and what it tells.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};

use super::FlowReport;
use crate::engine::connection::Address;
use crate::engine::histogram::BucketCounts;
use crate::engine::meter::{Account, Interval};
use crate::engine::payload::Payload;
use crate::engine::schedule::Share;
use crate::engine::slice::Slice;
use crate::engine::tcp::TcpTotals;
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
    /// Any of them set ends the run early: the user's wish, another thread's failure.
    pub(crate) stop: [Arc<AtomicBool>; 2],
    /// The rate that the user wishes from now on, as bits of an f64; 0 for the plan's.
    pub(crate) rate: Arc<AtomicU64>,
}

/// What a thread tells the coordinator.
#[derive(Debug)]
pub(crate) enum Report {
    /// All connects are through.
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
        /// When the interval ended, by plan or because the window did; while connections are made,
        /// from the first connect on.
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
    /// Whose it is.
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
    /// Nobody takes the datagrams that are sent to the target with this number.
    Refused { target: usize },
}

impl Task {
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.iter().any(|flag| flag.load(Ordering::Relaxed))
    }

    pub(super) fn share(&self) -> Share {
        Share {
            total: self.plan.connections.get(),
            first: self.index,
            stride: self.plan.threads.get(),
        }
    }
}
