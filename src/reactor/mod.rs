//! The event loop of one worker: [`Reactor::run`] is the loop, and each of its phases a method.
//!
//! What the order of the phases guarantees:
//! - Connections are removed only after the whole batch of events was handled, and accepting comes
//!   after that: no event of the batch can reach a connection that took over a slab key, and the
//!   kernel drops a closed descriptor's events with it (epoll(7), question 6).
//! - A connection that yields waits for its next turn behind all that had events.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

mod acceptor;
mod control;
mod datagrams;
mod drain;
mod hand_off;
mod kernel;
#[cfg(test)]
mod simulation;
mod token;

pub use acceptor::MAX_REFUSED_LINGERING;
pub(crate) use acceptor::{Listening, Share};
pub(crate) use control::{Control, Request, Rules};
use datagrams::DatagramSide;
pub(crate) use datagrams::DatagramSocket;
pub(crate) use hand_off::HandOff;
pub(crate) use kernel::{Epoll, Kernel};
use token::{Deadline, Fixed, Source};

use crate::admission::Permit;
use crate::config::{Config, Spin};
use crate::conn::scratch::Scratch;
use crate::conn::{Conn, Next};
use crate::listen::Listener;
use crate::metrics::{CloseReason, WorkerMetrics};
use crate::net::readiness::Readiness;
use crate::net::stream::{Socket, Stream};
use crate::spin::SpinPolicy;
use crate::timeouts::{Activity, Blocked, Decision};
use crate::timer::Timers;
use crate::udp::Guard;

/// Events taken from the kernel at once. Those beyond it wait for the next turn, after the others
/// of this one had theirs.
const EVENTS: usize = 256;
/// How long a connection that we ended may wait for its peer to end it too.
const LINGER_MS: u64 = 1000;
/// How long a connection waits for which the kernel had no memory.
const MEMORY_RETRY_MS: u64 = 20;

/// One worker's event loop with everything it owns.
#[derive(Debug)]
pub(crate) struct Reactor<K: Kernel> {
    index: usize,
    kernel: K,
    fixed: Fixed,
    listeners: Vec<Listening>,
    /// `None` without UDP endpoints.
    datagrams: Option<DatagramSide>,
    conns: Slab<Conn<K::Stream>>,
    /// What connections read into, one after the other.
    scratch: Scratch<<K::Stream as Stream>::Pipe>,
    /// Keys of connections that yielded; those closed since are skipped when their turn comes.
    run_queue: VecDeque<usize>,
    /// Keys of connections for which the kernel had no memory, as in the run queue.
    short_of_memory: Vec<usize>,
    /// Connections closed in this turn, to be removed after the batch.
    closed: Vec<(usize, CloseReason)>,
    /// What the terms need to know of the connection with the same key; empty as long as there are
    /// no terms.
    watches: Vec<Activity>,
    /// The counted address of the connection with the same key; empty as long as none is counted.
    permits: Vec<Permit>,
    timers: Timers,
    due: Vec<usize>,
    clock: Clock,
    control: Arc<Control>,
    metrics: Arc<WorkerMetrics>,
    rules: Arc<Rules>,
    rules_version: u64,
    /// Whether the rules set any terms.
    watching: bool,
    hand_off: Option<HandOff<K::Stream>>,
    /// Whether another worker may still give connections to this one.
    has_senders: bool,
    phase: Phase,
    woken: bool,
    /// Accepting waits for its retry deadline.
    accept_paused: bool,
    /// The last accept failed for lack of resources: the way in and out is logged once.
    accept_troubled: bool,
    refused_lingering: usize,
    spin: Spin,
    spin_policy: SpinPolicy,
    drain_delay: Duration,
    drain_timeout: Duration,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Serving,
    Draining,
    Stopping,
}

/// What a worker's loop is made of.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The worker's.
    pub(crate) index: usize,
    pub(crate) poll: mio::Poll,
    pub(crate) listeners: Vec<(Listening, Listener)>,
    pub(crate) datagrams: Vec<DatagramSocket>,
    pub(crate) guard: Guard,
    /// `None` when nobody gives connections to others.
    pub(crate) hand_off: Option<HandOff<Socket>>,
    pub(crate) control: Arc<Control>,
}

