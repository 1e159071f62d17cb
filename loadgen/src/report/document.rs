//! What a report says, before it has a format. A result kind makes a [`Document`], and a format renders one.
//!
//! Text is plain in every part: formats escape it. In a [`Block::Note`] and a [`Block::List`], words
//! between two pairs of asterisks are emphasized.

use serde::Serialize;
use serde_json::Value;

use super::chart::{Chart, Forest, Share};
use crate::report::format::UNKNOWN;
use crate::result::{Reason, Status, Verdict};

/// A result that can be reported in every format.
pub trait Report {
    /// What it tells a reader.
    fn document(&self, medium: Medium) -> Document;

    /// What it tells a program: a header, and a row for each interval, trial or figure.
    fn records(&self) -> Records;
}

/// Where a document is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Medium {
    /// On a terminal: what there is to know, in 80 columns.
    Terminal,
    /// In an issue or a pull request: the essence.
    Comment,
    /// In a browser: everything, with charts.
    Page,
}

/// The media that a section is for.
pub(super) const EVERYWHERE: &[Medium] = &[Medium::Terminal, Medium::Comment, Medium::Page];
pub(super) const TERMINAL: &[Medium] = &[Medium::Terminal];
pub(super) const TERMINAL_AND_PAGE: &[Medium] = &[Medium::Terminal, Medium::Page];
pub(super) const TERMINAL_AND_COMMENT: &[Medium] = &[Medium::Terminal, Medium::Comment];
pub(super) const COMMENT_AND_PAGE: &[Medium] = &[Medium::Comment, Medium::Page];
pub(super) const PAGE: &[Medium] = &[Medium::Page];

/// All that is said of a result to the readers of one medium.
#[derive(Debug)]
pub struct Document {
    pub(super) medium: Medium,
    /// The kind of the result: run, search, compare.
    pub(super) kind: &'static str,
    pub(super) started_at: String,
    pub(super) is_interrupted: bool,
    /// The result in a word.
    pub(super) badge: &'static str,
    /// What was measured: a name and an endpoint for each side.
    pub(super) subjects: Vec<(&'static str, String)>,
    /// What was measured, in a phrase.
    pub(super) heading: String,
    /// What it was measured with.
    pub(super) load: String,
    pub(super) sections: Vec<Section>,
}

/// A part of a document with a heading of its own.
#[derive(Debug)]
pub(super) struct Section {
    medium: Medium,
    pub(super) id: &'static str,
    /// Empty for none.
    pub(super) title: &'static str,
    pub(super) blocks: Vec<Block>,
}

/// Something that stands by itself in a section. A label is what a terminal puts in front of it.
#[derive(Debug)]
pub(super) enum Block {
    Verdict(Box<Judgement>),
    /// Few figures that matter.
    Facts {
        label: &'static str,
        facts: Vec<Fact>,
    },
    /// Many figures that are looked up. A page has its `title` above.
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
    /// What is folded away at first.
    Details {
        summary: String,
        blocks: Vec<Self>,
    },
    Chart(Box<Chart>),
    /// A table that a page shows with a plot of its ratios.
    Forest(Table, Forest),
    Shares(Vec<Share>),
}

/// How a result is judged, and why.
#[derive(Debug)]
pub(super) struct Judgement {
    /// How good the news is.
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
    /// What a page says below it.
    pub(super) note: String,
}

/// A table whose first column names its rows.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) head: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
    /// Columns at the end that hold words; those between hold figures.
    pub(super) word_columns: usize,
}

/// What programs read: columns and rows. A field is empty where the result has null.
#[derive(Debug)]
pub struct Records {
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Records {
    /// A row for each item, and in it the values at these JSON pointers (RFC 6901).
    pub(super) fn of<T: Serialize>(columns: &[(&'static str, &str)], items: &[T]) -> Self {
        let row = |item: &T| {
            // What was read from JSON can be written as such.
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
    /// Adds a section if the document is for one of `media`, and if there is something to say.
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

    /// Folds away what `fill` adds.
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

    /// With a note for the page.
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

    /// Whose last `count` columns hold words.
    pub(super) fn with_words(mut self, count: usize) -> Self {
        self.word_columns = count;
        self
    }

    /// Without the columns of these names.
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

    /// With another column at the end.
    pub(super) fn and(mut self, name: &str, cells: impl IntoIterator<Item = String>) -> Self {
        self.head.push(name.to_owned());
        for (row, cell) in self.rows.iter_mut().zip(cells) {
            row.push(cell);
        }
        self
    }

    /// Whether a figure is not known.
    pub(super) fn has_unknown(&self) -> bool {
        self.rows.iter().flatten().any(|cell| cell == UNKNOWN)
    }
}
