//! The contents of a report, independent of its format. A result makes a [`Document`], and a format
//! renders it.
//!
//! Text is plain everywhere, and formats escape it. In a [`Block::Note`] and a [`Block::List`],
//! words between two pairs of asterisks are emphasized.

use std::io::Write;

use serde::Serialize;
use serde_json::Value;

use super::chart::{Chart, Forest, Share};
use crate::report::format::UNKNOWN;
use crate::result::{Reason, Status, Verdict};

/// A result that can be reported in every format.
pub trait Report {
    /// The report for people.
    fn document(&self, medium: Medium) -> Document;

    /// The table for programs: a header, and a row for each interval, trial or figure.
    fn records(&self) -> Records;

    /// The result itself as JSON, to be read back from a page.
    ///
    /// # Errors
    /// The error of serde.
    fn to_json(&self) -> serde_json::Result<String>;

    /// Writes the result file.
    ///
    /// # Errors
    /// The error of serde, or of `out`.
    fn write_json(&self, out: &mut dyn Write) -> serde_json::Result<()>;
}

/// The medium of a report.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Medium {
    /// A terminal: the important figures, in 80 columns.
    Terminal,
    /// An issue or a pull request: the essentials.
    Comment,
    /// A browser: everything, with charts.
    Page,
}

/// Sets of media for a section.
pub(super) const EVERYWHERE: &[Medium] = &[Medium::Terminal, Medium::Comment, Medium::Page];
pub(super) const COMMENT: &[Medium] = &[Medium::Comment];
pub(super) const TERMINAL: &[Medium] = &[Medium::Terminal];
pub(super) const TERMINAL_AND_PAGE: &[Medium] = &[Medium::Terminal, Medium::Page];
pub(super) const TERMINAL_AND_COMMENT: &[Medium] = &[Medium::Terminal, Medium::Comment];
pub(super) const COMMENT_AND_PAGE: &[Medium] = &[Medium::Comment, Medium::Page];
pub(super) const PAGE: &[Medium] = &[Medium::Page];

/// The report of a result for one medium.
#[derive(Debug)]
pub struct Document {
    pub(super) medium: Medium,
    /// The kind of the result: run, search, compare.
    pub(super) kind: &'static str,
    pub(super) started_at: String,
    pub(super) is_interrupted: bool,
    /// The verdict in one word.
    pub(super) badge: &'static str,
    /// The measured sides: a name and an endpoint for each.
    pub(super) subjects: Vec<(&'static str, String)>,
    /// The measured target in a phrase.
    pub(super) heading: String,
    /// The load.
    pub(super) load: String,
    pub(super) sections: Vec<Section>,
}

/// A part of a document with its own heading.
#[derive(Debug)]
pub(super) struct Section {
    medium: Medium,
    pub(super) id: &'static str,
    /// Empty for none.
    pub(super) title: &'static str,
    pub(super) blocks: Vec<Block>,
}

/// An element of a section. A terminal prints the label in front of it.
#[derive(Debug)]
pub(super) enum Block {
    Verdict(Box<Judgement>),
    /// A few important figures.
    Facts {
        label: &'static str,
        facts: Vec<Fact>,
    },
    /// Many figures for reference. A page prints the `title` above.
    Counts {
        label: &'static str,
        title: &'static str,
        counts: Vec<Fact>,
    },
    Table(Table),
    /// A sentence.
    Line {
        label: &'static str,
        text: String,
    },
    /// An explanation.
    Note(String),
    List(Vec<String>),
    /// Collapsed details.
    Details {
        summary: String,
        blocks: Vec<Self>,
    },
    Chart(Box<Chart>),
    /// A table that a page shows with a plot of its ratios.
    Forest(Table, Forest),
    Shares(Vec<Share>),
}

/// A verdict with its reasons.
#[derive(Debug)]
pub(super) struct Judgement {
    /// Good, doubtful or bad news.
    pub(super) status: Status,
    pub(super) badge: String,
    pub(super) headline: String,
    pub(super) text: String,
    pub(super) reasons: Vec<Reason>,
}

/// A figure with its name.
#[derive(Debug)]
pub(super) struct Fact {
    pub(super) name: String,
    pub(super) value: String,
    /// A note that a page prints below it.
    pub(super) note: String,
}

/// A table whose first column names its rows.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) head: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
    /// Number of columns with words, at the end. The columns between have figures.
    pub(super) word_columns: usize,
}

