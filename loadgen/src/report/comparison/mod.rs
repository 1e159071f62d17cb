//! The report of a comparison: the verdict, each figure's ratio with its interval, the rounds, and both
//! plans.

use std::io::Write;

use crate::compare::change;
use crate::report::document::{
    Block, COMMENT_AND_PAGE, Document, EVERYWHERE, Fact, Judgement, Medium, PAGE, Records, Report,
    Section, TERMINAL, Table,
};
use crate::report::format::{count, grouped, known, percent};
use crate::report::{json, options, words as plan_words};
use crate::result::Status;
use crate::result::comparison::{
    ComparedSide, Comparison, ComparisonVerdict, Method, MetricComparison, RatioInterval, Side,
    Source, Unit,
};

mod charts;
mod words;

use words::{figure, name};

/// The columns of a figure, and the paths of their values in the result.
const COLUMNS: [(&str, &str); 11] = [
    ("figure", "/name"),
    ("unit", "/unit"),
    ("better", "/better"),
    ("base", "/base"),
    ("new", "/new"),
    ("ratio", "/ratio"),
    ("low", "/interval/low"),
    ("high", "/interval/high"),
    ("decisive_low", "/decisive/low"),
    ("decisive_high", "/decisive/high"),
    ("verdict", "/verdict"),
];

impl Report for Comparison {
    fn document(&self, medium: Medium) -> Document {
        let mut document = Document {
            medium,
            kind: "compare",
            started_at: self.started_at.clone(),
            is_interrupted: self.interrupted,
            badge: badge(self.verdict),
            subjects: vec![
                ("base", self.base.name.clone()),
                ("new", self.new.name.clone()),
            ],
            heading: format!("{} against {}", self.new.name, self.base.name),
            load: format!("{}, {}", plan_words::load(&self.base.plan), effort(self)),
            sections: Vec::new(),
        };
        document.section(COMMENT_AND_PAGE, "verdict", "", |section| {
            section.judgement(verdict(self));
        });
        document.section(TERMINAL, "verdict", "", |section| {
            section.judgement(Judgement {
                text: String::new(),
                ..verdict(self)
            });
            for sentence in self.sentence.split_inclusive(". ") {
                section.line("", sentence);
            }
        });
        document.section(EVERYWHERE, "figures", "New over base", |section| {
            figures(self, section);
        });
        document.section(COMMENT_AND_PAGE, "validity", "", |section| {
            validity(self, section);
        });
        document.section(TERMINAL, "validity", "", |section| {
            for reason in &self.validity.reasons {
                let label = match reason.status {
                    Status::Valid => "valid",
                    Status::Suspect => "suspect",
                    Status::Invalid => "INVALID",
                };
                section.line(label, format!("{}: {}", reason.code, reason.text));
            }
        });
        document.section(PAGE, "rounds", "Rounds", |section| rounds(self, section));
        document.section(PAGE, "plan", "Plan and host", |section| {
            let common = common_plan(self);
            let [base, new] = [&self.base, &self.new].map(|of| side(of, &common));
            let mut host = options::host(&self.host, &self.tool, &self.started_at);
            host.push(Fact::new("method", method(self.method)));
            host.push(Fact::new("threshold", percent(self.threshold)));
            let tables = [
                ("base", base),
                ("new", new),
                ("plan of both", common),
                ("host and method", host),
            ];
            options::tables(section, tables);
        });
        document.section(PAGE, "reading", "How to read this", how_to_read);
        document
    }

    fn records(&self) -> Records {
        Records::of(&COLUMNS, &self.metrics)
    }

    fn to_json(&self) -> serde_json::Result<String> {
        json::compact(self)
    }

    fn write_json(&self, out: &mut dyn Write) -> serde_json::Result<()> {
        json::pretty(self, out)
    }
}

/// A verdict in words.
fn badge(verdict: ComparisonVerdict) -> &'static str {
    match verdict {
        ComparisonVerdict::Regression => "REGRESSION",
        ComparisonVerdict::Improvement => "IMPROVEMENT",
        ComparisonVerdict::NoChange => "NO REGRESSION",
        ComparisonVerdict::NotEnoughEvidence => "NOT ENOUGH EVIDENCE",
    }
}

/// A single figure's verdict in words.
fn metric_verdict(metric: &MetricComparison) -> &'static str {
    match metric.verdict {
        ComparisonVerdict::Regression => "regression",
        ComparisonVerdict::Improvement => "improvement",
        ComparisonVerdict::NoChange => "no regression",
        ComparisonVerdict::NotEnoughEvidence if metric.ratio.is_none() => "not known",
        ComparisonVerdict::NotEnoughEvidence => "undecided",
    }
}

fn verdict(comparison: &Comparison) -> Judgement {
    Judgement {
        status: match comparison.verdict {
            ComparisonVerdict::Regression => Status::Invalid,
            ComparisonVerdict::NotEnoughEvidence => Status::Suspect,
            ComparisonVerdict::Improvement | ComparisonVerdict::NoChange => Status::Valid,
        },
        badge: badge(comparison.verdict).to_owned(),
        headline: String::new(),
        text: comparison.sentence.clone(),
        reasons: Vec::new(),
    }
}

/// The number of rounds or runs, and their length.
fn effort(comparison: &Comparison) -> String {
    let plan = &comparison.base.plan;
    let window = match (plan.duration, plan.requests) {
        (Some(duration), _) => format!("{} s", duration.as_secs_f64()),
        (None, Some(requests)) => count(requests.get(), "message"),
        (None, None) => "a window".to_owned(),
    };
    let (base, new) = (comparison.base.runs as u64, comparison.new.runs as u64);
    match comparison.method {
        Method::PairedRounds => format!("{} of {window} on each side", count(base, "round")),
        Method::Runs | Method::SingleRuns => {
            format!("{} and {new} of {window}", count(base, "run"))
        }
    }
}

