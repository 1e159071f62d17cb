//! The words of a watch's report.

use std::time::Duration;

use crate::plan::watch::WatchPlan;
use crate::report::format::{self, clock, count};
use crate::report::words::watch_load;
use crate::result::Status;
use crate::result::watch::{Outage, TargetResult, WatchResult};

pub(super) const HOW_TO_READ: [&str; 6] = [
    "Probes are **due** at fixed times, whatever the answers are. Persistent connections ask on; a new connection \
     is made, asked once and closed.",
    "An **outage** is a stretch in which probes had no answer within the timeout. It begins when the first of \
     them was due and ends when the next answer came, so both are known to one interval. Stretches of several \
     connections that overlap are one.",
    "An answer within the timeout that took longer than the limit is **late**. That is no outage, and stands \
     beside them.",
    "How it began: **reset** and **closed** tell a connection's end, **refused** that nothing listens, \
     **unreachable** that the network said so, **timeout** that nothing came, **wrong** that something else \
     than the echo came.",
    "**Reconnect** is the time from the loss of a persistent connection until the next one was there.",
    "While **the client** did not run, it could not ask. What it found behind that is no evidence against a \
     target: these probes are not late, and get the time back before they are given up.",
];

/// What was asked, how often and how long.
pub(super) fn load(plan: &WatchPlan, duration_s: f64) -> String {
    let watched = Duration::try_from_secs_f64(duration_s).unwrap_or_default();
    format!("{}, watched for {}", watch_load(plan), clock(watched))
}

/// The verdict: in a word, in a sentence, and how good the news is.
pub(super) fn judgement(result: &WatchResult) -> (&'static str, String, Status) {
    let outages: u64 = result
        .targets
        .iter()
        .map(|target| target.outage_count)
        .sum();
    let status = super::status(result);
    if outages == 0 {
        return if result.is_blind() {
            let longest = length(result.client.longest_absence_s);
            let text = format!(
                "no outage was seen, but the client did not run for {longest}, longer than the outage that \
                 is allowed"
            );
            ("BLIND", text, status)
        } else if result.targets.iter().all(|target| target.probes == 0) {
            (
                "NOTHING ASKED",
                "the watch ended before a probe".to_owned(),
                Status::Suspect,
            )
        } else {
            ("NO OUTAGE", no_outage(result), status)
        };
    }
    let longest = result
        .targets
        .iter()
        .max_by(|one, other| one.longest_outage_s.total_cmp(&other.longest_outage_s));
    let longest = longest.map_or_else(String::new, longest_of);
    let text = format!("{}, the longest {longest}", count(outages, "outage"));
    if result.exceeds_limit() {
        ("TOO LONG", text, status)
    } else {
        ("OUTAGES", text, status)
    }
}

fn no_outage(result: &WatchResult) -> String {
    let late: u64 = result.targets.iter().map(|target| target.late).sum();
    if late == 0 {
        return "every probe was answered in time".to_owned();
    }
    let longest = result.targets.iter().map(|target| target.longest_late_s);
    format!(
        "every probe was answered, {} late, in stretches up to {}",
        format::grouped(late),
        length(longest.fold(0.0, f64::max))
    )
}

fn longest_of(target: &TargetResult) -> String {
    let outages = target.outages.iter().filter(|outage| outage.is_outage());
    let longest = outages.max_by(|one, other| one.length_s().total_cmp(&other.length_s()));
    let how = longest.map_or_else(String::new, |outage| format!(" ({})", outage.class));
    format!(
        "{}{how} for {} to {}",
        length(target.longest_outage_s),
        super::of_kind(target.kind),
        target.target
    )
}

/// A length of seconds.
pub(super) fn length(seconds: f64) -> String {
    format::duration(Some((seconds.max(0.0) * 1e9) as u64))
}

/// A moment since the start: `12.345 s`, `1:02:05.345`.
pub(super) fn moment(seconds: f64) -> String {
    let milliseconds = (seconds.max(0.0) * 1000.0).round() as u64;
    let (whole, fraction) = (milliseconds / 1000, milliseconds % 1000);
    match whole {
        0..60 => format!("{whole}.{fraction:03} s"),
        60..3600 => format!("{}:{:02}.{fraction:03}", whole / 60, whole % 60),
        _ => format!(
            "{}:{:02}:{:02}.{fraction:03}",
            whole / 3600,
            whole / 60 % 60,
            whole % 60
        ),
    }
}

/// The class, and that of the system's error if it says more.
pub(super) fn cause(outage: &Outage) -> String {
    outage.class.name().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_exact_to_a_millisecond() {
        for (seconds, text) in [
            (0.0, "0.000 s"),
            (12.3456, "12.346 s"),
            (62.5, "1:02.500"),
            (3725.1, "1:02:05.100"),
        ] {
            assert_eq!(moment(seconds), text);
        }
    }
}
