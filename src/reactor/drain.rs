//! Doing what is asked from outside, and leaving: the drain, the hand-over to a successor, the stop.

use tracing::{debug, info, warn};

use super::acceptor::{Share, State};
use super::control::Request;
use super::token::Deadline;
use super::{Kernel, Phase, Reactor};
use crate::metrics::CloseReason;
use crate::net::readiness::Readiness;
use crate::timeouts::whole_ms;

/// How long handshakes under way may take to complete when a listener is to close.
const HANDSHAKE_MS: u64 = 200;
/// How long the end of a drain waits, again and again, for listeners that are not empty yet: what
/// the kernel had completed is served first, however short the drain timeout.
const LISTENER_GRACE_MS: u64 = 10;

impl<K: Kernel> Reactor<K> {
    /// Does what was asked from outside since the last turn.
    pub(super) fn apply_requests(&mut self) {
        if !std::mem::replace(&mut self.woken, false) {
            return;
        }
        self.take_from_inbox();
        match (self.control.requested(), self.phase) {
            (Request::Stop, _) => self.phase = Phase::Stopping,
            (Request::Drain, Phase::Serving) => self.begin_drain(),
            (Request::Drain | Request::Serve, _) => {}
        }
    }

    /// Puts changed rules into force, for the open connections too. This comes before accepting: who
    /// connects after the change is admitted by the new rules.
    pub(super) fn apply_new_rules(&mut self) {
        if !self.woken {
            return;
        }
        let version = self.control.rules_version();
        if version == self.rules_version {
            return;
        }
        self.rules_version = version;
        self.rules = self.control.rules();
        let watched_before = self.watching;
        self.watching = !self.rules.terms.is_empty();
        if !self.watching && !watched_before {
            return;
        }
        let keys: Vec<_> = self.served().collect();
        for key in keys {
            if !self.watching {
                self.timers.cancel(Deadline::Conn(key).id());
            } else if watched_before {
                self.look_after(key);
            } else {
                // Nothing is known of its past, so its terms begin now.
                self.begin_watch(key);
            }
        }
    }

    fn begin_drain(&mut self) {
        self.phase = Phase::Draining;
        for index in 0..self.listeners.len() {
            if self.control.is_left(self.listeners[index].endpoint) {
                self.release_listener(index);
            }
        }
        self.release_datagrams();
        // With a successor no load balancer has to be waited for.
        let delay = if self.control.has_successor() {
            0
        } else {
            whole_ms(self.drain_delay)
        };
        self.arm(Deadline::StopAccepting, delay);
        let timeout = whole_ms(self.drain_timeout);
        self.arm(Deadline::EndDrain, delay.saturating_add(timeout));
    }

    pub(super) fn is_finished(&self) -> bool {
        match self.phase {
            Phase::Serving => false,
            Phase::Draining => {
                self.conns.is_empty()
                    && !self.has_senders
                    && !self.has_open_listeners()
                    // A worker with UDP sockets alone goes on for the drain delay too.
                    && !self.timers.is_armed(Deadline::StopAccepting.id())
            }
            Phase::Stopping => true,
        }
    }

    fn has_open_listeners(&self) -> bool {
        self.listeners.iter().any(|listener| listener.is_open())
    }

    pub(super) fn stop_accepting(&mut self) {
        info!(
            worker = self.index,
            connections = self.conns.len(),
            "draining"
        );
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if let Err(error) = self.kernel.refuse_new(index) {
                warn!(%error, "connects that arrive while the listener closes may be reset");
            }
            listener.look_again();
        }
        self.arm(Deadline::CloseListeners, HANDSHAKE_MS);
    }

    /// Closes every listener once everything that the kernel completed is accepted.
    pub(super) fn close_listeners(&mut self) {
        for listener in &mut self.listeners {
            if listener.state == State::Open {
                listener.state = State::Closing(listener.most_queued);
                listener.look_again();
            }
        }
    }

    pub(super) fn close_listener(&mut self, index: usize) {
        if self.control.is_left(self.listeners[index].endpoint) {
            self.release_listener(index);
        } else if self.forget_listener(index) {
            self.kernel.close(index);
        }
    }

    fn release_listener(&mut self, index: usize) {
        if self.forget_listener(index) {
            self.kernel.release(index);
        }
    }

    /// Marks a listener as closed and says whether it was open.
    fn forget_listener(&mut self, index: usize) -> bool {
        let listener = &mut self.listeners[index];
        listener.more = false;
        if std::mem::replace(&mut listener.state, State::Closed) == State::Closed {
            return false;
        }
        if listener.share == Share::LeastLoaded {
            self.end_sending();
        }
        true
    }

    /// The drain timeout is over: whatever is left is closed.
    pub(super) fn end_drain(&mut self) {
        if self.has_open_listeners() && self.accept_paused {
            // Descriptors or memory may be free again: the last chance to take what waits.
            self.accept_paused = false;
            self.close_listeners();
            self.accept();
        }
        if self.has_open_listeners() && !self.accept_paused {
            self.arm(Deadline::EndDrain, LISTENER_GRACE_MS);
            return;
        }
        for index in 0..self.listeners.len() {
            self.close_listener(index);
        }
        let open: Vec<_> = self.served().collect();
        if !open.is_empty() {
            info!(
                worker = self.index,
                connections = open.len(),
                "the drain timeout is over, closing what is left"
            );
        }
        for key in open {
            self.serve_once_more(key);
            self.linger(key, CloseReason::DrainTimeout);
        }
        // Another worker may still give: what it gives is late too.
        if self.has_senders {
            self.arm(Deadline::EndDrain, LISTENER_GRACE_MS);
        }
    }

    /// Serves what has come: the connection may be here since this turn, and many more with it than
    /// the kernel reports at once.
    fn serve_once_more(&mut self, key: usize) {
        self.serve_late(key, Readiness::READABLE);
    }

    /// The keys of the connections that are neither closed nor on their way out.
    fn served(&self) -> impl Iterator<Item = usize> {
        self.conns
            .iter()
            .filter(|(_, conn)| !conn.is_closed() && conn.lingering().is_none())
            .map(|(key, _)| key)
    }

    pub(super) fn close_all(&mut self, reason: CloseReason) {
        debug!(worker = self.index, left = self.conns.len(), "stopped");
        for index in 0..self.listeners.len() {
            self.close_listener(index);
        }
        for (key, conn) in &mut self.conns {
            let reason = conn.lingering().unwrap_or(reason);
            if !conn.is_closed() {
                conn.close(&self.metrics);
                self.closed.push((key, reason));
            }
        }
        self.remove_closed();
    }
}
