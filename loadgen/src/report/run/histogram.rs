//! The distribution of the response times in a few lines of text.

use echomark::net::units::format_duration_ns;

use super::latency::bars;
use crate::report::document::Table;
use crate::report::format::{grouped, percent};
use crate::result::Latency;

/// Maximum of lines.
const MAX_ROWS: usize = 12;
/// Length of the longest bar in characters.
const BAR: f64 = 34.0;
/// Lines for each factor of ten, from the finest: the first that needs few enough lines is used.
const PER_DECADE: [f64; 7] = [100.0, 50.0, 20.0, 10.0, 5.0, 2.0, 1.0];
/// Parts of a character, an eighth each.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// A row for each range, of equal width on a logarithmic axis. The length of a bar is the number of
/// messages.
pub(super) fn table(response: &Latency) -> Table {
    let [.., coarsest] = PER_DECADE;
    let (per_decade, bars) = PER_DECADE
        .into_iter()
        .map(|per_decade| (per_decade, bars(response, per_decade)))
        .find(|(_, bars)| {
            bars.keys()
                .next_back()
                .zip(bars.keys().next())
                .is_some_and(|(last, first)| (last - first) < MAX_ROWS as i32)
        })
        .unwrap_or_else(|| (coarsest, bars(response, coarsest)));
    let first = bars.keys().next().copied().unwrap_or(0);
    let last = bars.keys().next_back().copied().unwrap_or(0);
    let most = bars.values().max().copied().unwrap_or(1) as f64;
    let edge = |bar: i32| format_duration_ns(10_f64.powf(f64::from(bar) / per_decade));
    let rows = (first..=last).map(|number| {
        let count = bars.get(&number).copied().unwrap_or(0);
        [
            edge(number),
            edge(number + 1),
            grouped(count),
            percent(count as f64 / response.count() as f64),
            bar(count as f64 / most),
        ]
    });
    Table::new(["from", "to", "messages", "share", "response time"], rows).with_words(1)
}

/// A bar to an eighth of a character. Whatever is there has one.
fn bar(ratio: f64) -> String {
    let eighths = (ratio * BAR * 8.0).round() as usize;
    let eighths = if ratio > 0.0 { eighths.max(1) } else { 0 };
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::histogram;

    fn latency(values: impl IntoIterator<Item = u64>) -> Latency {
        let mut histogram = histogram::empty();
        for value in values {
            histogram.record(value).unwrap();
        }
        Latency::new(histogram).unwrap()
    }

    #[test]
    fn every_message_is_in_a_row_and_rows_are_few() {
        for values in [
            vec![1],
            vec![0, 3_600_000_000_000],
            (1000..2000).collect(),
            (0..20).map(|power| 1 << (power * 2)).collect(),
            vec![50_000; 1000],
        ] {
            let count = values.len();
            let table = table(&latency(values));
            assert!((1..=13).contains(&table.rows.len()), "{table:#?}");
            let sum: usize = table
                .rows
                .iter()
                .map(|row| row[2].replace(' ', "").parse::<usize>().unwrap())
                .sum();
            assert_eq!(sum, count, "{table:#?}");
            for row in &table.rows {
                assert_eq!(row[2] == "0", row[4].is_empty(), "{row:?}");
            }
        }
    }

    #[test]
    fn the_longest_bar_is_that_of_the_most_messages_and_one_message_is_seen() {
        let table = table(&latency([vec![1_000; 10_000], vec![1_000_000]].concat()));
        let bars: Vec<&str> = table.rows.iter().map(|row| row[4].as_str()).collect();
        assert_eq!(bars.first().unwrap().chars().count(), BAR as usize);
        assert_eq!(bars.last().copied(), Some("▏"));
    }
}
