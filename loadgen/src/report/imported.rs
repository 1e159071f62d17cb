//! The report of a result that another tool measured.

use std::io::Write;

use crate::report::document::{
    Document, EVERYWHERE, Fact, Medium, PAGE, Records, Report, TERMINAL, TERMINAL_AND_PAGE, Table,
};
use crate::report::format::{bits_per_second, duration, grouped, known, percent, rate, seconds};
use crate::report::{json, words};
use crate::result::imported::{ImportedLatency, ImportedResult};

impl Report for ImportedResult {
    fn document(&self, medium: Medium) -> Document {
        let target = self.target.clone().unwrap_or_else(|| "not told".to_owned());
        let mut document = Document {
            medium,
            kind: "import",
            started_at: self
                .started_at
                .clone()
                .unwrap_or_else(|| "time not told".to_owned()),
            is_interrupted: self.interrupted,
            badge: words::status(self.verdict.status),
            subjects: vec![("target", target.clone()), ("tool", tool(self))],
            heading: format!("{target}, measured by {}", tool(self)),
            load: load(self),
            sections: Vec::new(),
        };
        document.section(EVERYWHERE, "verdict", "", |section| {
            let badge = words::status(self.verdict.status);
            let headline = "What these figures do not show";
            section.verdict(badge, headline, &self.verdict, "nothing is unknown");
        });
        document.section(EVERYWHERE, "summary", "", |section| {
            section.facts("rate", rates(self));
        });
        document.section(EVERYWHERE, "latency", "Latency", |section| {
            if let Some(latency) = &self.latency_ns {
                section.table(latency_table(latency));
            }
        });
        document.section(TERMINAL_AND_PAGE, "accounts", "Counts", |section| {
            let counts = messages(self);
            if !counts.is_empty() {
                section.counts("messages", "messages", counts);
            }
            section.facts("beside", beside(self));
        });
        document.section(PAGE, "reading", "How to read this", |section| {
            section.list([
                "A figure that the tool did not give is left out. None is computed from another, except \
                 for units.",
                "The **latency** begins when the tool sent a message. Compare it with the service time \
                 of loadgen, not with the response time.",
            ]);
        });
        document.section(TERMINAL, "reasons", "", |section| {
            section.reasons(&self.verdict.reasons);
        });
        document
    }

    fn records(&self) -> Records {
        Records::of(&COLUMNS, std::slice::from_ref(self))
    }

    fn to_json(&self) -> serde_json::Result<String> {
        json::compact(self)
    }

    fn write_json(&self, out: &mut dyn Write) -> serde_json::Result<()> {
        json::pretty(self, out)
    }
}

/// The columns of the one row, and the paths of their values in the result.
const COLUMNS: [(&str, &str); 14] = [
    ("tool", "/tool/name"),
    ("target", "/target"),
    ("duration_s", "/duration_s"),
    ("target_rate", "/target_rate"),
    ("achieved_rate", "/achieved_rate"),
    ("sent_bits_per_s", "/sent_bits_per_s"),
    ("received_bits_per_s", "/received_bits_per_s"),
    ("sent", "/messages/sent"),
    ("received", "/messages/received"),
    ("lost", "/messages/lost"),
    ("failed", "/messages/failed"),
    ("latency_min_ns", "/latency_ns/min"),
    ("latency_mean_ns", "/latency_ns/mean"),
    ("latency_max_ns", "/latency_ns/max"),
];

fn tool(result: &ImportedResult) -> String {
    format!("{} {}", result.tool.name, result.tool.version)
        .trim_end()
        .to_owned()
}

fn load(result: &ImportedResult) -> String {
    match result.duration_s {
        Some(length) => format!("{}, {}", result.load, seconds(length)),
        None => result.load.clone(),
    }
}

fn rates(result: &ImportedResult) -> Vec<Fact> {
    let facts = [
        ("target", result.target_rate.map(rate)),
        ("achieved", result.achieved_rate.map(rate)),
        ("sent", result.sent_bits_per_s.map(bits_per_second)),
        ("received", result.received_bits_per_s.map(bits_per_second)),
    ];
    present(facts)
}

fn present<const N: usize>(facts: [(&str, Option<String>); N]) -> Vec<Fact> {
    let facts = facts.into_iter();
    facts
        .filter_map(|(name, value)| Some(Fact::new(name, value?)))
        .collect()
}

fn messages(result: &ImportedResult) -> Vec<Fact> {
    let messages = &result.messages;
    present([
        ("sent", messages.sent.map(grouped)),
        ("received", messages.received.map(grouped)),
        ("lost", messages.lost.map(grouped)),
        ("failed", messages.failed.map(grouped)),
        ("duplicated", messages.duplicated.map(grouped)),
        ("reordered", messages.reordered.map(grouped)),
        (
            "timed",
            result
                .latency_ns
                .as_ref()
                .and_then(|latency| latency.count)
                .map(grouped),
        ),
    ])
}

fn beside(result: &ImportedResult) -> Vec<Fact> {
    let time = |value: Option<f64>| value.map(|ns| duration(Some(ns as u64)));
    present([
        ("retransmits", result.retransmits.map(grouped)),
        ("TCP's smoothed rtt", time(result.tcp_rtt_ns_mean)),
        ("jitter", time(result.jitter_ns)),
        ("client CPU", result.client_cpu_ratio.map(percent)),
        ("server CPU", result.server_cpu_ratio.map(percent)),
    ])
}

/// One row, with a column for each figure that was given.
fn latency_table(latency: &ImportedLatency) -> Table {
    let time = |value: f64| duration(Some(value.round() as u64));
    let mut cells = vec![
        ("min".to_owned(), latency.min.map(time)),
        ("mean".to_owned(), latency.mean.map(time)),
    ];
    for given in &latency.percentiles {
        cells.push((format!("p{}", given.percentile), Some(time(given.value_ns))));
    }
    cells.push(("max".to_owned(), latency.max.map(time)));
    // As loadgen's own service time begins.
    let mut head = vec!["latency".to_owned()];
    let mut row = vec!["service".to_owned()];
    for (name, value) in cells {
        head.push(name);
        row.push(known(value));
    }
    Table {
        head,
        rows: vec![row],
        word_columns: 0,
    }
}