impl Reactor<Epoll> {
    /// The loop of a worker.
    pub(crate) fn on_epoll(setup: Setup, config: &Config) -> io::Result<Self> {
        let (listenings, listeners): (Vec<_>, Vec<_>) = setup.listeners.into_iter().unzip();
        let fixed = Fixed::new(listeners.len(), setup.datagrams.len());
        let registry = setup.poll.registry();
        let datagrams = DatagramSide::new(setup.datagrams, setup.guard, fixed, registry)?;
        let kernel = Epoll::new(setup.poll, listeners, fixed)?;
        let mut reactor = Self::new(setup.index, kernel, listenings, config, setup.control);
        reactor.fixed = fixed;
        reactor.datagrams = datagrams;
        reactor.hand_off = setup.hand_off;
        Ok(reactor)
    }

    /// A waker for the worker whose loop will be on this epoll instance.
    pub(crate) fn waker(poll: &mio::Poll) -> io::Result<mio::Waker> {
        mio::Waker::new(poll.registry(), Source::Waker.token(Fixed::new(0, 0)))
    }

    /// Serves until asked to stop, or until asked to drain and the last connection is gone.
    ///
    /// # Errors
    /// Only what epoll_wait(2) reports besides EINTR, which would be a defect.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = mio::Events::with_capacity(EVENTS);
        while !self.is_finished() {
            self.turn(&mut events)?;
        }
        self.close_datagrams();
        self.close_all(CloseReason::Stopped);
        Ok(())
    }
}

impl<K: Kernel> Reactor<K> {
    fn new(
        index: usize,
        kernel: K,
        listeners: Vec<Listening>,
        config: &Config,
        control: Arc<Control>,
    ) -> Self {
        let rules = control.rules();
        let now_ns = kernel.now_ns();
        Self {
            index,
            clock: Clock::new(now_ns),
            kernel,
            fixed: Fixed::new(listeners.len(), 0),
            listeners,
            datagrams: None,
            conns: Slab::new(),
            scratch: Scratch::new(config.read_buffer.get()),
            // Room for a whole batch, so that the first to yield allocates nothing either.
            run_queue: VecDeque::with_capacity(EVENTS),
            short_of_memory: Vec::new(),
            closed: Vec::new(),
            watches: Vec::new(),
            permits: Vec::new(),
            timers: Timers::new(0),
            due: Vec::new(),
            metrics: Arc::clone(&control.metrics[index]),
            watching: !rules.terms.is_empty(),
            rules,
            rules_version: control.rules_version(),
            has_senders: control.has_senders(),
            control,
            hand_off: None,
            phase: Phase::Serving,
            woken: false,
            accept_paused: false,
            accept_troubled: false,
            refused_lingering: 0,
            spin: config.spin,
            spin_policy: SpinPolicy::new(config.spin, now_ns),
            drain_delay: config.drain_delay,
            drain_timeout: config.drain_timeout,
        }
    }

    /// One turn of the loop: its phases, in their order.
    fn turn(&mut self, events: &mut K::Events) -> io::Result<()> {
        self.wait(events)?;
        self.dispatch(events);
        self.resume_yielded();
        self.remove_closed();
        self.apply_new_rules();
        self.accept();
        self.expire();
        self.apply_requests();
        self.remove_closed();
        Ok(())
    }

    /// Sleeps until something happens, or not at all when there is work left.
    fn wait(&mut self, events: &mut K::Events) -> io::Result<()> {
        let timeout = self.poll_timeout();
        self.clock.forget();
        self.kernel.wait(events, timeout)?;
        self.metrics.loop_iterations.add(1);
        Ok(())
    }

    /// Tells every event to what it belongs. A connection is pumped at once.
    fn dispatch(&mut self, events: &K::Events) {
        let mut count = 0;
        for (token, readiness) in K::reports(events) {
            count += 1;
            match Source::of(token, self.fixed) {
                Source::Conn(key) => self.serve(key, readiness),
                Source::Listener(index) => self.listeners[index].look_again(),
                Source::Datagrams(index) => self.note_datagrams(index, readiness),
                Source::Waker => self.woken = true,
            }
        }
        self.metrics.loop_events.add(count);
        if count == EVENTS as u64 {
            self.metrics.loop_full_batches.add(1);
        }
        if count > 0
            && let Spin::For(_) | Spin::Auto = self.spin
        {
            self.spin_policy.note_event(self.clock.now_ns(&self.kernel));
        }
    }

