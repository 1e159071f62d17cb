//! The report of a watch: availability, outages with their causes, response times, and a timeline for each
//! target.

use std::io::Write;

use crate::report::document::{
    Document, EVERYWHERE, Fact, Judgement, Medium, PAGE, Records, Report, Section, Table,
};
use crate::report::format::{count, duration, grouped, known, number};
use crate::report::{json, options, words as plan_words};
use crate::result::Status;
use crate::result::watch::{Outage, ProbeKind, TargetResult, WatchResult};

mod timeline;
mod words;

/// Maximum of stretches that a text lists, and a page.
const LISTED: usize = 12;
const LISTED_ON_PAGE: usize = 200;

impl Report for WatchResult {
    fn document(&self, medium: Medium) -> Document {
        let judgement = words::judgement(self);
        let mut document = Document {
            medium,
            kind: "watch",
            started_at: self.started_at.clone(),
            is_interrupted: self.interrupted,
            badge: judgement.0,
            subjects: subjects(self),
            heading: heading(self),
            load: words::load(&self.plan, self.duration_s),
            sections: Vec::new(),
        };
        document.section(EVERYWHERE, "verdict", "", |section| {
            section.judgement(verdict(self));
        });
        document.section(EVERYWHERE, "availability", "Availability", |section| {
            section.table(availability(self));
        });
        document.section(EVERYWHERE, "outages", "Outages", |section| {
            outages(self, section);
        });
        document.section(PAGE, "timeline", "Over time", |section| {
            timeline::describe(self, section);
        });
        document.section(EVERYWHERE, "response", "Response times", |section| {
            section.table(response_times(self));
        });
        document.section(EVERYWHERE, "client", "The client", |section| {
            client(self, section)
        });
        document.section(PAGE, "plan", "Plan and host", |section| {
            let tables = [
                ("plan", options::flat(&self.plan)),
                (
                    "host",
                    options::host(&self.host, &self.tool, &self.started_at),
                ),
            ];
            options::tables(section, tables);
        });
        document.section(PAGE, "reading", "How to read this", |section| {
            section.list(words::HOW_TO_READ);
        });
        document
    }

    fn records(&self) -> Records {
        let rows: Vec<Record<'_>> = self
            .targets
            .iter()
            .flat_map(|target| {
                target.outages.iter().map(|outage| Record {
                    target: &target.target,
                    probes_on: target.kind.name(),
                    length_s: outage.length_s(),
                    outage,
                })
            })
            .collect();
        Records::of(&COLUMNS, &rows)
    }

    fn to_json(&self) -> serde_json::Result<String> {
        json::compact(self)
    }

    fn write_json(&self, out: &mut dyn Write) -> serde_json::Result<()> {
        json::pretty(self, out)
    }
}

/// A row of the table for programs: a stretch with its target.
#[derive(serde::Serialize)]
struct Record<'a> {
    target: &'a str,
    probes_on: &'static str,
    length_s: f64,
    outage: &'a Outage,
}

/// The columns, and the paths of their values.
const COLUMNS: [(&str, &str); 9] = [
    ("target", "/target"),
    ("kind", "/probes_on"),
    ("class", "/outage/class"),
    ("start_s", "/outage/start_s"),
    ("end_s", "/outage/end_s"),
    ("length_s", "/length_s"),
    ("probes", "/outage/probes"),
    ("connections", "/outage/connections"),
    ("error", "/outage/error"),
];

fn subjects(result: &WatchResult) -> Vec<(&'static str, String)> {
    let targets = &result.plan.targets;
    if let [only] = &targets[..] {
        return vec![("target", only.to_string())];
    }
    let labels = std::iter::once("targets").chain(std::iter::repeat(""));
    let numbered = targets.iter().enumerate();
    let numbered = numbered.map(|(index, target)| format!("{} {target}", index + 1));
    labels.zip(numbered).collect()
}

fn heading(result: &WatchResult) -> String {
    let targets: Vec<String> = result
        .plan
        .targets
        .iter()
        .map(ToString::to_string)
        .collect();
    targets.join(", ")
}

fn verdict(result: &WatchResult) -> Judgement {
    let (badge, text, status) = words::judgement(result);
    Judgement {
        status,
        badge: badge.to_owned(),
        headline: String::new(),
        text,
        reasons: Vec::new(),
    }
}

/// The name of a row: the kind, and the target's number if there are several.
fn name(result: &WatchResult, target: &TargetResult) -> String {
    let targets = &result.plan.targets;
    if targets.len() < 2 {
        return target.kind.to_string();
    }
    let is_same = |it: &&TargetResult| it.kind == target.kind;
    // Each kind has a row for each target, in their order.
    let index = result
        .targets
        .iter()
        .filter(is_same)
        .position(|it| std::ptr::eq(it, target))
        .unwrap_or_default();
    format!("{} {}", index + 1, target.kind)
}

