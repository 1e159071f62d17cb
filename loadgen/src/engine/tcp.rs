//! What TCP says of the connections (TCP_INFO, tcp(7)): samples over time, and a last word on each.

use std::ops::AddAssign;

use crate::engine::sys::TcpInfo;

/// Samples of an interval, added up. Connections are sampled in turn, between messages.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TcpSamples {
    /// How many.
    pub count: u64,
    /// Sum of the smoothed round-trip times, in microseconds.
    pub rtt_us_sum: u64,
    /// The largest of them.
    pub rtt_us_max: u32,
    /// Sum of the congestion windows, in segments.
    pub cwnd_sum: u64,
    /// Segments retransmitted since each connection's last sample.
    pub retransmits: u64,
}

impl TcpSamples {
    /// Adds a sample of a connection whose last one told of `seen_retransmits`.
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

/// The last words of a thread's connections, added up: each is asked when it ends, or at the end of
/// the run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct TcpTotals {
    /// Connections that were asked.
    pub connections: u64,
    /// Segments retransmitted.
    pub retransmits: u64,
    /// Bytes retransmitted.
    pub bytes_retransmitted: u64,
    /// Segments that the peer reported as received twice (D-SACK, RFC 2883).
    pub duplicates: u64,
    /// Times that segments were found reordered.
    pub reorderings: u64,
    /// Segments that arrived out of order.
    pub received_out_of_order: u64,
    /// How long the connections stood, in microseconds; all of the following are parts of it.
    pub lifetime_us: u64,
    /// While data was out or waiting,
    pub busy_us: u64,
    /// of which the peer's receive window was the limit,
    pub rwnd_limited_us: u64,
    /// or this side's send buffer.
    pub sndbuf_limited_us: u64,
}

impl TcpTotals {
    /// Adds the last word of a connection that stood for `lifetime_us`.
    pub(crate) fn add(&mut self, info: &TcpInfo, lifetime_us: u64) {
        // TCP rounds each of its times up, so that together they may exceed the connection's life.
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
