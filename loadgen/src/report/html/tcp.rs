//! What TCP says of connections.

use echomark::net::units::format_duration_ns;

use super::markup::Html;
use crate::report::format::{bits_per_second, grouped, number, percent};
use crate::result::{Gauge, TcpResult, TcpShares};

/// Adds what TCP says of some connections.
pub(super) fn write(tcp: &TcpResult, out: &mut Html) {
    out.fill("<p>Limited by {}.</p>\n", &[&tcp.limit.text]);
    shares(&tcp.shares, out);
    if let Some(gauges) = &tcp.at_end {
        let micros = |us: f64| format_duration_ns(us * 1000.0);
        let rows = [
            gauge_row("round trip", Some(&gauges.rtt_us), &micros),
            gauge_row("its variation", Some(&gauges.rttvar_us), &micros),
            gauge_row("least round trip", gauges.min_rtt_us.as_ref(), &micros),
            gauge_row("cwnd, segments", Some(&gauges.cwnd), &number),
            gauge_row("ssthresh, segments", gauges.ssthresh.as_ref(), &number),
            gauge_row(
                "delivery rate",
                gauges.delivery_rate_bits_per_s.as_ref(),
                &bits_per_second,
            ),
            gauge_row(
                "pacing rate",
                gauges.pacing_rate_bits_per_s.as_ref(),
                &bits_per_second,
            ),
        ];
        out.table(
            &["at the end, over connections", "min", "median", "max"],
            rows.into_iter().flatten(),
        );
    }
    let counts = [
        ("connections asked", tcp.connections),
        ("segments retransmitted", tcp.retransmits),
        ("bytes retransmitted", tcp.bytes_retransmitted),
        ("received twice by the server", tcp.duplicates),
        ("found reordered", tcp.reorderings),
        ("arrived here out of order", tcp.received_out_of_order),
    ];
    out.table(
        &["over the run", ""],
        counts.map(|(name, count)| vec![name.to_owned(), grouped(count)]),
    );
}

/// A bar of what the connections did with their time.
fn shares(shares: &TcpShares, out: &mut Html) {
    let parts = [
        ("idle", "nothing to send", shares.idle),
        (
            "window",
            "the server's receive window was full",
            shares.receive_window,
        ),
        ("buffer", "our send buffer was full", shares.send_buffer),
        ("network", "data was out or under way", shares.network),
    ];
    out.put("<div class=\"shares\" aria-hidden=\"true\">");
    for (class, name, share) in parts.iter().filter(|(_, _, share)| *share > 0.0) {
        out.fill(
            "<i class=\"{}\" style=\"flex-grow:{}\" title=\"{}: {}\"></i>",
            &[class, &number_of_style(*share), name, &percent(*share)],
        );
    }
    out.put("</div>\n<ul class=\"legend\">");
    for (class, name, share) in parts {
        out.fill(
            "<li><i class=\"box {}\"></i>{} {}</li>",
            &[&class, &name, &percent(share)],
        );
    }
    out.put("</ul>\n");
}

/// A figure that a style may contain.
fn number_of_style(value: f64) -> String {
    if value.is_finite() {
        format!("{value:.4}")
    } else {
        "0".to_owned()
    }
}

fn gauge_row(
    name: &str,
    gauge: Option<&Gauge>,
    format: &dyn Fn(f64) -> String,
) -> Option<Vec<String>> {
    let gauge = gauge?;
    Some(vec![
        name.to_owned(),
        format(gauge.min),
        format(gauge.median),
        format(gauge.max),
    ])
}
