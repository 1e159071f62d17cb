//! A table in the columns of a terminal.

use super::{COLUMN_GAPS, LABEL, WIDTH, width, words};
use crate::report::document::Table;

/// The narrowest column of words, before the first column gets lines of its own.
const MIN_WORDS: usize = 16;

/// Lines of a table. If it is too wide, the gaps shrink first. Then the widest column of words is broken
/// into lines, and then the names of the first column are put above their figures.
pub(super) fn lines(table: &Table) -> Vec<String> {
    let mut widths = natural_widths(table);
    let figures = widths.len().saturating_sub(table.word_columns);
    let [.., least] = COLUMN_GAPS;
    if let Some(widest) = (figures..widths.len()).max_by_key(|&column| widths[column]) {
        let needed = widths[widest].saturating_sub(excess(&widths, least));
        widths[widest] = widths[widest].min(needed.max(MIN_WORDS));
    }
    if excess(&widths, least) > 0
        && let Some(first) = widths.first_mut()
    {
        let head = table.head.first().map_or(0, |head| width(head));
        *first = (*first).min(head.max(LABEL));
    }
    let fits = |gap: &usize| excess(&widths, *gap) == 0;
    let gap = COLUMN_GAPS.into_iter().find(fits).unwrap_or(least);
    let rows = std::iter::once(&table.head).chain(&table.rows);
    rows.flat_map(|row| row_lines(row, &widths, figures, gap))
        .collect()
}

/// Columns that a table has too many.
fn excess(widths: &[usize], gap: usize) -> usize {
    let gaps = gap * widths.len().saturating_sub(1);
    (widths.iter().sum::<usize>() + gaps).saturating_sub(WIDTH)
}

/// The widths of the widest cells.
fn natural_widths(table: &Table) -> Vec<usize> {
    (0..table.head.len())
        .map(|column| {
            let cells = table.rows.iter().filter_map(|row| row.get(column));
            let widest = cells.chain([&table.head[column]]).map(|cell| width(cell));
            widest.max().unwrap_or(0)
        })
        .collect()
}

/// The lines of a row: a name that is too long, the cells, and what follows of broken cells.
fn row_lines(row: &[String], widths: &[usize], figures: usize, gap: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let broken: Vec<Vec<String>> = row
        .iter()
        .zip(widths)
        .enumerate()
        .map(|(column, (cell, &width))| match column {
            0 if self::width(cell) > width => {
                lines.extend(broken(cell, WIDTH));
                vec![String::new()]
            }
            column if column >= figures => broken(cell, width),
            _ => vec![cell.clone()],
        })
        .collect();
    let height = broken.iter().map(Vec::len).max().unwrap_or(0);
    lines.extend((0..height).map(|line| {
        let cells = broken.iter().zip(widths).enumerate();
        let cells = cells.map(|(column, (cell, &width))| {
            let cell = cell.get(line).map_or("", String::as_str);
            if column == 0 || column >= figures {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        cells.collect::<Vec<_>>().join(&" ".repeat(gap))
    }));
    lines
}

/// Breaks a text between its words. A word that is longer than a line stays whole.
fn broken(text: &str, most: usize) -> Vec<String> {
    if width(text) <= most {
        return vec![text.to_owned()];
    }
    let mut lines: Vec<String> = Vec::new();
    for word in words(text) {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(&word) <= most => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table<const N: usize>(head: [&str; N], row: [&str; N]) -> Table {
        Table::new(head, [row.map(str::to_owned)])
    }

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        let table = table(["load", "p50", "goal"], ["a", "12.5 µs", "met"]).with_words(1);
        assert_eq!(
            lines(&table),
            ["load      p50  goal", "a     12.5 µs  met "]
        );
    }

    #[test]
    fn a_long_name_stands_above_its_figures() {
        let name = "tcp://[2001:db8:1234:5678:9abc:def0:1234:5678]:65535?fault=none";
        let table = table(["target", "connections", "messages"], [name, "5", "100"]);
        let lines = lines(&table);
        assert_eq!(lines.len(), 3, "{lines:#?}");
        assert_eq!(lines[1], name);
        assert!(
            lines[2] == "                      5       100",
            "{lines:#?}"
        );
        assert!(lines.iter().all(|line| width(line) <= WIDTH), "{lines:#?}");
    }

    #[test]
    fn words_at_the_end_are_broken_into_lines() {
        let words = "met by 5 of 5, and mixed by 2 of 7 for the other goal of the same search";
        let table = table(
            ["load", "p50", "goals", ""],
            ["80 000", "12.5 µs", words, "██"],
        );
        let table = table.with_words(2);
        let lines = lines(&table);
        assert!(lines.len() > 2 && lines[1].ends_with("██"), "{lines:#?}");
        assert!(lines.iter().all(|line| width(line) <= WIDTH), "{lines:#?}");
        let all: Vec<&str> = lines[1..]
            .iter()
            .flat_map(|line| line.split_whitespace())
            .filter(|word| words.contains(word))
            .collect();
        assert_eq!(all.join(" "), words);
    }
}
