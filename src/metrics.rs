//! The counters of each worker, written by that worker alone and read by any thread.
//!
//! A counter is declared once, in `metrics!` at the end of this file: its field, what it counts,
//! its name in a scrape, and how the values of several workers become one. To add one, add it there
//! and increment the field at the event.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::net::errno::AcceptError;

/// Lines that the process's log dropped, for lack of room or because they repeat.
pub(crate) static LOG_DROPPED_LINES: AtomicU64 = AtomicU64::new(0);

/// Declares a closed set of reasons, each with its name in metrics and logs. A reason behind a
/// semicolon is not counted.
macro_rules! reasons {
    (
        $(#[$meta:meta])* $Type:ident {
            $($(#[$doc:meta])* $Variant:ident = $name:literal,)*
            $(; $(#[$other_doc:meta])* $Other:ident = $other_name:literal)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum $Type {
            $($(#[$doc])* $Variant,)*
            $($(#[$other_doc])* $Other,)?
        }

        impl $Type {
            /// Every reason that is counted, in the order of the counters.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$Variant),*];

            /// The reason as the value of a metric's label.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$Variant => $name,)*
                    $(Self::$Other => $other_name,)?
                }
            }
        }
    };
}

reasons! {
    /// Why a connection was closed.
    CloseReason {
        /// The peer sent its last byte and everything was returned to it.
        Finished = "finished",
        /// The peer or the network reset the connection.
        Reset = "reset",
        /// A socket call failed in any other way.
        Error = "error",
        /// No byte moved within the idle timeout.
        IdleTimeout = "idle_timeout",
        /// Too few bytes moved within the stall timeout.
        Stalled = "stalled",
        /// The connection reached its maximum lifetime.
        Lifetime = "lifetime",
        /// It was still open at the end of the drain timeout.
        DrainTimeout = "drain_timeout",
        /// Its PROXY header was missing or bad, or names a client that is not served.
        ProxyHeader = "proxy_header",
        /// Its input ended without close_notify: by TLS, it may have been cut off.
        Truncated = "truncated",
        /// Its TLS handshake failed, or was not complete in time.
        Handshake = "handshake",
        /// TLS failed after the handshake: a record that is none, or an alert.
        Tls = "tls",
        /// A fault of its endpoint: a reset, or its last message.
        Fault = "fault",
        /// There was no memory for its state.
        Memory = "memory",
        /// The server was stopped at once.
        Stopped = "stopped",
        ;
        /// It was refused when it was accepted: counted as refused, not as closed.
        Refused = "refused"
    }
}

reasons! {
    /// What an endpoint with faults did on order.
    Fault {
        /// A message was answered late.
        Delay = "delay",
        /// A message cost processor time.
        Work = "work",
        /// A message was not answered.
        Drop = "drop",
        /// An answer was sent twice.
        Duplicate = "duplicate",
        /// An answer was kept for the next one to overtake it.
        Reorder = "reorder",
        /// An answer was sent with one bit changed.
        Corrupt = "corrupt",
        /// A connection was reset instead of an answer.
        Reset = "reset",
        /// A connection was closed after its last message.
        CloseAfter = "close_after",
        /// A worker found the endpoint at a standstill: once for each standstill.
        Stall = "stall",
    }
}

reasons! {
    /// Why a connection was refused: accepted and closed without service. In the order of the checks.
    RefuseReason {
        /// The access list denies its address.
        Denied = "denied",
        /// The accept rate was used up.
        AcceptRate = "accept_rate",
        /// The accept rate of its address was used up.
        AcceptRatePerIp = "accept_rate_per_ip",
        /// The maximum number of connections was open.
        MaxConnections = "max_connections",
        /// The maximum number of connections from its address was open.
        MaxConnectionsPerIp = "max_connections_per_ip",
        /// The process or the system had no memory for it, or no epoll watch.
        Resources = "resources",
    }
}

reasons! {
    /// The versions of the PROXY protocol.
    ProxyVersion {
        /// A line of text.
        V1 = "v1",
        /// Binary.
        V2 = "v2",
    }
}

reasons! {
    /// Why a connection that needs a PROXY header was not served.
    ProxyError {
        /// It comes from a sender whose headers are not believed.
        Untrusted = "untrusted",
        /// The peer closed it without having sent a byte, as a check of a port does.
        NoData = "no_data",
        /// It begins with something else.
        Missing = "missing",
        /// The header breaks the rules of the protocol.
        Malformed = "malformed",
        /// The header has a version, a command or an address family that the protocol does not have.
        Unsupported = "unsupported",
        /// The header is longer than 107 bytes in version 1, or 536 in version 2.
        TooLong = "too_long",
        /// The checksum of the header is wrong.
        Checksum = "checksum",
        /// The connection ended in the middle of the header.
        Truncated = "truncated",
        /// The header was not complete in time.
        Timeout = "timeout",
    }
}

reasons! {
    /// Why a TLS handshake failed.
    HandshakeError {
        /// The peer closed the connection without having sent a byte, as a check of a port does.
        NoData = "no_data",
        /// The peer closed or reset the connection in the middle.
        Closed = "closed",
        /// It was not complete in time.
        Timeout = "timeout",
        /// What came is not TLS.
        NotTls = "not_tls",
        /// The peer has no version, cipher or group in common with us.
        Incompatible = "incompatible",
        /// The peer's certificate is missing, expired or of an unknown authority.
        Certificate = "certificate",
        /// The peer refused us by an alert: our certificate, for example.
        Alert = "alert",
        /// The peer broke the protocol in another way.
        Protocol = "protocol",
    }
}

/// A complete TLS handshake: its version, and whether it resumed an earlier session.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Handshake {
    /// TLS 1.2, with certificates.
    Full12,
    /// TLS 1.2, resumed.
    Resumed12,
    /// TLS 1.3, with certificates.
    Full13,
    /// TLS 1.3, resumed.
    Resumed13,
}

impl Handshake {
    /// Every kind, in the order of the counters.
    pub const ALL: [Self; 4] = [Self::Full12, Self::Resumed12, Self::Full13, Self::Resumed13];

    /// The values of the metric's labels `version` and `resumed`.
    pub const fn labels(self) -> [&'static str; 2] {
        match self {
            Self::Full12 => ["1.2", "no"],
            Self::Resumed12 => ["1.2", "yes"],
            Self::Full13 => ["1.3", "no"],
            Self::Resumed13 => ["1.3", "yes"],
        }
    }
}

reasons! {
    /// Why a datagram was not answered.
    DropReason {
        /// It came from port 0 or from a port of the system's services.
        SourcePort = "source_port",
        /// It came from a port that we serve too: a server there would answer our answer, for ever.
        OwnPort = "own_port",
        /// It was sent to a group of hosts, or claims to come from one.
        NotUnicast = "not_unicast",
        /// An access list denies its source.
        Denied = "denied",
        /// Its source is beyond the rate of one source.
        RatePerSource = "rate_per_source",
        /// All sources together are beyond the rate.
        Rate = "rate",
        /// There was no memory to keep the answer until the socket takes it.
        Memory = "memory",
        /// It is shorter than the answer to it would be.
        TooShort = "too_short",
        /// It was truncated.
        Truncated = "truncated",
        /// The kernel refused to send the answer.
        SendError = "send_error",
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

    /// Subtracts `count`; only the counter's one writer may call it.
    pub fn sub(&self, count: u64) {
        self.add(count.wrapping_neg());
    }

    /// The value, perhaps a moment old.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker received at one endpoint: connections that it serves, or datagrams. Aligned so that
/// two workers never write to one pair of cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Arrivals(pub(crate) Counter);

/// A counter as a scrape shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: Kind,
    pub(crate) values: Values,
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// It only grows until the process ends.
    Counter,
    /// It rises and falls.
    Gauge,
}

/// Pairs of label values, each with the metric's value.
pub(crate) type PairedValues = Vec<([&'static str; 2], u64)>;

/// How the workers' values become a metric's values.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Values {
    /// One, the sum over the workers.
    Total(fn(&Snapshot) -> u64),
    /// One for each worker.
    PerWorker(fn(&Snapshot) -> u64),
    /// One for each value of a label, the sum over the workers.
    Labelled {
        label: &'static str,
        values: fn(&Snapshot) -> Vec<(&'static str, u64)>,
    },
    /// One for each pair of values of two labels, the sum over the workers.
    Paired {
        labels: [&'static str; 2],
        values: fn(&Snapshot) -> PairedValues,
    },
}

/// Generates the structs, the sum and the table of the declared counters.
macro_rules! metrics {
    (
        total { $(#[doc = $total_help:literal] $total:ident: $TotalKind:ident = $total_name:literal,)* }
        per_worker { $(#[doc = $worker_help:literal] $worker:ident: $WorkerKind:ident = $worker_name:literal,)* }
        labelled {
            $(
                #[doc = $labelled_help:literal]
                $labelled:ident[$label:ident: $Label:ty] = $labelled_name:literal,
            )*
        }
        paired {
            $(
                #[doc = $paired_help:literal]
                $paired:ident[$one:ident, $other:ident: $Pair:ty] = $paired_name:literal,
            )*
        }
    ) => {
        /// The counters of one worker. Aligned so that two workers never write to one pair of cache
        /// lines.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct WorkerMetrics {
            $(#[doc = $total_help] pub $total: Counter,)*
            $(#[doc = $worker_help] pub $worker: Counter,)*
            $($labelled: [Counter; <$Label>::ALL.len()],)*
            $($paired: [Counter; <$Pair>::ALL.len()],)*
        }

        impl WorkerMetrics {
            $(
                #[doc = $labelled_help]
                pub fn $labelled(&self, $label: $Label) -> &Counter {
                    &self.$labelled[$label as usize]
                }
            )*
            $(
                #[doc = $paired_help]
                pub fn $paired(&self, kind: $Pair) -> &Counter {
                    &self.$paired[kind as usize]
                }
            )*

            /// All values as they are now.
            pub fn snapshot(&self) -> Snapshot {
                Snapshot {
                    $($total: self.$total.value(),)*
                    $($worker: self.$worker.value(),)*
                    $($labelled: self.$labelled.each_ref().map(Counter::value),)*
                    $($paired: self.$paired.each_ref().map(Counter::value),)*
                }
            }
        }

        /// The values of [`WorkerMetrics`], of one worker or summed over several.
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
        pub struct Snapshot {
            $(#[doc = $total_help] pub $total: u64,)*
            $(#[doc = $worker_help] pub $worker: u64,)*
            $($labelled: [u64; <$Label>::ALL.len()],)*
            $($paired: [u64; <$Pair>::ALL.len()],)*
        }

        impl Snapshot {
            $(
                #[doc = $labelled_help]
                pub fn $labelled(&self, $label: $Label) -> u64 {
                    self.$labelled[$label as usize]
                }
            )*
            $(
                #[doc = $paired_help]
                pub fn $paired(&self, kind: $Pair) -> u64 {
                    self.$paired[kind as usize]
                }
            )*
        }

        impl AddAssign for Snapshot {
            fn add_assign(&mut self, other: Self) {
                $(self.$total += other.$total;)*
                $(self.$worker += other.$worker;)*
                $(
                    for (sum, value) in self.$labelled.iter_mut().zip(other.$labelled) {
                        *sum += value;
                    }
                )*
                $(
                    for (sum, value) in self.$paired.iter_mut().zip(other.$paired) {
                        *sum += value;
                    }
                )*
            }
        }

        /// Every counter as a scrape shows it.
        pub(crate) const METRICS: &[Metric] = &[
            $(Metric {
                name: $total_name,
                help: $total_help.trim_ascii(),
                kind: Kind::$TotalKind,
                values: Values::Total(|snapshot| snapshot.$total),
            },)*
            $(Metric {
                name: $worker_name,
                help: $worker_help.trim_ascii(),
                kind: Kind::$WorkerKind,
                values: Values::PerWorker(|snapshot| snapshot.$worker),
            },)*
            $(Metric {
                name: $labelled_name,
                help: $labelled_help.trim_ascii(),
                kind: Kind::Counter,
                values: Values::Labelled {
                    label: stringify!($label),
                    values: |snapshot| {
                        <$Label>::ALL.map(|it| (it.name(), snapshot.$labelled(it))).into()
                    },
                },
            },)*
            $(Metric {
                name: $paired_name,
                help: $paired_help.trim_ascii(),
                kind: Kind::Counter,
                values: Values::Paired {
                    labels: [stringify!($one), stringify!($other)],
                    values: |snapshot| {
                        <$Pair>::ALL.map(|it| (it.labels(), snapshot.$paired(it))).into()
                    },
                },
            },)*
        ];
    };
}

metrics! {
    total {
        /// Bytes read from connections and in datagrams.
        received_bytes: Counter = "echod_received_bytes_total",
        /// Bytes that sockets took, of connections and in datagrams.
        sent_bytes: Counter = "echod_sent_bytes_total",
        /// Writes of which the socket took a part or nothing.
        short_writes: Counter = "echod_short_writes_total",
        /// Reads that left their input in the kernel, because there was no memory to keep it.
        peeked_reads: Counter = "echod_peeked_reads_total",
        /// Bytes read that wait for their peer to take them.
        backlog_bytes: Gauge = "echod_backlog_bytes",
        /// Connections accepted and served.
        accepted: Counter = "echod_connections_accepted_total",
        // Each datagram of an aggregate is counted.
        /// Datagrams received.
        udp_received_datagrams: Counter = "echod_udp_received_datagrams_total",
        /// Datagrams that sockets took.
        udp_sent_datagrams: Counter = "echod_udp_sent_datagrams_total",
    }
    per_worker {
        /// Connections open now.
        active: Gauge = "echod_connections_active",
        /// Turns of the event loop.
        loop_iterations: Counter = "echod_loop_iterations_total",
        /// Events that the kernel returned.
        loop_events: Counter = "echod_loop_events_total",
        // More events may have been waiting.
        /// Turns in which as many events came as fit.
        loop_full_batches: Counter = "echod_loop_full_batches_total",
    }
    labelled {
        /// Connections closed after service, by reason.
        closed[reason: CloseReason] = "echod_connections_closed_total",
        /// Connections accepted and closed without service, by reason.
        refused[reason: RefuseReason] = "echod_connections_refused_total",
        /// Datagrams not answered, by reason.
        udp_dropped[reason: DropReason] = "echod_udp_dropped_datagrams_total",
        /// PROXY headers taken, by version.
        proxy_headers[version: ProxyVersion] = "echod_proxy_headers_total",
        /// Connections not served for want of a good PROXY header, by reason.
        proxy_errors[reason: ProxyError] = "echod_proxy_errors_total",
        /// What endpoints with faults did on order, by fault.
        faults[fault: Fault] = "echod_faults_total",
        /// Failures of accept(2), by errno.
        accept_errors[error: AcceptError] = "echod_accept_errors_total",
        /// TLS handshakes that failed, by reason.
        tls_handshake_errors[reason: HandshakeError] = "echod_tls_handshake_errors_total",
    }
    paired {
        /// TLS handshakes completed, by version, and whether they resumed an earlier session.
        tls_handshakes[version, resumed: Handshake] = "echod_tls_handshakes_total",
    }
}

impl WorkerMetrics {
    /// Bytes that connections and datagrams moved, in both directions together.
    pub(crate) fn moved_bytes(&self) -> u64 {
        let received = self.received_bytes.value();
        received.wrapping_add(self.sent_bytes.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

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
    fn every_value_of_a_label_has_a_counter_and_a_name_of_its_own() {
        let worker = WorkerMetrics::default();
        for reason in CloseReason::ALL {
            worker.closed(reason).add(1);
        }
        for reason in RefuseReason::ALL {
            worker.refused(reason).add(1);
        }
        for reason in DropReason::ALL {
            worker.udp_dropped(reason).add(1);
        }
        for version in ProxyVersion::ALL {
            worker.proxy_headers(version).add(1);
        }
        for reason in ProxyError::ALL {
            worker.proxy_errors(reason).add(1);
        }
        for error in AcceptError::ALL {
            worker.accept_errors(error).add(1);
        }
        for fault in Fault::ALL {
            worker.faults(fault).add(1);
        }
        for reason in HandshakeError::ALL {
            worker.tls_handshake_errors(reason).add(1);
        }
        for kind in Handshake::ALL {
            worker.tls_handshakes(kind).add(1);
            assert_eq!(worker.snapshot().tls_handshakes(kind), 1);
        }
        let snapshot = worker.snapshot();
        for metric in METRICS {
            let Values::Labelled { values, .. } = metric.values else {
                continue;
            };
            let values = values(&snapshot);
            assert!(values.iter().all(|(_, value)| *value == 1), "{values:?}");
            let names: HashSet<_> = values.iter().map(|(name, _)| name).collect();
            assert_eq!(names.len(), values.len());
        }
    }
}