/// The table for programs: columns and rows. Nulls of the result are empty fields.
#[derive(Debug)]
pub struct Records {
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Records {
    /// Makes a row for each item, from the values at these JSON pointers (RFC 6901).
    pub(super) fn of<T: Serialize>(columns: &[(&'static str, &str)], items: &[T]) -> Self {
        let row = |item: &T| {
            // A value read from JSON can be written as JSON.
            let item = serde_json::to_value(item).unwrap_or_default();
            let fields = columns
                .iter()
                .map(|(_, pointer)| match item.pointer(pointer) {
                    None | Some(Value::Null) => String::new(),
                    Some(Value::String(text)) => text.clone(),
                    Some(Value::Number(number)) if number.is_f64() => {
                        number.as_f64().unwrap_or_default().to_string()
                    }
                    Some(value) => value.to_string(),
                });
            fields.collect()
        };
        Self {
            head: columns.iter().map(|(name, _)| *name).collect(),
            rows: items.iter().map(row).collect(),
        }
    }
}

impl Document {
    /// Adds a section if the document is for one of `media`, and if the section has contents.
    pub(super) fn section(
        &mut self,
        media: &[Medium],
        id: &'static str,
        title: &'static str,
        fill: impl FnOnce(&mut Section),
    ) {
        if !media.contains(&self.medium) {
            return;
        }
        let mut section = Section {
            medium: self.medium,
            id,
            title,
            blocks: Vec::new(),
        };
        fill(&mut section);
        if !section.blocks.is_empty() {
            self.sections.push(section);
        }
    }
}

impl Section {
    pub(super) fn is_for(&self, medium: Medium) -> bool {
        self.medium == medium
    }

    pub(super) fn facts(&mut self, label: &'static str, facts: Vec<Fact>) {
        if !facts.is_empty() {
            self.blocks.push(Block::Facts { label, facts });
        }
    }

    pub(super) fn counts(&mut self, label: &'static str, title: &'static str, counts: Vec<Fact>) {
        self.blocks.push(Block::Counts {
            label,
            title,
            counts,
        });
    }

    /// Adds a table unless it is empty.
    pub(super) fn table(&mut self, table: Table) {
        if !table.rows.is_empty() {
            self.blocks.push(Block::Table(table));
        }
    }

    pub(super) fn line(&mut self, label: &'static str, text: impl Into<String>) {
        let text = text.into();
        self.blocks.push(Block::Line { label, text });
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.blocks.push(Block::Note(text.into()));
    }

    pub(super) fn list<T: Into<String>>(&mut self, items: impl IntoIterator<Item = T>) {
        let items = items.into_iter().map(Into::into).collect();
        self.blocks.push(Block::List(items));
    }

    pub(super) fn chart(&mut self, chart: Chart) {
        self.blocks.push(Block::Chart(Box::new(chart)));
    }

    /// Collapses the blocks added by `fill`.
    pub(super) fn details(&mut self, summary: impl Into<String>, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self {
            medium: self.medium,
            id: self.id,
            title: "",
            blocks: Vec::new(),
        };
        fill(&mut inner);
        self.blocks.push(Block::Details {
            summary: summary.into(),
            blocks: inner.blocks,
        });
    }

    pub(super) fn verdict(&mut self, badge: &str, headline: &str, verdict: &Verdict, valid: &str) {
        self.judgement(Judgement {
            status: verdict.status,
            badge: badge.to_owned(),
            headline: headline.to_owned(),
            text: if verdict.reasons.is_empty() {
                valid.to_owned()
            } else {
                String::new()
            },
            reasons: verdict.reasons.clone(),
        });
    }

    /// The reasons of a verdict, a paragraph each.
    pub(super) fn reasons(&mut self, reasons: &[Reason]) {
        let labels = std::iter::once("reasons").chain(std::iter::repeat(""));
        for (label, reason) in labels.zip(reasons) {
            self.line(label, format!("{}: {}", reason.code, reason.text));
        }
    }

    pub(super) fn judgement(&mut self, judgement: Judgement) {
        self.blocks.push(Block::Verdict(Box::new(judgement)));
    }
}

impl Fact {
    pub(super) fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
            note: String::new(),
        }
    }

    /// Adds a note for the page.
    pub(super) fn noted(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

impl Table {
    pub(super) fn new<const N: usize>(
        head: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> Self {
        Self {
            head: head.map(str::to_owned).to_vec(),
            rows: rows.into_iter().map(Vec::from).collect(),
            word_columns: 0,
        }
    }

    /// Declares the last `count` columns as words.
    pub(super) fn with_words(mut self, count: usize) -> Self {
        self.word_columns = count;
        self
    }

    /// Removes the columns with these names.
    pub(super) fn without(mut self, names: &[&str]) -> Self {
        for name in names {
            if let Some(index) = self.head.iter().position(|head| head == name) {
                self.head.remove(index);
                for row in &mut self.rows {
                    row.remove(index);
                }
            }
        }
        self
    }

    /// Adds a column at the end.
    pub(super) fn and(mut self, name: &str, cells: impl IntoIterator<Item = String>) -> Self {
        self.head.push(name.to_owned());
        for (row, cell) in self.rows.iter_mut().zip(cells) {
            row.push(cell);
        }
        self
    }

    /// Whether a figure is unknown.
    pub(super) fn has_unknown(&self) -> bool {
        self.rows.iter().flatten().any(|cell| cell == UNKNOWN)
    }
}
