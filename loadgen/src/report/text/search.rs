//! What a person reads after a search.

use std::fmt::{self, Write as _};
use std::time::Duration;

use echomark::net::units::{format_duration, format_duration_ns};

use crate::plan::Load;
use crate::report::format::{count, number, percent};
use crate::report::words::{load_in_words, target};
use crate::result::Verdict;
use crate::result::{CurvePoint, GoalResult, SearchResult, TrialOutcome, TrialResult};
use crate::search::{Axis, Class, Finding, GoalEnd, Judgement, StopReason};

/// Characters of the longest bar of the curve, which is on a logarithmic scale.
const BAR: usize = 24;

/// From so many trials on that count as one it is said.
const SPELLS: f64 = 1.5;

/// What is said of trials that depend on each other.
pub(in crate::report) fn spells(finding: &Finding) -> Option<String> {
    let dependence = finding.dependence.filter(|&count| count >= SPELLS)?;
    Some(format!(
        "come out alike in spells, so {dependence:.1} of them count as one: the capacity moved, or the host did \
         other work"
    ))
}

/// Renders `result` as lines of text.
pub fn render_search(result: &SearchResult) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = page(result, &mut out);
    out
}

/// How a search for a goal ended, in words.
pub fn goal_end(result: &SearchResult, goal: &GoalResult) -> String {
    let load = |load: f64| at(result.over, load);
    match goal.finding.end {
        GoalEnd::Found => "found: the bounds are as close as was asked for".to_owned(),
        GoalEnd::HighestMeets => format!(
            "it is met at {}, the highest load that was to be tried; look higher with --max",
            load(result.limits.highest)
        ),
        GoalEnd::LowestMisses => format!(
            "it is missed at {}, the lowest load that was to be tried; look lower with --min",
            load(result.limits.lowest)
        ),
        GoalEnd::ClientLimit { limit } => format!(
            "the client is the limit at {}{}",
            load(limit),
            client_trouble(result, limit)
                .map_or_else(String::new, |trouble| format!(": {trouble}"))
        ),
        GoalEnd::Unsteady => {
            "the capacity moved while it was searched for: no load fits all that was seen; look for \
             what changes, and search again"
                .to_owned()
        }
        GoalEnd::Unfinished if goal.has_bounds() => format!(
            "the bounds are as close as was asked for, but may be there by chance: stopped {}",
            stop(result.stop)
        ),
        GoalEnd::Unfinished => format!("not found: {}", stop(result.stop)),
    }
}

fn page(result: &SearchResult, out: &mut String) -> fmt::Result {
    writeln!(out, "target    {}", target(&result.plan))?;
    writeln!(out, "load      {}", load(result))?;
    writeln!(out)?;
    for goal in &result.goals {
        goal_lines(result, goal, out)?;
        writeln!(out)?;
    }
    curve(result, out)?;
    trials(result, out)?;
    writeln!(
        out,
        "stopped   {} after {} in {:.1} s{}",
        stop(result.stop),
        count(result.trials.len() as u64, "trial"),
        result.spent_s,
        if result.interrupted {
            " (interrupted)"
        } else {
            ""
        }
    )
}

/// What was tried, in words.
pub(in crate::report) fn load(result: &SearchResult) -> String {
    let rate = match &result.plan.load {
        Load::Open { rate, .. } if result.over == Axis::Connections => {
            rate.constant_rate().map(number)
        }
        _ => None,
    };
    let connections = match result.over {
        Axis::Rate => count(result.plan.connections.get() as u64, "connection"),
        Axis::Connections => "N connections".to_owned(),
    };
    format!(
        "{}; searched for N from {} to {}",
        load_in_words(&result.plan, rate.as_deref().unwrap_or("N"), &connections),
        number(result.limits.lowest),
        number(result.limits.highest),
    )
}

