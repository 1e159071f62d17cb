//! The table of a worker's connections, with their run queue, timeouts, permits and removal.
//!
//! Invariants:
//! - A connection keeps its key until [`Connections::remove_closed`], so that no stale event
//!   reaches another connection.
//! - A connection that yields waits behind all connections with events.
//! - A connection that we end lingers for a second at most, half-closed or about to be reset.
//! - What a plain connection needs is in its entry; what TLS and limits need is in a block of its own,
//!   and a plain connection without limits comes across none of their code.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use slab::Slab;
use tracing::debug;

use super::context::Context;
use super::kernel::Kernel;
use super::pumping::Pumping;
use super::secured::{Lent, Secured, secure};
use super::token::Deadline;
use crate::admission::Permit;
use crate::conn::faulty::Faulty;
use crate::conn::header::Left;
use crate::conn::scratch::Scratch;
use crate::conn::{Conn, Next};
use crate::memory::Budget;
use crate::memory::allocation::{OutOfMemory, try_box, try_reserve, try_reserve_queue};
use crate::metrics::CloseReason;
use crate::net::readiness::Readiness;
use crate::net::stream::Stream;
use crate::service::Service;
use crate::timeouts::Activity;

mod faulty;
mod greeting;
#[cfg(test)]
mod inspection;
mod introduction;
mod opening;
mod timeouts;
mod tls;

/// How long a half-closed connection waits for its peer's end, and one that is going to be reset
/// for its peer to take what was echoed.
pub(super) const MAX_LINGER_MS: u64 = 1000;
/// Refused connections of a worker that linger at a time; further ones are closed at once. Each
/// holds a descriptor.
pub(crate) const MAX_REFUSED_LINGERING: usize = 256;

/// An admitted connection, ready to be served.
#[derive(Debug)]
pub(crate) struct Admitted<S> {
    pub(super) stream: S,
    /// The index of its endpoint in the server.
    pub(super) endpoint: usize,
    pub(super) service: Service,
    pub(super) security: Security,
    pub(super) permit: Permit,
    /// The client's address, for the log.
    pub(super) peer: Option<IpAddr>,
    pub(super) introduction: Introduction,
    /// `None` unless its endpoint has faults.
    pub(super) faults: Option<Faulty>,
}

/// How a server learns whom a connection is of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Introduction {
    /// By the address of the socket.
    None,
    /// By a PROXY header, if it begins with one.
    MayCome,
    /// By a PROXY header.
    MustCome,
}

/// A connection that is served once it is known whom it is of.
#[derive(Clone, Copy, Debug)]
struct Unidentified {
    service: Service,
    sender: Option<IpAddr>,
    introduction: Introduction,
    since_ms: u64,
    /// Of the header that was found, what is still in the stream.
    header: Left,
}

/// What protects the connections of an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Security {
    None,
    Tls,
}

/// A worker's connections, by their slab keys.
#[derive(Debug)]
pub(super) struct Connections<S: Stream> {
    table: Slab<Entry<S>>,
    /// The buffer and pipe that connections use in turn.
    scratch: Scratch<S::Pipe>,
    /// What connections with TLS use in turn.
    lent: Lent,
    /// Connections that yielded; some may be closed before their turn.
    run_queue: VecDeque<usize>,
    /// Connections for which the kernel had no memory; some may be closed before their turn.
    short_of_memory: Vec<usize>,
    /// Connections closed in this turn, to be removed after the batch.
    closed: Vec<(usize, CloseReason)>,
    refused_lingering: usize,
}

/// The table's entry of one connection.
#[derive(Debug)]
struct Entry<S> {
    conn: Conn<S>,
    /// `None` unless TLS, a limit or a fault needs it, so that an idle connection costs little.
    limited: Option<Box<[Limited; 1]>>,
}

// Most connections are idle and cost this size; in debug builds mio's types are larger.
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Entry<crate::net::stream::Socket>>() <= 32);

/// The state of one connection that TLS, limits and faults need.
#[derive(Debug, Default)]
struct Limited {
    tls: Option<Box<[Secured; 1]>>,
    /// For the timeouts; `None` while there are none.
    activity: Option<Activity>,
    /// For the limit per address.
    permit: Permit,
    /// `None` once it is known whom the connection is of.
    unidentified: Option<Unidentified>,
    /// `None` unless its endpoint had faults when it was accepted.
    faults: Option<Box<[Faulty; 1]>>,
}

impl<S: Stream> Connections<S> {
    /// An empty table with this memory for backlogs, a read buffer of `buffer_len` bytes, and a run
    /// queue with room for `batch` connections, so that the first yields allocate nothing.
    pub(super) fn new(memory: &Arc<Budget>, buffer_len: usize, batch: usize) -> Self {
        Self {
            table: Slab::new(),
            scratch: Scratch::within(Arc::clone(memory), buffer_len),
            lent: Lent::new(memory),
            run_queue: VecDeque::with_capacity(batch),
            short_of_memory: Vec::new(),
            closed: Vec::new(),
            refused_lingering: 0,
        }
    }

