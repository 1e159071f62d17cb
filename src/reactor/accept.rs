//! Taking new connections in: batches, limits, and what to do when the system has nothing to give.

use std::io;
use std::net::{IpAddr, Shutdown};

use mio::Interest;
use mio::net::{TcpListener, TcpStream};
use tracing::warn;

use super::Reactor;
use super::token::{Deadline, Source};
use crate::conn::Conn;
use crate::metrics::{CloseReason, RefuseReason};
use crate::net::{sys, tuning};

/// Connections taken from one listener in a turn, so that a storm of connects can't keep the open
/// connections waiting.
const ACCEPT_BATCH: usize = 64;
/// How long accepting pauses when descriptors or memory ran out.
const RETRY_MS: u64 = 50;
/// Refused connections of a worker that may wait for their peer's end at a time; more are closed
/// at once. They hold a descriptor each.
const MAX_REFUSED_LINGERING: usize = 256;

/// A listening socket of this worker.
#[derive(Debug)]
pub(super) struct Listener {
    /// `None` once it was closed for a drain.
    socket: Option<TcpListener>,
    /// Whether there may be more to accept: set by an event, cleared by EAGAIN alone.
    more: bool,
    /// Whether to close it as soon as there is no more to accept.
    closing: bool,
}

impl Listener {
    pub(super) fn new(socket: TcpListener) -> Self {
        Self {
            socket: Some(socket),
            // Connections may have arrived before the listener was registered.
            more: true,
            closing: false,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Asks for connections again. A closed listener has none: asking it for ever would keep the
    /// loop awake.
    pub(super) fn look_again(&mut self) {
        self.more = self.is_open();
    }

    /// Lets handshakes that the kernel answered complete, and no new ones begin.
    pub(super) fn ignore_new_connections(&mut self) {
        if let Some(socket) = &self.socket
            && let Err(error) = tuning::ignore_new_connections(socket)
        {
            warn!(%error, "connects that arrive while the listener closes may be reset");
        }
        self.look_again();
    }

    /// Closes the listener once everything that the kernel completed is accepted.
    pub(super) fn close_when_empty(&mut self) {
        self.closing = true;
        self.look_again();
    }

    pub(super) fn close(&mut self) {
        self.socket = None;
        self.more = false;
    }
}

impl Reactor {
    /// Whether the next turn has connections to accept without waiting for an event.
    pub(super) fn has_more_to_accept(&self) -> bool {
        !self.accept_paused && self.listeners.iter().any(|listener| listener.more)
    }

    /// Accepts a batch from each listener that may have connections.
    pub(super) fn accept(&mut self) {
        for index in 0..self.listeners.len() {
            if self.accept_paused {
                return;
            }
            if self.listeners[index].more {
                self.accept_batch(index);
            }
        }
    }

    fn accept_batch(&mut self, index: usize) {
        for _ in 0..ACCEPT_BATCH {
            let listener = &mut self.listeners[index];
            let Some(socket) = &listener.socket else {
                return;
            };
            match socket.accept() {
                Ok((stream, peer)) => self.admit(stream, peer.ip()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    listener.more = false;
                    if listener.closing {
                        listener.close();
                    }
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if sys::is_error_of_one_connection(&error) => {
                    self.metrics.accept_errors_skipped.add(1);
                }
                Err(error) => {
                    self.pause_accepting(&error);
                    return;
                }
            }
        }
    }

    /// Stops asking for connections for a while: the next call would fail the same way, and the
    /// edge that announced them does not come again.
    fn pause_accepting(&mut self, error: &io::Error) {
        self.metrics.accept_errors_paused.add(1);
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

    fn admit(&mut self, stream: TcpStream, peer: IpAddr) {
        if self.accept_troubled {
            self.accept_troubled = false;
            warn!(worker = self.index, "accepting again");
        }
        let admission = &self.control.admission;
        let place = match admission.enter(&self.policy, Some(peer), || self.clock.now_ns()) {
            Ok(place) => place,
            Err(reason) => {
                self.refuse(stream, reason);
                return;
            }
        };
        self.metrics.accepted.add(1);
        match self.insert(stream) {
            Ok(key) => {
                self.places[key] = Some(place);
                self.metrics.active.add(1);
                if let Some(idle_ms) = self.idle_ms {
                    self.arm(Deadline::Conn(key), idle_ms);
                }
            }
            Err(error) => {
                warn!(worker = self.index, %error, "cannot watch a connection; closed it");
                self.control.admission.leave(place);
                self.metrics.closed(CloseReason::Error).add(1);
            }
        }
    }

    /// Closes a connection that may not be served, so that its peer reads an end and not a reset.
    fn refuse(&mut self, stream: TcpStream, reason: RefuseReason) {
        self.metrics.refused(reason).add(1);
        if self.refused_lingering >= MAX_REFUSED_LINGERING {
            // The peer is gone already if this fails.
            let _ = stream.shutdown(Shutdown::Write);
            return;
        }
        if let Ok(key) = self.insert(stream) {
            self.refused_lingering += 1;
            self.linger(key, CloseReason::Refused);
        }
    }

    /// Gives a connection its place and registers it, once and for all, for everything.
    fn insert(&mut self, mut stream: TcpStream) -> io::Result<usize> {
        let now = match self.idle_ms {
            Some(_) => self.clock.now_ms(),
            None => 0,
        };
        let entry = self.conns.vacant_entry();
        let key = entry.key();
        self.poll.registry().register(
            &mut stream,
            Source::Conn(key).token(),
            Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY,
        )?;
        entry.insert(Conn::new(stream, now));
        if key == self.places.len() {
            self.places.push(None);
        }
        Ok(key)
    }
}
