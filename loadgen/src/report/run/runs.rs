//! The runs or parts of a union.

use echomark::net::units::format_duration_ns;

use super::{shards, tcp};
use crate::report::document::{Document, Medium, PAGE, Section, TERMINAL_AND_PAGE, Table};
use crate::report::format::{duration, grouped, known, percent, rate};
use crate::report::words;
use crate::result::statistics::Spread;
use crate::result::{MergedPart, Repeats, ShardsResult};

/// Adds the runs of a union, and their spread.
pub(super) fn repeats(repeats: &Repeats, document: &mut Document) {
    document.section(PAGE, "runs", "Runs", |section| {
        let rows = repeats.runs.iter().map(|run| {
            [
                run.started_at.clone(),
                rate(run.achieved),
                duration(run.response_p50_ns),
                duration(run.response_p99_ns),
                duration(run.response_p99_9_ns),
                duration(run.response_max_ns),
                words::status(run.status).to_lowercase(),
            ]
        });
        section.table(Table::new(
            ["start", "achieved", "p50", "p99", "p99.9", "max", "verdict"],
            rows,
        ));
    });
    document.section(TERMINAL_AND_PAGE, "spread", "Spread of the runs", |section| {
        let spread = &repeats.spread;
        let rows = [
            spread_row("achieved", spread.achieved.as_ref(), &rate),
            spread_row("p50", spread.response_p50_ns.as_ref(), &format_duration_ns),
            spread_row("p99", spread.response_p99_ns.as_ref(), &format_duration_ns),
            spread_row(
                "p99.9",
                spread.response_p99_9_ns.as_ref(),
                &format_duration_ns,
            ),
        ];
        section.table(Table::new(
            ["runs", "min", "median", "max", "spread", "mean, 95 % CI", "to"],
            rows.into_iter().flatten(),
        ));
        if section.is_for(Medium::Page) {
            section.note(
                "Spread is the standard deviation over the mean. Percentiles above are of all runs' \
                 messages together; TCP, fairness and ramp are those of the last run.",
            );
        }
    });
}

/// Adds the merged results: values that do not add are listed for each part.
pub(super) fn parts(
    parts: &[MergedPart],
    of_one_run: Option<&ShardsResult>,
    document: &mut Document,
) {
    let title = if of_one_run.is_some() {
        "Shards"
    } else {
        "Parts"
    };
    document.section(TERMINAL_AND_PAGE, "parts", title, |section| {
        match of_one_run {
            Some(together) => shards::all(together, parts, section),
            None => table_of_parts(parts, section),
        }
        if section.is_for(Medium::Terminal) {
            return;
        }
        for part in parts {
            if let Some(tcp) = &part.tcp {
                section.details(format!("TCP of {}", part.name), |section| {
                    tcp::describe("", tcp, section);
                });
            }
            if let Some(fairness) = &part.fairness {
                section.line(
                    "",
                    format!(
                        "fairness of {}: Jain's index {:.3} over {} connections.",
                        part.name, fairness.index.jain_index, fairness.index.connections,
                    ),
                );
            }
        }
    });
}

fn table_of_parts(parts: &[MergedPart], section: &mut Section) {
    let rows = parts.iter().map(|part| {
        [
            part.name.clone(),
            known(part.host.name.clone()),
            part.started_at.clone(),
            grouped(part.connections as u64),
            rate(part.achieved),
            duration(part.response_p50_ns),
            duration(part.response_p99_ns),
            words::status(part.status).to_lowercase(),
        ]
    });
    let table = Table::new(
        [
            "part",
            "host",
            "start",
            "connections",
            "achieved",
            "p50",
            "p99",
            "verdict",
        ],
        rows,
    )
    .with_words(1);
    section.table(if section.is_for(Medium::Terminal) {
        table.without(&["host", "start"])
    } else {
        table
    });
}

fn spread_row(
    name: &str,
    spread: Option<&Spread>,
    format: &dyn Fn(f64) -> String,
) -> Option<[String; 7]> {
    let spread = spread?;
    Some([
        name.to_owned(),
        format(spread.min),
        format(spread.median),
        format(spread.max),
        known(spread.coefficient_of_variation.map(percent)),
        // Student's t has no lower bound, but no measured figure is below 0.
        known(spread.low.map(|low| format(low.max(0.0)))),
        known(spread.high.map(format)),
    ])
}
