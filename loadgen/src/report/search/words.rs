//! The course and the findings of a search in words.

use std::fmt::Write as _;
use std::time::Duration;

use echomark::net::units::format_duration;

use crate::plan::Load;
use crate::report::format::{UNKNOWN, count, number, percent};
use crate::report::words::load_with;
use crate::result::Verdict;
use crate::result::{GoalResult, SearchResult, TrialOutcome, TrialResult};
use crate::search::{Axis, Class, Finding, GoalEnd, Judgement, StopReason};

/// Dependence is reported from this number of trials per independent one.
const MIN_DEPENDENCE: f64 = 1.5;

/// The searched range and the goal's load.
pub(super) fn load(result: &SearchResult) -> String {
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
        load_with(&result.plan, rate.as_deref().unwrap_or("N"), &connections),
        number(result.limits.lowest),
        number(result.limits.highest),
    )
}

/// The required share of time, and the lengths of the trials.
pub(super) fn terms(found: &GoalResult) -> String {
    let terms = &found.goal.terms;
    format!(
        "in {} of the trials' time; trials of {} to {}, {} decide",
        percent(1.0 - terms.exceed_ratio),
        format_duration(terms.initial_trial),
        format_duration(terms.final_trial),
        format_duration(terms.duration_sum),
    )
}

/// The capacity's interval, and its certainty.
pub(super) fn capacity(result: &SearchResult, finding: &Finding) -> (String, String) {
    let sure = percent(result.confidence);
    let unknown = |why: String| (UNKNOWN.to_owned(), why);
    let Some(interval) = &finding.interval else {
        return unknown("a single trial decides, so chance is not ruled out".to_owned());
    };
    if interval.is_empty() {
        return unknown("no load fits all trials".to_owned());
    }
    let load = |load: f64| at(result.over, load);
    let value = match (interval.lower, interval.upper) {
        (Some(lower), Some(upper)) => format!("{} to {}", number(lower), load(upper)),
        (Some(lower), None) => format!("at least {}", load(lower)),
        (None, Some(upper)) => format!("below {}", load(upper)),
        (None, None) => return unknown(format!("neither bound is {sure} sure")),
    };
    (value, format!("{sure} CI"))
}

/// The note on dependent trials.
pub(super) fn dependence(finding: &Finding) -> Option<String> {
    let dependence = finding
        .dependence
        .filter(|&count| count >= MIN_DEPENDENCE)?;
    Some(format!(
        "outcomes come in runs, so {dependence:.1} of them count as one: the capacity moved, or the host \
         did other work"
    ))
}

/// The end of the search for a goal.
pub(super) fn goal_end(result: &SearchResult, goal: &GoalResult) -> String {
    let load = |load: f64| at(result.over, load);
    match goal.finding.end {
        GoalEnd::Found => "found: the bounds are as close as requested".to_owned(),
        GoalEnd::HighestMeets => format!(
            "met at {}, the highest load allowed; look higher with --max",
            load(result.limits.highest)
        ),
        GoalEnd::LowestMisses => format!(
            "missed at {}, the lowest load allowed; look lower with --min",
            load(result.limits.lowest)
        ),
        GoalEnd::ClientLimit { limit } => format!(
            "the client is the limit at {}{}",
            load(limit),
            client_trouble(result, limit)
                .map_or_else(String::new, |trouble| format!(": {trouble}"))
        ),
        GoalEnd::Unsteady => {
            "the capacity changed during the search: no load fits all trials; find \
                              what changes, and search again"
                .to_owned()
        }
        GoalEnd::Unfinished if goal.has_bounds() => format!(
            "the bounds are as close as requested, but may be there by chance: {}",
            stop(result.stop)
        ),
        GoalEnd::Unfinished => format!("not found: {}", stop(result.stop)),
    }
}

/// The end of the whole search.
pub(super) fn end(result: &SearchResult) -> String {
    format!(
        "{}, after {} in {:.1} s",
        stop(result.stop),
        count(result.trials.len() as u64, "trial"),
        result.spent_s
    )
}

fn stop(stop: StopReason) -> &'static str {
    match stop {
        StopReason::Finished => "search complete",
        StopReason::TrialsExhausted => "trial limit reached (--max-trials)",
        StopReason::TimeExhausted => "time limit reached (--max-time)",
        StopReason::Interrupted => "interrupted",
        StopReason::TargetLost => "the target accepts no more connections",
    }
}

/// The planned length of a trial. A file may contain any number, also one that is no valid length.
pub(super) fn planned(trial: &TrialResult) -> String {
    format_duration(Duration::try_from_secs_f64(trial.planned_s).unwrap_or_default())
}

/// The outcome of a trial.
pub(super) fn trial_outcome(trial: &TrialResult) -> String {
    let judgement = |judgement: &Option<Judgement>| {
        let Some(judgement) = judgement else {
            return "?".to_owned();
        };
        let word = if judgement.is_met { "met" } else { "missed" };
        format!("{} {word}", percent(judgement.failed))
    };
    let mut text = match trial.outcome {
        TrialOutcome::Judged => trial
            .judgements
            .iter()
            .map(judgement)
            .collect::<Vec<_>>()
            .join(", "),
        TrialOutcome::ClientFailed => match &trial.measured {
            Some(figures) => format!("client: {}", client_codes(&figures.verdict)),
            None => "client".to_owned(),
        },
        TrialOutcome::Interrupted => "interrupted".to_owned(),
    };
    if let Some(error) = &trial.error {
        // Writing to a String can't fail.
        let _ = write!(text, ": {error}");
    }
    text
}

/// What limited the client in the last trial at the load.
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

fn client_codes(verdict: &Verdict) -> String {
    let codes = verdict.reasons.iter().map(|reason| &reason.code);
    codes
        .filter(|code| crate::search::is_about_the_client(code))
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The class of a load in words.
pub(super) fn class(class: &Class) -> &'static str {
    match class {
        Class::Lower => "met",
        Class::Upper => "missed",
        Class::Undecided => "?",
    }
}

/// A load with its unit.
pub(super) fn at(axis: Axis, load: f64) -> String {
    match axis {
        Axis::Rate => format!("{} /s", number(load)),
        Axis::Connections => count(load as u64, "connection"),
    }
}

/// The header of a column of loads.
pub(super) fn short_unit(axis: Axis) -> &'static str {
    match axis {
        Axis::Rate => "load /s",
        Axis::Connections => "connections",
    }
}
