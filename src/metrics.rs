//! Counters of each worker, written by that worker alone and read by anyone.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CloseReason {
    /// The peer sent its last byte and everything was returned to it.
    Finished,
    /// The peer or the network reset the connection.
    Reset,
    /// A socket call failed in any other way.
    Error,
    /// No byte moved for the idle timeout.
    IdleTimeout,
    /// It was still open at the end of the drain timeout.
    DrainTimeout,
    /// The server was stopped at once.
    Stopped,
    /// It was refused when it was accepted. Counted as refused, not as closed.
    Refused,
}

impl CloseReason {
    /// Every reason that is counted, in the order of the counters.
    pub const ALL: [Self; 6] = [
        Self::Finished,
        Self::Reset,
        Self::Error,
        Self::IdleTimeout,
        Self::DrainTimeout,
        Self::Stopped,
    ];
}

/// Why a connection was refused: accepted and closed without service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RefuseReason {
    /// As many connections as allowed were open.
    MaxConnections,
}

/// A counter with one writer: adding is a load and a store, no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`; only the counter's one writer may call it.
    pub fn add(&self, count: u64) {
        let value = self.0.load(Ordering::Relaxed).wrapping_add(count);
        self.0.store(value, Ordering::Relaxed);
    }

    /// Takes `count` away again; only the counter's one writer may call it.
    pub fn sub(&self, count: u64) {
        self.add(count.wrapping_neg());
    }

    /// The value, perhaps a moment old.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one worker. Aligned so that two workers never write to one pair of cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerMetrics {
    /// Bytes read from connections.
    pub received_bytes: Counter,
    /// Bytes that sockets took.
    pub sent_bytes: Counter,
    /// Turns of the event loop.
    pub loop_iterations: Counter,
    /// Events that the kernel returned.
    pub loop_events: Counter,
    /// Turns in which the kernel returned as many events as fit: more were perhaps waiting.
    pub loop_full_batches: Counter,
    /// Writes of which the socket took only a part, or nothing.
    pub short_writes: Counter,
    /// Bytes read that wait for their peer to take them, now.
    pub backlog_bytes: Counter,
    /// Connections accepted and served.
    pub accepted: Counter,
    /// Connections open, now.
    pub active: Counter,
    /// Connections refused because the limit was reached.
    pub refused_max_connections: Counter,
    /// Failures of accept(2) that were skipped: the connection died before it was taken.
    pub accept_errors_skipped: Counter,
    /// Failures of accept(2) for lack of descriptors or memory, each followed by a pause.
    pub accept_errors_paused: Counter,
    closed: [Counter; CloseReason::ALL.len()],
}

impl WorkerMetrics {
    /// The counter of connections closed for `reason`.
    ///
    /// # Panics
    /// For [`CloseReason::Refused`], which [`WorkerMetrics::refused`] counts.
    pub fn closed(&self, reason: CloseReason) -> &Counter {
        &self.closed[reason as usize]
    }

    /// The counter of connections refused for `reason`.
    pub fn refused(&self, reason: RefuseReason) -> &Counter {
        match reason {
            RefuseReason::MaxConnections => &self.refused_max_connections,
        }
    }

    /// All values as they are now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            received_bytes: self.received_bytes.value(),
            sent_bytes: self.sent_bytes.value(),
            loop_iterations: self.loop_iterations.value(),
            loop_events: self.loop_events.value(),
            loop_full_batches: self.loop_full_batches.value(),
            short_writes: self.short_writes.value(),
            backlog_bytes: self.backlog_bytes.value(),
            accepted: self.accepted.value(),
            active: self.active.value(),
            refused_max_connections: self.refused_max_connections.value(),
            accept_errors_skipped: self.accept_errors_skipped.value(),
            accept_errors_paused: self.accept_errors_paused.value(),
            closed: CloseReason::ALL.map(|reason| self.closed(reason).value()),
        }
    }
}

/// The values of [`WorkerMetrics`], of one worker or summed over several.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the fields are documented in WorkerMetrics")]
pub struct Snapshot {
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub loop_iterations: u64,
    pub loop_events: u64,
    pub loop_full_batches: u64,
    pub short_writes: u64,
    pub backlog_bytes: u64,
    pub accepted: u64,
    pub active: u64,
    pub refused_max_connections: u64,
    pub accept_errors_skipped: u64,
    pub accept_errors_paused: u64,
    closed: [u64; CloseReason::ALL.len()],
}

impl Snapshot {
    /// Connections closed for `reason`; none for [`CloseReason::Refused`].
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed.get(reason as usize).copied().unwrap_or(0)
    }
}

impl AddAssign for Snapshot {
    fn add_assign(&mut self, other: Self) {
        self.received_bytes += other.received_bytes;
        self.sent_bytes += other.sent_bytes;
        self.loop_iterations += other.loop_iterations;
        self.loop_events += other.loop_events;
        self.loop_full_batches += other.loop_full_batches;
        self.short_writes += other.short_writes;
        self.backlog_bytes += other.backlog_bytes;
        self.accepted += other.accepted;
        self.active += other.active;
        self.refused_max_connections += other.refused_max_connections;
        self.accept_errors_skipped += other.accept_errors_skipped;
        self.accept_errors_paused += other.accept_errors_paused;
        for (sum, value) in self.closed.iter_mut().zip(other.closed) {
            *sum += value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_of_workers_add_up() {
        let (a, b) = (WorkerMetrics::default(), WorkerMetrics::default());
        a.received_bytes.add(5);
        b.received_bytes.add(7);
        b.active.add(3);
        b.active.sub(1);
        a.closed(CloseReason::Reset).add(1);
        b.closed(CloseReason::Reset).add(2);
        let mut sum = a.snapshot();
        sum += b.snapshot();
        assert_eq!(sum.received_bytes, 12);
        assert_eq!(sum.active, 2);
        assert_eq!(sum.closed(CloseReason::Reset), 3);
        assert_eq!(sum.closed(CloseReason::Finished), 0);
    }
}
