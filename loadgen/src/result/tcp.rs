//! What TCP says of the connections.

use serde::{Deserialize, Serialize};

/// TCP_INFO of the connections, read at their end or at the end of the run.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TcpResult {
    /// Number of connections read.
    pub connections: u64,
    /// Gauges of the connections that were open at the end; null if there were none.
    pub at_end: Option<TcpGauges>,
    /// Segments retransmitted.
    pub retransmits: u64,
    /// Bytes retransmitted.
    pub bytes_retransmitted: u64,
    /// Segments that the peer reported as received twice (RFC 2883).
    pub duplicates: u64,
    /// Number of times that reordering was detected.
    pub reorderings: u64,
    /// Segments that arrived at the client out of order.
    pub received_out_of_order: u64,
    /// Shares of the connections' lifetime, which add up to 1.
    pub shares: TcpShares,
    /// What limited the client's sending.
    pub limit: TcpLimit,
}

/// Shares of the connections' lifetime, which add up to 1.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TcpShares {
    /// There was nothing to send.
    pub idle: f64,
    /// The peer's receive window was full.
    pub receive_window: f64,
    /// The client's send buffer was full.
    pub send_buffer: f64,
    /// Data was in flight or being sent.
    pub network: f64,
}

/// What limited the sending.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TcpLimit {
    /// For programs: the largest of the shares.
    pub code: TcpLimitCode,
    /// The same in words.
    pub text: String,
}

/// What may limit the sending.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TcpLimitCode {
    /// There was nothing to send.
    Idle,
    /// The peer's receive window was full.
    ReceiveWindow,
    /// The client's send buffer was full.
    SendBuffer,
    /// The network and the congestion window.
    Network,
}

/// Gauges of the connections that were open at the end.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TcpGauges {
    /// Smoothed round-trip time in microseconds.
    pub rtt_us: Gauge,
    /// Its mean deviation in microseconds.
    pub rttvar_us: Gauge,
    /// Minimum round-trip time in microseconds; null if the kernel does not report it.
    pub min_rtt_us: Option<Gauge>,
    /// Congestion window in segments.
    pub cwnd: Gauge,
    /// Slow-start threshold in segments of the connections that have one; null if none has.
    pub ssthresh: Option<Gauge>,
    /// Segments considered lost.
    pub lost: Gauge,
    /// The latest delivery rate; null if the kernel does not report it.
    pub delivery_rate_bits_per_s: Option<Gauge>,
    /// The pacing rate; null without pacing.
    pub pacing_rate_bits_per_s: Option<Gauge>,
}

/// A gauge of several connections.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Gauge {
    /// Minimum.
    pub min: f64,
    /// Median.
    pub median: f64,
    /// Maximum.
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

/// Samples of TCP_INFO, averaged over the sampled connections.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TcpInterval {
    /// Mean of the smoothed round-trip times in microseconds.
    pub rtt_us_mean: f64,
    /// Maximum of the smoothed round-trip times.
    pub rtt_us_max: u32,
    /// Mean of the congestion windows in segments.
    pub cwnd_mean: f64,
    /// Segments retransmitted.
    pub retransmits: u64,
}
