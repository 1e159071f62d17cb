//! Counters of each worker, written by that worker alone and read by anyone.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::net::errno::AcceptError;

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
    /// Too few bytes moved within the stall timeout.
    Stalled,
    /// It was open for as long as a connection may be.
    Lifetime,
    /// It was still open at the end of the drain timeout.
    DrainTimeout,
    /// The server was stopped at once.
    Stopped,
    /// It was refused when it was accepted. Counted as refused, not as closed.
    Refused,
}

impl CloseReason {
    /// Every reason that is counted, in the order of the counters.
    pub const ALL: [Self; 8] = [
        Self::Finished,
        Self::Reset,
        Self::Error,
        Self::IdleTimeout,
        Self::Stalled,
        Self::Lifetime,
        Self::DrainTimeout,
        Self::Stopped,
    ];

    /// The reason as the value of a metric's label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Reset => "reset",
            Self::Error => "error",
            Self::IdleTimeout => "idle_timeout",
            Self::Stalled => "stalled",
            Self::Lifetime => "lifetime",
            Self::DrainTimeout => "drain_timeout",
            Self::Stopped => "stopped",
            Self::Refused => "refused",
        }
    }
}

/// Why a connection was refused: accepted and closed without service.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RefuseReason {
    /// The access list denies its address.
    Denied,
    /// As many connections as a second allows were accepted.
    AcceptRate,
    /// As many connections as allowed were open.
    MaxConnections,
    /// As many connections as allowed were open from its address.
    MaxConnectionsPerIp,
}

impl RefuseReason {
    /// Every reason, in the order of the counters, which is that of the checks.
    pub const ALL: [Self; 4] = [
        Self::Denied,
        Self::AcceptRate,
        Self::MaxConnections,
        Self::MaxConnectionsPerIp,
    ];

    /// The reason as a label in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::AcceptRate => "accept_rate",
            Self::MaxConnections => "max_connections",
            Self::MaxConnectionsPerIp => "max_connections_per_ip",
        }
    }
}

/// Why a datagram was not answered.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum DropReason {
    /// It came from port 0 or from a port of the system's services.
    SourcePort,
    /// It came from a port that we have too: an answer would be answered, for ever.
    OwnPort,
    /// It was sent to a group of hosts, or claims to come from one.
    NotUnicast,
    /// An access list denies its source.
    Denied,
    /// Its source is beyond the rate of one source.
    RatePerSource,
    /// All sources together are beyond the rate.
    Rate,
    /// It did not come whole.
    Truncated,
    /// The kernel refused to send the answer.
    SendError,
}

impl DropReason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 8] = [
        Self::SourcePort,
        Self::OwnPort,
        Self::NotUnicast,
        Self::Denied,
        Self::RatePerSource,
        Self::Rate,
        Self::Truncated,
        Self::SendError,
    ];

    /// The reason as the value of a metric's label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SourcePort => "source_port",
            Self::OwnPort => "own_port",
            Self::NotUnicast => "not_unicast",
            Self::Denied => "denied",
            Self::RatePerSource => "rate_per_source",
            Self::Rate => "rate",
            Self::Truncated => "truncated",
            Self::SendError => "send_error",
        }
    }
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
    /// Bytes read from connections and in datagrams.
    pub received_bytes: Counter,
    /// Bytes that sockets took, of connections and in datagrams.
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
    /// Datagrams received, each of an aggregate counted.
    pub udp_received_datagrams: Counter,
    /// Datagrams that sockets took, each of an aggregate counted.
    pub udp_sent_datagrams: Counter,
    refused: [Counter; RefuseReason::ALL.len()],
    closed: [Counter; CloseReason::ALL.len()],
    udp_dropped: [Counter; DropReason::ALL.len()],
    accept_errors: [Counter; AcceptError::ALL.len()],
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
        &self.refused[reason as usize]
    }

    /// The counter of datagrams not answered for `reason`.
    pub fn udp_dropped(&self, reason: DropReason) -> &Counter {
        &self.udp_dropped[reason as usize]
    }

    /// The counter of accept(2)'s failures with `error`.
    pub fn accept_errors(&self, error: AcceptError) -> &Counter {
        &self.accept_errors[error as usize]
    }

    /// Bytes that connections and datagrams moved, in both directions together.
    pub(crate) fn moved_bytes(&self) -> u64 {
        let received = self.received_bytes.value();
        received.wrapping_add(self.sent_bytes.value())
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
            udp_received_datagrams: self.udp_received_datagrams.value(),
            udp_sent_datagrams: self.udp_sent_datagrams.value(),
            refused: RefuseReason::ALL.map(|reason| self.refused(reason).value()),
            closed: CloseReason::ALL.map(|reason| self.closed(reason).value()),
            udp_dropped: DropReason::ALL.map(|reason| self.udp_dropped(reason).value()),
            accept_errors: AcceptError::ALL.map(|error| self.accept_errors(error).value()),
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
    pub udp_received_datagrams: u64,
    pub udp_sent_datagrams: u64,
    refused: [u64; RefuseReason::ALL.len()],
    closed: [u64; CloseReason::ALL.len()],
    udp_dropped: [u64; DropReason::ALL.len()],
    accept_errors: [u64; AcceptError::ALL.len()],
}

