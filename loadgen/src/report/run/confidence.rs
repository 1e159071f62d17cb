//! Confidence intervals of a run's figures, and its trend.

use echomark::net::units::format_duration_ns;

use crate::report::document::{Document, Fact, PAGE, TERMINAL, Table};
use crate::report::format::{duration, grouped, number, percent, rate};
use crate::result::RunResult;
use crate::result::statistics::{QuantileEstimate, Trend};

/// Adds confidence intervals, and whether the latency settled.
pub(super) fn describe(result: &RunResult, document: &mut Document) {
    let statistics = &result.statistics;
    document.section(TERMINAL, "confidence", "", |section| {
        let mut facts: Vec<Fact> = statistics
            .response
            .iter()
            .map(|estimate| Fact::new(format!("p{}", estimate.quantile * 100.0), bounds(estimate)))
            .collect();
        // In an open loop, the schedule decides the rate.
        if let Some(interval) = statistics
            .rate
            .as_ref()
            .filter(|interval| interval.high > 0.0 && !result.plan.is_open_loop())
        {
            let bounds = format!("{} to {}", rate(interval.low), rate(interval.high));
            facts.push(Fact::new("rate", bounds));
        }
        section.facts("95 % CI", facts);
    });
    document.section(PAGE, "confidence", "Confidence", |section| {
        let rows = statistics.response.iter().map(|estimate| {
            [
                format!("response p{}", estimate.quantile * 100.0),
                duration(Some(estimate.value)),
                duration(Some(estimate.low)),
                duration(Some(estimate.high)),
                grouped(estimate.samples),
                number(estimate.effective_samples.round()),
            ]
        });
        section.table(Table::new(
            [
                "",
                "value",
                "95 % CI from",
                "to",
                "samples",
                "effective samples",
            ],
            rows,
        ));
        if let Some(trend) = &statistics.trend {
            section.note(trend_words(trend));
        }
    });
}

fn trend_words(trend: &Trend) -> String {
    match *trend {
        Trend::Steady => "The median was steady over the window.".to_owned(),
        Trend::Transient { until, from, to } => format!(
            "The warm-up was not over: the median began at {} and reached {} after {} of the window.",
            format_duration_ns(from),
            format_duration_ns(to),
            percent(until)
        ),
        Trend::Drift { from, to } => format!(
            "The median drifted over the whole window, from {} to {}.",
            format_duration_ns(from),
            format_duration_ns(to)
        ),
    }
}

/// The confidence interval of a percentile.
pub(super) fn bounds(estimate: &QuantileEstimate) -> String {
    let [low, high] = [estimate.low, estimate.high].map(|end| duration(Some(end)));
    format!("{low} to {high}")
}
