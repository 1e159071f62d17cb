//! A result as text for a terminal of 80 columns.

use super::document::{Block, Document, Fact, Judgement, Medium, Report, Table};

/// Columns of a terminal.
const WIDTH: usize = 80;
/// Columns of the labels on the left.
const LABEL: usize = 10;
/// Separator between figures of a line.
const FACT_GAP: &str = "   ";
/// Space between the columns of a table; the smaller one if the table is too wide.
const COLUMN_GAPS: [usize; 2] = [2, 1];

/// Renders a result.
pub fn render(report: &dyn Report) -> String {
    let mut page = Page::default();
    page.document(&report.document(Medium::Terminal));
    page.text
}

/// The page under construction.
#[derive(Default)]
struct Page {
    text: String,
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

    fn judgement(&mut self, judgement: &Judgement) {
        let headline = match judgement.text.as_str() {
            "" => judgement.badge.clone(),
            text => format!("{}: {text}", judgement.badge),
        };
        self.line("verdict", &headline);
        for reason in &judgement.reasons {
            self.line("", &format!("{}: {}", reason.code, reason.text));
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
        self.wrapped(label, facts, FACT_GAP);
    }

    fn line(&mut self, label: &str, text: &str) {
        self.wrapped(label, words(text), " ");
    }

    /// Breaks pieces into as many lines as they need.
    fn wrapped(&mut self, label: &str, pieces: impl IntoIterator<Item = String>, gap: &str) {
        let mut line = format!("{label:<LABEL$}");
        let mut is_first = true;
        for piece in pieces {
            if is_first {
                line.push_str(&piece);
                is_first = false;
            } else if width(&line) + gap.len() + width(&piece) > WIDTH {
                self.put(&line);
                line = format!("{:LABEL$}{piece}", "");
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
        let widths: Vec<usize> = (0..table.head.len())
            .map(|column| {
                let cells = table.rows.iter().filter_map(|row| row.get(column));
                let widest = cells.chain([&table.head[column]]).map(|cell| width(cell));
                widest.max().unwrap_or(0)
            })
            .collect();
        let sum: usize = widths.iter().sum();
        let gaps = widths.len().saturating_sub(1);
        let gap = COLUMN_GAPS
            .into_iter()
            .find(|gap| sum + gap * gaps <= WIDTH)
            .unwrap_or(COLUMN_GAPS[1]);
        let figures = widths.len().saturating_sub(table.word_columns);
        self.gap();
        for row in std::iter::once(&table.head).chain(&table.rows) {
            let cells = row.iter().zip(&widths).enumerate();
            let cells = cells.map(|(column, (cell, &width))| {
                if column == 0 || column >= figures {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            });
            self.put(&cells.collect::<Vec<_>>().join(&" ".repeat(gap)));
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

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        let mut page = Page::default();
        let row = ["a", "12.5 µs", "met"].map(str::to_owned);
        page.table(&Table::new(["load", "p50", "goal"], [row]).with_words(1));
        assert_eq!(page.text, "load      p50  goal\na     12.5 µs  met\n");
    }
}
