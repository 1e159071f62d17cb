//! From the interval of a ratio to its verdict.

use crate::analysis::statistics::signed_rank::{Shift, min_pairs};
use crate::result::comparison::{
    Better, ComparisonVerdict, Method, MetricComparison, RatioInterval, Unit,
};

use super::metric::Metric;

/// Maximum of rounds worth suggesting. Beyond it, the ratio is too close to the threshold.
pub const MAX_ROUNDS: usize = 200;

/// The criteria of a comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Criteria {
    /// A figure has regressed if it is worse by more than this share of the base's; at least 0 and
    /// less than 1.
    pub threshold: f64,
    /// Maximum of looks at the rounds. Each look may err, so they share the chance of an error.
    pub looks: usize,
}

/// The chance that not all decisive intervals contain the truth.
pub const ERROR: f64 = 0.05;

/// The data on a figure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Findings {
    /// Medians of both sides' runs.
    pub(super) base: Option<f64>,
    pub(super) new: Option<f64>,
    pub(super) evidence: Evidence,
    pub(super) method: Method,
    /// Rounds, or runs of the side with fewer.
    pub(super) runs: usize,
    /// The error probability of the wider interval.
    pub(super) decisive_error: f64,
}

/// What the runs say of the logarithm of a figure's ratio.
#[derive(Clone, Copy, Debug)]
pub(super) enum Evidence {
    /// A run lacks the figure.
    Unknown,
    /// No run of either side counted anything, for example a failed message: the sides are alike.
    NothingCounted,
    /// Intervals of the logarithm.
    Intervals {
        /// Of the figure by itself.
        own: Shift,
        /// The wider one that allows to judge all figures together.
        decisive: Shift,
    },
}

impl Evidence {
    /// Both intervals.
    fn shifts(self) -> Option<(Shift, Shift)> {
        const NONE: Shift = Shift {
            estimate: 0.0,
            low: 0.0,
            high: 0.0,
        };
        match self {
            Self::Unknown => None,
            Self::NothingCounted => Some((NONE, NONE)),
            Self::Intervals { own, decisive } => Some((own, decisive)),
        }
    }
}

