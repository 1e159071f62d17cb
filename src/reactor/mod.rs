//! The event loop of one worker: [`Reactor::run`] is the loop, and each of its phases is a method.
//! Each part of the state has its own file; all parts use `context`.
//!
//! The order of the phases guarantees:
//! - Connections are removed only after the whole batch of events was handled, and accepting comes
//!   after that: no event of the batch can reach a connection on a reused slab key, and the kernel
//!   drops a closed descriptor's events with it (epoll(7), question 6).
//! - A connection that yields waits for its next turn behind all connections with events.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

mod acceptor;
mod alarms;
mod connections;
mod context;
mod control;
mod datagrams;
mod drain;
mod hand_off;
mod kernel;
mod pumping;
mod reload;
mod secured;
#[cfg(test)]
mod simulation;
mod token;
mod told;

use acceptor::Acceptor;
pub(crate) use acceptor::{Listening, Share};
use alarms::AlarmOf;
use connections::Connections;
pub(crate) use connections::{MAX_REFUSED_LINGERING, Security};
use context::Context;
pub(crate) use control::{Control, LeftTo, Origin, Request, Rules};
use datagrams::DatagramTable;
pub(crate) use datagrams::UdpEndpoint;
use drain::{Drain, Haste};
pub(crate) use hand_off::{HandOff, MAX_INBOX};
pub(crate) use kernel::{Epoll, Kernel};
use reload::Reload;
use token::{Deadline, Source, TokenLayout};

use crate::config::Config;
use crate::listen::Listener;
use crate::metrics::CloseReason;
use crate::net::readiness::Readiness;
use crate::net::stream::Socket;
use crate::spin::SpinPolicy;
use crate::udp::Guard;

/// Events fetched from the kernel at once. Further events wait for the next turn.
const MAX_EVENTS: usize = 256;

/// One worker's event loop with everything it owns.
#[derive(Debug)]
pub(crate) struct Reactor<K: Kernel> {
    context: Context<K>,
    layout: TokenLayout,
    connections: Connections<K::Stream>,
    acceptor: Acceptor,
    /// `None` without UDP endpoints.
    datagrams: Option<DatagramTable<K::Datagrams>>,
    /// `None` if each worker serves what it accepts.
    hand_off: Option<HandOff<K::Stream>>,
    reload: Reload,
    drain: Drain,
    spin: SpinPolicy,
    /// Another thread has made a request or handed off a connection.
    is_woken: bool,
}

/// The parts of a worker's loop.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The worker's.
    pub(crate) index: usize,
    pub(crate) poll: mio::Poll,
    /// The wakers of all workers.
    pub(crate) wakers: Arc<[mio::Waker]>,
    pub(crate) listeners: Vec<(Listening, Listener)>,
    pub(crate) datagrams: Vec<UdpEndpoint<UdpSocket>>,
    pub(crate) guard: Guard,
    /// `None` if each worker serves what it accepts.
    pub(crate) hand_off: Option<HandOff<Socket>>,
    pub(crate) control: Arc<Control>,
}

impl Reactor<Epoll> {
    /// A worker's loop on epoll.
    pub(crate) fn on_epoll(setup: Setup, config: &Config) -> io::Result<Self> {
        let (listening, listeners) = setup.listeners.into_iter().unzip();
        let (mut endpoints, mut sockets) = (Vec::new(), Vec::new());
        for it in setup.datagrams {
            endpoints.push((it.endpoint, it.service));
            sockets.push(it.socket);
        }
        let (kernel, sockets) = Epoll::new(setup.poll, setup.wakers, listeners, sockets)?;
        let datagrams = endpoints
            .into_iter()
            .zip(sockets)
            .map(|((endpoint, service), socket)| UdpEndpoint {
                endpoint,
                service,
                socket,
            });
        Ok(Self::new(
            Context::new(setup.index, kernel, setup.control),
            listening,
            datagrams.collect(),
            setup.guard,
            setup.hand_off,
            config,
        ))
    }

    /// Sends a request for each time that much memory was freed, to be returned to the system.
    pub(crate) fn ask_to_return_freed(&mut self, requests: SyncSender<()>) {
        self.connections.ask_to_return_freed(requests);
    }

    /// Serves until asked to stop, or until asked to drain and the last connection is gone.
    ///
    /// # Errors
    /// Only what epoll_wait(2) reports besides EINTR, which would be a defect.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = mio::Events::with_capacity(MAX_EVENTS);
        while !self.is_finished() {
            self.turn(&mut events)?;
        }
        self.close_all();
        Ok(())
    }
}