    /// Gets the memory for connections with TLS.
    pub(super) fn prepare_tls(&mut self) {
        self.lent.reserve();
    }

    /// Sends a request for each time that much memory of backlogs was freed.
    pub(super) fn ask_to_return_freed(&mut self, requests: SyncSender<()>) {
        self.scratch.memory().ask_to_return_freed(requests);
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether a connection waits for its next turn.
    pub(super) fn has_yielded(&self) -> bool {
        !self.run_queue.is_empty()
    }

    /// The keys of all connections, and perhaps others.
    pub(super) fn keys(&self) -> Range<usize> {
        0..self.table.capacity()
    }

    /// Whether a key is that of a connection that is neither closed nor lingering.
    pub(super) fn is_served(&mut self, key: usize) -> bool {
        let entry = self.table.get_mut(key);
        entry.is_some_and(|it| it.is_served())
    }

    /// The number of connections that are neither closed nor lingering.
    pub(super) fn count_served(&mut self) -> usize {
        self.keys().filter(|&key| self.is_served(key)).count()
    }

    /// Adds the kernel's report to a connection and pumps it.
    #[inline(always)]
    pub(super) fn serve<K>(&mut self, key: usize, readiness: Readiness, cx: &mut Context<K>)
    where
        K: Kernel<Stream = S>,
    {
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        entry.conn.note(readiness);
        if entry.limited.is_some() {
            self.serve_limited(key, readiness, cx);
            return;
        }
        let next = entry.conn.pump(&mut self.scratch, &cx.metrics);
        if !matches!(next, Next::Wait) {
            self.follow(key, next, cx);
        }
    }

    /// As [`Connections::serve`], not inlined, for rare callers.
    #[inline(never)]
    pub(super) fn serve_late<K>(&mut self, key: usize, readiness: Readiness, cx: &mut Context<K>)
    where
        K: Kernel<Stream = S>,
    {
        self.serve(key, readiness, cx);
    }

    /// Serves a connection that may have TLS, faults, or timeouts, which count its moved bytes: the worker's
    /// counters before and after the call differ by them.
    #[inline(never)]
    fn serve_limited<K>(&mut self, key: usize, readiness: Readiness, cx: &mut Context<K>)
    where
        K: Kernel<Stream = S>,
    {
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        let before = cx.metrics.moved_bytes();
        let next = match entry.secured() {
            None => {
                let (conn, faulty) = entry.parts();
                let mut pumping = Pumping::new(faulty.as_deref(), cx);
                pumping.pump(conn, faulty, &mut self.scratch)
            }
            Some(_) => self.pump_secured(key, readiness, cx),
        };
        let moved = cx.metrics.moved_bytes().wrapping_sub(before);
        if moved > 0
            && let Some(entry) = self.table.get_mut(key)
        {
            entry.note_moved(key, moved, cx);
        }
        self.follow(key, next, cx);
        self.obey_faults(key, cx);
    }

    /// Handles the result of `pump`; in steady state there is nothing to do.
    #[cold]
    fn follow<K>(&mut self, key: usize, next: Next, cx: &mut Context<K>)
    where
        K: Kernel<Stream = S>,
    {
        let Some(Entry { conn, .. }) = self.table.get_mut(key) else {
            return;
        };
        match next {
            Next::Wait => {}
            Next::Yield => {
                if conn.enqueue() {
                    self.queue(key);
                }
            }
            Next::Retry => {
                if conn.enqueue() {
                    cx.retry_soon();
                    let total = self.short_of_memory.len() + 1;
                    match try_reserve(&mut self.short_of_memory, total) {
                        Ok(()) => self.short_of_memory.push(key),
                        Err(OutOfMemory) => self.close(key, CloseReason::Memory),
                    }
                }
            }
            Next::Header => self.look_for_header(key, cx),
            Next::Close(reason) => self.closed.push((key, reason)),
        }
    }

    /// Gives every connection that yielded before this call one more turn.
    pub(super) fn resume_yielded<K>(&mut self, cx: &mut Context<K>)
    where
        K: Kernel<Stream = S>,
    {
        for _ in 0..self.run_queue.len() {
            let Some(key) = self.run_queue.pop_front() else {
                return;
            };
            // The key may belong to another connection by now: only a queued connection carries the
            // mark.
            let entry = self.table.get_mut(key);
            if entry.is_some_and(|it| it.conn.dequeue()) {
                self.serve_late(key, Readiness::NONE, cx);
            }
        }
    }

    /// Queues the connections for which there was no memory.
    pub(super) fn retry_short_of_memory(&mut self) {
        while let Some(key) = self.short_of_memory.pop() {
            self.queue(key);
        }
    }

    /// Appends a marked connection to the run queue.
    fn queue(&mut self, key: usize) {
        let total = self.run_queue.len() + 1;
        match try_reserve_queue(&mut self.run_queue, total) {
            Ok(()) => self.run_queue.push_back(key),
            Err(OutOfMemory) => self.close(key, CloseReason::Memory),
        }
    }

    /// Closes a connection at once, unless it is closed.
    fn close(&mut self, key: usize, reason: CloseReason) {
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        let is_cut_off = entry.holds_back();
        let conn = &mut entry.conn;
        if !conn.is_closed() {
            let reason = conn.lingering().unwrap_or(reason);
            if is_cut_off {
                conn.cut_off(reason);
            }
            conn.close();
            // Every connection has its room here.
            self.closed.push((key, reason));
        }
    }

    /// Ends a connection by our own decision, and bounds its lingering.
    pub(super) fn linger<K>(&mut self, key: usize, reason: CloseReason, cx: &mut Context<K>)
    where
        K: Kernel<Stream = S>,
    {
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        if entry.conn.is_closed() {
            return;
        }
        let next = self.linger_over(key, reason, cx);
        cx.arm(Deadline::Conn(key), MAX_LINGER_MS);
        self.follow(key, next, cx);
    }

    /// Removes the connections that were closed in this turn. Dropping a stream closes its
    /// descriptor, which also removes it from the epoll instance.
    pub(super) fn remove_closed<K: Kernel>(&mut self, cx: &mut Context<K>) {
        while let Some((key, reason)) = self.closed.pop() {
            let Some(mut entry) = self.table.try_remove(key) else {
                continue;
            };
            entry.conn.drop_backlog(self.scratch.memory(), &cx.metrics);
            if let Some((_, secured, _)) = entry.secured() {
                self.lent.release(secured);
            }
            if let Some(faulty) = entry.faulty() {
                faulty.clear(&cx.control.backlog_memory, &cx.metrics);
                cx.set_alarm_of_conn(key, None);
            }
            cx.timers.cancel(Deadline::Conn(key).id());
            if reason == CloseReason::Refused {
                self.refused_lingering -= 1;
            } else {
                cx.metrics.active.sub(1);
                let reason_name = reason.name();
                debug!(
                    worker = cx.index,
                    connection = key,
                    reason = reason_name,
                    "connection closed"
                );
                cx.metrics.closed(reason).add(1);
                let permit = entry.limited.map_or_else(Permit::default, |it| {
                    let [limited] = *it;
                    limited.permit
                });
                cx.control.admission.release(permit);
            }
        }
    }

    /// Closes every connection at once.
    pub(super) fn close_all<K: Kernel>(&mut self, reason: CloseReason, cx: &mut Context<K>) {
        debug!(worker = cx.index, left = self.len(), "stopped");
        for key in self.keys() {
            self.close(key, reason);
        }
        self.remove_closed(cx);
    }
}

impl Limited {
    /// That of a new connection with TLS.
    fn secured<K: Kernel>(
        service: Service,
        faults: Option<&Faulty>,
        cx: &mut Context<K>,
    ) -> io::Result<Self> {
        let secured = secure(service, faults, cx)?;
        Ok(Self {
            tls: Some(try_box(secured)?),
            ..Self::default()
        })
    }
}

impl<S: Stream> Entry<S> {
    /// The connection and its TLS, if it has that, and its faults.
    fn secured(&mut self) -> Option<(&mut Conn<S>, &mut Secured, Option<&mut Faulty>)> {
        if self.conn.is_awaiting_header() {
            // A PROXY header comes before the handshake.
            return None;
        }
        let [limited] = &mut **self.limited.as_mut()?;
        let [secured] = &mut **limited.tls.as_mut()?;
        let faulty = limited.faults.as_deref_mut().map(|[it]| it);
        Some((&mut self.conn, secured, faulty))
    }