fn goal_lines(result: &SearchResult, found: &GoalResult, out: &mut String) -> fmt::Result {
    let (goal, finding) = (&found.goal, &found.finding);
    let name = goal
        .name
        .as_ref()
        .map_or_else(String::new, |name| format!("{name}: "));
    let terms = &goal.terms;
    let length = |duration: Duration| format_duration(duration);
    writeln!(
        out,
        "goal      {name}{goal} in {} of the trials' time; trials of {} to {}, {} decide",
        percent(1.0 - terms.exceed_ratio),
        length(terms.initial_trial),
        length(terms.final_trial),
        length(terms.duration_sum),
    )?;
    let load = |load: f64| at(result.over, load);
    let bound = |bound: Option<f64>| bound.map_or_else(|| "unknown".to_owned(), load);
    write!(
        out,
        "bounds    met at {}, missed at {}",
        bound(finding.lower),
        bound(finding.upper)
    )?;
    if let Some(precision) = finding.precision {
        write!(
            out,
            ": {} apart, {} asked for",
            percent(precision),
            percent(terms.precision)
        )?;
    }
    writeln!(out)?;
    match &finding.interval {
        None => writeln!(
            out,
            "capacity  one trial decides, so nothing is known of chance"
        )?,
        Some(interval) if interval.is_empty() => {
            writeln!(out, "capacity  no load fits all that was seen")?;
        }
        Some(interval) => {
            let sure = percent(result.confidence);
            let text = match (interval.lower, interval.upper) {
                (Some(lower), Some(upper)) => {
                    format!("{sure} sure from {} to {}", number(lower), load(upper))
                }
                (Some(lower), None) => format!("{sure} sure at least {}", load(lower)),
                (None, Some(upper)) => format!("{sure} sure below {}", load(upper)),
                (None, None) => format!("not {sure} sure of either bound"),
            };
            writeln!(out, "capacity  {text}")?;
        }
    }
    if let Some(spells) = spells(finding) {
        writeln!(out, "trials    {spells}")?;
    }
    if let Some(throughput) = finding.conditional_throughput {
        writeln!(
            out,
            "carried   {} within the objectives at the lower bound (conditional throughput)",
            load(throughput)
        )?;
    }
    writeln!(out, "ended     {}", goal_end(result, found))
}

fn curve(result: &SearchResult, out: &mut String) -> fmt::Result {
    if result.curve.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "{:>12}{:>12}{:>10}{:>10}{:>10}{:>8}  {:<14}p99, logarithmic",
        short_unit(result.over),
        "achieved /s",
        "p50",
        "p99",
        "max",
        "trials",
        goals_heading(result, "goal"),
    )?;
    let p99 = |point: &CurvePoint| point.response_ns.as_ref()?.quantile(0.99);
    let known: Vec<u64> = result.curve.iter().filter_map(p99).collect();
    let least = known.iter().min().copied().unwrap_or(1).max(1) as f64;
    let most = known.iter().max().copied().unwrap_or(1).max(1) as f64;
    for point in &result.curve {
        let response = point.response_ns.as_ref();
        let quantile = |quantile: f64| cell(response.and_then(|l| l.quantile(quantile)));
        let bar = p99(point).map_or(0, |p99| {
            let share = (p99.max(1) as f64 / least).ln() / (most / least).ln().max(1e-9);
            1 + (share * (BAR - 1) as f64).round() as usize
        });
        let classes: Vec<&str> = point.classes.iter().map(class).collect();
        let line = format!(
            "{:>12}{:>12}{:>10}{:>10}{:>10}{:>8}  {:<14}{}",
            number(point.load),
            number(point.achieved),
            quantile(0.5),
            quantile(0.99),
            cell(response.map(|latency| latency.max())),
            point.trials,
            classes.join(" "),
            "█".repeat(bar),
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    writeln!(out)
}

fn trials(result: &SearchResult, out: &mut String) -> fmt::Result {
    if result.trials.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "trial{:>9}{:>12}{:>9}{:>12}{:>12}{:>10}{:>10}{:>10}  {}",
        "at",
        short_unit(result.over),
        "window",
        "offered /s",
        "achieved /s",
        "p50",
        "p99",
        "max",
        goals_heading(result, "failed"),
    )?;
    for (index, trial) in result.trials.iter().enumerate() {
        let measured = trial.measured.as_ref();
        let response = measured.and_then(|figures| figures.response_ns);
        let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), number);
        writeln!(
            out,
            "{:>5}{:>9}{:>12}{:>9}{:>12}{:>12}{:>10}{:>10}{:>10}  {}",
            index + 1,
            format!("{:.1} s", trial.start_s),
            number(trial.load),
            planned(trial),
            rate(measured.map(|figures| figures.offered)),
            rate(measured.map(|figures| figures.achieved)),
            cell(response.and_then(|latency| latency.p50)),
            cell(response.and_then(|latency| latency.p99)),
            cell(response.map(|latency| latency.max)),
            trial_outcome(trial),
        )?;
    }
    writeln!(out)
}