    /// Gives everything that yielded before this phase one more turn.
    fn resume_yielded(&mut self) {
        if self.datagrams.is_some() {
            self.resume_datagrams();
        }
        for _ in 0..self.run_queue.len() {
            let Some(key) = self.run_queue.pop_front() else {
                return;
            };
            // The connection may be gone, and its key may be another's by now: only a connection
            // that put itself into the queue carries the mark.
            if self.conns.get_mut(key).is_some_and(Conn::dequeue) {
                self.serve_late(key, Readiness::NONE);
            }
        }
    }

    /// Frees what was closed in this turn. Dropping a stream closes its descriptor, which takes it
    /// out of the epoll instance without a system call of its own.
    fn remove_closed(&mut self) {
        while let Some((key, reason)) = self.closed.pop() {
            drop(self.conns.remove(key));
            self.timers.cancel(Deadline::Conn(key).id());
            if reason == CloseReason::Refused {
                self.refused_lingering -= 1;
            } else {
                self.metrics.active.sub(1);
                self.metrics.closed(reason).add(1);
                let permit = self.permits.get_mut(key).map(std::mem::take);
                self.leave(permit.unwrap_or_default());
            }
        }
    }

    /// Does what is due.
    fn expire(&mut self) {
        if self.timers.is_empty() {
            return;
        }
        let mut due = std::mem::take(&mut self.due);
        let now_ms = self.now_ms();
        self.timers.advance(now_ms, &mut due);
        for id in due.drain(..) {
            // What was due before it in this batch may have set it anew: the end of a drain gives
            // every connection time for a farewell.
            if self.timers.is_armed(id) {
                continue;
            }
            match Deadline::of(id) {
                Deadline::AcceptRetry => self.accept_paused = false,
                Deadline::StopAccepting => self.stop_accepting(),
                Deadline::CloseListeners => self.close_listeners(),
                Deadline::EndDrain => self.end_drain(),
                Deadline::MemoryRetry => {
                    self.run_queue.extend(self.short_of_memory.drain(..));
                    self.retry_datagrams();
                }
                Deadline::Conn(key) => self.look_after(key),
            }
        }
        self.due = due;
    }

    fn poll_timeout(&mut self) -> Option<Duration> {
        if !self.run_queue.is_empty() || self.has_more_to_accept() || self.has_more_datagrams() {
            return Some(Duration::ZERO);
        }
        match self.spin {
            Spin::Never => {}
            Spin::Always => return Some(Duration::ZERO),
            Spin::For(_) | Spin::Auto => {
                if self
                    .spin_policy
                    .stays_awake(self.clock.now_ns(&self.kernel))
                {
                    return Some(Duration::ZERO);
                }
            }
        }
        let deadline = self.timers.next_deadline()?;
        Some(Duration::from_millis(
            deadline.saturating_sub(self.now_ms()),
        ))
    }

    /// Ends a connection by our own decision, in good order and within a bound.
    fn linger(&mut self, key: usize, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(key).filter(|conn| !conn.is_closed()) else {
            return;
        };
        let next = conn.linger(reason, &mut self.scratch, &self.metrics);
        self.arm(Deadline::Conn(key), LINGER_MS);
        self.follow(key, next);
    }

