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
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll};
use slab::Slab;
use tracing::{debug, info};

mod accept;
mod control;
mod token;

use accept::Listener;
pub(crate) use control::{Control, Wish};
use token::{Deadline, Source};

use crate::admission::{Place, Policy};
use crate::config::{Config, Spin};
use crate::conn::{Conn, Next, Readiness};
use crate::metrics::{CloseReason, WorkerMetrics};
use crate::timer::Timers;

/// Events taken from the kernel at once. Those beyond it wait for the next turn, after the others
/// of this one had theirs.
const EVENTS: usize = 256;
/// How long a connection that we ended may wait for its peer to end it too.
const LINGER_MS: u64 = 1000;
/// How long handshakes under way may take to complete when a listener is to close.
const HANDSHAKE_MS: u64 = 50;

/// One worker's event loop with everything it owns.
#[derive(Debug)]
pub(crate) struct Reactor {
    index: usize,
    poll: Poll,
    listeners: Vec<Listener>,
    conns: Slab<Conn<TcpStream>>,
    /// The places of the connections, by their key; a refused one has none.
    places: Vec<Option<Place>>,
    policy: Arc<Policy>,
    /// Read into by every connection in turn, empty between two calls of `pump`.
    buffer: Box<[u8]>,
    /// Keys of connections that yielded; those closed since are skipped when their turn comes.
    run_queue: VecDeque<usize>,
    /// Connections closed in this turn, to be removed after the batch.
    closed: Vec<(usize, CloseReason)>,
    timers: Timers,
    due: Vec<usize>,
    clock: Clock,
    control: Arc<Control>,
    metrics: Arc<WorkerMetrics>,
    phase: Phase,
    woken: bool,
    /// Accepting waits for its retry deadline.
    accept_paused: bool,
    /// The last accept failed for lack of resources: the way in and out is logged once.
    accept_troubled: bool,
    refused_lingering: usize,
    spin: Spin,
    idle_ms: Option<u64>,
    drain_delay: Duration,
    drain_timeout: Duration,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Serving,
    Draining,
    Stopping,
}

impl Reactor {
    /// A loop for worker `index`, registered with its listeners and ready to run.
    pub(crate) fn new(
        index: usize,
        listeners: Vec<std::net::TcpListener>,
        config: &Config,
        policy: Arc<Policy>,
        control: Arc<Control>,
    ) -> io::Result<(Self, mio::Waker)> {
        let poll = Poll::new()?;
        let waker = mio::Waker::new(poll.registry(), Source::Waker.token())?;
        let mut registered = Vec::with_capacity(listeners.len());
        for (number, listener) in listeners.into_iter().enumerate() {
            let mut listener = TcpListener::from_std(listener);
            let token = Source::Listener(number).token();
            poll.registry()
                .register(&mut listener, token, Interest::READABLE)?;
            registered.push(Listener::new(listener));
        }
        let metrics = Arc::clone(&control.metrics[index]);
        let reactor = Self {
            index,
            poll,
            listeners: registered,
            conns: Slab::new(),
            places: Vec::new(),
            policy,
            buffer: vec![0; config.read_buffer.get()].into_boxed_slice(),
            run_queue: VecDeque::new(),
            closed: Vec::new(),
            timers: Timers::new(0),
            due: Vec::new(),
            clock: Clock::new(),
            control,
            metrics,
            phase: Phase::Serving,
            woken: false,
            accept_paused: false,
            accept_troubled: false,
            refused_lingering: 0,
            spin: config.spin,
            idle_ms: config.limits.idle_timeout.map(whole_ms),
            drain_delay: config.drain_delay,
            drain_timeout: config.drain_timeout,
        };
        Ok((reactor, waker))
    }

