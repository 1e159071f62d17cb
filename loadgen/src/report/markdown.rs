//! A result as Markdown, for a pull request or an issue: the verdict, the rates, the latencies.

use std::fmt::{self, Write as _};

use echomark::net::units::format_duration_ns;

use super::format::{bits_per_second, grouped, number, percent};
use super::text::{self, search};
use super::words::{self, PERCENTILES};
use crate::compare::change;
use crate::plan::Direction;
use crate::result::comparison::Comparison;
use crate::result::{RunResult, SearchResult};

/// Renders `result`.
pub fn render(result: &RunResult) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = write(result, &mut out);
    out
}

/// Renders the result of a search.
pub fn render_search(result: &SearchResult) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = write_search(result, &mut out);
    out
}

fn write_search(result: &SearchResult, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "**Search**: {}, {}",
        escaped(&words::target(&result.plan)),
        escaped(&search::load(result))
    )?;
    writeln!(out)?;
    writeln!(
        out,
        "| goal | met at | missed at | capacity, {} sure | ended |",
        percent(result.confidence)
    )?;
    writeln!(out, "|:---|---:|---:|---:|:---|")?;
    let bound = |bound: Option<f64>| {
        bound.map_or_else(|| "–".to_owned(), |load| search::at(result.over, load))
    };
    for found in &result.goals {
        let finding = &found.finding;
        let (lower, upper) = finding
            .interval
            .map_or((None, None), |interval| (interval.lower, interval.upper));
        writeln!(
            out,
            "| {} | {} | {} | {} to {} | {} |",
            escaped(&found.goal.to_string()),
            bound(finding.lower),
            bound(finding.upper),
            bound(lower),
            bound(upper),
            escaped(&search::goal_end(result, found))
        )?;
    }
    writeln!(out)?;
    writeln!(
        out,
        "| {} | achieved /s | p50 | p99 | max | trials | goal |",
        search::short_unit(result.over)
    )?;
    writeln!(out, "|{}:---|", "---:|".repeat(6))?;
    for point in &result.curve {
        let response = point.response_ns.as_ref();
        let cell = |value: Option<u64>| {
            value.map_or_else(|| "–".to_owned(), |value| format_duration_ns(value as f64))
        };
        let quantile = |quantile: f64| cell(response.and_then(|l| l.quantile(quantile)));
        let classes: Vec<&str> = point.classes.iter().map(search::class).collect();
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            number(point.load),
            number(point.achieved),
            quantile(0.5),
            quantile(0.99),
            cell(response.map(|latency| latency.max())),
            grouped(point.trials),
            classes.join(", ")
        )?;
    }
    Ok(())
}

/// Renders a comparison.
pub fn render_comparison(comparison: &Comparison) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = write_comparison(comparison, &mut out);
    out
}

fn write_comparison(comparison: &Comparison, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "**{}**: {} against {}, {}, {}",
        text::comparison::verdict(comparison.verdict),
        escaped(&comparison.new.name),
        escaped(&comparison.base.name),
        escaped(&words::load(&comparison.base.plan)),
        escaped(&text::comparison::effort(comparison))
    )?;
    writeln!(out)?;
    writeln!(out, "{}", escaped(&comparison.sentence))?;
    if !comparison.validity.reasons.is_empty() {
        writeln!(out)?;
    }
    for reason in &comparison.validity.reasons {
        writeln!(
            out,
            "- {}: {}",
            escaped(&reason.code.to_string()),
            escaped(&reason.text)
        )?;
    }
    writeln!(out)?;
    writeln!(
        out,
        "| figure | base | new | change | 95 % sure | verdict |"
    )?;
    writeln!(out, "|:---|---:|---:|---:|---:|:---|")?;
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    for metric in &comparison.metrics {
        let figure = |value: Option<f64>| {
            or_dash(value.map(|value| text::comparison::figure(metric.unit, value)))
        };
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} |",
            escaped(&metric.name.replace('_', " ")),
            figure(metric.base),
            figure(metric.new),
            or_dash(metric.ratio.map(change)),
            or_dash(metric.interval.as_ref().map(text::comparison::interval)),
            text::comparison::metric_verdict(metric)
        )?;
    }
    Ok(())
}

fn write(result: &RunResult, out: &mut String) -> fmt::Result {
    let verdict = &result.verdict;
    let interrupted = if result.interrupted {
        ", interrupted"
    } else {
        ""
    };
    writeln!(
        out,
        "**{}**{interrupted}: {}, {}",
        words::status(verdict.status),
        escaped(&words::target(&result.plan)),
        escaped(&words::load_of(result))
    )?;
    if !verdict.reasons.is_empty() {
        writeln!(out)?;
    }
    for reason in &verdict.reasons {
        writeln!(
            out,
            "- {}: {}",
            escaped(&reason.code.to_string()),
            escaped(&reason.text)
        )?;
    }
    writeln!(out)?;
    figures(result, out)?;
    writeln!(out)?;
    latencies(result, out)
}

/// A table of a line: rates, and what became of the messages.
fn figures(result: &RunResult, out: &mut String) -> fmt::Result {
    let throughput = result.throughput;
    let mut columns = Vec::new();
    if let Some(target) = result.rate.target {
        columns.push(("target", format!("{} /s", number(target))));
        columns.push(("offered", format!("{} /s", number(result.rate.offered))));
    }
    columns.push(("achieved", format!("{} /s", number(result.rate.achieved))));
    if result.plan.direction() != Some(Direction::Down) {
        columns.push(("sent", bits_per_second(throughput.sent_bits_per_s)));
    }
    columns.push(("received", bits_per_second(throughput.received_bits_per_s)));
    columns.push((words::messages(&result.plan), grouped(result.messages.sent)));
    for (name, count) in words::message_faults(result) {
        columns.push((name, grouped(count)));
    }
    let (head, row): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    writeln!(out, "| {} |", head.join(" | "))?;
    writeln!(out, "|{}", "---:|".repeat(head.len()))?;
    writeln!(out, "| {} |", row.join(" | "))
}

fn latencies(result: &RunResult, out: &mut String) -> fmt::Result {
    let latencies = words::latencies(result);
    if latencies.is_empty() {
        return Ok(());
    }
    let names = PERCENTILES.map(|(name, _)| name);
    writeln!(out, "| latency | min | {} | max |", names.join(" | "))?;
    writeln!(out, "|:---|{}", "---:|".repeat(names.len() + 2))?;
    let cell = |value: u64| format_duration_ns(value as f64);
    for (name, latency) in latencies {
        write!(out, "| {name} | {} ", cell(latency.min()))?;
        for (_, quantile) in PERCENTILES {
            let value = latency.quantile(quantile);
            write!(out, "| {} ", value.map_or_else(|| "–".to_owned(), cell))?;
        }
        writeln!(out, "| {} |", cell(latency.max()))?;
    }
    Ok(())
}

/// Text that is no markup, whatever it contains: every punctuation character of ASCII may be escaped
/// (CommonMark, section 2.4). What would end a line or a cell becomes a space.
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