fn availability(result: &WatchResult) -> Table {
    let rows = result.targets.iter().map(|target| {
        [
            name(result, target),
            grouped(target.probes),
            grouped(target.failed.total()),
            grouped(target.late),
            known(target.availability.map(plan_words::availability)),
            grouped(target.outage_count),
            words::length(target.longest_outage_s),
            words::length(target.outage_total_s),
        ]
    });
    Table::new(
        [
            "probes", "sent", "failed", "late", "answered", "outages", "longest", "in total",
        ],
        rows,
    )
}

/// The stretches by their start; of too many, the longest outages.
fn outages(result: &WatchResult, section: &mut Section) {
    let most = if section.is_for(Medium::Page) {
        LISTED_ON_PAGE
    } else {
        LISTED
    };
    let targets = result.targets.iter();
    let mut all: Vec<(&TargetResult, &Outage)> = targets
        .flat_map(|target| target.outages.iter().map(move |outage| (target, outage)))
        .collect();
    let omitted: u64 = result
        .targets
        .iter()
        .map(|target| target.outages_omitted.count + target.outages_omitted.late_count)
        .sum();
    let left_out = all.len().saturating_sub(most) as u64 + omitted;
    all.sort_by(|(_, one), (_, other)| {
        let rank = |it: &Outage| (it.is_outage(), it.length_s());
        let ((is_first, first), (is_second, second)) = (rank(other), rank(one));
        is_first
            .cmp(&is_second)
            .then_with(|| first.total_cmp(&second))
    });
    all.truncate(most);
    all.sort_by(|(_, one), (_, other)| one.start_s.total_cmp(&other.start_s));
    let rows = all.iter().map(|(target, outage)| {
        [
            name(result, target),
            words::moment(outage.start_s),
            if outage.ongoing {
                "the end".to_owned()
            } else {
                words::moment(outage.end_s)
            },
            words::length(outage.length_s()),
            grouped(outage.probes),
            grouped(outage.connections),
            words::cause(outage),
        ]
    });
    let head = [
        "stretch",
        "from",
        "to",
        "length",
        "probes",
        "conns",
        "how it began",
    ];
    section.table(Table::new(head, rows).with_words(1));
    if left_out > 0 {
        section.note(format!(
            "{} are left out, because they are shorter or late answers only.",
            count(left_out, "stretch").replace("stretchs", "stretches")
        ));
    }
}

fn response_times(result: &WatchResult) -> Table {
    let rows = result.targets.iter().flat_map(|target| {
        let response = target.response.as_ref().map(|it| ("response", it));
        let reconnect = target.reconnect.as_ref().map(|it| ("reconnect", it));
        let name = name(result, target);
        [response, reconnect]
            .into_iter()
            .flatten()
            .map(move |(what, latency)| {
                [
                    format!("{name} {what}"),
                    grouped(latency.count()),
                    duration(Some(latency.min())),
                    duration(latency.quantile(0.5)),
                    duration(latency.quantile(0.99)),
                    duration(latency.quantile(0.999)),
                    duration(Some(latency.max())),
                ]
            })
    });
    Table::new(["time", "count", "min", "p50", "p99", "p99.9", "max"], rows)
}

fn client(result: &WatchResult, section: &mut Section) {
    let client = &result.client;
    let unsent: u64 = result.targets.iter().map(|target| target.unsent).sum();
    let absences = client.absences.len() as u64 + client.absences_omitted;
    let mut facts = Vec::new();
    if absences > 0 {
        facts.push(Fact::new("did not run", count(absences, "time")));
        facts.push(Fact::new("together", words::length(client.absent_s)));
        facts.push(Fact::new(
            "longest",
            words::length(client.longest_absence_s),
        ));
    }
    if unsent > 0 {
        facts.push(Fact::new("probes not sent", grouped(unsent)));
    }
    if facts.is_empty() && section.is_for(Medium::Page) {
        facts.push(Fact::new("did not run", number(0.0)));
    }
    section.facts("client", facts);
    let rows = client.absences.iter().take(LISTED).map(|absence| {
        [
            "absence".to_owned(),
            words::moment(absence.start_s),
            words::moment(absence.end_s),
            words::length(absence.end_s - absence.start_s),
            absence.cause.name().to_owned(),
        ]
    });
    let table = Table::new(["client", "from", "to", "length", "why"], rows);
    section.table(table.with_words(1));
    if let Some(error) = &client.error {
        section.line("error", format!("the client's own: {error}"));
    }
}

/// What the kind of probes is on, in a phrase.
fn of_kind(kind: ProbeKind) -> &'static str {
    match kind {
        ProbeKind::Persistent => "persistent connections",
        ProbeKind::New => "new connections",
    }
}

/// The status of a badge: an outage beyond the limit is as bad as an invalid run.
fn status(result: &WatchResult) -> Status {
    let has_outage = result.targets.iter().any(|target| target.outage_count > 0);
    if result.exceeds_limit() || result.is_blind() {
        Status::Invalid
    } else if has_outage {
        Status::Suspect
    } else {
        Status::Valid
    }
}
