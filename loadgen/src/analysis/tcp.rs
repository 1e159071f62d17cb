//! TCP_INFO of a run's connections, and what limited the sending.

use crate::engine::task::FlowReport;
use crate::engine::tcp::TcpTotals;
use crate::plan::Direction;
use crate::result::{Gauge, TcpGauges, TcpLimit, TcpLimitCode, TcpResult, TcpShares};

/// TCP_INFO of the connections; `None` if none was sampled.
pub(crate) fn summarize(
    totals: &TcpTotals,
    flows: &[(usize, FlowReport)],
    direction: Option<Direction>,
) -> Option<TcpResult> {
    if totals.connections == 0 {
        return None;
    }
    let shares = TcpShares::of(totals);
    Some(TcpResult {
        connections: totals.connections,
        at_end: gauges(flows),
        retransmits: totals.retransmits,
        bytes_retransmitted: totals.bytes_retransmitted,
        duplicates: totals.duplicates,
        reorderings: totals.reorderings,
        received_out_of_order: totals.received_out_of_order,
        limit: TcpLimit::of(&shares, direction),
        shares,
    })
}

/// The totals of several processes. Gauges of single connections don't add.
///
/// The connections of processes that measured at the same time lived equally long, so a mean by their
/// numbers is the share of all lifetimes.
pub(crate) fn union(
    sum: Option<TcpResult>,
    next: Option<&TcpResult>,
    direction: Option<Direction>,
) -> Option<TcpResult> {
    let (Some(sum), Some(next)) = (&sum, next) else {
        return sum.or_else(|| next.cloned());
    };
    let connections = sum.connections + next.connections;
    let part = next.connections as f64 / connections.max(1) as f64;
    let mean = |sum: f64, next: f64| sum + (next - sum) * part;
    let shares = TcpShares {
        idle: mean(sum.shares.idle, next.shares.idle),
        receive_window: mean(sum.shares.receive_window, next.shares.receive_window),
        send_buffer: mean(sum.shares.send_buffer, next.shares.send_buffer),
        network: mean(sum.shares.network, next.shares.network),
    };
    Some(TcpResult {
        connections,
        at_end: None,
        retransmits: sum.retransmits + next.retransmits,
        bytes_retransmitted: sum.bytes_retransmitted + next.bytes_retransmitted,
        duplicates: sum.duplicates + next.duplicates,
        reorderings: sum.reorderings + next.reorderings,
        received_out_of_order: sum.received_out_of_order + next.received_out_of_order,
        limit: TcpLimit::of(&shares, direction),
        shares,
    })
}

fn gauges(flows: &[(usize, FlowReport)]) -> Option<TcpGauges> {
    let infos = || flows.iter().filter_map(|(_, flow)| flow.tcp.as_deref());
    let bits = |bytes: u64| bytes as f64 * 8.0;
    Some(TcpGauges {
        rtt_us: Gauge::of(infos().map(|info| info.rtt_us.into()))?,
        rttvar_us: Gauge::of(infos().map(|info| info.rttvar_us.into()))?,
        min_rtt_us: Gauge::of(infos().filter_map(|info| info.min_rtt_us.map(f64::from))),
        cwnd: Gauge::of(infos().map(|info| info.cwnd.into()))?,
        ssthresh: Gauge::of(infos().filter_map(|info| info.ssthresh.map(f64::from))),
        lost: Gauge::of(infos().map(|info| info.lost.into()))?,
        delivery_rate_bits_per_s: Gauge::of(
            infos().filter_map(|info| info.delivery_rate.map(bits)),
        ),
        // All bits set: an unlimited rate.
        pacing_rate_bits_per_s: Gauge::of(
            infos().filter_map(|info| info.pacing_rate.filter(|&rate| rate < u64::MAX).map(bits)),
        ),
    })
}

impl TcpShares {
    fn of(totals: &TcpTotals) -> Self {
        let lifetime = totals.lifetime_us.max(1) as f64;
        let limited = totals.rwnd_limited_us + totals.sndbuf_limited_us;
        Self {
            idle: (totals.lifetime_us - totals.busy_us) as f64 / lifetime,
            receive_window: totals.rwnd_limited_us as f64 / lifetime,
            send_buffer: totals.sndbuf_limited_us as f64 / lifetime,
            network: (totals.busy_us - limited) as f64 / lifetime,
        }
    }
}

impl TcpLimit {
    fn of(shares: &TcpShares, direction: Option<Direction>) -> Self {
        let shares = [
            (TcpLimitCode::Idle, shares.idle),
            (TcpLimitCode::ReceiveWindow, shares.receive_window),
            (TcpLimitCode::SendBuffer, shares.send_buffer),
            (TcpLimitCode::Network, shares.network),
        ];
        let (code, share) =
            shares.into_iter().fold(
                shares[0],
                |max, next| if next.1 >= max.1 { next } else { max },
            );
        let percent = share * 100.0;
        let text = match code {
            _ if direction == Some(Direction::Down) => {
                "the server's sending, which only its own TCP can explain".to_owned()
            }
            TcpLimitCode::Idle => {
                format!("the sender: it had nothing to send for {percent:.0} % of the time")
            }
            TcpLimitCode::ReceiveWindow => format!(
                "the receiver: the server read no faster, so its receive window was full for \
                 {percent:.0} % of the time"
            ),
            TcpLimitCode::SendBuffer => format!(
                "the client's send buffer, for {percent:.0} % of the time: try a larger one \
                 (--send-buffer)"
            ),
            TcpLimitCode::Network => format!(
                "the network: for {percent:.0} % of the time as much data was in flight as the \
                 congestion window allowed"
            ),
        };
        Self { code, text }
    }
}
