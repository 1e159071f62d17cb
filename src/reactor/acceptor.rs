//! Taking new connections in: batches, limits, and what to do when the system has nothing to give.

use std::io;
use std::net::IpAddr;

use tracing::warn;

use super::hand_off::Admitted;
use super::token::Deadline;
use super::{Kernel, Reactor};
use crate::admission::Permit;
use crate::conn::Conn;
use crate::metrics::{CloseReason, RefuseReason};
use crate::net::errno::AcceptError;
use crate::net::stream::Stream;
use crate::service::Service;
use crate::timeouts::Activity;

/// Connections taken from one listener in a turn, so that a storm of connects can't keep the open
/// connections waiting.
const ACCEPT_BATCH: usize = 64;
/// How long accepting pauses when descriptors or memory ran out.
const RETRY_MS: u64 = 50;
/// Refused connections of a worker that may wait for their peer's end at a time; more are closed
/// at once. They hold a descriptor each.
pub const MAX_REFUSED_LINGERING: usize = 256;

/// What a worker knows of one of its listeners; the socket itself is the kernel's.
#[derive(Debug)]
pub(crate) struct Listening {
    /// Which of the server's endpoints it is one of.
    pub(crate) endpoint: usize,
    /// What its connections are served.
    pub(crate) service: Service,
    /// Who serves them.
    pub(crate) share: Share,
    /// Connections that may at most be queued when it is to close: it bounds the emptying of a queue
    /// that goes on filling, because another process keeps the socket open.
    pub(crate) most_queued: u32,
    pub(super) state: State,
    /// Whether there may be more to accept: set by an event, cleared by EAGAIN alone.
    pub(super) more: bool,
}

/// Who serves the connections of a listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Share {
    /// The worker that accepts them.
    Own,
    /// The worker that has the fewest.
    LeastLoaded,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    Open,
    /// To be closed as soon as nothing is left to accept, at the latest after so many connections.
    Closing(u32),
    Closed,
}

impl Listening {
    pub(crate) fn new(endpoint: usize, service: Service, share: Share, most_queued: u32) -> Self {
        Self {
            endpoint,
            service,
            share,
            most_queued,
            state: State::Open,
            // Connections may have arrived before the listener was registered.
            more: true,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    /// Asks for connections again. A closed listener has none: asking it for ever would keep the
    /// loop awake.
    pub(super) fn look_again(&mut self) {
        self.more = self.is_open();
    }
}

impl<K: Kernel> Reactor<K> {
    /// Whether the next turn has connections to accept without waiting for an event.
    pub(super) fn has_more_to_accept(&self) -> bool {
        !self.accept_paused && self.listeners.iter().any(|listener| listener.more)
    }

    /// Accepts a batch from each listener that may have connections.
    pub(super) fn accept(&mut self) {
        for index in 0..self.listeners.len() {
            if self.accept_paused {
                break;
            }
            if self.listeners[index].more {
                self.accept_batch(index);
            }
        }
        self.wake_receivers();
    }

    fn accept_batch(&mut self, index: usize) {
        for _ in 0..ACCEPT_BATCH {
            match self.kernel.accept(index) {
                Ok((stream, peer)) => {
                    self.admit(index, stream, peer);
                    if let State::Closing(left) = &mut self.listeners[index].state {
                        *left = left.saturating_sub(1);
                        if *left == 0 {
                            self.close_listener(index);
                            return;
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.listeners[index].more = false;
                    if matches!(self.listeners[index].state, State::Closing(_)) {
                        self.close_listener(index);
                    }
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let reason = AcceptError::from(&error);
                    self.metrics.accept_errors(reason).add(1);
                    if !reason.is_of_one_connection() {
                        self.pause_accepting(&error);
                        return;
                    }
                }
            }
        }
    }

    /// Stops asking for connections for a while: the next call would fail the same way, and the
    /// edge that announced them does not come again.
    fn pause_accepting(&mut self, error: &io::Error) {
        if !self.accept_troubled {
            warn!(
                worker = self.index,
                %error,
                "cannot accept; trying again every {RETRY_MS} ms until it works"
            );
        }
        self.accept_troubled = true;
        self.accept_paused = true;
        self.arm(Deadline::AcceptRetry, RETRY_MS);
    }

    fn admit(&mut self, listener: usize, stream: K::Stream, peer: Option<IpAddr>) {
        if self.accept_troubled {
            self.accept_troubled = false;
            warn!(worker = self.index, "accepting again");
        }
        let Listening { service, share, .. } = self.listeners[listener];
        let Self {
            control,
            rules,
            clock,
            kernel,
            ..
        } = self;
        let admitted = control
            .admission
            .acquire(&rules.policy, peer, || clock.now_ns(kernel));
        match admitted {
            Err(reason) => self.refuse(stream, reason),
            Ok(permit) => {
                let given = Admitted {
                    stream,
                    service,
                    permit,
                };
                match share {
                    Share::Own => self.keep(given),
                    Share::LeastLoaded => self.give(given),
                }
            }
        }
    }

    /// Gives an admitted connection its seat among those served.
    pub(super) fn seat(&mut self, given: Admitted<K::Stream>) {
        let Admitted {
            stream,
            service,
            permit,
        } = given;
        self.metrics.accepted.add(1);
        match self.insert(stream, service) {
            Ok(key) => {
                self.metrics.active.add(1);
                if permit.is_counted() {
                    if self.permits.len() <= key {
                        self.permits.resize_with(key + 1, Permit::default);
                    }
                    self.permits[key] = permit;
                }
                if self.watching {
                    self.begin_watch(key);
                }
            }
            Err(error) => {
                warn!(worker = self.index, %error, "cannot watch a connection; closed it");
                self.metrics.closed(CloseReason::Error).add(1);
                self.leave(permit);
            }
        }
    }

    /// Begins to hold a connection to the terms.
    pub(super) fn begin_watch(&mut self, key: usize) {
        let now_ms = self.now_ms();
        if self.watches.len() <= key {
            self.watches.resize(key + 1, Activity::new(now_ms));
        }
        self.watches[key] = Activity::new(now_ms);
        self.look_after(key);
    }

    /// Closes a connection that may not be served, so that its peer reads an end and not a reset.
    fn refuse(&mut self, mut stream: K::Stream, reason: RefuseReason) {
        self.metrics.refused(reason).add(1);
        if self.refused_lingering >= MAX_REFUSED_LINGERING {
            // The peer is gone already if one of these fails. What it has sent is taken out first,
            // so that closing does not reset the connection.
            let _ = stream.shutdown_write();
            let _ = stream.discard(self.scratch.whole());
            return;
        }
        if let Ok(key) = self.insert(stream, Service::Discard) {
            self.refused_lingering += 1;
            self.linger(key, CloseReason::Refused);
        }
    }

    /// Gives a connection its place and registers it, once and for all, for everything.
    fn insert(&mut self, mut stream: K::Stream, service: Service) -> io::Result<usize> {
        let entry = self.conns.vacant_entry();
        let key = entry.key();
        self.kernel.register(&mut stream, key)?;
        entry.insert(Conn::new(stream, service));
        Ok(key)
    }

    /// Gives back the place of a connection that is no longer served.
    pub(super) fn leave(&self, permit: Permit) {
        self.control.admission.release(permit);
        if self.hand_off.is_some() {
            self.control.remove_load(self.index);
        }
    }
}
