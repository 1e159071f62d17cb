//! What the workers of a server share: what they are asked to do, the limits in force, and counts.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::admission::{Admission, Policy};
use crate::config::Limits;
use crate::metrics::WorkerMetrics;
use crate::timeouts::Timeouts;

/// Shared by all workers of one server. The data plane touches the atomics alone; the lock is taken
/// only by a worker that was woken to apply new limits.
#[derive(Debug)]
pub(crate) struct Control {
    requested: AtomicU8,
    pub(crate) admission: Admission,
    pub(crate) metrics: Vec<Arc<WorkerMetrics>>,
    rules: Mutex<Arc<Rules>>,
    rules_version: AtomicU64,
    /// Whether the worker with this index has ended.
    ended: Vec<AtomicBool>,
    /// Whether the sockets of the endpoint with this index were given to a successor.
    released: Vec<AtomicBool>,
    /// Whether a successor has taken over, even if none of the endpoints.
    succeeded: AtomicBool,
    /// Whether another server has our listening sockets too and may be the one to go on with them: a
    /// successor that has not said so yet, or a predecessor that was not told yet.
    undecided: AtomicBool,
    /// Workers that may still hand connections to others.
    senders: AtomicUsize,
    /// Connections that wait in each worker's inbox.
    handed_off: Vec<HandedOff>,
}

/// Aligned so that two workers never write to one pair of cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct HandedOff(AtomicUsize);

/// What a reload may change, as the workers use it.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) policy: Policy,
    pub(crate) timeouts: Timeouts,
}

impl Rules {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            policy: Policy::new(limits),
            timeouts: Timeouts::new(limits),
        }
    }
}

/// What the workers are asked to do. Later ones override earlier ones, and there is no way back.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Request {
    Serve,
    Drain,
    Stop,
}

impl Control {
    /// For `workers` that serve `endpoints` by these limits.
    pub(crate) fn new(limits: &Limits, workers: usize, endpoints: usize) -> Self {
        Self {
            requested: AtomicU8::new(Request::Serve as u8),
            admission: Admission::new(),
            metrics: (0..workers).map(|_| Arc::default()).collect(),
            rules: Mutex::new(Arc::new(Rules::new(limits))),
            rules_version: AtomicU64::new(0),
            ended: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            released: (0..endpoints).map(|_| AtomicBool::new(false)).collect(),
            succeeded: AtomicBool::new(false),
            undecided: AtomicBool::new(false),
            senders: AtomicUsize::new(0),
            handed_off: (0..workers).map(|_| HandedOff::default()).collect(),
        }
    }

    /// Requests at least this. The caller wakes the workers afterwards.
    pub(crate) fn request(&self, request: Request) {
        // Release: a worker that sees the request sees what was decided about the sockets before.
        self.requested.fetch_max(request as u8, Ordering::Release);
    }

    pub(crate) fn requested(&self) -> Request {
        match self.requested.load(Ordering::Acquire) {
            0 => Request::Serve,
            1 => Request::Drain,
            _ => Request::Stop,
        }
    }

    /// Puts new rules in force. The caller wakes the workers afterwards.
    pub(crate) fn set_rules(&self, rules: Rules) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        self.rules_version.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn rules_version(&self) -> u64 {
        self.rules_version.load(Ordering::Acquire)
    }

    pub(crate) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn note_end(&self, worker: usize) {
        self.ended[worker].store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_ended(&self, worker: usize) -> bool {
        self.ended[worker].load(Ordering::Relaxed)
    }

    /// Leaves the sockets of this endpoint to a successor. The caller requests a drain afterwards.
    pub(crate) fn release(&self, endpoint: usize) {
        self.released[endpoint].store(true, Ordering::Relaxed);
    }

    /// Whether the sockets of this endpoint are, or may be, another server's to go on with.
    pub(crate) fn is_left(&self, endpoint: usize) -> bool {
        self.released[endpoint].load(Ordering::Relaxed) || self.undecided.load(Ordering::Relaxed)
    }

    /// Notes that another server has our sockets and may be the one to go on with them.
    pub(crate) fn note_undecided(&self) {
        self.undecided.store(true, Ordering::Relaxed);
    }

    /// Notes that the sockets are ours, or that it is known which are not.
    pub(crate) fn note_decided(&self) {
        self.undecided.store(false, Ordering::Relaxed);
    }

    /// Notes that a successor has taken over. The caller requests a drain afterwards.
    pub(crate) fn note_successor(&self) {
        self.succeeded.store(true, Ordering::Relaxed);
    }

    /// Whether a successor has taken over.
    pub(crate) fn has_successor(&self) -> bool {
        self.succeeded.load(Ordering::Relaxed)
    }

    /// Notes a worker that will hand connections to others.
    pub(super) fn add_sender(&self) {
        self.senders.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that all that such a worker handed off is in an inbox; says whether it was the last one.
    pub(super) fn remove_sender(&self) -> bool {
        // Release: a worker that sees no sender left sees all that they sent.
        self.senders.fetch_sub(1, Ordering::Release) == 1
    }

    pub(super) fn has_senders(&self) -> bool {
        self.senders.load(Ordering::Acquire) > 0
    }

    /// The worker with the fewest connections, those in its inbox included; the one after `last`
    /// among equals, so that they take turns.
    pub(super) fn least_loaded(&self, last: usize) -> usize {
        let workers = self.metrics.len();
        let load = |worker: usize| {
            let waiting = self.handed_off[worker].0.load(Ordering::Relaxed) as u64;
            self.metrics[worker].active.value() + waiting
        };
        (1..=workers)
            .map(|step| (last + step) % workers)
            .min_by_key(|&worker| load(worker))
            .unwrap_or(last)
    }

    pub(super) fn add_handed_off(&self, worker: usize) {
        self.handed_off[worker].0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove_handed_off(&self, worker: usize) {
        self.handed_off[worker].0.fetch_sub(1, Ordering::Relaxed);
    }
}
