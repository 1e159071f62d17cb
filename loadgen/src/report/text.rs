//! A result as text for a terminal of 80 columns.

use super::document::{Block, Document, Fact, Judgement, Medium, Report, Table};
use crate::result::Status;

mod table;

/// Columns of a terminal.
const WIDTH: usize = 80;
/// Columns of the labels on the left.
const LABEL: usize = 10;
/// Bold in three colours, and back to what was before.
const GREEN: &str = "\x1b[1;32m";
const YELLOW: &str = "\x1b[1;33m";
const RED: &str = "\x1b[1;31m";
const PLAIN: &str = "\x1b[0m";
/// Separator between figures of a line.
const FACT_GAP: &str = "   ";
/// Space between the columns of a table; the smaller one if the table is too wide.
const COLUMN_GAPS: [usize; 2] = [2, 1];

/// Whether the verdict has a colour.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Colors {
    /// Plain text.
    #[default]
    None,
    /// Escape sequences of ANSI terminals (ECMA-48, SGR).
    Ansi,
}

/// Renders a result as plain text.
pub fn render(report: &dyn Report) -> String {
    render_in(report, Colors::None)
}

/// Renders a result.
pub fn render_in(report: &dyn Report, colors: Colors) -> String {
    let mut page = Page {
        colors,
        ..Page::default()
    };
    page.document(&report.document(Medium::Terminal));
    page.text
}

/// Breaks a message for a terminal into lines, the further ones indented.
pub fn wrapped(message: &str, indent: usize) -> String {
    let mut page = Page::default();
    page.wrapped(String::new(), indent, words(message), " ");
    page.text
}

/// The page under construction.
#[derive(Default)]
struct Page {
    text: String,
    colors: Colors,
    /// Whether the last block was a table. A note follows it directly, other blocks after an empty
    /// line.
    is_after_table: bool,
}

impl Page {
    fn document(&mut self, document: &Document) {
        for (label, subject) in &document.subjects {
            self.line(label, subject);
        }
        let interrupted = if document.is_interrupted {
            " (interrupted)"
        } else {
            ""
        };
        self.line("load", &format!("{}{interrupted}", document.load));
        self.gap();
        for section in &document.sections {
            self.blocks(&section.blocks);
        }
        let used = self.text.trim_end().len();
        self.text.truncate(used);
        self.text.push('\n');
    }

    fn blocks(&mut self, blocks: &[Block]) {
        for block in blocks {
            if self.is_after_table && !matches!(block, Block::Note(_)) {
                self.gap();
            }
            match block {
                Block::Verdict(judgement) => self.judgement(judgement),
                Block::Facts { label, facts }
                | Block::Counts {
                    label,
                    counts: facts,
                    ..
                } => self.facts(label, facts),
                Block::Table(table) | Block::Forest(table, _) => self.table(table),
                Block::Line { label, text } => self.line(label, text),
                Block::Note(text) => self.line("", &text.replace("**", "")),
                Block::Details { blocks, .. } => self.blocks(blocks),
                Block::List(_) | Block::Chart(_) | Block::Shares(_) => {}
            }
        }
    }

    /// The verdict. Its reasons are in a section of their own, behind the figures; here are their codes.
    fn judgement(&mut self, judgement: &Judgement) {
        let mut codes: Vec<String> = Vec::new();
        for reason in &judgement.reasons {
            let code = reason.code.to_string();
            if !codes.contains(&code) {
                codes.push(code);
            }
        }
        let headline = match judgement.text.as_str() {
            "" if codes.is_empty() => judgement.badge.clone(),
            "" => format!("{}: {}", judgement.badge, codes.join(", ")),
            text => format!("{}: {text}", judgement.badge),
        };
        let start = self.text.len();
        self.line("verdict", &headline);
        self.color(start, &judgement.badge, judgement.status);
    }

    /// Colours a word of the text that begins at `start`.
    fn color(&mut self, start: usize, word: &str, status: Status) {
        let color = match (self.colors, status) {
            (Colors::None, _) => return,
            (Colors::Ansi, Status::Valid) => GREEN,
            (Colors::Ansi, Status::Suspect) => YELLOW,
            (Colors::Ansi, Status::Invalid) => RED,
        };
        if let Some(at) = self.text[start..].find(word) {
            let range = start + at..start + at + word.len();
            self.text
                .replace_range(range, &format!("{color}{word}{PLAIN}"));
        }
    }

    /// An empty line, unless there is one already.
    fn gap(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
        self.is_after_table = false;
    }

    fn facts(&mut self, label: &str, facts: &[Fact]) {
        let facts = facts.iter().map(|fact| match fact.name.as_str() {
            "" => fact.value.clone(),
            name => format!("{name} {}", fact.value),
        });
        self.wrapped(format!("{label:<LABEL$}"), LABEL, facts, FACT_GAP);
    }

    fn line(&mut self, label: &str, text: &str) {
        self.wrapped(format!("{label:<LABEL$}"), LABEL, words(text), " ");
    }

    /// Breaks pieces into as many lines as they need, and indents those after the first.
    fn wrapped(
        &mut self,
        mut line: String,
        indent: usize,
        pieces: impl IntoIterator<Item = String>,
        gap: &str,
    ) {
        let mut is_first = true;
        for piece in pieces {
            if is_first {
                line.push_str(&piece);
                is_first = false;
            } else if width(&line) + gap.len() + width(&piece) > WIDTH {
                self.put(&line);
                line = format!("{:indent$}{piece}", "");
            } else {
                line.push_str(gap);
                line.push_str(&piece);
            }
        }
        self.put(&line);
    }

    fn put(&mut self, line: &str) {
        // A result may come from elsewhere, and must not control the terminal.
        let is_control = |c: char| c.is_control();
        self.text
            .push_str(&line.trim_end().replace(is_control, "\u{fffd}"));
        self.text.push('\n');
    }

    fn table(&mut self, table: &Table) {
        self.gap();
        for line in table::lines(table) {
            self.put(&line);
        }
        self.is_after_table = true;
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// The unbreakable pieces of a sentence: words, and numbers with their unit.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut is_number = false;
    for word in text.split_whitespace() {
        match words.last_mut() {
            Some(last) if is_number => {
                last.push(' ');
                last.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
        is_number = word.ends_with(|c: char| c.is_ascii_digit());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_not_in_a_number() {
        let mut page = Page::default();
        let text = format!("{} 12 345 messages in 2.00 ms", "word ".repeat(13).trim());
        page.line("label", &text);
        assert_eq!(
            page.text,
            format!(
                "label     {}\n          12 345 messages in 2.00 ms\n",
                "word ".repeat(13).trim()
            )
        );
        assert!(page.text.lines().all(|line| width(line) <= WIDTH));
    }
}
