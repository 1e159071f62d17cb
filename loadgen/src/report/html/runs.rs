//! The runs, or the parts, that a result is the union of.

use echomark::net::units::format_duration_ns;

use super::markup::Html;
use super::{duration, known, tcp};
use crate::report::format::{grouped, number, percent};
use crate::report::words;
use crate::result::statistics::Spread;
use crate::result::{MergedPart, Repeats};

/// Adds the runs of a result that is the union of several, and how far they differ.
pub(super) fn write(repeats: &Repeats, out: &mut Html) {
    out.put("<section id=\"runs\"><h2>Runs</h2>\n");
    let rows = repeats.runs.iter().map(|run| {
        vec![
            run.started_at.clone(),
            format!("{} /s", number(run.achieved)),
            duration(run.response_p50_ns),
            duration(run.response_p99_ns),
            duration(run.response_p99_9_ns),
            duration(run.response_max_ns),
            words::status(run.status).to_lowercase(),
        ]
    });
    out.table(
        &["start", "achieved", "p50", "p99", "p99.9", "max", "verdict"],
        rows,
    );
    let per_second = |value: f64| format!("{} /s", number(value));
    let spread = &repeats.spread;
    let rows = [
        spread_row("achieved", spread.achieved.as_ref(), &per_second),
        spread_row(
            "response p50",
            spread.response_p50_ns.as_ref(),
            &format_duration_ns,
        ),
        spread_row(
            "response p99",
            spread.response_p99_ns.as_ref(),
            &format_duration_ns,
        ),
        spread_row(
            "response p99.9",
            spread.response_p99_9_ns.as_ref(),
            &format_duration_ns,
        ),
    ];
    out.table(
        &[
            "over the runs",
            "min",
            "median",
            "max",
            "spread",
            "mean, 95 % sure from",
            "to",
        ],
        rows.into_iter().flatten(),
    );
    out.put(
        "<p class=\"note\">Spread is the standard deviation over the mean. Percentiles above are of all \
         runs' messages together; TCP, fairness and ramp are those of the last run.</p>\n</section>\n",
    );
}

/// The results that were merged: what does not add stands with its part.
pub(super) fn write_parts(parts: &[MergedPart], out: &mut Html) {
    out.put("<section id=\"parts\"><h2>Parts</h2>\n");
    let rows = parts.iter().map(|part| {
        vec![
            part.name.clone(),
            known(part.host.name.clone()),
            part.started_at.clone(),
            grouped(part.connections as u64),
            format!("{} /s", number(part.achieved)),
            duration(part.response_p50_ns),
            duration(part.response_p99_ns),
            words::status(part.status).to_lowercase(),
        ]
    });
    out.table(
        &[
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
    );
    for part in parts {
        if let Some(tcp) = &part.tcp {
            out.fill("<details><summary>TCP of {}</summary>\n", &[&part.name]);
            tcp::write(tcp, out);
            out.put("</details>\n");
        }
        if let Some(fairness) = &part.fairness {
            out.fill(
                "<p class=\"note\">Fairness of {}: Jain's index {} over {} connections.</p>\n",
                &[
                    &part.name,
                    &format!("{:.3}", fairness.index.jain_index),
                    &fairness.index.connections,
                ],
            );
        }
    }
    out.put("</section>\n");
}

fn spread_row(
    name: &str,
    spread: Option<&Spread>,
    format: &dyn Fn(f64) -> String,
) -> Option<Vec<String>> {
    let spread = spread?;
    Some(vec![
        name.to_owned(),
        format(spread.min),
        format(spread.median),
        format(spread.max),
        known(spread.coefficient_of_variation.map(percent)),
        known(spread.low.map(|low| format(low.max(0.0)))),
        known(spread.high.map(format)),
    ])
}