    /// Moves what a connection has to move, with what the kernel reported of it.
    #[inline(always)]
    fn serve(&mut self, key: usize, readiness: Readiness) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        conn.note(readiness);
        if self.watching {
            self.serve_watched(key);
            return;
        }
        let next = conn.pump(&mut self.scratch, &self.metrics);
        if !matches!(next, Next::Wait) {
            self.follow(key, next);
        }
    }

    /// The same where it is not worth its place in the loop's code.
    #[inline(never)]
    fn serve_late(&mut self, key: usize, readiness: Readiness) {
        self.serve(key, readiness);
    }

    /// The same for a connection that is held to terms, which want to know how much moved: all that
    /// this worker moves during the call.
    #[inline(never)]
    fn serve_watched(&mut self, key: usize) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let before = self.metrics.moved_bytes();
        let next = conn.pump(&mut self.scratch, &self.metrics);
        let moved = self.metrics.moved_bytes().wrapping_sub(before);
        if moved > 0 {
            self.note_moved(key, moved);
        }
        self.follow(key, next);
    }

    /// Does what the connection needs after a call of `pump`: in steady state nothing.
    #[cold]
    fn follow(&mut self, key: usize, next: Next) {
        match next {
            Next::Wait => {}
            Next::Yield => {
                if self.conns.get_mut(key).is_some_and(Conn::enqueue) {
                    self.run_queue.push_back(key);
                }
            }
            Next::Retry => {
                if self.conns.get_mut(key).is_some_and(Conn::enqueue) {
                    self.short_of_memory.push(key);
                    self.retry_later();
                }
            }
            Next::Close(reason) => self.closed.push((key, reason)),
        }
    }

    /// Sees to it that what lacks memory is tried again.
    fn retry_later(&mut self) {
        if !self.timers.is_armed(Deadline::MemoryRetry.id()) {
            self.arm(Deadline::MemoryRetry, MEMORY_RETRY_MS);
        }
    }

    /// Notes how much moved. Activity does not move the deadline, which would cost every echo, but
    /// the beginning of a stall window may bring one nearer.
    fn note_moved(&mut self, key: usize, moved: u64) {
        let now_ms = self.now_ms();
        let Some(conn) = self.conns.get(key) else {
            return;
        };
        let is_served = !conn.is_closed() && conn.lingering().is_none();
        let Some(watch) = self.watches.get_mut(key) else {
            return;
        };
        let opened = watch.note(moved, &self.rules.terms, now_ms);
        let id = Deadline::Conn(key).id();
        if let Some(deadline) = opened.filter(|_| is_served)
            && self
                .timers
                .deadline(id)
                .is_none_or(|armed| deadline < armed)
        {
            self.timers.arm(id, deadline);
        }
    }

    /// The deadline of a connection has come: it lingered long enough, or it broke its terms, or it
    /// kept them after all and gets a new one.
    fn look_after(&mut self, key: usize) {
        let now_ms = self.now_ms();
        let Some(conn) = self.conns.get_mut(key).filter(|conn| !conn.is_closed()) else {
            return;
        };
        if let Some(reason) = conn.lingering() {
            conn.close(&self.metrics);
            self.closed.push((key, reason));
            return;
        }
        let blocked = if conn.is_blocked() {
            Blocked::Yes
        } else {
            Blocked::No
        };
        let Some(watch) = self.watches.get_mut(key).filter(|_| self.watching) else {
            return;
        };
        match watch.check(&self.rules.terms, blocked, now_ms) {
            Decision::Keep(Some(deadline)) => self.timers.arm(Deadline::Conn(key).id(), deadline),
            Decision::Keep(None) => self.timers.cancel(Deadline::Conn(key).id()),
            Decision::Close(reason) => self.linger(key, reason),
        }
    }

    fn arm(&mut self, deadline: Deadline, after_ms: u64) {
        let at = self.now_ms().saturating_add(after_ms);
        self.timers.arm(deadline.id(), at);
    }

    /// Milliseconds since the reactor was made: the ticks of its timers.
    fn now_ms(&mut self) -> u64 {
        self.clock.now_ms(&self.kernel)
    }
}

/// Reads the time at most once in a turn of the loop, and only if someone asks.
#[derive(Debug)]
struct Clock {
    origin_ns: u64,
    now_ns: Option<u64>,
}

impl Clock {
    fn new(origin_ns: u64) -> Self {
        Self {
            origin_ns,
            now_ns: None,
        }
    }

    /// The next question is answered by reading the time anew.
    fn forget(&mut self) {
        self.now_ns = None;
    }

    fn now_ns(&mut self, kernel: &impl Kernel) -> u64 {
        *self.now_ns.get_or_insert_with(|| kernel.now_ns())
    }

    fn now_ms(&mut self, kernel: &impl Kernel) -> u64 {
        (self.now_ns(kernel) - self.origin_ns) / 1_000_000
    }
}
