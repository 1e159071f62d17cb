//! Control and counters of a server, from other threads.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::warn;

use super::socket_counters::{EndpointCounts, SocketCounters};
use crate::config::Limits;
use crate::error::Error;
use crate::faults::Faults;
use crate::listen::{Inherited, InheritedOptions};
use crate::metrics::Snapshot;
use crate::net::sys::ThreadClock;
use crate::reactor::{Control, LeftTo, Request, Rules};
use crate::tls::ServerTls;

/// Whether a server can grant its sockets to a successor.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Standing {
    /// It serves, and no successor has a grant.
    Serving,
    /// It was told to end.
    Ending,
    /// Another successor has a grant, or has taken over.
    Busy,
}

/// Controls a running [`Server`](crate::Server); clones control the same one.
#[derive(Clone, Debug)]
pub struct Handle {
    control: Arc<Control>,
    wakers: Arc<[mio::Waker]>,
    /// Descriptors for a successor; none with [`Succession::Never`](super::Succession::Never). They
    /// keep the sockets open, so they are closed when an end is requested.
    to_pass: Arc<Mutex<Vec<Inherited>>>,
    socket_counters: Arc<SocketCounters>,
    /// The endpoints whose sockets were inherited.
    inherited: Arc<[usize]>,
    /// What is to be set on the sockets of a predecessor once it has granted them.
    inherited_options: Arc<Mutex<InheritedOptions>>,
    clocks: Arc<[ThreadClock]>,
    /// Whether [`Server::run`](crate::Server::run) has ended.
    is_over: Arc<AtomicBool>,
    /// Woken when the server is told to end, and when it has ended.
    observer: Arc<OnceLock<Arc<mio::Waker>>>,
}

impl Handle {
    pub(super) fn new(
        control: Arc<Control>,
        wakers: Arc<[mio::Waker]>,
        to_pass: Vec<Inherited>,
        inherited: Arc<[usize]>,
        inherited_options: InheritedOptions,
        socket_counters: SocketCounters,
    ) -> Self {
        let workers = wakers.len();
        Self {
            control,
            wakers,
            to_pass: Arc::new(Mutex::new(to_pass)),
            socket_counters: Arc::new(socket_counters),
            inherited,
            inherited_options: Arc::new(Mutex::new(inherited_options)),
            is_over: Arc::default(),
            observer: Arc::default(),
            clocks: (0..workers).map(|_| ThreadClock::default()).collect(),
        }
    }

    /// The clock of a worker's thread.
    pub(super) fn clock(&self, worker: usize) -> &ThreadClock {
        &self.clocks[worker]
    }

    /// Records that a worker's loop has ended.
    pub(super) fn note_end(&self, worker: usize) {
        self.control.note_end(worker);
    }

    /// Accepts the connections that the kernel has completed, refuses further ones, and lets open
    /// connections finish within the drain timeout. Returns at once;
    /// [`Server::run`](crate::Server::run) returns at the end.
    pub fn drain(&self) {
        self.request(Request::Drain);
    }

    /// Closes everything now.
    pub fn stop(&self) {
        self.request(Request::Stop);
    }

    /// Applies new limits: access lists and maxima to new connections, timeouts to all. Returns at
    /// once; each worker applies them in its next turn.
    pub fn set_limits(&self, limits: &Limits) {
        let tls = self.control.rules().tls.clone();
        self.set_rules(Rules::new(limits, tls));
    }

    /// As [`Handle::set_limits`], and shows this certificate to new connections of every endpoint with
    /// TLS.
    pub fn set_limits_and_tls(&self, limits: &Limits, tls: ServerTls) {
        self.set_rules(Rules::new(limits, Some(tls)));
    }

    /// Applies new faults to the endpoints, in the order of
    /// [`Server::endpoints`](crate::Server::endpoints); those beyond the end have none. They hold from the
    /// next message on, of connections that were accepted while their endpoint had faults, and of all
    /// later ones. Returns at once; each worker applies them in its next turn.
    pub fn set_faults(&self, faults: &[Faults]) {
        self.control.set_faults(faults);
        self.wake();
    }