impl Snapshot {
    /// Connections refused for `reason`.
    pub fn refused(&self, reason: RefuseReason) -> u64 {
        self.refused[reason as usize]
    }

    /// Connections closed for `reason`; none for [`CloseReason::Refused`].
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed.get(reason as usize).copied().unwrap_or(0)
    }

    /// Datagrams not answered for `reason`.
    pub fn udp_dropped(&self, reason: DropReason) -> u64 {
        self.udp_dropped[reason as usize]
    }

    /// Failures of accept(2) with `error`.
    pub fn accept_errors(&self, error: AcceptError) -> u64 {
        self.accept_errors[error as usize]
    }

    /// Failures of accept(2) that were skipped: the connection died before it was taken.
    pub fn accept_errors_skipped(&self) -> u64 {
        let skipped = |error: &AcceptError| error.is_of_one_connection();
        self.accept_errors_of(skipped)
    }

    /// Failures of accept(2) for lack of descriptors or memory, each followed by a pause.
    pub fn accept_errors_paused(&self) -> u64 {
        let paused = |error: &AcceptError| !error.is_of_one_connection();
        self.accept_errors_of(paused)
    }

    fn accept_errors_of(&self, kind: impl Fn(&AcceptError) -> bool) -> u64 {
        let errors = AcceptError::ALL.into_iter().filter(kind);
        errors.map(|error| self.accept_errors(error)).sum()
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
        self.udp_received_datagrams += other.udp_received_datagrams;
        self.udp_sent_datagrams += other.udp_sent_datagrams;
        for (sum, value) in self.udp_dropped.iter_mut().zip(other.udp_dropped) {
            *sum += value;
        }
        for (sum, value) in self.refused.iter_mut().zip(other.refused) {
            *sum += value;
        }
        for (sum, value) in self.accept_errors.iter_mut().zip(other.accept_errors) {
            *sum += value;
        }
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
        a.udp_dropped(DropReason::SendError).add(4);
        b.udp_dropped(DropReason::SendError).add(5);
        a.refused(RefuseReason::Denied).add(1);
        b.refused(RefuseReason::Denied).add(3);
        let mut sum = a.snapshot();
        sum += b.snapshot();
        assert_eq!(sum.received_bytes, 12);
        assert_eq!(sum.active, 2);
        assert_eq!(sum.closed(CloseReason::Reset), 3);
        assert_eq!(sum.closed(CloseReason::Finished), 0);
        assert_eq!(sum.refused(RefuseReason::Denied), 4);
        assert_eq!(sum.refused(RefuseReason::AcceptRate), 0);
        assert_eq!(sum.udp_dropped(DropReason::SendError), 9);
        assert_eq!(sum.udp_dropped(DropReason::SourcePort), 0);
    }

    #[test]
    fn every_reason_has_a_counter_and_a_name_of_its_own() {
        for (index, reason) in RefuseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            let named = RefuseReason::ALL
                .iter()
                .filter(|r| r.name() == reason.name());
            assert_eq!(named.count(), 1);
        }
    }

    #[test]
    fn reasons_are_counted_apart_under_names_of_their_own() {
        let metrics = WorkerMetrics::default();
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            metrics.udp_dropped(reason).add(1);
        }
        let snapshot = metrics.snapshot();
        assert!(
            DropReason::ALL
                .iter()
                .all(|r| snapshot.udp_dropped(*r) == 1)
        );
        let names: std::collections::HashSet<_> = DropReason::ALL.map(DropReason::name).into();
        assert_eq!(names.len(), DropReason::ALL.len());
    }

    #[test]
    fn errors_of_accept_are_counted_by_name_and_by_what_follows() {
        let metrics = WorkerMetrics::default();
        for (index, error) in AcceptError::ALL.into_iter().enumerate() {
            assert_eq!(error as usize, index);
            metrics.accept_errors(error).add(1);
        }
        let mut sum = metrics.snapshot();
        sum += metrics.snapshot();
        assert!(AcceptError::ALL.iter().all(|e| sum.accept_errors(*e) == 2));
        assert_eq!(sum.accept_errors_skipped(), 20);
        assert_eq!(sum.accept_errors_paused(), 10);
        let names: std::collections::HashSet<_> = AcceptError::ALL.map(AcceptError::name).into();
        assert_eq!(names.len(), AcceptError::ALL.len());
    }

    #[test]
    fn every_reason_of_a_close_has_a_name_and_a_counter_of_its_own() {
        let mut names = std::collections::HashSet::new();
        for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            assert!(names.insert(reason.name()));
        }
    }
}