/// The verdict for `findings`.
pub(super) fn judge(metric: Metric, findings: &Findings, threshold: f64) -> MetricComparison {
    let better = metric.better();
    let shifts = findings.evidence.shifts();
    let verdict = shifts.map_or(ComparisonVerdict::NotEnoughEvidence, |(_, decisive)| {
        verdict(&decisive, better, threshold)
    });
    let open = shifts.filter(|_| verdict == ComparisonVerdict::NotEnoughEvidence);
    let interval = |shift: Shift, confidence| RatioInterval {
        low: finite(shift.low.exp()).filter(|_| shift.low.is_finite()),
        high: finite(shift.high.exp()),
        confidence,
    };
    let mut comparison = MetricComparison {
        name: metric.name().into(),
        unit: metric.unit(),
        better,
        base: findings.base,
        new: findings.new,
        ratio: shifts.and_then(|(shift, _)| finite(shift.estimate.exp())),
        // With several looks, it is wider than one look needs.
        interval: shifts.map(|(shift, _)| interval(shift, 1.0 - ERROR)),
        decisive: shifts.map(|(_, shift)| interval(shift, 1.0 - findings.decisive_error)),
        sentence: String::new(),
        verdict,
        rounds_needed: open
            .and_then(|(_, decisive)| rounds_needed(&decisive, better, threshold, findings)),
        min_rounds: open.and_then(|(_, decisive)| min_rounds(&decisive, findings)),
    };
    comparison.sentence = sentence(metric, &comparison, findings, threshold);
    comparison
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// The logarithms of the ratios that are worse, and better, by exactly the threshold.
fn limits(better: Better, threshold: f64) -> (f64, f64) {
    let (more, less) = ((1.0 + threshold).ln(), (1.0 - threshold).ln());
    match better {
        Better::Lower => (more, less),
        Better::Higher => (less, more),
    }
}

fn verdict(shift: &Shift, better: Better, threshold: f64) -> ComparisonVerdict {
    let (worse, better_than) = limits(better, threshold);
    // As if less were better.
    let (low, high, worse, better_than) = match better {
        Better::Lower => (shift.low, shift.high, worse, better_than),
        Better::Higher => (-shift.high, -shift.low, -worse, -better_than),
    };
    if low > worse {
        ComparisonVerdict::Regression
    } else if high > worse {
        ComparisonVerdict::NotEnoughEvidence
    } else if high < better_than {
        ComparisonVerdict::Improvement
    } else {
        ComparisonVerdict::NoChange
    }
}

/// The number of rounds below which the decisive interval has no ends, whatever they find. `None`
/// if it has them.
fn min_rounds(decisive: &Shift, findings: &Findings) -> Option<usize> {
    (!is_bounded(decisive)).then(|| min_pairs(findings.decisive_error))
}

fn is_bounded(shift: &Shift) -> bool {
    shift.low.is_finite() && shift.high.is_finite()
}

/// The number of further rounds after which the interval would exclude the threshold. Its width
/// falls with the square root of the number of rounds. `None` if that is unknown, or too large.
fn rounds_needed(
    decisive: &Shift,
    better: Better,
    threshold: f64,
    findings: &Findings,
) -> Option<usize> {
    // A single run does not show the variation between runs, and an interval without ends has no
    // width.
    if findings.method == Method::SingleRuns || !is_bounded(decisive) {
        return None;
    }
    let (worse, _) = limits(better, threshold);
    let distance = (worse - decisive.estimate).abs();
    let width = if worse > decisive.estimate {
        decisive.high - decisive.estimate
    } else {
        decisive.estimate - decisive.low
    };
    let runs = findings.runs as f64;
    let more = (runs * (width / distance).powi(2) - runs).ceil();
    (more <= MAX_ROUNDS as f64).then(|| more.max(1.0) as usize)
}

/// The comparison of one figure in plain words.
fn sentence(
    metric: Metric,
    comparison: &MetricComparison,
    findings: &Findings,
    threshold: f64,
) -> String {
    let label = metric.label();
    if let Evidence::NothingCounted = findings.evidence {
        return format!("{label} is 0 in every run of both sides.");
    }
    let Some((interval, ratio)) = comparison.interval.zip(comparison.ratio) else {
        return format!(
            "{label} is not known precisely enough in every run; measure longer (-d, -n)."
        );
    };
    let percent = format!("{} %", number(threshold * 100.0));
    let between = match (interval.low, interval.high) {
        (Some(low), Some(high)) => format!(", 95 % CI {} to {}", change(low), change(high)),
        _ => String::new(),
    };
    let figures = match (metric.unit(), findings.base.zip(findings.new)) {
        (Unit::Ratio, Some((base, new))) => format!(
            " went from {} % to {} %",
            number(base * 100.0),
            number(new * 100.0)
        ),
        _ => format!(" changed by {}", change(ratio)),
    };
    let verdict = match comparison.verdict {
        ComparisonVerdict::Regression => format!("worse by more than {percent}"),
        ComparisonVerdict::Improvement => format!("better by more than {percent}"),
        ComparisonVerdict::NoChange => format!("not worse by more than {percent}"),
        ComparisonVerdict::NotEnoughEvidence => not_enough(comparison, findings, &percent),
    };
    format!("{label}{figures}{between}: {verdict}.")
}

fn not_enough(comparison: &MetricComparison, findings: &Findings, percent: &str) -> String {
    let what = match (findings.method, findings.runs) {
        (Method::PairedRounds, runs) => format!("{} cannot tell", count(runs, "round")),
        (Method::Runs, runs) => format!("{} of each side cannot tell", count(runs, "run")),
        (Method::SingleRuns, _) => "one run of each side cannot tell".to_owned(),
    };
    let more = match (
        findings.method,
        comparison.min_rounds,
        comparison.rounds_needed,
    ) {
        (Method::SingleRuns, ..) => {
            "store several runs of each (--repeat), or measure both in rounds".to_owned()
        }
        (_, Some(least), _) => {
            format!("fewer than {least} never can, and a small difference needs more than {least}")
        }
        (Method::PairedRounds, None, Some(more)) => {
            format!("about {} more would do", count(more, "round"))
        }
        (Method::Runs, None, Some(more)) => {
            format!("about {} more of each would do", count(more, "run"))
        }
        (_, None, None) => format!("more than {MAX_ROUNDS} more would be needed"),
    };
    format!("{what} whether that is worse by more than {percent}; {more}")
}

fn count(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// The change of a ratio: `+4.2 %`, or a factor if it is large.
pub fn change(ratio: f64) -> String {
    if ratio >= 2.0 {
        return format!("×{}", number(ratio));
    }
    let percent = (ratio - 1.0) * 100.0;
    let text = format!("{percent:+.1} %");
    if text == "-0.0 %" {
        "+0.0 %".to_owned()
    } else {
        text
    }
}

/// A number with about three digits.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        v if v == 0.0 || v >= 100.0 || v.fract() == 0.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        v if v >= 0.01 => 3,
        _ => 5,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shift(low: f64, high: f64) -> Shift {
        Shift {
            estimate: f64::midpoint(low.ln(), high.ln()),
            low: low.ln(),
            high: high.ln(),
        }
    }

    #[test]
    fn the_interval_and_the_threshold_make_the_verdict() {
        use ComparisonVerdict::{Improvement, NoChange, NotEnoughEvidence, Regression};
        for (low, high, lower_is_better, higher_is_better) in [
            (1.06, 1.2, Regression, Improvement),
            (1.04, 1.2, NotEnoughEvidence, NoChange),
            (0.96, 1.04, NoChange, NoChange),
            (0.94, 1.04, NoChange, NotEnoughEvidence),
            (0.8, 0.94, Improvement, Regression),
            (0.5, 2.0, NotEnoughEvidence, NotEnoughEvidence),
        ] {
            let shift = shift(low, high);
            let of = |better| verdict(&shift, better, 0.05);
            assert_eq!(of(Better::Lower), lower_is_better, "{low} to {high}");
            assert_eq!(of(Better::Higher), higher_is_better, "{low} to {high}");
        }
    }

    fn findings(shift: Shift, runs: usize) -> Findings {
        Findings {
            base: Some(100.0),
            new: Some(104.0),
            evidence: Evidence::Intervals {
                own: shift,
                decisive: shift,
            },
            method: Method::PairedRounds,
            runs,
            decisive_error: ERROR / 5.0,
        }
    }

    #[test]
    fn more_rounds_are_named_when_they_would_do() {
        // The threshold is half the interval's width away, so four times the rounds are needed.
        let wide = Shift {
            estimate: 0.0,
            low: -2.0 * 1.05_f64.ln(),
            high: 2.0 * 1.05_f64.ln(),
        };
        let comparison = judge(Metric::ResponseP99, &findings(wide, 10), 0.05);
        assert_eq!(comparison.rounds_needed, Some(30));
        assert!(
            comparison.sentence.contains("30 rounds more"),
            "{}",
            comparison.sentence
        );
        let unbounded = Shift {
            low: f64::NEG_INFINITY,
            high: f64::INFINITY,
            ..wide
        };
        for runs in [3, 5, 7] {
            let comparison = judge(Metric::ResponseP99, &findings(unbounded, runs), 0.05);
            // Eight rounds make an interval, and may still not decide.
            assert_eq!(comparison.rounds_needed, None);
            assert_eq!(comparison.min_rounds, Some(8));
            assert!(
                comparison.sentence.contains("fewer than 8 never can"),
                "{}",
                comparison.sentence
            );
        }
        let comparison = judge(Metric::ResponseP99, &findings(unbounded, 5), 0.05);
        let interval = comparison.decisive.unwrap();
        assert_eq!((interval.low, interval.high), (None, None));
        let hopeless = Shift {
            estimate: 1.049_f64.ln(),
            ..wide
        };
        let comparison = judge(Metric::ResponseP99, &findings(hopeless, 10), 0.05);
        assert_eq!(comparison.rounds_needed, None);
    }

    #[test]
    fn numbers_are_short() {
        for (ratio, text) in [
            (1.0, "+0.0 %"),
            (0.9999, "+0.0 %"),
            (1.123, "+12.3 %"),
            (0.5, "-50.0 %"),
            (2.5, "×2.5"),
            (1e4, "×10000"),
        ] {
            assert_eq!(change(ratio), text);
        }
        assert_eq!(number(5.0), "5");
        assert_eq!(number(0.123_456), "0.123");
    }
}
