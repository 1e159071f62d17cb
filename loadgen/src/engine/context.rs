//! What the flows of a thread share: where their messages come from, and where they are recorded.

use std::sync::mpsc::Receiver;

use super::histogram::BucketCounts;
use super::in_flight::Abandoned;
use super::interval::nanoseconds;
use super::recorder::{End, Recorder};
use super::schedule::Schedule;
use super::slice::Slice;
use super::source::{MessageSource, Order};
use super::task::Task;
use crate::plan::{Close, Workload};

/// Everything of a thread that a flow needs besides its connection.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) recorder: Recorder,
    pub(crate) source: MessageSource,
    /// The most messages out on each connection.
    pub(crate) pipeline: Option<usize>,
    pub(crate) timeout_ns: u64,
    /// How a workload that closes connections does it.
    pub(crate) close: Close,
    /// The messages that the last read completed.
    pub(crate) unverified: Vec<Unverified>,
}

/// A message whose echo is complete, and whose contents are not compared yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unverified {
    /// Where it ends in the stream of its connection.
    pub(crate) end: u64,
    pub(crate) counted: bool,
}

impl Context {
    pub(crate) fn new(task: &Task, spare: Receiver<Box<Slice<BucketCounts>>>) -> Self {
        let plan = &task.plan;
        Self {
            recorder: Recorder::new(task, spare),
            source: MessageSource::new(task),
            pipeline: plan.pipeline().map(usize::from),
            timeout_ns: nanoseconds(plan.timeout),
            close: match plan.workload {
                Workload::Churn { close } => close,
                Workload::Request | Workload::Stream { .. } | Workload::Idle => Close::Orderly,
            },
            unverified: Vec::new(),
        }
    }

    /// Takes the schedule and the window, once the start is known.
    pub(crate) fn begin(&mut self, schedule: Schedule, window_start: u64, window_end: u64) {
        self.source.schedule = schedule;
        self.recorder.clock.set_window(window_start, window_end);
    }

    /// Ends the window at `now`, unless it is over, and with it the schedule.
    pub(crate) fn end_window(&mut self, now: u64, end: End) {
        self.source.schedule.end_at(now);
        self.recorder.end_window(now, end);
    }

    /// The time when the clock was last read.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.recorder.clock.now()
    }

    /// Reads the clock.
    #[inline]
    pub(crate) fn tick(&mut self) -> u64 {
        self.recorder.clock.tick();
        self.now()
    }

    /// The order for a message that is due at `intended`, recorded as issued.
    #[inline]
    pub(crate) fn issue(&mut self, intended: u64) -> Order {
        let counted = self.recorder.clock.counts(intended);
        if counted {
            self.recorder.record_issued();
        }
        Order {
            intended,
            counted,
            has_waited: false,
        }
    }

    /// Notes that the echo of a message of a flow is complete. In a closed loop its place goes to the
    /// message that is returned and that is to be written now.
    #[inline]
    pub(crate) fn answered(&mut self, flow: usize) -> Option<Order> {
        let now = self.now();
        if self.source.schedule.answered(flow, now) {
            Some(self.issue(now))
        } else {
            self.source.outstanding -= 1;
            None
        }
    }

    /// Records messages of a flow that were given up; a closed loop gets their places back.
    pub(crate) fn give_up(&mut self, flow: usize, abandoned: Abandoned) {
        self.recorder.record_abandoned(abandoned);
        for _ in 0..abandoned.places {
            self.free_place(flow);
        }
    }

    /// Notes that a message of a flow is over; a closed loop gets its place back.
    pub(crate) fn free_place(&mut self, flow: usize) {
        self.source.outstanding -= 1;
        self.source.schedule.completed(flow);
    }
}
