//! The state that the flows of a thread share: the source of their messages, and the recorder.

use std::sync::mpsc::Receiver;

use echomark::tls::Agreed;

use super::backends::Backends;
use super::connection::Handshake;
use super::histogram::BucketCounts;
use super::in_flight::Unanswered;
use super::interval::nanoseconds;
use super::recorder::{End, Recorder};
use super::schedule::Schedule;
use super::slice::Slice;
use super::source::{MessageSource, Order};
use super::task::Task;
use crate::plan::{Close, Workload};

/// What a flow needs besides its connection.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) recorder: Recorder,
    pub(crate) source: MessageSource,
    /// The maximum of messages in flight on each connection.
    pub(crate) pipeline: Option<usize>,
    pub(crate) timeout_ns: u64,
    /// The servers that greeted, if they do.
    pub(crate) backends: Backends,
    pub(crate) is_greeted: bool,
    /// What the TLS handshakes agreed on, each once.
    pub(crate) agreed: Vec<Agreed>,
    /// Until this time, no message of the thread's flows can be overdue.
    pub(crate) none_overdue_until: u64,
    /// How the churn workload closes its connections.
    pub(crate) close: Close,
}

impl Context {
    pub(crate) fn new(task: &Task, spare: Receiver<Box<Slice<BucketCounts>>>) -> Self {
        let plan = &task.plan;
        Self {
            recorder: Recorder::new(task, spare),
            source: MessageSource::new(task),
            pipeline: plan.pipeline().map(usize::from),
            timeout_ns: nanoseconds(plan.timeout),
            backends: Backends::default(),
            is_greeted: plan.opening.greeting,
            agreed: Vec::new(),
            none_overdue_until: 0,
            close: match plan.workload {
                Workload::Churn { close } => close,
                Workload::Request | Workload::Stream { .. } | Workload::Idle => Close::Orderly,
            },
        }
    }

    /// Sets the schedule and the window, once the start is known.
    pub(crate) fn begin(&mut self, schedule: Schedule, window_start: u64, window_end: u64) {
        self.source.schedule = schedule;
        self.recorder.clock.set_window(window_start, window_end);
    }

    /// Ends the window and the schedule at `now`, unless they are over.
    pub(crate) fn end_window(&mut self, now: u64, end: End) {
        self.source.schedule.end_at(now);
        self.recorder.end_window(now, end);
    }

    /// The last reading of the clock.
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

    /// Whether a message of any flow may be overdue. Cheaper than asking for one.
    #[inline]
    pub(crate) fn may_have_overdue(&self) -> bool {
        self.now() >= self.none_overdue_until
    }

    /// Whether the timeout of what began at `since` is over.
    #[inline]
    pub(crate) fn is_overdue(&self, since: u64) -> bool {
        since.saturating_add(self.timeout_ns) <= self.now()
    }

    /// Records a complete TLS handshake. Its time counts if its message does, or if there are others
    /// on the connection.
    pub(crate) fn note_handshake(&mut self, handshake: &Handshake, counted: bool) {
        let agreed = handshake.agreed;
        if !self.agreed.contains(&agreed) {
            self.agreed.push(agreed);
        }
        let took = counted.then_some(handshake.took);
        self.recorder.record_handshake(agreed.is_resumed, took);
    }

    /// Creates the order for a message due at `intended`, and records it as issued.
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

    /// Records that a flow's message is complete. In a closed loop, returns the next message, which
    /// is due now.
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

    /// Records messages that a flow gave up. A closed loop gets their slots back.
    pub(crate) fn give_up(&mut self, flow: usize, unanswered: Unanswered) {
        self.recorder.record_unanswered(unanswered);
        for _ in 0..unanswered.places {
            self.free_place(flow);
        }
    }

    /// Notes that a flow's message is settled. A closed loop gets its slot back.
    pub(crate) fn free_place(&mut self, flow: usize) {
        self.source.outstanding -= 1;
        self.source.schedule.completed(flow);
    }
}
