//! TCP_INFO of the connections (tcp(7)): samples over time, and a final sample of each connection.

use std::ops::AddAssign;

use crate::engine::sys::TcpInfo;

/// The samples of an interval, added up. Connections are sampled in turn, between messages.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TcpSamples {
    /// Number of samples.
    pub count: u64,
    /// Sum of the smoothed round-trip times, in microseconds.
    pub rtt_us_sum: u64,
    /// The largest smoothed round-trip time.
    pub rtt_us_max: u32,
    /// Sum of the congestion windows, in segments.
    pub cwnd_sum: u64,
    /// Segments retransmitted since each connection's last sample.
    pub retransmits: u64,
}

impl TcpSamples {
    /// Adds a sample of a connection; its last sample had `seen_retransmits` retransmits.
    pub(crate) fn add(&mut self, info: &TcpInfo, seen_retransmits: u32) {
        self.count += 1;
        self.rtt_us_sum += u64::from(info.rtt_us);
        self.rtt_us_max = self.rtt_us_max.max(info.rtt_us);
        self.cwnd_sum += u64::from(info.cwnd);
        self.retransmits += u64::from(info.total_retrans.saturating_sub(seen_retransmits));
    }
}

impl AddAssign for TcpSamples {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.rtt_us_sum += other.rtt_us_sum;
        self.rtt_us_max = self.rtt_us_max.max(other.rtt_us_max);
        self.cwnd_sum += other.cwnd_sum;
        self.retransmits += other.retransmits;
    }
}

/// The final samples of a thread's connections, added up. Each is taken when the connection ends or
/// at the end of the run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct TcpTotals {
    /// Number of sampled connections.
    pub connections: u64,
    /// Segments retransmitted.
    pub retransmits: u64,
    /// Bytes retransmitted.
    pub bytes_retransmitted: u64,
    /// Segments that the peer received twice (D-SACK, RFC 2883).
    pub duplicates: u64,
    /// Reordering events.
    pub reorderings: u64,
    /// Segments that arrived out of order.
    pub received_out_of_order: u64,
    /// Lifetimes of the connections in microseconds. The following times are parts of it.
    pub lifetime_us: u64,
    /// Time with data in flight or waiting,
    pub busy_us: u64,
    /// the part limited by the peer's receive window,
    pub rwnd_limited_us: u64,
    /// and the part limited by this side's send buffer.
    pub sndbuf_limited_us: u64,
}

impl TcpTotals {
    /// Adds the final sample of a connection that lived for `lifetime_us`.
    pub(crate) fn add(&mut self, info: &TcpInfo, lifetime_us: u64) {
        // TCP rounds each time up, so their sum may exceed the lifetime.
        let busy_us = info.busy_us.unwrap_or(0).min(lifetime_us);
        let rwnd_limited_us = info.rwnd_limited_us.unwrap_or(0).min(busy_us);
        let left_us = busy_us - rwnd_limited_us;
        *self += Self {
            connections: 1,
            retransmits: info.total_retrans.into(),
            bytes_retransmitted: info.bytes_retrans.unwrap_or(0),
            duplicates: info.dsack_dups.unwrap_or(0).into(),
            reorderings: info.reord_seen.unwrap_or(0).into(),
            received_out_of_order: info.rcv_ooopack.unwrap_or(0).into(),
            lifetime_us,
            busy_us,
            rwnd_limited_us,
            sndbuf_limited_us: info.sndbuf_limited_us.unwrap_or(0).min(left_us),
        };
    }
}

impl AddAssign for TcpTotals {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.retransmits += other.retransmits;
        self.bytes_retransmitted += other.bytes_retransmitted;
        self.duplicates += other.duplicates;
        self.reorderings += other.reorderings;
        self.received_out_of_order += other.received_out_of_order;
        self.lifetime_us += other.lifetime_us;
        self.busy_us += other.busy_us;
        self.rwnd_limited_us += other.rwnd_limited_us;
        self.sndbuf_limited_us += other.sndbuf_limited_us;
    }
}
