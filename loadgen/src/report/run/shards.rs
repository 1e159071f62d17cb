//! Shards: what one is, and those of a union beside it.

use std::time::{Duration, SystemTime};

use echomark::net::units::format_duration_ns;

use crate::report::document::{Document, Medium, Section, TERMINAL_AND_PAGE, Table};
use crate::report::format::{count, duration, grouped, known, percent, rate};
use crate::report::words;
use crate::result::{ClockState, MergedPart, RunResult, ShardResult, ShardsResult};

/// Maximum of shards listed on a terminal.
const MAX_LISTED: usize = 32;

/// Adds what the result says of its own part of a run.
pub(super) fn one(result: &RunResult, document: &mut Document) {
    let Some(shard) = &result.shard else { return };
    document.section(TERMINAL_AND_PAGE, "shard", "Shard", |section| {
        let own = result.plan.own_connections() as u64;
        let part = format!(
            "rank {} of {}, with {} of {}",
            shard.rank,
            shard.size,
            grouped(own),
            count(result.plan.connections.get() as u64, "connection")
        );
        section.line(
            "shard",
            format!(
                "{part}; {}; its clock is {}",
                start(shard),
                clock(&shard.clock)
            ),
        );
    });
}

/// Adds the shards of a union.
pub(super) fn all(shards: &ShardsResult, parts: &[MergedPart], section: &mut Section) {
    section.line("shards", together(shards));
    let mut members: Vec<(&MergedPart, &ShardResult)> = parts
        .iter()
        .filter_map(|part| Some((part, part.shard.as_ref()?)))
        .collect();
    members.sort_by_key(|(_, shard)| shard.rank);
    let first = members
        .iter()
        .filter_map(|(_, shard)| time(&shard.started_at));
    let first = first.min();
    let is_terminal = section.is_for(Medium::Terminal);
    let listed = if is_terminal {
        MAX_LISTED
    } else {
        members.len()
    };
    let rows = members.iter().take(listed).map(|(part, shard)| {
        let after = time(&shard.started_at).zip(first).map(|(at, first)| {
            let after = at.duration_since(first).unwrap_or_default();
            format!("+{}", nanoseconds(after))
        });
        [
            shard.rank.to_string(),
            known(part.host.name.clone()),
            part.name.clone(),
            known(after),
            clock(&shard.clock),
            grouped(part.connections as u64),
            rate(part.achieved),
            duration(part.response_p50_ns),
            duration(part.response_p99_ns),
            words::status(part.status).to_lowercase(),
        ]
    });
    let table = Table::new(
        [
            "rank",
            "host",
            "result",
            "start",
            "clock",
            "connections",
            "achieved",
            "p50",
            "p99",
            "verdict",
        ],
        rows,
    )
    .with_words(1);
    if !is_terminal {
        return section.table(table);
    }
    section.table(if shards.clocks > 1 {
        table.without(&["result", "clock"])
    } else {
        table.without(&["result", "clock", "host"])
    });
    if let more @ 1.. = members.len().saturating_sub(MAX_LISTED) {
        section.line("", format!("{more} more are in the result"));
    }
}

/// How the shards of a union belong together.
fn together(shards: &ShardsResult) -> String {
    let there = shards.size.saturating_sub(shards.missing.len());
    let clocks = match (shards.clocks, shards.clock_error_ns) {
        (..2, _) => "by one clock".to_owned(),
        (clocks, Some(error)) => format!(
            "by {clocks} clocks that may differ by {}",
            format_duration_ns(error as f64)
        ),
        (clocks, None) => format!("by {clocks} clocks, of which not all are synchronised"),
    };
    format!(
        "{there} of {}; they started {} apart, {clocks}; all measured in {} of the window",
        shards.size,
        nanoseconds(Duration::from_nanos(shards.start_skew_ns)),
        percent(shards.overlap)
    )
}

/// When a shard started.
fn start(shard: &ShardResult) -> String {
    let planned = shard.start_at.as_deref().and_then(time);
    match planned.zip(time(&shard.started_at)) {
        Some((planned, started)) => match started.duration_since(planned) {
            Ok(late) => format!("started {} after the common start", nanoseconds(late)),
            Err(early) => format!(
                "started {} before the common start",
                nanoseconds(early.duration())
            ),
        },
        None => format!("started at {}", shard.started_at),
    }
}

fn clock(clock: &ClockState) -> String {
    match clock.max_error_ns.filter(|_| clock.synchronized) {
        Some(error) => format!("synchronised within {}", format_duration_ns(error as f64)),
        None => "not synchronised".to_owned(),
    }
}

fn time(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}

fn nanoseconds(duration: Duration) -> String {
    format_duration_ns(duration.as_nanos() as f64)
}
