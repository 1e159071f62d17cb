//! What the workers of a server share: wishes that someone else sets, rules, and counts.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::admission::{Admission, Policy};
use crate::config::Limits;
use crate::metrics::WorkerMetrics;
use crate::timeouts::Timeouts;

/// Shared by all workers of one server. The data plane touches the atomics alone; the lock is taken
/// only when someone asked for something and a worker was woken to do it.
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
    /// Whether another server has our listening sockets as well and may be the one to go on with them:
    /// a successor that has not said yet, or a predecessor that was not told yet.
    undecided: AtomicBool,
    /// Listeners whose connections go to other workers than their own and that are still open.
    senders: AtomicUsize,
    /// Connections that were given to each worker and have not ended; kept while anybody gives.
    loads: Vec<Load>,
}

/// Aligned so that two workers never write to one pair of cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Load(AtomicUsize);

/// What a reload may change, as the workers use it.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) policy: Policy,
    pub(crate) terms: Timeouts,
}

impl Rules {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            policy: Policy::new(limits),
            terms: Timeouts::new(limits),
        }
    }
}

/// What the workers are to do. Later ones override earlier ones, and there is no way back.
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
            loads: (0..workers).map(|_| Load::default()).collect(),
        }
    }

    /// Asks for at least `wish`. Whoever asks wakes the workers afterwards.
    pub(crate) fn request(&self, request: Request) {
        // Release: whoever sees the wish sees what was decided about the sockets before.
        self.requested.fetch_max(request as u8, Ordering::Release);
    }

    pub(crate) fn requested(&self) -> Request {
        match self.requested.load(Ordering::Acquire) {
            0 => Request::Serve,
            1 => Request::Drain,
            _ => Request::Stop,
        }
    }

    /// Puts new rules in force. Whoever does wakes the workers afterwards.
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

    /// Lets a successor have the sockets of this endpoint: they are no longer ours to close in our
    /// way. Whoever calls it asks for a drain afterwards.
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

    /// Notes that a successor has taken over. Whoever does asks for a drain afterwards.
    pub(crate) fn note_successor(&self) {
        self.succeeded.store(true, Ordering::Relaxed);
    }

    /// Whether a successor has taken over.
    pub(crate) fn has_successor(&self) -> bool {
        self.succeeded.load(Ordering::Relaxed)
    }

    /// Notes a listener that gives its connections to other workers.
    pub(crate) fn add_sender(&self) {
        self.senders.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that such a listener was closed and everything it gave is in an inbox; says whether it
    /// was the last one.
    pub(crate) fn remove_sender(&self) -> bool {
        // Release: whoever sees no giver left sees all that they gave.
        self.senders.fetch_sub(1, Ordering::Release) == 1
    }

    pub(crate) fn has_senders(&self) -> bool {
        self.senders.load(Ordering::Acquire) > 0
    }

    /// The worker with the fewest connections of those that were given; the one after `last` among
    /// equals, so that they take turns.
    pub(crate) fn least_loaded(&self, last: usize) -> usize {
        let workers = self.loads.len();
        (1..=workers)
            .map(|step| (last + step) % workers)
            .min_by_key(|&worker| self.loads[worker].0.load(Ordering::Relaxed))
            .unwrap_or(last)
    }

    pub(crate) fn add_load(&self, worker: usize) {
        self.loads[worker].0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove_load(&self, worker: usize) {
        self.loads[worker].0.fetch_sub(1, Ordering::Relaxed);
    }
}
