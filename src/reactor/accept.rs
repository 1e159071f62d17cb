//! Taking new connections in: batches, limits, and what to do when the system has nothing to give.

use std::io;
use std::net::IpAddr;

use tracing::warn;

use super::spread::Given;
use super::token::Deadline;
use super::{Kernel, Reactor};
use crate::admission::Place;
use crate::conn::Conn;
use crate::metrics::{CloseReason, RefuseReason};
use crate::net::sys::AcceptError;
use crate::readiness::Readiness;
use crate::service::Service;
use crate::stream::Stream;
use crate::watch::Watch;

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

/// Whether new connections have sent something by the time they are accepted, as those of a client do
/// that sends at once, while those over a long way have not. Learnt from the last ones.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FirstReads {
    /// Connections that are not tried, because the last one that was had sent nothing.
    skip: u8,
}

/// Of so many connections one is tried, where none has sent anything.
const TRY_ONE_OF: u8 = 16;

impl FirstReads {
    /// Whether the next connection is to be tried.
    fn is_worth_it(&mut self) -> bool {
        if self.skip == 0 {
            return true;
        }
        self.skip -= 1;
        false
    }

    fn note(&mut self, has_received: bool) {
        self.skip = if has_received { 0 } else { TRY_ONE_OF - 1 };
    }
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
        self.announce_gifts();
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
            .enter(&rules.policy, peer, || clock.now_ns(kernel));
        match admitted {
            Err(reason) => self.refuse(stream, reason),
            Ok(place) => {
                let given = Given {
                    stream,
                    service,
                    place,
                };
                match share {
                    Share::Own => self.keep(given),
                    Share::LeastLoaded => self.give(given),
                }
            }
        }
    }

    /// Gives an admitted connection its seat among those served.
    pub(super) fn seat(&mut self, given: Given<K::Stream>) {
        let Given {
            stream,
            service,
            place,
        } = given;
        self.metrics.accepted.add(1);
        self.metrics.active.add(1);
        let key = self.conns.insert(Conn::new(stream, service));
        if place.is_counted() {
            if self.places.len() <= key {
                self.places.resize_with(key + 1, Place::default);
            }
            self.places[key] = place;
        }
        if self.watching {
            self.begin_watch(key);
        }
        self.serve_early(key, service);
        if let Err(error) = self.register(key) {
            warn!(worker = self.index, %error, "cannot watch a connection; closed it");
            self.close_now(key, CloseReason::Error);
        }
    }

    /// Serves a new connection before it is registered, if there will be something to serve: then the
    /// kernel has one thing less to report.
    fn serve_early(&mut self, key: usize, service: Service) {
        if service == Service::Chargen || !self.first_reads.is_worth_it() {
            return;
        }
        let before = self.metrics.received_bytes.value();
        self.serve_late(key, Readiness::READABLE);
        let has_received = self.metrics.received_bytes.value() != before;
        self.first_reads.note(has_received);
    }

    /// Begins to hold a connection to the terms.
    pub(super) fn begin_watch(&mut self, key: usize) {
        let now_ms = self.now_ms();
        if self.watches.len() <= key {
            self.watches.resize(key + 1, Watch::new(now_ms));
        }
        self.watches[key] = Watch::new(now_ms);
        self.look_after(key);
    }

    /// Closes a connection that may not be served, so that its peer reads an end and not a reset.
    fn refuse(&mut self, mut stream: K::Stream, reason: RefuseReason) {
        self.metrics.refused(reason).add(1);
        if self.refused_lingering >= MAX_REFUSED_LINGERING {
            // The peer is gone already if one of these fails. What it has sent is taken out first,
            // so that closing does not reset the connection.
            let _ = stream.shutdown_write();
            let _ = stream.discard(&mut self.buffer);
            return;
        }
        let key = self.conns.insert(Conn::new(stream, Service::Discard));
        self.refused_lingering += 1;
        if self.register(key).is_ok() {
            self.linger(key, CloseReason::Refused);
        } else {
            self.close_now(key, CloseReason::Refused);
        }
    }

    /// Registers a connection, once and for all, for everything.
    fn register(&mut self, key: usize) -> io::Result<()> {
        match self.conns.get_mut(key).filter(|conn| !conn.is_closed()) {
            Some(conn) => self.kernel.watch(conn.stream_mut(), key),
            None => Ok(()),
        }
    }

    fn close_now(&mut self, key: usize, reason: CloseReason) {
        if let Some(conn) = self.conns.get_mut(key) {
            conn.close(&self.metrics);
            self.closed.push((key, reason));
        }
    }

    /// Gives back the place of a connection that is no longer served.
    pub(super) fn leave(&self, place: Place) {
        self.control.admission.leave(place);
        if self.spread.is_some() {
            self.control.remove_load(self.index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_read_early_as_long_as_that_brings_something() {
        let mut first_reads = FirstReads::default();
        for _ in 0..100 {
            assert!(first_reads.is_worth_it());
            first_reads.note(true);
        }
        let mut tried = 0;
        for _ in 0..10 * u32::from(TRY_ONE_OF) {
            if first_reads.is_worth_it() {
                tried += 1;
                first_reads.note(false);
            }
        }
        assert_eq!(tried, 10);
    }
}