    /// Serves until asked to stop, or until asked to drain and the last connection is gone.
    ///
    /// # Errors
    /// Only what epoll_wait(2) reports besides EINTR, which would be a defect.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        while !self.is_finished() {
            self.wait(&mut events)?;
            self.dispatch(&events);
            self.resume_yielded();
            self.remove_closed();
            self.accept();
            self.expire();
            self.obey();
        }
        self.close_all(CloseReason::Stopped);
        Ok(())
    }

    /// Sleeps until something happens, or not at all when there is work left.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let timeout = self.poll_timeout();
        self.clock.forget();
        match self.poll.poll(events, timeout) {
            Ok(()) => {}
            // A signal was handled on this thread; the batch is empty.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        self.metrics.loop_iterations.add(1);
        Ok(())
    }

    /// Tells every event to what it belongs. A connection is pumped at once.
    fn dispatch(&mut self, events: &Events) {
        let mut count = 0;
        for event in events {
            count += 1;
            match Source::of(event.token(), self.listeners.len()) {
                Source::Conn(key) => {
                    if let Some(conn) = self.conns.get_mut(key) {
                        conn.note(Readiness::from(event));
                        let next = conn.pump(&mut self.buffer, &self.metrics);
                        self.follow(key, next);
                    }
                }
                Source::Listener(index) => self.listeners[index].look_again(),
                Source::Waker => self.woken = true,
            }
        }
        self.metrics.loop_events.add(count);
        if count == EVENTS as u64 {
            self.metrics.loop_full_batches.add(1);
        }
        if count > 0
            && let Spin::For(_) = self.spin
        {
            self.clock.note_event();
        }
    }

    /// Gives every connection that yielded before this phase one more turn.
    fn resume_yielded(&mut self) {
        for _ in 0..self.run_queue.len() {
            let Some(key) = self.run_queue.pop_front() else {
                return;
            };
            // The connection may be gone, and its key may be another's by now: only a connection
            // that put itself into the queue carries the mark.
            if let Some(conn) = self.conns.get_mut(key)
                && conn.dequeue()
            {
                let next = conn.pump(&mut self.buffer, &self.metrics);
                self.follow(key, next);
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
            }
            if let Some(place) = self.places[key].take() {
                self.control.admission.leave(place);
            }
        }
    }

    /// Does what is due.
    fn expire(&mut self) {
        if self.timers.is_empty() {
            return;
        }
        let mut due = std::mem::take(&mut self.due);
        self.timers.advance(self.clock.now_ms(), &mut due);
        for id in due.drain(..) {
            // What was due before it in this batch may have set it anew: the end of a drain gives
            // every connection time for a farewell.
            if self.timers.is_armed(id) {
                continue;
            }
            match Deadline::of(id) {
                Deadline::AcceptRetry => self.accept_paused = false,
                Deadline::StopAccepting => self.stop_accepting(),
                Deadline::CloseListeners => {
                    self.listeners
                        .iter_mut()
                        .for_each(Listener::close_when_empty);
                }
                Deadline::EndDrain => self.end_drain(),
                Deadline::Conn(key) => self.look_after(key),
            }
        }
        self.due = due;
        self.remove_closed();
    }

    /// Does what was asked from outside since the last turn.
    fn obey(&mut self) {
        if !std::mem::replace(&mut self.woken, false) {
            return;
        }
        match (self.control.wish(), self.phase) {
            (Wish::Stop, _) => self.phase = Phase::Stopping,
            (Wish::Drain, Phase::Serving) => {
                self.phase = Phase::Draining;
                let delay = whole_ms(self.drain_delay);
                self.arm(Deadline::StopAccepting, delay);
                self.arm(
                    Deadline::EndDrain,
                    delay.saturating_add(whole_ms(self.drain_timeout)),
                );
            }
            (Wish::Drain | Wish::Serve, _) => {}
        }
    }

    fn is_finished(&self) -> bool {
        match self.phase {
            Phase::Serving => false,
            Phase::Draining => {
                self.conns.is_empty() && !self.listeners.iter().any(Listener::is_open)
            }
            Phase::Stopping => true,
        }
    }

    fn poll_timeout(&mut self) -> Option<Duration> {
        if !self.run_queue.is_empty() || self.has_more_to_accept() {
            return Some(Duration::ZERO);
        }
        match self.spin {
            Spin::Never => {}
            Spin::Always => return Some(Duration::ZERO),
            Spin::For(duration) if self.clock.since_event() < duration => {
                return Some(Duration::ZERO);
            }
            Spin::For(_) => {}
        }
        let deadline = self.timers.next_deadline()?;
        Some(Duration::from_millis(
            deadline.saturating_sub(self.clock.now_ms()),
        ))
    }

    /// Ends a connection by our own decision, in good order and within a bound.
    fn linger(&mut self, key: usize, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(key).filter(|conn| !conn.is_closed()) else {
            return;
        };
        let next = conn.linger(reason, &mut self.buffer, &self.metrics);
        self.arm(Deadline::Conn(key), LINGER_MS);
        self.follow(key, next);
    }

    /// Does what the connection needs after a call of `pump`: in steady state nothing.
    #[inline]
    fn follow(&mut self, key: usize, next: Next) {
        if self.idle_ms.is_some()
            && let Some(conn) = self.conns.get_mut(key)
        {
            conn.touch(self.clock.now_ms());
        }
        if next != Next::Wait {
            self.yield_or_close(key, next);
        }
    }

    #[cold]
    fn yield_or_close(&mut self, key: usize, next: Next) {
        match next {
            Next::Wait => {}
            Next::Yield => {
                if self.conns.get_mut(key).is_some_and(Conn::enqueue) {
                    self.run_queue.push_back(key);
                }
            }
            Next::Close(reason) => self.closed.push((key, reason)),
        }
    }

    /// The deadline of a connection has come: it lingered long enough, or it was idle, or it was
    /// not idle after all. Activity does not move the deadline, which would cost every echo.
    fn look_after(&mut self, key: usize) {
        let Some(conn) = self.conns.get_mut(key).filter(|conn| !conn.is_closed()) else {
            return;
        };
        if let Some(reason) = conn.lingering() {
            conn.close(&self.metrics);
            self.closed.push((key, reason));
        } else if let Some(idle_ms) = self.idle_ms {
            let idle_for = self.clock.now_ms().saturating_sub(conn.last_active());
            if idle_for >= idle_ms {
                self.linger(key, CloseReason::IdleTimeout);
            } else {
                self.arm(Deadline::Conn(key), idle_ms - idle_for);
            }
        }
    }

    fn stop_accepting(&mut self) {
        info!(
            worker = self.index,
            connections = self.conns.len(),
            "draining"
        );
        self.listeners
            .iter_mut()
            .for_each(Listener::ignore_new_connections);
        self.arm(Deadline::CloseListeners, HANDSHAKE_MS);
    }

    /// The drain timeout is over: whatever is left is closed.
    fn end_drain(&mut self) {
        self.listeners.iter_mut().for_each(Listener::close);
        let open: Vec<_> = self
            .conns
            .iter()
            .filter(|(_, conn)| !conn.is_closed() && conn.lingering().is_none())
            .map(|(key, _)| key)
            .collect();
        if !open.is_empty() {
            info!(
                worker = self.index,
                connections = open.len(),
                "the drain timeout is over, closing what is left"
            );
        }
        for key in open {
            self.linger(key, CloseReason::DrainTimeout);
        }
    }

    fn close_all(&mut self, reason: CloseReason) {
        debug!(worker = self.index, left = self.conns.len(), "stopped");
        for (key, conn) in &mut self.conns {
            let reason = conn.lingering().unwrap_or(reason);
            if !conn.is_closed() {
                conn.close(&self.metrics);
                self.closed.push((key, reason));
            }
        }
        self.remove_closed();
    }

    fn arm(&mut self, deadline: Deadline, after_ms: u64) {
        let at = self.clock.now_ms().saturating_add(after_ms);
        self.timers.arm(deadline.id(), at);
    }
}

/// Reads the time at most once in a turn of the loop, and only if someone asks.
#[derive(Debug)]
struct Clock {
    origin: Instant,
    now: Option<Instant>,
    last_event: Instant,
}

impl Clock {
    fn new() -> Self {
        let origin = Instant::now();
        Self {
            origin,
            now: None,
            last_event: origin,
        }
    }

    /// The next question is answered by reading the time anew.
    fn forget(&mut self) {
        self.now = None;
    }

    fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }

    /// Milliseconds since the reactor was made: the ticks of its timers.
    fn now_ms(&mut self) -> u64 {
        let origin = self.origin;
        whole_ms(self.now() - origin)
    }

    /// Nanoseconds on a time line that all workers share.
    fn now_ns(&mut self) -> u64 {
        // All workers are made by one thread within the life of the process, so a common origin
        // is the first reading.
        static ORIGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        let now = self.now();
        let elapsed = now.saturating_duration_since(*ORIGIN.get_or_init(|| now));
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
    }

    fn note_event(&mut self) {
        self.last_event = self.now();
    }

    fn since_event(&mut self) -> Duration {
        let last_event = self.last_event;
        self.now() - last_event
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
