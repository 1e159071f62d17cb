//! The state that the workers of a server share: requests, limits in force, counts.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::admission::access::AccessList;
use crate::admission::{Admission, Policy};
use crate::config::{Limits, ProxyProtocol};
use crate::faults::Faults;
use crate::memory::Budget;
use crate::metrics::{Arrivals, Counter, WorkerMetrics};
use crate::service::whoami::Whoami;
use crate::timeouts::{Timeouts, whole_ms};
use crate::tls::ServerTls;

/// Shared by all workers of one server. The data plane uses only the atomics; only a worker that
/// was woken to apply new limits takes the lock.
#[derive(Debug)]
pub(crate) struct Control {
    requested: AtomicU8,
    pub(crate) admission: Admission,
    pub(crate) metrics: Vec<Arc<WorkerMetrics>>,
    /// Of each worker, by the index of the endpoint.
    arrivals: Vec<Vec<Arrivals>>,
    /// For bytes that wait for their peers.
    pub(crate) backlog_memory: Arc<Budget>,
    /// What it says of itself.
    pub(crate) whoami: Arc<Whoami>,
    /// Whether connections begin with a PROXY header.
    pub(crate) proxy_protocol: ProxyProtocol,
    /// What the faults of each endpoint depend on.
    pub(crate) numbers: Vec<Numbers>,
    rules: Mutex<Arc<Rules>>,
    rules_version: AtomicU64,
    /// Whether the worker with this index has ended.
    ended: Vec<AtomicBool>,
    /// To which process the sockets of the endpoint with this index are left: 0 to none, else 1 more
    /// than the [`LeftTo`].
    left: Vec<AtomicU8>,
    /// Whether a successor has taken over, even if none of the endpoints.
    succeeded: AtomicBool,
    /// Whether another server also serves, or may serve, on our listening sockets, and one of the
    /// two will keep them: a successor that was granted them and does not report yet that it
    /// serves, or a predecessor that has not released them yet. The decision comes soon.
    undecided: AtomicBool,
    /// Workers that may still hand connections to others.
    senders: AtomicUsize,
    /// Connections that wait in each worker's inbox.
    handed_off: Vec<HandedOff>,
}

/// What decisions about faults of one endpoint depend on beside the options, whichever worker serves it.
#[derive(Debug)]
pub(crate) struct Numbers {
    /// The seed if none is given.
    pub(crate) seed: u64,
    /// That of the next connection, counted while the endpoint has faults.
    pub(crate) connections: AtomicU64,
    /// That of the next datagram, counted likewise.
    pub(crate) datagrams: AtomicU64,
}

impl Numbers {
    fn drawn() -> Self {
        Self {
            // The standard library's hashers have random keys.
            seed: RandomState::new().hash_one(0),
            connections: AtomicU64::new(0),
            datagrams: AtomicU64::new(0),
        }
    }
}

/// Aligned so that two workers never write to one pair of cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct HandedOff(AtomicUsize);

/// What may change while the server runs, compiled for the workers.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) policy: Policy,
    pub(crate) timeouts: Timeouts,
    /// The proxies whose PROXY headers are believed; `None` without a proxy.
    proxy_from: Option<AccessList>,
    /// How long a PROXY header may take, and then a TLS handshake.
    pub(crate) handshake_ms: Option<u64>,
    /// `None` without endpoints that need it.
    pub(crate) tls: Option<ServerTls>,
    /// Those of each endpoint, in their order; endpoints beyond the end have none.
    pub(crate) faults: Arc<[Option<Arc<Faults>>]>,
}

impl Rules {
    pub(crate) fn new(limits: &Limits, tls: Option<ServerTls>) -> Self {
        Self {
            policy: Policy::new(limits),
            timeouts: Timeouts::new(limits),
            proxy_from: (!limits.proxy_from.is_empty())
                .then(|| AccessList::new(&limits.proxy_from, &[])),
            handshake_ms: limits.handshake_timeout.map(whole_ms),
            tls,
            faults: Arc::default(),
        }
    }

