//! The course and the findings of a search in words.

use std::fmt::Write as _;
use std::time::Duration;

use echomark::net::units::format_duration;

use crate::plan::Load;
use crate::report::format::{UNKNOWN, count, number, percent};
use crate::report::words::load_with;
use crate::result::Verdict;
use crate::result::{CurvePoint, GoalResult, SearchResult, TrialOutcome, TrialResult};
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
pub(super) fn goal_end(result: &SearchResult, index: usize, goal: &GoalResult) -> String {
    let load = |load: f64| at(result.over, load);
    let trials = |load: f64| format!("{} trials met it", met_trials(result, index, load));
    match goal.finding.end {
        GoalEnd::Found => "found: the bounds are as close as requested".to_owned(),
        GoalEnd::HighestMeets => format!(
            "met at {}, the highest load allowed ({}); look higher with --max",
            load(result.limits.highest),
            trials(result.limits.highest)
        ),
        GoalEnd::LowestMisses => format!(
            "missed at {}, the lowest load allowed ({}); look lower with --min",
            load(result.limits.lowest),
            trials(result.limits.lowest)
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

/// What the trials at a load show about a goal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// All met it, or the interval excludes that the capacity is lower.
    Met,
    /// All missed it, or the interval excludes that the capacity is higher.
    Missed,
    /// Some met it and some missed it, and chance may decide which were more.
    Mixed,
    /// They are too few.
    Undecided,
}

/// What the trials at a load show about goal number `goal`.
pub(super) fn standing(result: &SearchResult, goal: usize, load: f64, class: Class) -> Standing {
    let finding = result.goals.get(goal).map(|found| &found.finding);
    let interval = finding.and_then(|finding| finding.interval);
    let known = interval
        .filter(|interval| !interval.is_empty())
        .unwrap_or_default();
    let (met, judged) = votes(result, goal, load);
    // A goal that allows no misses has no interval: a single miss decides.
    let is_decided = interval.is_none();
    match class {
        _ if known.lower.is_some_and(|lower| load <= lower) => Standing::Met,
        _ if known.upper.is_some_and(|upper| load >= upper) => Standing::Missed,
        Class::Lower if is_decided || met == judged => Standing::Met,
        Class::Upper if is_decided || met == 0 => Standing::Missed,
        Class::Undecided if met == 0 || met == judged => Standing::Undecided,
        Class::Lower | Class::Upper | Class::Undecided => Standing::Mixed,
    }
}

/// The number of trials at a load that met goal number `goal`, and of all that judged it.
fn votes(result: &SearchResult, goal: usize, load: f64) -> (u64, u64) {
    let trials = result.trials.iter().filter(|trial| trial.load == load);
    let judgements = trials.filter_map(|trial| trial.judgements.get(goal).copied().flatten());
    judgements.fold((0, 0), |(met, judged), judgement| {
        (met + u64::from(judgement.is_met), judged + 1)
    })
}

/// The number of trials at a load that met goal number `goal`, of how many.
pub(super) fn met_trials(result: &SearchResult, goal: usize, load: f64) -> String {
    let (met, judged) = votes(result, goal, load);
    format!("{met} of {judged}")
}

/// What the trials at a load show about a goal, with their number.
pub(super) fn class(result: &SearchResult, goal: usize, point: &CurvePoint) -> String {
    let Some(&class) = point.classes.get(goal) else {
        return "?".to_owned();
    };
    if votes(result, goal, point.load).1 == 0 {
        return UNKNOWN.to_owned();
    }
    let word = match standing(result, goal, point.load, class) {
        Standing::Met => "met",
        Standing::Missed => "missed",
        Standing::Mixed => "mixed",
        Standing::Undecided => "?",
    };
    format!("{word}, {}", met_trials(result, goal, point.load))
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
