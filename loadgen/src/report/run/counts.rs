//! Outcomes of messages and connections.

use crate::plan::Workload;
use crate::report::document::{Document, Fact, Medium};
use crate::report::format::grouped;
use crate::report::words;
use crate::result::RunResult;

/// Adds the outcomes of messages and connections.
pub(super) fn describe(result: &RunResult, media: &[Medium], document: &mut Document) {
    document.section(media, "accounts", "Counts", |section| {
        let name = words::messages(&result.plan);
        section.counts(name, name, messages(result));
        if section.is_for(Medium::Comment) {
            return;
        }
        let mut connections = sockets(result);
        if section.is_for(Medium::Page) {
            for (name, bytes) in [
                ("payload sent", result.bytes.sent),
                ("payload received", result.bytes.received),
            ] {
                connections.push(Fact::new(name, format!("{} bytes", grouped(bytes))));
            }
        }
        section.counts("sockets", "connections and bytes", connections);
        if let Some(corruption) = result.client.first_corruption {
            let unit = if result.plan.is_datagram() {
                "datagram"
            } else {
                "offset"
            };
            section.line(
                "",
                format!(
                    "first wrong byte: {unit} {} of connection {}",
                    grouped(corruption.offset),
                    corruption.connection
                ),
            );
        }
    });
}

/// Outcomes of messages: the basic counts, and others above 0.
fn messages(result: &RunResult) -> Vec<Fact> {
    let messages = &result.messages;
    let is_datagram = result.plan.is_datagram();
    let mut facts = vec![
        Fact::new("sent", grouped(messages.sent)),
        Fact::new("received", grouped(messages.received)),
    ];
    facts.push(if result.plan.verify {
        Fact::new("verified", grouped(messages.verified))
    } else {
        Fact::new("verified", "none")
    });
    facts.extend(shown([
        ("corrupt", messages.corrupt, true),
        ("stray", messages.stray, false),
        ("duplicated", messages.duplicated, is_datagram),
        ("reordered", messages.reordered, is_datagram),
        ("lost", messages.lost, true),
        ("late", messages.late, false),
        ("timed out", messages.timed_out, false),
        ("unfinished", messages.unfinished, true),
        ("unsent", messages.unsent, false),
    ]));
    facts
}

/// Outcomes of connections.
fn sockets(result: &RunResult) -> Vec<Fact> {
    let connections = &result.connections;
    let is_idle = result.plan.workload == Workload::Idle;
    let mut facts = shown([
        ("opened", connections.opened, true),
        ("failed", connections.failed, false),
        ("reset", connections.reset, false),
        ("closed by the server", connections.closed_by_peer, false),
        ("not closed by the server", connections.unclosed, false),
        ("refused", connections.refused, false),
    ]);
    if is_idle {
        facts.push(Fact::new("held", grouped(connections.held)));
    }
    facts
}

/// Counts that are always shown, and others above 0.
pub(super) fn shown<const N: usize>(counts: [(&str, u64, bool); N]) -> Vec<Fact> {
    counts
        .into_iter()
        .filter(|&(_, count, is_usual)| count > 0 || is_usual)
        .map(|(name, count, _)| Fact::new(name, grouped(count)))
        .collect()
}