/// A row for each figure, with a plot of all intervals on one axis.
fn figures(comparison: &Comparison, section: &mut Section) {
    let rows = comparison.metrics.iter().map(|metric| {
        [
            name(metric),
            known(metric.base.map(|value| figure(metric.unit, value))),
            known(metric.new.map(|value| figure(metric.unit, value))),
            known(metric.ratio.map(change)),
            known(metric.interval.and_then(interval)),
            metric_verdict(metric).to_owned(),
        ]
    });
    let head = ["figure", "base", "new", "change", "95 % CI", "verdict"];
    let table = Table::new(head, rows).with_words(1);
    if !section.is_for(Medium::Page) {
        return section.table(table);
    }
    let forest = charts::forest(comparison);
    section.blocks.push(Block::Forest(table, forest));
    section.note(format!(
        "Thick: the 95 % CI of the figure by itself. Thin: the interval that decides, wide enough that \
         all figures together hold with {}. Shaded red: worse than the base by more than {}, the \
         threshold. – : not known.",
        percent(comparison.confidence),
        percent(comparison.threshold)
    ));
    // The verdict says the others.
    let others = comparison.metrics.iter();
    let others = others.filter(|metric| metric.verdict != comparison.verdict);
    let sentences: Vec<&String> = others.map(|metric| &metric.sentence).collect();
    if !sentences.is_empty() {
        section.details("The other figures in words", |section| {
            section.list(sentences)
        });
    }
}

fn validity(comparison: &Comparison, section: &mut Section) {
    let validity = &comparison.validity;
    if section.is_for(Medium::Comment) && validity.reasons.is_empty() {
        return;
    }
    let headline = match validity.status {
        Status::Valid => "The measurements can be relied on",
        Status::Suspect => "The measurements may be distorted",
        Status::Invalid => "The measurements do not show what was asked for",
    };
    let status = plan_words::status(validity.status);
    section.verdict(status, headline, validity, "no objection to any run");
}

fn interval(interval: RatioInterval) -> Option<String> {
    let (low, high) = interval.low.zip(interval.high)?;
    Some(format!("{} to {}", change(low), change(high)))
}

/// Each round's figures, as charts of the ratios and as a table.
fn rounds(comparison: &Comparison, section: &mut Section) {
    if comparison.rounds.is_empty() {
        return;
    }
    let metrics = || comparison.metrics.iter();
    for metric in metrics().filter(|metric| metric.unit != Unit::Ratio) {
        if let Some(chart) = charts::course(comparison, metric) {
            section.chart(chart);
        }
    }
    let mut head = ["round", "first", "side", "verdict"]
        .map(str::to_owned)
        .to_vec();
    head.extend(metrics().map(name));
    let rounds = comparison.rounds.iter().enumerate();
    let rows = rounds.flat_map(|(index, round)| {
        let sides = [(Side::Base, &round.base), (Side::New, &round.new)];
        sides.map(|(side, run)| {
            let mut row = vec![
                grouped(index as u64 + 1),
                side_name(round.first).to_owned(),
                side_name(side).to_owned(),
                plan_words::status(run.status).to_lowercase(),
            ];
            row.extend(metrics().map(|metric| {
                let value = run.values.get(metric.name.as_ref()).copied().flatten();
                known(value.map(|value| figure(metric.unit, value)))
            }));
            row
        })
    });
    let table = Table {
        head,
        rows: rows.collect(),
        word_columns: 0,
    };
    section.details("Rounds as a table", |section| section.table(table));
}

fn side_name(side: Side) -> &'static str {
    match side {
        Side::Base => "base",
        Side::New => "new",
    }
}

/// The source of a side, and the options in which it differs from the other.
fn side(side: &ComparedSide, common: &[Fact]) -> Vec<Fact> {
    let source = match side.source {
        Source::Result => "a stored result",
        Source::Targets => "running servers",
        Source::Command => "a server started for each round",
    };
    let mut facts = vec![
        Fact::new("name", &side.name),
        Fact::new("source", source),
        Fact::new("runs", grouped(side.runs as u64)),
    ];
    let is_common = |fact: &Fact| common.iter().any(|other| other.name == fact.name);
    facts.extend(options::flat(&side.plan));
    facts.retain(|fact| !is_common(fact));
    facts
}

/// The options that both sides have.
fn common_plan(comparison: &Comparison) -> Vec<Fact> {
    let new: Vec<Fact> = options::flat(&comparison.new.plan);
    let mut facts = options::flat(&comparison.base.plan);
    let is_same =
        |fact: &Fact, other: &Fact| (&fact.name, &fact.value) == (&other.name, &other.value);
    facts.retain(|fact| new.iter().any(|other| is_same(fact, other)));
    facts
}

fn method(method: Method) -> &'static str {
    match method {
        Method::PairedRounds => "paired rounds: Hodges-Lehmann, Wilcoxon's signed ranks",
        Method::Runs => "runs of two results: Welch's t",
        Method::SingleRuns => "single runs, with an allowance for the variation between runs",
    }
}

fn how_to_read(section: &mut Section) {
    section.list([
        "A **regression** is established when the whole interval that decides is worse than the base by \
         more than the threshold, and **no regression** when none of it is. In between there is not \
         enough evidence, and more rounds would help.",
        "Rounds are pairs: both sides were measured one after the other, so changes of the host between \
         rounds cancel out.",
    ]);
}