/// How long a trial was to be. A file may say anything, also what is no length.
pub(in crate::report) fn planned(trial: &TrialResult) -> String {
    format_duration(Duration::try_from_secs_f64(trial.planned_s).unwrap_or_default())
}

pub(in crate::report) fn trial_outcome(trial: &TrialResult) -> String {
    let judgement = |judgement: &Option<Judgement>| {
        let Some(judgement) = judgement else {
            return "?".to_owned();
        };
        let word = if judgement.is_met { "met" } else { "missed" };
        format!("{} {word}", small_percent(judgement.failed))
    };
    let mut text = match trial.outcome {
        TrialOutcome::Judged => trial
            .judgements
            .iter()
            .map(judgement)
            .collect::<Vec<_>>()
            .join(", "),
        TrialOutcome::ClientFailed => match &trial.measured {
            Some(figures) => format!("the client's: {}", codes(&figures.verdict)),
            None => "the client's".to_owned(),
        },
        TrialOutcome::Interrupted => "interrupted".to_owned(),
    };
    if let Some(error) = &trial.error {
        let _ = write!(text, ": {error}");
    }
    text
}

/// What kept the client from offering a load, of the last trial at it.
fn client_trouble(result: &SearchResult, load: f64) -> Option<String> {
    let failed = result
        .trials
        .iter()
        .rev()
        .find(|trial| trial.load == load && trial.outcome == TrialOutcome::ClientFailed)?;
    if let Some(error) = &failed.error {
        return Some(error.clone());
    }
    let reasons = &failed.measured.as_ref()?.verdict.reasons;
    let texts = reasons
        .iter()
        .filter(|reason| crate::search::is_about_the_client(&reason.code))
        .map(|reason| reason.text.as_str());
    let texts = texts.collect::<Vec<_>>();
    (!texts.is_empty()).then(|| texts.join("; "))
}

fn codes(verdict: &Verdict) -> String {
    let codes = verdict.reasons.iter().map(|reason| &reason.code);
    codes
        .filter(|code| crate::search::is_about_the_client(code))
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

pub(in crate::report) fn class(class: &Class) -> &'static str {
    match class {
        Class::Lower => "met",
        Class::Upper => "missed",
        Class::Undecided => "?",
    }
}

pub(in crate::report) fn stop(stop: StopReason) -> &'static str {
    match stop {
        StopReason::Finished => "with nothing left to find",
        StopReason::TrialsExhausted => "by the number of trials (--max-trials)",
        StopReason::TimeExhausted => "by the time (--max-time)",
        StopReason::Interrupted => "by an interruption",
        StopReason::TargetLost => "because the target takes no connections any more",
    }
}

pub(in crate::report) fn at(axis: Axis, load: f64) -> String {
    match axis {
        Axis::Rate => format!("{} /s", number(load)),
        Axis::Connections => count(load as u64, "connection"),
    }
}

pub(in crate::report) fn short_unit(axis: Axis) -> &'static str {
    match axis {
        Axis::Rate => "load /s",
        Axis::Connections => "connections",
    }
}

fn goals_heading(result: &SearchResult, noun: &str) -> String {
    match result.goals.len() {
        1 => noun.to_owned(),
        _ => format!("{noun} by goal"),
    }
}

fn cell(nanoseconds: Option<u64>) -> String {
    nanoseconds.map_or_else(|| "-".to_owned(), |value| format_duration_ns(value as f64))
}

/// A share with decimals enough to tell it from the smallest that objectives ask for.
pub(in crate::report) fn small_percent(share: f64) -> String {
    if share > 0.0 && share < 0.000_95 {
        format!("{:.3} %", share * 100.0)
    } else {
        percent(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials_that_depend_on_each_other_are_told_of() {
        let seed = include_bytes!("../../../../fuzz/seeds/search/unfinished");
        let mut search: SearchResult = serde_json::from_slice(seed).expect("is a search");
        for (dependence, is_told) in [(None, false), (Some(1.2), false), (Some(3.4), true)] {
            search.goals[0].finding.dependence = dependence;
            let text = render_search(&search);
            assert_eq!(text.contains("3.4 of them count as one"), is_told, "{text}");
        }
    }
}