    /// The connection and its faults. They begin behind a PROXY header.
    fn parts(&mut self) -> (&mut Conn<S>, Option<&mut Faulty>) {
        let begins = !self.conn.is_awaiting_header();
        let limited = self.limited.as_deref_mut().filter(|_| begins);
        let faulty = limited.and_then(|[it]| it.faults.as_deref_mut());
        (&mut self.conn, faulty.map(|[it]| it))
    }

    fn activity(&mut self) -> Option<&mut Activity> {
        self.limited.as_mut().and_then(|it| it[0].activity.as_mut())
    }

    /// Whether it is neither closed nor lingering.
    fn is_served(&self) -> bool {
        !self.conn.is_closed() && self.conn.lingering().is_none()
    }

    /// Records moved bytes. Activity does not re-arm the timer, which would cost every echo; only a
    /// new stall window may need an earlier deadline.
    fn note_moved<K: Kernel>(&mut self, key: usize, moved: u64, cx: &mut Context<K>) {
        let Some(activity) = self.activity() else {
            return;
        };
        let now_ms = cx.now_ms();
        let opened = activity.note(moved, &cx.rules.timeouts, now_ms);
        let is_served = self.is_served();
        let id = Deadline::Conn(key).id();
        if let Some(deadline) = opened.filter(|_| is_served)
            && cx.timers.deadline(id).is_none_or(|armed| deadline < armed)
        {
            cx.timers.arm(id, deadline);
        }
    }
}
