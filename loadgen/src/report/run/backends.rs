//! The servers that greeted the connections.

use crate::report::document::{Section, Table};
use crate::report::format::{duration, grouped, percent};
use crate::result::{BackendResult, RunResult};

/// The most servers shown.
const MAX_BACKENDS: usize = 32;
/// The longest name shown, in characters.
const MAX_NAME: usize = 24;

/// Adds the table of servers, and what was expected of them.
pub(super) fn describe(result: &RunResult, section: &mut Section) {
    if !result.backends.is_empty() {
        let shown = result.backends.iter().take(MAX_BACKENDS).map(row);
        section.table(Table::new(
            [
                "backend",
                "connections",
                "share",
                "messages",
                "p50",
                "p99",
                "max",
            ],
            shown,
        ));
        if let Some(more) = result.backends.len().checked_sub(MAX_BACKENDS + 1) {
            section.note(format!("and {} more", grouped(more as u64 + 1)));
        }
    }
    if let Some(shares) = &result.expected_shares {
        section.line("shares", &shares.text);
    }
}

fn row(backend: &BackendResult) -> [String; 7] {
    let response = backend.response.as_ref();
    let quantile = |quantile| duration(response.and_then(|it| it.quantile(quantile)));
    [
        shortened(&backend.id),
        grouped(backend.connections),
        percent(backend.share),
        grouped(backend.messages),
        quantile(0.5),
        quantile(0.99),
        duration(response.map(|it| it.max())),
    ]
}

/// The name, on one line and not longer than a column.
fn shortened(id: &str) -> String {
    let clean: String = id.chars().filter(|c| !c.is_control()).collect();
    match clean.char_indices().nth(MAX_NAME) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean,
    }
}
