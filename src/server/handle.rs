//! Steering a server, and asking how it is, from other threads.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::Limits;
use crate::listen::Inherited;
use crate::metrics::Snapshot;
use crate::net::sys::ThreadClock;
use crate::reactor::{Control, Request, Rules};

/// Steers a running [`Server`](crate::Server); clones steer the same one.
#[derive(Clone, Debug)]
pub struct Handle {
    control: Arc<Control>,
    wakers: Arc<[mio::Waker]>,
    /// Descriptors for a successor; none without [`Config::handover`](crate::Config::handover). They keep the sockets open, so
    /// they go as soon as the server is to end.
    to_pass: Arc<Mutex<Vec<Inherited>>>,
    clocks: Arc<[ThreadClock]>,
}

impl Handle {
    pub(super) fn new(
        control: Arc<Control>,
        wakers: Arc<[mio::Waker]>,
        to_pass: Vec<Inherited>,
    ) -> Self {
        let workers = wakers.len();
        Self {
            control,
            wakers,
            to_pass: Arc::new(Mutex::new(to_pass)),
            clocks: (0..workers).map(|_| ThreadClock::default()).collect(),
        }
    }

    /// The clock of a worker's thread.
    pub(super) fn clock(&self, worker: usize) -> &ThreadClock {
        &self.clocks[worker]
    }

    /// Notes that a worker's loop has ended.
    pub(super) fn note_end(&self, worker: usize) {
        self.control.note_end(worker);
    }

    /// Stops accepting, after all that the kernel had already accepted, and lets open connections
    /// finish within the drain timeout. Returns at once; [`Server::run`](crate::Server::run) returns at the end.
    pub fn drain(&self) {
        self.request(Request::Drain);
    }

    /// Closes everything now.
    pub fn stop(&self) {
        self.request(Request::Stop);
    }

    /// Puts new limits in force, for the open connections too: access lists and maxima for those that
    /// come, time limits for all. Returns at once; each worker follows with its next turn.
    pub fn set_limits(&self, limits: &Limits) {
        self.control.set_rules(Rules::new(limits));
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

    /// Other descriptors of the sockets of every endpoint, in the order of [`Server::endpoints`](crate::Server::endpoints), for
    /// a successor to go on with. None without [`Config::handover`](crate::Config::handover), or once the server is to end.
    ///
    /// From now on they may be another server's: this one leaves them as they are when it ends, unless
    /// it learns before that the successor has failed.
    ///
    /// # Errors
    /// What dup(2) reports.
    #[doc(hidden)]
    pub fn sockets_to_pass(&self) -> io::Result<Vec<Inherited>> {
        let to_pass = self.to_pass.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = to_pass.iter().map(Inherited::try_clone);
        let passed = passed.collect::<io::Result<Vec<_>>>()?;
        // Under the lock: a request to end that comes later finds it noted, and an earlier one has
        // left no descriptors.
        if !passed.is_empty() {
            self.control.note_undecided();
        }
        Ok(passed)
    }

    /// The sockets are this server's alone: its predecessor has let go of them, or its successor has
    /// failed.
    pub(crate) fn settle(&self) {
        self.control.note_decided();
    }

    /// Leaves the endpoints with these indices to a successor that has their sockets, and drains:
    /// what waits to be accepted there is the successor's.
    pub(crate) fn release(&self, endpoints: &[usize]) {
        for &endpoint in endpoints {
            self.control.release(endpoint);
        }
        self.control.note_successor();
        self.control.note_decided();
        self.request(Request::Drain);
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
    /// not disturb them, and it stays when they have ended.
    pub fn cpu_times(&self) -> Vec<Duration> {
        self.clocks.iter().map(ThreadClock::time).collect()
    }

    /// Whether a drain or a stop was asked for; true from then on.
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
        self.to_pass
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.control.request(request);
        self.wake();
    }

    fn wake(&self) {
        for waker in &*self.wakers {
            // Writing to an eventfd fails only if its counter is full, and then it wakes as well.
            let _ = waker.wake();
        }
    }
}

/// Watches whether every worker's loop turns.
#[derive(Debug)]
pub struct Heartbeat {
    handle: Handle,
    /// The turns that each worker had done when all of them were alive the last time.
    turns: Vec<u64>,
}

impl Heartbeat {
    /// Watches the server of this handle from now on.
    pub fn new(handle: Handle) -> Self {
        Self {
            turns: handle.turns(),
            handle,
        }
    }

    /// Wakes every worker, and says whether each has done a turn of its loop, or has ended, since all
    /// of them had the last time.
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

/// Whether all workers turn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Alive {
    /// Each did since the last time.
    All,
    /// One or more did not: perhaps they had no time yet.
    NotAll,
}
