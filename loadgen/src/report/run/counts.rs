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
            let datagram = corruption
                .sequence
                .map(|sequence| format!(" of datagram {}", grouped(sequence)));
            section.line(
                "",
                format!(
                    "first wrong byte: offset {}{} of connection {}",
                    grouped(corruption.offset),
                    datagram.unwrap_or_default(),
                    corruption.connection
                ),
            );
        }
    });
}

/// Outcomes of messages: the basic counts, and others above 0.
fn messages(result: &RunResult) -> Vec<Fact> {
    let mut usual = vec![
        "sent",
        "received",
        "verified",
        "corrupt",
        "lost",
        "unfinished",
    ];
    if result.plan.is_datagram() {
        usual.extend(["duplicated", "reordered"]);
    }
    let counts = result.messages.named().into_iter();
    let shown = counts.filter(|&(name, _, count)| count > 0 || usual.contains(&name));
    let fact = |(name, _, count): (&str, _, _)| match name {
        "verified" if !result.plan.verify => Fact::new(name, "none"),
        name => Fact::new(name.replace('_', " "), grouped(count)),
    };
    shown.map(fact).collect()
}

/// Outcomes of connections.
fn sockets(result: &RunResult) -> Vec<Fact> {
    let usual = match result.plan.workload {
        Workload::Idle => &["opened", "held"][..],
        _ => &["opened"],
    };
    let counts = result.connections.named().into_iter();
    // Connections are usually held until the end.
    let is_shown = |name, count| usual.contains(&name) || count > 0 && name != "held";
    let shown = counts.filter(|&(name, _, count)| is_shown(name, count));
    let fact = |(name, _, count): (&str, _, _)| {
        let name = match name {
            "closed_by_peer" => "closed by the server".to_owned(),
            "unclosed" => "not closed by the server".to_owned(),
            name => name.replace('_', " "),
        };
        Fact::new(name, grouped(count))
    };
    shown.map(fact).collect()
}

/// Counts that are shown if something happened.
pub(super) fn above_zero<const N: usize>(counts: [(&str, u64); N]) -> Vec<Fact> {
    let happened = counts.into_iter().filter(|&(_, count)| count > 0);
    happened
        .map(|(name, count)| Fact::new(name, grouped(count)))
        .collect()
}
