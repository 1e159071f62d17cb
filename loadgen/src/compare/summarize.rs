//! The verdict of a comparison, from all of its figures.

use super::judge::{Criteria, ERROR};
use super::metric::Metric;
use crate::result::comparison::{
    ComparedRound, ComparedSide, Comparison, ComparisonKind, ComparisonVerdict, Method,
    MetricComparison,
};
use crate::result::{Host, Tool, Verdict};

/// The facts of a comparison besides its figures.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Start time, RFC 3339 in UTC.
    pub started_at: String,
    /// The host.
    pub host: Host,
    /// How it ended.
    pub end: End,
    /// The base: name, source and plan.
    pub base: ComparedSide,
    /// The new side.
    pub new: ComparedSide,
}

/// The end of the measurements.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// All were made.
    Complete,
    /// The user ended them early.
    Interrupted,
    /// No further round could be made, for this reason.
    Failed(String),
}

/// The comparison, from judged figures.
pub(super) fn summarize(
    setting: Setting,
    method: Method,
    criteria: &Criteria,
    judged: Vec<(Metric, MetricComparison)>,
    rounds: Vec<ComparedRound>,
    validity: Verdict,
) -> Comparison {
    let verdict = overall(&judged);
    Comparison {
        schema: 1,
        kind: ComparisonKind::Comparison,
        tool: Tool::this(),
        started_at: setting.started_at,
        interrupted: setting.end == End::Interrupted,
        host: setting.host,
        base: setting.base,
        new: setting.new,
        method,
        threshold: criteria.threshold,
        confidence: 1.0 - ERROR,
        sentence: sentence(verdict, &judged, criteria.threshold),
        verdict,
        metrics: judged
            .into_iter()
            .map(|(_, comparison)| comparison)
            .collect(),
        rounds,
        validity,
    }
}

/// The overall verdict. A tail that no run could measure is ignored if there are other figures;
/// without the rate or the median, there is no evidence of no change.
fn overall(judged: &[(Metric, MetricComparison)]) -> ComparisonVerdict {
    use ComparisonVerdict::{Improvement, NoChange, NotEnoughEvidence, Regression};
    [Regression, NotEnoughEvidence, Improvement, NoChange]
        .into_iter()
        .find(|&verdict| judged.iter().any(|figure| decides(figure, verdict)))
        .unwrap_or(NotEnoughEvidence)
}

/// Whether a figure determines the overall verdict.
fn decides((metric, comparison): &(Metric, MetricComparison), verdict: ComparisonVerdict) -> bool {
    let is_essential = match metric {
        Metric::AchievedRate | Metric::Throughput | Metric::ResponseP50 => true,
        Metric::ResponseP90
        | Metric::ResponseP99
        | Metric::ServiceP50
        | Metric::ServiceP99
        | Metric::Failures
        | Metric::ServerCpu => false,
    };
    comparison.verdict == verdict && (comparison.ratio.is_some() || is_essential)
}

/// The overall verdict in words: the sentences of the figures that determine it.
fn sentence(
    verdict: ComparisonVerdict,
    judged: &[(Metric, MetricComparison)],
    threshold: f64,
) -> String {
    if verdict == ComparisonVerdict::NoChange {
        let percent = (threshold * 1e4).round() / 100.0;
        return format!("No figure is worse by more than {percent} %.");
    }
    let deciding = judged.iter().filter(|figure| decides(figure, verdict));
    let sentences: Vec<&str> = deciding
        .map(|(_, comparison)| comparison.sentence.as_str())
        .collect();
    if sentences.is_empty() {
        "Nothing was measured.".to_owned()
    } else {
        joined(&sentences)
    }
}

/// Joins sentences of the form `figure: finding.`. A finding that holds for several figures in a row is
/// said once.
fn joined(sentences: &[&str]) -> String {
    let finding = |sentence: &str| {
        sentence
            .rsplit_once(": ")
            .map(|(_, finding)| finding.to_owned())
    };
    let groups = sentences.chunk_by(|a, b| finding(a).is_some() && finding(a) == finding(b));
    let groups = groups.map(|group| match (group, finding(group[0])) {
        ([first, others @ ..], Some(finding)) if !others.is_empty() => {
            let mut text = first
                .trim_end_matches(&finding)
                .trim_end_matches(": ")
                .to_owned();
            for other in others {
                let figure = other.trim_end_matches(&finding).trim_end_matches(": ");
                text.push_str("; ");
                text.push_str(&figure.replacen("The", "the", 1));
            }
            format!("{text}: {finding}")
        }
        _ => group.concat(),
    });
    groups.collect::<Vec<_>>().join(" ")
}
