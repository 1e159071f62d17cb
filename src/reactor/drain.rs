//! The steps of a drain:
//!
//! 1. Sockets that a successor took over are released at once.
//! 2. After the drain delay, new handshakes are refused.
//! 3. After a pause for handshakes under way, each listener is emptied and closed.
//! 4. After the drain timeout the remaining connections are closed, but not before the listeners:
//!    connections that the kernel had completed are served first, even with a short timeout.

use std::time::Duration;

use tracing::info;

use super::acceptor::Acceptor;
use super::connections::Connections;
use super::context::Context;
use super::hand_off::HandOff;
use super::kernel::Kernel;
use super::token::Deadline;
use crate::metrics::CloseReason;
use crate::net::readiness::Readiness;
use crate::timeouts::whole_ms;

/// How long a closing listener waits for handshakes under way.
const HANDSHAKE_MS: u64 = 200;
/// The interval at which the end of a drain checks for listeners that are not empty yet and for
/// workers that may still hand over connections.
const GRACE_MS: u64 = 10;

/// The state of a worker's drain.
#[derive(Debug)]
pub(super) struct Drain {
    phase: Phase,
    delay_ms: u64,
    timeout_ms: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Serving,
    Draining,
    Stopping,
}

impl Drain {
    pub(super) fn new(delay: Duration, timeout: Duration) -> Self {
        Self {
            phase: Phase::Serving,
            delay_ms: whole_ms(delay),
            timeout_ms: whole_ms(timeout),
        }
    }

    /// Begins the drain. Returns whether this was the first call.
    pub(super) fn begin<K: Kernel>(&mut self, cx: &mut Context<K>) -> bool {
        if self.phase != Phase::Serving {
            return false;
        }
        self.phase = Phase::Draining;
        // With a successor, load balancers notice nothing, so no delay is needed.
        let delay_ms = if cx.control.has_successor() {
            0
        } else {
            self.delay_ms
        };
        cx.arm(Deadline::StopAccepting, delay_ms);
        cx.arm(Deadline::EndDrain, delay_ms.saturating_add(self.timeout_ms));
        true
    }

    /// Ends the worker at once.
    pub(super) fn stop(&mut self) {
        self.phase = Phase::Stopping;
    }

    /// Whether the loop can end.
    pub(super) fn is_finished<K: Kernel>(
        &self,
        acceptor: &Acceptor,
        connections: &Connections<K::Stream>,
        hand_off: Option<&HandOff<K::Stream>>,
        cx: &Context<K>,
    ) -> bool {
        match self.phase {
            Phase::Serving => false,
            Phase::Draining => {
                connections.is_empty()
                    && !hand_off.is_some_and(|it| it.has_senders() || it.has_to_wake())
                    && !acceptor.has_open_listeners()
                    // A worker with only UDP sockets also serves for the drain delay.
                    && !cx.timers.is_armed(Deadline::StopAccepting.id())
            }
            Phase::Stopping => true,
        }
    }
}

/// Handles the end of the drain delay.
pub(super) fn stop_accepting<K: Kernel>(
    acceptor: &mut Acceptor,
    connections: &Connections<K::Stream>,
    cx: &mut Context<K>,
) {
    let connections = connections.len();
    info!(worker = cx.index, connections, "draining");
    acceptor.refuse_new(cx);
    cx.arm(Deadline::CloseListeners, HANDSHAKE_MS);
}

/// Handles the end of the drain timeout.
pub(super) fn end<K: Kernel>(
    acceptor: &mut Acceptor,
    connections: &mut Connections<K::Stream>,
    mut hand_off: Option<&mut HandOff<K::Stream>>,
    cx: &mut Context<K>,
) {
    if acceptor.has_open_listeners() && acceptor.is_paused() {
        // Descriptors or memory may be free again: a last try to accept waiting connections.
        acceptor.resume();
        acceptor.close_when_empty();
        acceptor.accept(connections, hand_off.as_deref_mut(), cx);
    }
    if acceptor.has_open_listeners() && !acceptor.is_paused() {
        cx.arm(Deadline::EndDrain, GRACE_MS);
        return;
    }
    acceptor.close_all(cx);
    close_rest(connections, cx);
    // Another worker may still hand connections over.
    if hand_off.is_some_and(|it| it.has_senders()) {
        cx.arm(Deadline::EndDrain, GRACE_MS);
    }
}

fn close_rest<K: Kernel>(connections: &mut Connections<K::Stream>, cx: &mut Context<K>) {
    let open = connections.served();
    if !open.is_empty() {
        let connections = open.len();
        info!(
            worker = cx.index,
            connections, "the drain timeout is over, closing the remaining connections"
        );
    }
    for key in open {
        // The connection may be new in this turn, with an event that did not fit into the batch:
        // its input is served first.
        connections.serve_late(key, Readiness::READABLE, cx);
        connections.linger(key, CloseReason::DrainTimeout, cx);
    }
}
