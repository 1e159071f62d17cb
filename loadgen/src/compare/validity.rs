//! Whether the measurements of a comparison are reliable.

use std::collections::BTreeMap;

use crate::result::RunResult;
use crate::result::comparison::Side;
use crate::result::{Code, Reason, Status, Verdict};

use super::measured::{Measured, Round};
use super::summarize::End;

/// Reasons for an invalid run that the client causes. On the new side, other reasons may be the
/// effect that the comparison looks for.
const OF_THE_CLIENT: [Code; 2] = [Code::SendLag, Code::OutOfPorts];
/// Above this share of invalid runs on a side, the comparison is invalid. Fewer are outliers, which
/// ranks tolerate.
const MAX_INVALID: f64 = 0.25;

/// Of rounds.
pub(super) fn of_rounds(rounds: &[Round], end: &End) -> Verdict {
    let mut reasons = Vec::new();
    if let End::Failed(problem) = end {
        reasons.push(Reason::invalid(Code::RoundFailed, problem.clone()));
    }
    let runs = |side| rounds.iter().map(move |round| run(round, side));
    for (side, name) in [(Side::Base, "base"), (Side::New, "new")] {
        let invalid = runs(side)
            .filter(|run| is_unusable(&run.verdict, side))
            .count();
        if invalid > 0 {
            let status = if invalid as f64 > MAX_INVALID * rounds.len() as f64 {
                Status::Invalid
            } else {
                Status::Suspect
            };
            let text = format!(
                "{invalid} of {} runs of {name} are invalid: {}",
                rounds.len(),
                codes(runs(side), Status::Invalid)
            );
            reasons.push(Reason {
                code: Code::InvalidRuns,
                text,
                status,
            });
        }
        let suspect = runs(side)
            .filter(|run| run.verdict.status == Status::Suspect)
            .count();
        if suspect > 0 {
            let text = format!(
                "{suspect} of {} runs of {name} are suspect: {}",
                rounds.len(),
                codes(runs(side), Status::Suspect)
            );
            reasons.push(Reason::suspect(Code::SuspectRuns, text));
        }
    }
    if *end == End::Interrupted {
        let text = format!("stopped early, after {} complete rounds", rounds.len());
        reasons.push(Reason::suspect(Code::Interrupted, text));
    }
    Verdict::from_reasons(reasons)
}

/// Of stored results.
pub(super) fn of_results(base: &RunResult, new: &RunResult) -> Verdict {
    let mut reasons = Vec::new();
    for (side, name, result) in [(Side::Base, "base", base), (Side::New, "new", new)] {
        let texts = |status| {
            let reasons = result.verdict.reasons.iter();
            let texts: Vec<String> = reasons
                .filter(|reason| reason.status == status)
                .map(|reason| format!("{}: {}", reason.code, reason.text))
                .collect();
            texts.join("; ")
        };
        if is_unusable(&result.verdict, side) {
            let text = format!("the result of {name}: {}", texts(Status::Invalid));
            reasons.push(Reason::invalid(Code::InvalidRuns, text));
        } else if result.verdict.status != Status::Valid {
            let text = format!("the result of {name}: {}", texts(result.verdict.status));
            reasons.push(Reason::suspect(Code::SuspectRuns, text));
        }
        if result.interrupted {
            let text = format!("the run of {name} was stopped early");
            reasons.push(Reason::suspect(Code::Interrupted, text));
        }
    }
    // Unions of shards of different hosts are refused before.
    if base.shards.is_none() && base.host != new.host {
        let text =
            "the results are of different hosts, or the host changed: that alone may change the \
                    figures"
                .to_owned();
        reasons.push(Reason::suspect(Code::HostsDiffer, text));
    }
    Verdict::from_reasons(reasons)
}

fn run(round: &Round, side: Side) -> &Measured {
    match side {
        Side::Base => &round.base,
        Side::New => &round.new,
    }
}

/// Whether a run says nothing about its server: the client failed, or the base itself did not work.
fn is_unusable(verdict: &Verdict, side: Side) -> bool {
    verdict.reasons.iter().any(|reason| {
        reason.status == Status::Invalid
            && (side == Side::Base || OF_THE_CLIENT.contains(&reason.code))
    })
}

/// The codes of the reasons of this severity, with the number of runs.
fn codes<'a>(runs: impl Iterator<Item = &'a Measured>, status: Status) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for run in runs {
        let mut codes: Vec<String> = run
            .verdict
            .reasons
            .iter()
            .filter(|reason| reason.status == status)
            .map(|reason| reason.code.to_string())
            .collect();
        // For example, one for each thread.
        codes.sort_unstable();
        codes.dedup();
        for code in codes {
            *counts.entry(code).or_default() += 1;
        }
    }
    let texts = counts
        .iter()
        .map(|(code, count)| format!("{code} in {count}"));
    texts.collect::<Vec<_>>().join(", ")
}
