//! Connections with TLS: the same [`Conn`](crate::conn::Conn), over the stream that its socket and its
//! session make together.

use tracing::debug;

use super::greeting::greet_secured;
use super::{Connections, Entry, MAX_LINGER_MS};
use crate::conn::faulty::Faulty;
use crate::conn::scratch::Scratch;
use crate::conn::{Conn, Next};
use crate::metrics::{CloseReason, HandshakeError};
use crate::net::readiness::Readiness;
use crate::net::stream::Stream;
use crate::reactor::context::Context;
use crate::reactor::kernel::Kernel;
use crate::reactor::pumping::Pumping;
use crate::reactor::secured::{Lent, Secured, count_handshake};
use crate::reactor::token::Deadline;
use crate::tls::Failure;

impl<S: Stream> Connections<S> {
    /// Adds the kernel's report to a connection with TLS, and pumps it.
    pub(super) fn pump_secured<K>(
        &mut self,
        key: usize,
        readiness: Readiness,
        cx: &mut Context<K>,
    ) -> Next
    where
        K: Kernel<Stream = S>,
    {
        let Some((conn, secured, faulty)) = self.table.get_mut(key).and_then(Entry::secured) else {
            return Next::Wait;
        };
        secured.session.note(readiness);
        if readiness != Readiness::NONE || secured.session.owes_output() {
            // Any event may let either direction go on.
            conn.note(Readiness::READABLE | Readiness::WRITABLE);
        }
        let was_served = conn.lingering().is_none();
        let was_handshaking = was_served && secured.session.is_handshaking();
        let turn = cx.metrics.loop_iterations.value();
        if !self.lent.prepare() {
            // What waits for the peer can still go, and gives its memory back. An error shows again in
            // the next call.
            let _ = conn.over(
                |socket| secured.over(socket, &mut self.lent),
                |conn| conn.flush_stream(),
            );
            self.lent.settle(secured, turn);
            if !self.lent.prepare() {
                self.close_longest_stuck();
                return Next::Retry;
            }
        }
        let next = advance(
            (conn, faulty),
            secured,
            &mut self.lent,
            &mut self.scratch,
            cx,
        );
        self.lent.settle(secured, turn);
        let is_short = secured.held > 0 && !self.lent.prepare();
        if was_handshaking {
            count_handshake(&secured.session, next, &cx.metrics);
        }
        if is_short {
            self.close_longest_stuck();
        }
        match next {
            Next::Close(reason) if was_served => self.close_secured(key, reason, cx),
            next => next,
        }
    }

    /// Closes the connection whose records have waited the longest without a change, to have memory for
    /// the others.
    fn close_longest_stuck(&mut self) {
        let holding = self.table.iter().filter_map(|(key, entry)| {
            let secured = &entry.limited.as_ref()?[0].tls.as_ref()?[0];
            let is_open = secured.held > 0 && !entry.conn.is_closed();
            is_open.then_some((secured.changed_in_turn, key))
        });
        if let Some((_, key)) = holding.min() {
            self.close(key, CloseReason::Memory);
        }
    }

    /// What becomes of a connection with TLS that was closed for this reason.
    fn close_secured<K>(&mut self, key: usize, reason: CloseReason, cx: &mut Context<K>) -> Next
    where
        K: Kernel<Stream = S>,
    {
        let Some((conn, secured, _)) = self.table.get_mut(key).and_then(Entry::secured) else {
            return Next::Wait;
        };
        let Some(failure) = secured.session.failure() else {
            // By TLS 1.2 the end of the input is the end of the output, also for who would go on.
            let is_in_order = reason == CloseReason::Error && secured.session.has_ended();
            return Next::Close(if is_in_order {
                CloseReason::Finished
            } else {
                reason
            });
        };
        let reason = match (reason, failure) {
            (CloseReason::Error, _) if secured.session.is_handshaking() => CloseReason::Handshake,
            (CloseReason::Error, Failure::Truncated) => CloseReason::Truncated,
            (CloseReason::Error, _) => CloseReason::Tls,
            (reason, _) => reason,
        };
        debug!(worker = cx.index, connection = key, %failure, "TLS failed");
        if !matches!(failure, Failure::Tls(_))
            || !matches!(reason, CloseReason::Handshake | CloseReason::Tls)
        {
            return Next::Close(reason);
        }
        let next = conn.over(
            |socket| secured.over(socket, &mut self.lent),
            |conn| conn.linger_after_failure(reason),
        );
        cx.arm(Deadline::Conn(key), MAX_LINGER_MS);
        next
    }

    /// Ends a handshake that took too long.
    pub(super) fn end_handshake<K>(&mut self, key: usize, cx: &mut Context<K>)
    where
        K: Kernel<Stream = S>,
    {
        cx.metrics
            .tls_handshake_errors(HandshakeError::Timeout)
            .add(1);
        self.linger(key, CloseReason::Handshake, cx);
    }

    /// As [`Conn::linger`](crate::conn::Conn::linger), of a connection with or without TLS.
    pub(super) fn linger_over<K>(
        &mut self,
        key: usize,
        reason: CloseReason,
        cx: &Context<K>,
    ) -> Next
    where
        K: Kernel<Stream = S>,
    {
        let Some(entry) = self.table.get_mut(key) else {
            return Next::Wait;
        };
        if entry.conn.is_awaiting_header()
            && let Some([limited]) = entry.limited.as_deref_mut()
        {
            // There is no handshake to come.
            limited.tls = None;
        }
        if entry.holds_back() {
            // Answers that have not left are cut off, as input that was not echoed.
            if let Some(faulty) = entry.faulty() {
                faulty.clear(&cx.control.backlog_memory, &cx.metrics);
            }
            entry.conn.cut_off(reason);
            return Next::Wait;
        }
        let Some((conn, secured, _)) = entry.secured() else {
            return entry.conn.linger(reason, &mut self.scratch, &cx.metrics);
        };
        let next = conn.over(
            |socket| secured.over(socket, &mut self.lent),
            |conn| conn.linger(reason, &mut self.scratch, &cx.metrics),
        );
        self.lent
            .settle(secured, cx.metrics.loop_iterations.value());
        next
    }
}

/// Lets a connection go on: with its handshake, its greeting, its service.
fn advance<S, K>(
    (conn, faulty): (&mut Conn<S>, Option<&mut Faulty>),
    secured: &mut Secured,
    lent: &mut Lent,
    scratch: &mut Scratch<S::Pipe>,
    cx: &mut Context<K>,
) -> Next
where
    S: Stream,
    K: Kernel<Stream = S>,
{
    let next = match greet_secured(conn, secured, lent, scratch, cx) {
        Some(next) => next,
        None => {
            let mut pumping = Pumping::new(faulty.as_deref(), cx);
            conn.over(
                |socket| secured.over(socket, lent),
                |conn| pumping.pump(conn, faulty, scratch),
            )
        }
    };
    if matches!(next, Next::Close(_)) || !secured.session.owes_output() {
        return next;
    }
    // Nothing was written that could have taken it along; a failure shows again in the next call.
    let _ = conn.over(
        |socket| secured.over(socket, lent),
        |conn| conn.flush_stream(),
    );
    if next == Next::Wait && secured.session.owes_output() {
        // The socket had no memory for it, and no event reports when there is some.
        return Next::Retry;
    }
    next
}
