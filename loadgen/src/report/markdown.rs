//! A result as Markdown, for a pull request or an issue: the verdict, the rates, the latencies.

use std::fmt::{self, Write as _};

use super::document::{Block, Document, Fact, Medium, Report, Table};

/// Renders a result.
pub fn render(report: &dyn Report) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = write(&report.document(Medium::Comment), &mut out);
    out
}

fn write(document: &Document, out: &mut String) -> fmt::Result {
    let interrupted = if document.is_interrupted {
        ", interrupted"
    } else {
        ""
    };
    writeln!(
        out,
        "**{}**{interrupted}: {}, {}",
        document.badge,
        escaped(&document.heading),
        escaped(&document.load)
    )?;
    for section in &document.sections {
        write_blocks(&section.blocks, out)?;
    }
    Ok(())
}

fn write_blocks(blocks: &[Block], out: &mut String) -> fmt::Result {
    for block in blocks {
        match block {
            Block::Verdict(judgement) => {
                if !judgement.text.is_empty() {
                    writeln!(out, "\n{}", escaped(&judgement.text))?;
                }
                if !judgement.reasons.is_empty() {
                    writeln!(out)?;
                }
                for reason in &judgement.reasons {
                    let (code, text) = (escaped(&reason.code.to_string()), escaped(&reason.text));
                    writeln!(out, "- {code}: {text}")?;
                }
            }
            Block::Facts { facts, .. } | Block::Counts { counts: facts, .. } => {
                write_table(&row(facts), out)?;
            }
            Block::Table(table) | Block::Forest(table, _) => write_table(table, out)?,
            Block::Line { text, .. } | Block::Note(text) => {
                writeln!(out, "\n{}", escaped(text))?;
            }
            Block::Details { blocks, .. } => write_blocks(blocks, out)?,
            Block::List(_) | Block::Chart(_) | Block::Shares(_) => {}
        }
    }
    Ok(())
}

/// Figures as a table of one row.
fn row(facts: &[Fact]) -> Table {
    Table {
        head: facts.iter().map(|fact| fact.name.clone()).collect(),
        rows: vec![facts.iter().map(|fact| fact.value.clone()).collect()],
        word_columns: 0,
    }
}

fn write_table(table: &Table, out: &mut String) -> fmt::Result {
    let figures = table.head.len().saturating_sub(table.word_columns);
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| escaped(cell)).collect();
        format!("| {} |", cells.join(" | "))
    };
    writeln!(out, "\n{}", line(&table.head))?;
    let align = (0..table.head.len()).map(|index| match index {
        0 => ":---",
        index if index < figures => "---:",
        _ => ":---",
    });
    writeln!(out, "|{}|", align.collect::<Vec<_>>().join("|"))?;
    for row in &table.rows {
        writeln!(out, "{}", line(row))?;
    }
    Ok(())
}

/// Escapes text so that it is no markup: CommonMark allows to escape every ASCII punctuation
/// character (section 2.4). Line ends become spaces.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '<' | '>' | '#' | '|' | '~' | '!'
            | '&' | '@' => out.extend(['\\', character]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_result_is_no_markup() {
        assert_eq!(
            escaped("unix:/a_b|<img src=x>\n# `c` [d](e)"),
            r"unix:/a\_b\|\<img src=x\> \# \`c\` \[d\](e)"
        );
    }
}
