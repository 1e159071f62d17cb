//! The steps of a drain:
//!
//! 1. Sockets that another server keeps are released as soon as that is certain.
//! 2. After the drain delay, new handshakes are refused.
//! 3. After a pause for handshakes under way, each listener is emptied and closed.
//!
//!    While it is undecided whether another server keeps the sockets, the drain waits here: shutting
//!    them down would cut that server off, and closing them could lose the connections in them.
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
/// The interval at which a drain checks for the owner of the sockets, and its end for listeners that
/// are not empty yet and for workers that may still hand over connections.
const GRACE_MS: u64 = 10;

/// The state of a worker's drain.
#[derive(Debug)]
pub(super) struct Drain {
    phase: Phase,
    delay_ms: u64,
    timeout_ms: u64,
}

/// Whether a drain skips its delay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Haste {
    None,
    /// There is another server for the same addresses: load balancers need not notice the end of
    /// this one.
    Successor,
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

    /// Begins the drain, or hurries one that has begun.
    pub(super) fn begin<K: Kernel>(&mut self, haste: Haste, cx: &mut Context<K>) {
        let is_new = self.phase == Phase::Serving;
        let delay_ms = match haste {
            Haste::None => self.delay_ms,
            Haste::Successor => 0,
        };
        if is_new {
            self.phase = Phase::Draining;
            cx.arm(Deadline::EndDrain, delay_ms.saturating_add(self.timeout_ms));
        }
        let is_waiting = cx.timers.is_armed(Deadline::StopAccepting.id());
        if is_new || is_waiting && haste == Haste::Successor {
            cx.arm(Deadline::StopAccepting, delay_ms);
        }
    }

    /// Whether the worker ends by itself, and not at once.
    pub(super) fn waits(&self) -> bool {
        self.phase == Phase::Draining
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
    if cx.control.is_undecided() {
        cx.arm(Deadline::StopAccepting, GRACE_MS);
        return;
    }
    acceptor.release_left(cx);
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
    if cx.control.is_undecided() {
        cx.arm(Deadline::EndDrain, GRACE_MS);
        return;
    }
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
    let open = connections.count_served();
    if open > 0 {
        let connections = open;
        info!(
            worker = cx.index,
            connections, "the drain timeout is over, closing the remaining connections"
        );
    }
    for key in connections.keys() {
        if !connections.is_served(key) {
            continue;
        }
        // The connection may be new in this turn, with an event that did not fit into the batch:
        // its input is served first.
        connections.serve_late(key, Readiness::READABLE, cx);
        connections.linger(key, CloseReason::DrainTimeout, cx);
    }
}