impl<K: Kernel> Reactor<K> {
    fn new(
        mut context: Context<K>,
        listeners: Vec<Listening>,
        datagrams: Vec<UdpEndpoint<K::Datagrams>>,
        guard: Guard,
        mut hand_off: Option<HandOff<K::Stream>>,
        config: &Config,
    ) -> Self {
        let layout = TokenLayout::new(listeners.len(), datagrams.len());
        let acceptor = Acceptor::new(listeners);
        if acceptor.feeds_others()
            && let Some(hand_off) = &mut hand_off
        {
            hand_off.start_sending(&context.control);
        }
        let mut connections = Connections::new(
            &context.control.backlog_memory,
            config.read_buffer.get(),
            MAX_EVENTS,
        );
        if context.rules.tls.is_some() {
            connections.prepare_tls();
        }
        let mut datagrams = DatagramTable::new(
            datagrams,
            guard,
            &context.control.backlog_memory,
            (&context.control.whoami, context.index),
        );
        if let Some(datagrams) = &mut datagrams {
            datagrams.apply_faults(&context);
        }
        Self {
            layout,
            connections,
            acceptor,
            datagrams,
            hand_off,
            reload: Reload::new(&context),
            drain: Drain::new(config.drain_delay, config.drain_timeout),
            spin: SpinPolicy::new(config.spin, context.now_ns()),
            is_woken: false,
            context,
        }
    }

    /// One turn of the loop: its phases in order.
    fn turn(&mut self, events: &mut K::Events) -> io::Result<()> {
        self.wait(events)?;
        self.dispatch(events);
        self.resume_yielded();
        self.remove_closed();
        self.reload();
        self.accept();
        self.expire();
        self.apply_requests();
        self.remove_closed();
        self.wake_receivers();
        Ok(())
    }

    /// Sleeps until an event or a deadline, or not at all while work is left.
    fn wait(&mut self, events: &mut K::Events) -> io::Result<()> {
        let timeout = self.poll_timeout();
        self.context.forget_time();
        self.context.kernel.wait(events, timeout)?;
        self.context.metrics.loop_iterations.add(1);
        Ok(())
    }

    /// Dispatches every event to its source. A connection is pumped at once.
    fn dispatch(&mut self, events: &K::Events) {
        let mut count = 0;
        for (token, readiness) in K::reports(events) {
            count += 1;
            match Source::of(token, self.layout) {
                Source::Conn(key) => self.connections.serve(key, readiness, &mut self.context),
                Source::Listener(index) => self.acceptor.note(index),
                Source::Datagrams(index) => self.serve_datagrams(index, readiness),
                Source::Waker => self.is_woken = true,
                // It has ended the wait; what is due comes with the deadlines.
                Source::Alarm => {}
            }
        }
        self.context.metrics.loop_events.add(count);
        if count == MAX_EVENTS as u64 {
            self.context.metrics.loop_full_batches.add(1);
        }
        if count > 0 {
            self.spin.note_event(|| self.context.now_ns());
        }
    }

