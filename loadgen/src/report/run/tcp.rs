//! TCP_INFO of connections.

use echomark::net::units::format_duration_ns;

use super::counts::above_zero;
use crate::report::chart::Share;
use crate::report::document::{Block, Fact, Medium, Section, Table};
use crate::report::format::{bits_per_second, grouped, number};
use crate::result::{Gauge, TcpGauges, TcpResult};

/// Adds the TCP_INFO of some connections.
pub(super) fn describe(label: &'static str, tcp: &TcpResult, section: &mut Section) {
    if section.is_for(Medium::Terminal) {
        section.facts(label, figures(tcp));
        section.line("", format!("limited by {}", tcp.limit.text));
        return;
    }
    section.line("", format!("limited by {}.", tcp.limit.text));
    let shares = [
        ("idle", "nothing to send", tcp.shares.idle),
        (
            "window",
            "the server's receive window was full",
            tcp.shares.receive_window,
        ),
        ("buffer", "our send buffer was full", tcp.shares.send_buffer),
        ("network", "data was in flight", tcp.shares.network),
    ];
    section.blocks.push(Block::Shares(
        shares
            .map(|(class, name, ratio)| Share { class, name, ratio })
            .into(),
    ));
    if let Some(gauges) = &tcp.at_end {
        section.table(table(gauges));
    }
    let counts = [
        ("connections asked", tcp.connections),
        ("segments retransmitted", tcp.retransmits),
        ("bytes retransmitted", tcp.bytes_retransmitted),
        ("duplicates received by the server", tcp.duplicates),
        ("reordering events", tcp.reorderings),
        ("received out of order", tcp.received_out_of_order),
    ];
    section.table(Table::new(
        ["over the run", ""],
        counts.map(|(name, count)| [name.to_owned(), grouped(count)]),
    ));
}

/// The most important figures.
fn figures(tcp: &TcpResult) -> Vec<Fact> {
    let mut facts = Vec::new();
    if let Some(gauges) = &tcp.at_end {
        facts.push(Fact::new("rtt", range(&gauges.rtt_us, micros)));
        facts.push(Fact::new("cwnd", range(&gauges.cwnd, number)));
        if let Some(delivery) = &gauges.delivery_rate_bits_per_s {
            facts.push(Fact::new("delivery", bits_per_second(delivery.median)));
        }
    }
    facts.push(Fact::new("retransmits", grouped(tcp.retransmits)));
    facts.extend(above_zero([
        ("duplicates", tcp.duplicates),
        ("reorderings", tcp.reorderings),
        ("out of order", tcp.received_out_of_order),
    ]));
    facts
}

fn table(gauges: &TcpGauges) -> Table {
    let row = |name: &str, gauge: Option<&Gauge>, format: fn(f64) -> String| {
        let gauge = gauge?;
        Some([
            name.to_owned(),
            format(gauge.min),
            format(gauge.median),
            format(gauge.max),
        ])
    };
    let rows = [
        row("round trip", Some(&gauges.rtt_us), micros),
        row("its variation", Some(&gauges.rttvar_us), micros),
        row("minimum round trip", gauges.min_rtt_us.as_ref(), micros),
        row("cwnd, segments", Some(&gauges.cwnd), number),
        row("ssthresh, segments", gauges.ssthresh.as_ref(), number),
        row(
            "delivery rate",
            gauges.delivery_rate_bits_per_s.as_ref(),
            bits_per_second,
        ),
        row(
            "pacing rate",
            gauges.pacing_rate_bits_per_s.as_ref(),
            bits_per_second,
        ),
    ];
    Table::new(
        ["at the end, over connections", "min", "median", "max"],
        rows.into_iter().flatten(),
    )
}

fn micros(microseconds: f64) -> String {
    format_duration_ns(microseconds * 1000.0)
}

/// The median, and the extremes if they differ from it.
fn range(gauge: &Gauge, format: fn(f64) -> String) -> String {
    let [min, median, max] = [gauge.min, gauge.median, gauge.max].map(format);
    if min == max {
        median
    } else {
        format!("{median} ({min} to {max})")
    }
}