    /// The same rules with faults of the endpoints.
    pub(crate) fn with_faults(self, faults: Arc<[Option<Arc<Faults>>]>) -> Self {
        Self { faults, ..self }
    }

    /// The faults of the endpoint with this index, if it has any.
    pub(crate) fn faults_of(&self, endpoint: usize) -> Option<&Arc<Faults>> {
        self.faults.get(endpoint)?.as_ref()
    }

    /// Whether any endpoint has faults.
    pub(crate) fn has_faults(&self) -> bool {
        self.faults.iter().any(Option::is_some)
    }

    /// Whether a PROXY header from this sender is believed. Who has no address came through the file
    /// of a Unix socket, whose permissions decide.
    pub(crate) fn believes(&self, sender: Option<IpAddr>) -> bool {
        sender.is_none_or(|sender| self.proxy_from.as_ref().is_some_and(|it| it.admits(sender)))
    }
}

/// A request to all workers. Later variants override earlier ones and can't be undone.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Request {
    Serve,
    Drain,
    /// Drains, and gives all addresses up as soon as no connection is lost by it: another server
    /// waits to bind them.
    Vacate,
    Stop,
}

/// The server to which an endpoint's sockets are left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LeftTo {
    /// The one that passed them to this server. It lacks those that were bound beside them.
    Predecessor,
    /// The one to which this server passed all of them.
    Successor,
}

/// How a listener came to its endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    /// It was bound when the endpoint was, or inherited.
    Endpoint,
    /// It was bound beside inherited listeners, and no predecessor has it.
    Beside,
}

impl Control {
    /// Control for `workers` workers and `endpoints` endpoints under these rules.
    pub(crate) fn new(
        rules: Rules,
        backlog_memory: Budget,
        workers: usize,
        endpoints: usize,
    ) -> Self {
        Self {
            requested: AtomicU8::new(Request::Serve as u8),
            admission: Admission::new(),
            metrics: (0..workers).map(|_| Arc::default()).collect(),
            arrivals: (0..workers)
                .map(|_| (0..endpoints).map(|_| Arrivals::default()).collect())
                .collect(),
            backlog_memory: Arc::new(backlog_memory),
            whoami: Arc::default(),
            proxy_protocol: ProxyProtocol::Off,
            numbers: (0..endpoints).map(|_| Numbers::drawn()).collect(),
            rules: Mutex::new(Arc::new(rules)),
            rules_version: AtomicU64::new(0),
            ended: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            left: (0..endpoints).map(|_| AtomicU8::new(0)).collect(),
            succeeded: AtomicBool::new(false),
            undecided: AtomicBool::new(false),
            senders: AtomicUsize::new(0),
            handed_off: (0..workers).map(|_| HandedOff::default()).collect(),
        }
    }

    /// The same control of a server that says this of itself, and with connections that begin so.
    pub(crate) fn with(self, whoami: Whoami, proxy_protocol: ProxyProtocol) -> Self {
        Self {
            whoami: Arc::new(whoami),
            proxy_protocol,
            ..self
        }
    }

    /// Connections that this worker serves, or datagrams, of this endpoint.
    pub(super) fn arrivals(&self, worker: usize, endpoint: usize) -> &Counter {
        &self.arrivals[worker][endpoint].0
    }

    /// The arrivals at each endpoint, at all workers together.
    pub(crate) fn arrivals_of_endpoints(&self) -> Vec<u64> {
        let at = |endpoint: usize| {
            let workers = self.arrivals.iter();
            workers.map(|endpoints| endpoints[endpoint].0.value()).sum()
        };
        (0..self.left.len()).map(at).collect()
    }

    /// The same control with faults of its endpoints, before any worker runs.
    pub(crate) fn with_faults(self, faults: &[Faults]) -> Self {
        self.set_faults(faults);
        self
    }