    /// The faults of each endpoint that are in force, with their seeds; `None` for an endpoint without.
    pub fn faults(&self) -> Vec<Option<Faults>> {
        let rules = self.control.rules();
        let endpoints = 0..self.control.endpoints();
        endpoints
            .map(|it| rules.faults_of(it).map(|faults| (**faults).clone()))
            .collect()
    }

    /// Puts rules in force, with the faults that there are.
    fn set_rules(&self, rules: Rules) {
        let faults = Arc::clone(&self.control.rules().faults);
        self.control.set_rules(rules.with_faults(faults));
        self.wake();
    }

    /// The counters of all workers, summed.
    pub fn metrics(&self) -> Snapshot {
        let mut sum = Snapshot::default();
        for worker in self.workers() {
            sum += worker;
        }
        sum
    }

    /// Other descriptors of the sockets of every endpoint, in the order of
    /// [`Server::endpoints`](crate::Server::endpoints), for a successor. Empty
    /// with [`Succession::Never`](super::Succession::Never), or once an end was requested.
    ///
    /// # Errors
    /// What dup(2) reports.
    #[doc(hidden)]
    pub fn sockets_to_pass(&self) -> io::Result<Vec<Inherited>> {
        let to_pass = self.lock_to_pass();
        to_pass.iter().map(Inherited::try_clone).collect()
    }

    fn lock_to_pass(&self) -> MutexGuard<'_, Vec<Inherited>> {
        self.to_pass.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a successor could be granted the sockets now.
    pub(crate) fn standing(&self) -> Standing {
        if self.has_successor() || self.is_undecided() {
            Standing::Busy
        } else if self.is_draining() {
            Standing::Ending
        } else {
            Standing::Serving
        }
    }

    /// Grants the sockets of these endpoints to a successor, if this server can: the result is its
    /// standing before. Until `release` or `keep` both servers serve, and a drain waits. `None` if
    /// there is no such endpoint.
    pub(crate) fn grant(&self, endpoints: &[usize]) -> Option<Standing> {
        // Under the lock: a request to end comes either before or after the grant.
        let to_pass = self.lock_to_pass();
        let standing = self.standing();
        if standing == Standing::Serving {
            if endpoints.iter().any(|&endpoint| endpoint >= to_pass.len()) {
                return None;
            }
            self.control.note_undecided();
        }
        Some(standing)
    }

    /// Sets this server's options on the sockets that a predecessor has granted. Only the first call
    /// sets them.
    ///
    /// # Errors
    /// [`Error`] names the endpoint.
    #[doc(hidden)]
    pub fn set_inherited_options(&self) -> Result<(), Error> {
        self.take_inherited_options().set()
    }

    fn take_inherited_options(&self) -> InheritedOptions {
        let options = self.inherited_options.lock();
        std::mem::take(&mut *options.unwrap_or_else(PoisonError::into_inner))
    }

    /// Records that another server may keep the sockets: the predecessor of this one.
    pub(crate) fn note_undecided(&self) {
        self.control.note_undecided();
    }

    /// Whether it is open which of two servers keeps the sockets.
    pub(crate) fn is_undecided(&self) -> bool {
        self.control.is_undecided()
    }

    /// Records that only this server owns the sockets: its predecessor has released them, or its
    /// successor has failed.
    pub(crate) fn keep(&self) {
        self.control.note_decided();
        self.wake();
    }

    /// Leaves the endpoints with these indices to a successor that serves them, and drains: the
    /// successor accepts the waiting connections.
    pub(crate) fn release(&self, endpoints: &[usize]) {
        for &endpoint in endpoints {
            self.control.leave(endpoint, LeftTo::Successor);
        }
        self.control.note_successor();
        self.control.note_decided();
        self.request(Request::Drain);
    }

    /// Leaves the inherited sockets to the predecessor, and drains.
    pub(crate) fn leave(&self) {
        for &endpoint in &*self.inherited {
            self.control.leave(endpoint, LeftTo::Predecessor);
        }
        self.control.note_decided();
        self.request(Request::Drain);
    }

    /// Drains, and gives all addresses up as soon as no connection is lost by it.
    pub(crate) fn vacate(&self) {
        self.request(Request::Vacate);
    }

