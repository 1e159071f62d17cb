//! What TCP says of the connections.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// What TCP says of the connections, at their end or at the end of the run.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct TcpResult {
    /// Connections that were asked.
    pub connections: u64,
    /// Gauges of those that stood at the end; null if none did.
    pub at_end: Option<TcpGauges>,
    /// Segments retransmitted.
    pub retransmits: u64,
    /// Bytes retransmitted.
    pub bytes_retransmitted: u64,
    /// Segments that the peer reported as received twice (RFC 2883).
    pub duplicates: u64,
    /// Times that segments were found reordered.
    pub reorderings: u64,
    /// Segments that arrived here out of order.
    pub received_out_of_order: u64,
    /// Shares of the connections' life:
    pub shares: TcpShares,
    /// What limited this side's sending, in words.
    pub limit: TcpLimit,
}

/// Shares of the connections' life; they add up to one.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct TcpShares {
    /// There was nothing to send.
    pub idle: f64,
    /// The peer's receive window was full.
    pub receive_window: f64,
    /// This side's send buffer was full.
    pub send_buffer: f64,
    /// Data was out or under way: the network and the congestion window.
    pub network: f64,
}

/// What limited the sending.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct TcpLimit {
    /// For programs: `idle`, `receive_window`, `send_buffer` or `network`.
    pub code: Cow<'static, str>,
    /// For people.
    pub text: String,
}

/// Gauges over the connections that stood at the end.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are TCP_INFO's")]
pub struct TcpGauges {
    pub rtt_us: Gauge,
    pub rttvar_us: Gauge,
    pub min_rtt_us: Option<Gauge>,
    /// Congestion window, in segments.
    pub cwnd: Gauge,
    /// Slow-start threshold of the connections that have one, in segments.
    pub ssthresh: Option<Gauge>,
    /// Segments that are taken for lost.
    pub lost: Gauge,
    pub delivery_rate_bits_per_s: Option<Gauge>,
    pub pacing_rate_bits_per_s: Option<Gauge>,
}

/// A gauge over several connections.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Gauge {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Gauge {
    /// `None` without values.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_unstable_by(f64::total_cmp);
        Some(Self {
            min: *values.first()?,
            median: values[values.len() / 2],
            max: *values.last()?,
        })
    }
}

/// Samples of TCP_INFO, averaged over the connections that were asked.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct TcpInterval {
    /// Mean of the smoothed round-trip times.
    pub rtt_us_mean: f64,
    /// The largest of them.
    pub rtt_us_max: u32,
    /// Mean of the congestion windows, in segments.
    pub cwnd_mean: f64,
    /// Segments retransmitted.
    pub retransmits: u64,
}