    /// Puts faults of the endpoints in force. The caller wakes the workers afterwards.
    pub(crate) fn set_faults(&self, faults: &[Faults]) {
        let rules = (*self.rules()).clone();
        self.set_rules(rules.with_faults(self.faults_in_force(faults)));
    }

    /// The number of endpoints.
    pub(crate) fn endpoints(&self) -> usize {
        self.numbers.len()
    }

    /// The number of an endpoint's new connection.
    pub(super) fn next_connection(&self, endpoint: usize) -> u64 {
        let next = &self.numbers[endpoint].connections;
        next.fetch_add(1, Ordering::Relaxed)
    }

    /// These faults of the endpoints, in their order, as they are in force: with a seed, and without
    /// those that are none.
    fn faults_in_force(&self, faults: &[Faults]) -> Arc<[Option<Arc<Faults>>]> {
        let in_force = faults.iter().zip(&self.numbers).map(|(faults, numbers)| {
            (!faults.is_none()).then(|| {
                Arc::new(Faults {
                    seed: faults.seed.or(Some(numbers.seed)),
                    ..faults.clone()
                })
            })
        });
        in_force.collect()
    }

    /// Raises the request to at least this one. The caller wakes the workers afterwards.
    pub(crate) fn request(&self, request: Request) {
        // Release: a worker that sees the request also sees the earlier decision about the sockets.
        self.requested.fetch_max(request as u8, Ordering::Release);
    }

    pub(crate) fn requested(&self) -> Request {
        match self.requested.load(Ordering::Acquire) {
            0 => Request::Serve,
            1 => Request::Drain,
            2 => Request::Vacate,
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

    /// Leaves the sockets of this endpoint to another server. The caller requests a drain
    /// afterwards.
    pub(crate) fn leave(&self, endpoint: usize, to: LeftTo) {
        self.left[endpoint].store(1 + to as u8, Ordering::Relaxed);
    }

    /// Whether another server keeps a socket of this endpoint.
    pub(crate) fn is_left(&self, endpoint: usize, origin: Origin) -> bool {
        match self.left[endpoint].load(Ordering::Relaxed) {
            0 => false,
            1 => origin == Origin::Endpoint,
            _ => true,
        }
    }

    /// Whether another server keeps or may keep a socket of this endpoint.
    pub(crate) fn may_be_left(&self, endpoint: usize, origin: Origin) -> bool {
        self.is_undecided() || self.is_left(endpoint, origin)
    }

    /// Records that another server has our sockets and may keep them.
    pub(crate) fn note_undecided(&self) {
        self.undecided.store(true, Ordering::Relaxed);
    }

    /// Records that the ownership of every socket is settled.
    pub(crate) fn note_decided(&self) {
        // Release: a worker that sees the decision also sees to whom the sockets were left.
        self.undecided.store(false, Ordering::Release);
    }

    pub(crate) fn is_undecided(&self) -> bool {
        self.undecided.load(Ordering::Acquire)
    }

    /// Records that a successor has taken over. The caller requests a drain afterwards.
    pub(crate) fn note_successor(&self) {
        self.succeeded.store(true, Ordering::Relaxed);
    }

    /// Whether a successor has taken over.
    pub(crate) fn has_successor(&self) -> bool {
        self.succeeded.load(Ordering::Relaxed)
    }

    /// Adds a worker that will hand connections to others.
    pub(super) fn add_sender(&self) {
        self.senders.fetch_add(1, Ordering::Relaxed);
    }

    /// Removes such a worker, once all of its connections are in an inbox; returns whether it was
    /// the last.
    pub(super) fn remove_sender(&self) -> bool {
        // Release: a worker that sees no sender left also sees everything they sent.
        self.senders.fetch_sub(1, Ordering::Release) == 1
    }

    pub(super) fn has_senders(&self) -> bool {
        self.senders.load(Ordering::Acquire) > 0
    }

    /// The worker with the fewest connections, including its inbox; among equals the one after
    /// `last`, so that they take turns.
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
