//! The table that a person reads after a comparison.

use std::fmt::{self, Write as _};

use echomark::net::units::format_duration_ns;

use crate::compare::change;
use crate::report::format::{bits_per_second, count, number};
use crate::report::words::load;
use crate::result::Status;
use crate::result::comparison::{
    Comparison, ComparisonVerdict, Method, MetricComparison, RatioInterval, Unit,
};

/// Renders `comparison` as lines of text.
pub fn render(comparison: &Comparison) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = table(comparison, &mut out);
    out
}

fn table(comparison: &Comparison, out: &mut String) -> fmt::Result {
    writeln!(out, "base      {}", comparison.base.name)?;
    writeln!(out, "new       {}", comparison.new.name)?;
    writeln!(
        out,
        "load      {}, {}",
        load(&comparison.base.plan),
        effort(comparison)
    )?;
    writeln!(out)?;
    writeln!(
        out,
        "{:<24}{:>14}{:>14}{:>10}  {:<22}verdict",
        "figure", "base", "new", "change", "95 % sure"
    )?;
    for metric in &comparison.metrics {
        row(metric, out)?;
    }
    writeln!(out)?;
    for reason in &comparison.validity.reasons {
        let status = match reason.status {
            Status::Valid => "valid",
            Status::Suspect => "suspect",
            Status::Invalid => "INVALID",
        };
        writeln!(out, "{status:<10}{}: {}", reason.code, reason.text)?;
    }
    writeln!(out, "verdict   {}", verdict(comparison.verdict))?;
    for sentence in comparison.sentence.split_inclusive(". ") {
        writeln!(out, "          {}", sentence.trim_end())?;
    }
    Ok(())
}

/// The word of a verdict.
pub(in crate::report) fn verdict(verdict: ComparisonVerdict) -> &'static str {
    match verdict {
        ComparisonVerdict::Regression => "REGRESSION",
        ComparisonVerdict::Improvement => "IMPROVEMENT",
        ComparisonVerdict::NoChange => "NO REGRESSION",
        ComparisonVerdict::NotEnoughEvidence => "NOT ENOUGH EVIDENCE",
    }
}

/// The same of a single figure.
pub(in crate::report) fn metric_verdict(metric: &MetricComparison) -> &'static str {
    match metric.verdict {
        ComparisonVerdict::Regression => "regression",
        ComparisonVerdict::Improvement => "improvement",
        ComparisonVerdict::NoChange => "no regression",
        ComparisonVerdict::NotEnoughEvidence if metric.ratio.is_none() => "not known",
        ComparisonVerdict::NotEnoughEvidence => "not enough evidence",
    }
}

/// How much was measured.
pub(in crate::report) fn effort(comparison: &Comparison) -> String {
    let plan = &comparison.base.plan;
    let window = match (plan.duration, plan.requests) {
        (Some(duration), _) => format!("{} s", duration.as_secs_f64()),
        (None, Some(requests)) => count(requests.get(), "message"),
        (None, None) => "a window".to_owned(),
    };
    let (base, new) = (comparison.base.runs as u64, comparison.new.runs as u64);
    let runs = match comparison.method {
        Method::PairedRounds => format!("{} of {window} on each side", count(base, "round")),
        Method::Runs | Method::SingleRuns => {
            format!("{} and {new} of {window}", count(base, "run"))
        }
    };
    if comparison.interrupted {
        format!("{runs} (interrupted)")
    } else {
        runs
    }
}

fn row(metric: &MetricComparison, out: &mut String) -> fmt::Result {
    let cell =
        |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| figure(metric.unit, v));
    writeln!(
        out,
        "{:<24}{:>14}{:>14}{:>10}  {:<22}{}",
        metric.name.replace('_', " "),
        cell(metric.base),
        cell(metric.new),
        metric.ratio.map_or_else(|| "-".to_owned(), change),
        metric
            .interval
            .as_ref()
            .map_or_else(|| "-".to_owned(), interval),
        metric_verdict(metric),
    )
}

pub(in crate::report) fn interval(interval: &RatioInterval) -> String {
    match (interval.low, interval.high) {
        (Some(low), Some(high)) => format!("{} to {}", change(low), change(high)),
        _ => "-".to_owned(),
    }
}

pub(in crate::report) fn figure(unit: Unit, value: f64) -> String {
    match unit {
        Unit::PerSecond => format!("{} /s", number(value)),
        Unit::Ns => format_duration_ns(value),
        Unit::Ratio => format!("{:.3} %", value * 100.0),
        Unit::BitsPerSecond => bits_per_second(value),
    }
}
