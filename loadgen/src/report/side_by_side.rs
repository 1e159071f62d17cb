//! The report of two results beside each other.

use std::io::Write;

use crate::compare::change;
use crate::report::document::{
    Document, EVERYWHERE, Fact, Medium, Records, Report, TERMINAL, TERMINAL_AND_PAGE, Table,
};
use crate::report::format::{bits_per_second, duration, known, percent, rate};
use crate::report::{json, words};
use crate::result::comparison::Unit;
use crate::result::side_by_side::{Side, SideBySide};

impl Report for SideBySide {
    fn document(&self, medium: Medium) -> Document {
        let [base, new] = [&self.base, &self.new].map(side);
        let mut document = Document {
            medium,
            kind: "compare",
            started_at: self.started_at.clone(),
            is_interrupted: false,
            badge: words::status(self.verdict.status),
            heading: format!("{} beside {}", self.new.name, self.base.name),
            subjects: vec![("base", base), ("new", new)],
            load: if self.base.load == self.new.load {
                self.base.load.clone()
            } else {
                format!("base: {}; new: {}", self.base.load, self.new.load)
            },
            sections: Vec::new(),
        };
        document.section(EVERYWHERE, "verdict", "", |section| {
            let badge = words::status(self.verdict.status);
            let headline = "Beside each other, without evidence of a difference";
            section.verdict(badge, headline, &self.verdict, "");
        });
        document.section(EVERYWHERE, "figures", "New over base", |section| {
            let rows = self.figures.iter().map(|figure| {
                let shown = |value: f64| match figure.unit {
                    Unit::PerSecond => rate(value),
                    Unit::Ns => duration(Some(value.round() as u64)),
                    Unit::Ratio => percent(value),
                    Unit::BitsPerSecond => bits_per_second(value),
                };
                [
                    figure.name.replace('_', " "),
                    known(figure.base.map(shown)),
                    known(figure.new.map(shown)),
                    known(figure.ratio.map(change)),
                ]
            });
            section.table(Table::new(["figure", "base", "new", "change"], rows));
        });
        document.section(TERMINAL_AND_PAGE, "sides", "Sides", |section| {
            if !section.is_for(Medium::Terminal) {
                for (title, side) in [("base", &self.base), ("new", &self.new)] {
                    let facts = vec![
                        Fact::new("file", &side.name),
                        Fact::new("tool", tool(side)),
                        Fact::new("load", &side.load),
                    ];
                    section.counts("", title, facts);
                }
            }
        });
        document.section(TERMINAL, "reasons", "", |section| {
            section.reasons(&self.verdict.reasons);
        });
        document
    }

    fn records(&self) -> Records {
        Records::of(&COLUMNS, &self.figures)
    }

    fn to_json(&self) -> serde_json::Result<String> {
        json::compact(self)
    }

    fn write_json(&self, out: &mut dyn Write) -> serde_json::Result<()> {
        json::pretty(self, out)
    }
}

/// The columns of a figure, and the paths of their values.
const COLUMNS: [(&str, &str); 6] = [
    ("figure", "/name"),
    ("unit", "/unit"),
    ("better", "/better"),
    ("base", "/base"),
    ("new", "/new"),
    ("ratio", "/ratio"),
];

fn tool(side: &Side) -> String {
    format!("{} {}", side.tool.name, side.tool.version)
        .trim_end()
        .to_owned()
}

fn side(side: &Side) -> String {
    format!("{}, measured by {}", side.name, tool(side))
}