    fn serve_datagrams(&mut self, index: usize, readiness: Readiness) {
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.serve(index, readiness, &mut self.context);
        }
    }

    /// Gives every connection and UDP socket that yielded before this phase one more turn.
    fn resume_yielded(&mut self) {
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.resume_yielded(&mut self.context);
        }
        self.connections.resume_yielded(&mut self.context);
    }

    /// Removes the connections that were closed in this turn.
    fn remove_closed(&mut self) {
        self.connections.remove_closed(&mut self.context);
    }

    /// Applies changed limits.
    fn reload(&mut self) {
        if self.is_woken {
            let (connections, datagrams) = (&mut self.connections, self.datagrams.as_mut());
            self.reload.apply(connections, datagrams, &mut self.context);
        }
    }

    /// Accepts new connections.
    fn accept(&mut self) {
        let (connections, hand_off) = (&mut self.connections, self.hand_off.as_mut());
        self.acceptor
            .accept(connections, hand_off, &mut self.context);
    }

    /// Handles every deadline that is due.
    fn expire(&mut self) {
        if self.context.timers.is_empty() {
            return;
        }
        self.ring_alarms();
        let mut due = std::mem::take(&mut self.context.due);
        let now_ms = self.context.now_ms();
        self.context.timers.advance(now_ms, &mut due);
        for id in due.drain(..) {
            // An earlier deadline of this batch may have re-armed it: the end of a drain gives
            // every connection time to linger.
            if self.context.timers.is_armed(id) {
                continue;
            }
            self.handle_deadline(Deadline::of(id));
        }
        // A connection that came meanwhile has made room in another one.
        if due.capacity() > self.context.due.capacity() {
            self.context.due = due;
        }
    }

    /// Serves the connections and UDP sockets whose alarm is due.
    fn ring_alarms(&mut self) {
        if self.context.alarms() == 0 {
            return;
        }
        let now_ns = self.context.kernel.now_ns();
        // Each is served once, even if it sets another one that is due.
        for _ in 0..self.context.alarms() {
            match self.context.pop_alarm(now_ns) {
                Some(AlarmOf::Conn(key)) => {
                    let cx = &mut self.context;
                    self.connections.serve_late(key, Readiness::NONE, cx);
                }
                Some(AlarmOf::Datagrams(index)) => self.serve_datagrams(index, Readiness::NONE),
                None => return,
            }
        }
    }

    fn handle_deadline(&mut self, deadline: Deadline) {
        let Self {
            acceptor,
            connections,
            context,
            ..
        } = self;
        match deadline {
            Deadline::AcceptRetry => acceptor.resume(),
            Deadline::StopAccepting => drain::stop_accepting(acceptor, connections, context),
            Deadline::CloseListeners => acceptor.close_when_empty(),
            Deadline::EndDrain => {
                drain::end(acceptor, connections, self.hand_off.as_mut(), context);
            }
            Deadline::Retry => {
                connections.retry_short_of_memory();
                if let Some(datagrams) = &mut self.datagrams {
                    datagrams.retry_short_of_memory();
                }
            }
            Deadline::Alarm => context.keep_timers_armed(),
            Deadline::Conn(key) => connections.expire(key, context),
        }
    }

    /// Applies the requests of other threads, and adds connections that other workers handed off.
    fn apply_requests(&mut self) {
        if !std::mem::take(&mut self.is_woken) {
            return;
        }
        if let Some(hand_off) = &mut self.hand_off {
            hand_off.take(&mut self.connections, &mut self.context);
        }
        match self.context.control.requested() {
            Request::Serve => {}
            Request::Drain if self.context.control.has_successor() => {
                self.begin_drain(Haste::Successor);
            }
            Request::Drain => self.begin_drain(Haste::None),
            Request::Vacate => {
                self.begin_drain(Haste::Successor);
                if let Some(datagrams) = &mut self.datagrams {
                    datagrams.close_all(&mut self.context);
                }
            }
            Request::Stop => self.drain.stop(),
        }
    }

    fn begin_drain(&mut self, haste: Haste) {
        self.drain.begin(haste, &mut self.context);
        self.acceptor.release_left(&mut self.context);
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.release_left(&mut self.context);
        }
    }

    /// Wakes the workers that were handed connections in this turn.
    fn wake_receivers(&mut self) {
        if let Some(hand_off) = &mut self.hand_off {
            if !self.acceptor.feeds_others() {
                hand_off.stop_sending(&self.context.control);
            }
            hand_off.wake_receivers(&mut self.context);
        }
    }

    fn poll_timeout(&mut self) -> Option<Duration> {
        if self.connections.has_yielded()
            || self.acceptor.has_more()
            || self.datagrams.as_ref().is_some_and(DatagramTable::has_more)
            || self.spin.stays_awake(|| self.context.now_ns())
        {
            return Some(Duration::ZERO);
        }
        let deadline = self.context.timers.next_deadline()?;
        let alarm = self.context.sleep_until_alarm();
        let now_ms = self.context.now_ms();
        let timeout = Duration::from_millis(deadline.saturating_sub(now_ms));
        Some(alarm.map_or(timeout, |alarm| alarm.min(timeout)))
    }

    fn is_finished(&self) -> bool {
        let hand_off = self.hand_off.as_ref();
        // Answers that faults hold back have the time of the drain to leave.
        let holds_back = self
            .datagrams
            .as_ref()
            .is_some_and(DatagramTable::holds_back);
        let may_leave = self.context.timers.is_armed(Deadline::EndDrain.id());
        !(holds_back && may_leave && self.drain.waits())
            && self
                .drain
                .is_finished(&self.acceptor, &self.connections, hand_off, &self.context)
    }

    /// Closes everything.
    fn close_all(&mut self) {
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.close_all(&mut self.context);
        }
        self.acceptor.close_all(&mut self.context);
        self.connections
            .close_all(CloseReason::Stopped, &mut self.context);
        self.wake_receivers();
    }
}
