//! What the figures of a comparison come to together.

use super::judge::{Criteria, ERROR};
use super::metric::Metric;
use crate::result::comparison::{
    ComparedRound, ComparedSide, Comparison, ComparisonKind, ComparisonVerdict, Method,
    MetricComparison,
};
use crate::result::{Host, Tool, Verdict};

/// What is known of a comparison besides its figures.
#[derive(Clone, Debug)]
pub struct Setting {
    /// When it was begun, RFC 3339 in UTC.
    pub started_at: String,
    /// Where it was made.
    pub host: Host,
    /// Whether it was ended before its time.
    pub interrupted: bool,
    /// Why no further round could be made.
    pub failure: Option<String>,
    /// What is compared with: name, source and plan.
    pub base: ComparedSide,
    /// What is compared.
    pub new: ComparedSide,
}

/// The comparison, of figures that were judged.
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
        interrupted: setting.interrupted,
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

/// What all figures come to. A tail that no run could tell says nothing, if others do; without the rate
/// or the median, nothing is known to be unchanged.
fn overall(judged: &[(Metric, MetricComparison)]) -> ComparisonVerdict {
    use ComparisonVerdict::{Improvement, NoChange, NotEnoughEvidence, Regression};
    [Regression, NotEnoughEvidence, Improvement, NoChange]
        .into_iter()
        .find(|&verdict| judged.iter().any(|figure| decides(figure, verdict)))
        .unwrap_or(NotEnoughEvidence)
}

/// Whether a figure makes this the verdict on the whole.
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

/// The overall verdict in words: the sentences of the figures that decide it.
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
        sentences.join(" ")
    }
}