    /// Sets the one waker that is woken when the server is told to end, and when it has ended.
    pub(crate) fn notify(&self, waker: Arc<mio::Waker>) {
        let _ = self.observer.set(waker);
    }

    /// Closes all descriptors of this handle and its clones.
    pub(super) fn close_descriptors(&self) {
        self.lock_to_pass().clear();
        drop(self.take_inherited_options());
        self.socket_counters.release();
    }

    /// Records the end of the server.
    pub(super) fn note_over(&self) {
        self.is_over.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether the server has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Whether a successor has taken over.
    pub(crate) fn has_successor(&self) -> bool {
        self.control.has_successor()
    }

    /// The counters of each worker, in the order of their indices.
    pub fn workers(&self) -> Vec<Snapshot> {
        let workers = self.control.metrics.iter();
        workers.map(|worker| worker.snapshot()).collect()
    }

    /// The processor time that each worker has used, in the order of their indices. Reading it does
    /// not disturb the workers, and it remains after their end.
    pub fn cpu_times(&self) -> Vec<Duration> {
        self.clocks.iter().map(ThreadClock::time).collect()
    }

    /// The kernel's counts at each endpoint, in the order of
    /// [`Server::endpoints`](crate::Server::endpoints), up to the start of a drain; `None` for an
    /// endpoint at which it has none. Reading them does not disturb the workers.
    pub(crate) fn endpoint_counts(&self) -> Vec<Option<EndpointCounts>> {
        self.socket_counters.read()
    }

    /// The connections served, or the datagrams received, at each endpoint, in the order of
    /// [`Server::endpoints`](crate::Server::endpoints).
    pub(crate) fn arrivals(&self) -> Vec<u64> {
        self.control.arrivals_of_endpoints()
    }

    /// Whether a drain or a stop was requested; stays true.
    pub fn is_draining(&self) -> bool {
        self.control.requested() != Request::Serve
    }

    fn turns(&self) -> Vec<u64> {
        let workers = self.control.metrics.iter();
        workers
            .map(|worker| worker.loop_iterations.value())
            .collect()
    }

    fn request(&self, request: Request) {
        let mut to_pass = self.lock_to_pass();
        to_pass.clear();
        drop(self.take_inherited_options());
        self.socket_counters.release();
        self.control.request(request);
        drop(to_pass);
        self.wake();
    }

    fn wake(&self) {
        if let Some(observer) = self.observer.get() {
            // Its eventfd is written to as rarely as the workers'.
            let _ = wake(observer);
        }
        for (worker, waker) in self.wakers.iter().enumerate() {
            if let Err(error) = wake(waker) {
                warn!(worker, %error, "cannot wake a worker");
            }
        }
    }
}

/// Wakes a worker. An eventfd that can't be written to has no other way to tell the worker, and
/// without that it may sleep for ever: so it is tried again, for a second.
fn wake(waker: &mio::Waker) -> io::Result<()> {
    const MAX_TRIES: usize = 100;
    const PAUSE: Duration = Duration::from_millis(10);
    for _ in 1..MAX_TRIES {
        if waker.wake().is_ok() {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    waker.wake()
}

/// Checks whether every worker's loop turns.
#[derive(Debug)]
pub struct Heartbeat {
    handle: Handle,
    /// The turns of each worker at the last check that found all alive.
    turns: Vec<u64>,
}

impl Heartbeat {
    /// A heartbeat of the server of this handle.
    pub fn new(handle: Handle) -> Self {
        Self {
            turns: handle.turns(),
            handle,
        }
    }

    /// Wakes every worker, and returns whether each has turned its loop or ended since the last
    /// check that found all alive.
    pub fn check(&mut self) -> Alive {
        let turns = self.handle.turns();
        let is_alive =
            |worker| turns[worker] > self.turns[worker] || self.handle.control.has_ended(worker);
        let are_alive = (0..turns.len()).all(is_alive);
        self.handle.wake();
        if !are_alive {
            return Alive::NotAll;
        }
        self.turns = turns;
        Alive::All
    }
}

/// The result of a check of all workers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Alive {
    /// Each worker has turned its loop or ended.
    All,
    /// Some worker has not, perhaps because it had no time yet.
    NotAll,
}
