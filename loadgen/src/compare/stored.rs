//! Comparison of two stored results.
//!
//! Runs differ by more than each can measure itself: other connections, other placement of threads
//! and memory, another time (Kalibera and Jones, "Rigorous Benchmarking in Reasonable Time", ISMM
//! 2013). A result of several runs shows this variation. A single run does not, so it gets an
//! allowance, and only larger differences are established.

use crate::analysis::statistics::median;
use crate::analysis::statistics::welch::{self, Estimate};
use crate::result::comparison::{ComparedSide, Comparison, Method, MetricComparison, Source};
use crate::result::{RunResult, Statistics};

use super::hosts;
use super::judge::{Criteria, ERROR, Evidence, Findings, judge};
use super::metric::{Metric, Reading};
use super::summarize::{End, Setting, summarize};
use super::validity;

/// The assumed standard deviation of a figure's logarithm between runs on one host
/// (docs/calibration.md).
const BETWEEN_RUNS: [(Metric, f64); 7] = [
    (Metric::AchievedRate, 0.35),
    (Metric::Throughput, 0.35),
    (Metric::ResponseP50, 0.45),
    (Metric::ResponseP90, 0.55),
    (Metric::ResponseP99, 0.8),
    // Causes of failed messages are rare, and hit many messages or none.
    (Metric::Failures, 1.0),
    // It does not wait for a CPU, but caches and clock frequencies differ.
    (Metric::ServerCpu, 0.2),
];

/// The standard deviation of an open loop's rate, which the schedule decides.
const BETWEEN_RUNS_IN_STEP: f64 = 0.005;

/// A stored result with its name.
#[derive(Clone, Copy, Debug)]
pub struct NamedResult<'a> {
    /// The name for people: its file.
    pub name: &'a str,
    /// The result.
    pub result: &'a RunResult,
}

/// Compares two stored results; `started_at` is now, RFC 3339.
///
/// # Errors
/// The options in which their plans differ, each with both values, or the hosts on which the shards of
/// two unions ran. Such results are not comparable.
pub fn of_results(
    base: NamedResult<'_>,
    new: NamedResult<'_>,
    criteria: &Criteria,
    started_at: String,
) -> Result<Comparison, Vec<String>> {
    let mut differences = base.result.plan.differences(
        &new.result.plan,
        &["seed", "interval_s", "repeat", "shard.start_at"],
    );
    differences.extend(hosts::differences(base.result, new.result));
    if !differences.is_empty() {
        return Err(differences);
    }
    let method = if runs(base.result) > 1 && runs(new.result) > 1 {
        Method::Runs
    } else {
        Method::SingleRuns
    };
    let judged = judge_all(base.result, new.result, method, criteria);
    let side = |stored: NamedResult<'_>| ComparedSide {
        name: stored.name.to_owned(),
        source: Source::Result,
        runs: runs(stored.result),
        plan: stored.result.plan.clone(),
    };
    let setting = Setting {
        started_at,
        host: crate::host::describe(),
        end: if base.result.interrupted || new.result.interrupted {
            End::Interrupted
        } else {
            End::Complete
        },
        base: side(base),
        new: side(new),
    };
    let validity = validity::of_results(base.result, new.result);
    Ok(summarize(
        setting,
        method,
        criteria,
        judged,
        Vec::new(),
        validity,
    ))
}

/// Judges each figure that both results have.
fn judge_all(
    base: &RunResult,
    new: &RunResult,
    method: Method,
    criteria: &Criteria,
) -> Vec<(Metric, MetricComparison)> {
    let sides: Vec<(Metric, Option<Sides>)> = Metric::of_plan(&base.plan)
        .into_iter()
        .map(|metric| (metric, Sides::of(metric, base, new)))
        // The server was not asked, or a single run can't tell how precise its figure is.
        .filter(|(metric, sides)| sides.is_some() || !is_optional(*metric))
        .collect();
    let known = sides.iter().filter(|(_, sides)| sides.is_some()).count();
    let decisive_error = ERROR / known.max(1) as f64;
    let judge_one = |(metric, sides): (Metric, Option<Sides>)| {
        let medians = sides.as_ref().map_or((None, None), |sides| sides.medians);
        let findings = Findings {
            base: medians.0,
            new: medians.1,
            evidence: sides.map_or(Evidence::Unknown, |sides| sides.evidence(decisive_error)),
            method,
            runs: runs(base).min(runs(new)),
            decisive_error,
        };
        (metric, judge(metric, &findings, criteria.threshold))
    };
    sides.into_iter().map(judge_one).collect()
}

fn is_optional(metric: Metric) -> bool {
    matches!(
        metric,
        Metric::ServiceP50 | Metric::ServiceP99 | Metric::ServerCpu
    )
}

/// Number of runs in a result.
fn runs(result: &RunResult) -> usize {
    result
        .repeats
        .as_ref()
        .map_or(1, |repeats| repeats.runs.len())
}

/// Both sides' data on a figure.
struct Sides {
    medians: (Option<f64>, Option<f64>),
    /// Of the logarithm; `None` if nothing was counted on either side.
    estimates: Option<(Estimate, Estimate)>,
}

impl Sides {
    /// `None` if a side lacks the figure.
    fn of(metric: Metric, base: &RunResult, new: &RunResult) -> Option<Self> {
        let (base_readings, new_readings) = (readings(metric, base)?, readings(metric, new)?);
        let medians = (values(&base_readings), values(&new_readings));
        let mut all = base_readings.iter().chain(&new_readings);
        let estimates = if all.all(|reading| reading.is_nothing()) {
            None
        } else {
            Some((
                estimate(metric, base, &base_readings)?,
                estimate(metric, new, &new_readings)?,
            ))
        };
        Some(Self { medians, estimates })
    }

    fn evidence(&self, decisive_error: f64) -> Evidence {
        match &self.estimates {
            None => Evidence::NothingCounted,
            Some((base, new)) => Evidence::Intervals {
                own: welch::shift(base, new, ERROR),
                decisive: welch::shift(base, new, decisive_error),
            },
        }
    }
}

/// The figure in each run of a result.
fn readings(metric: Metric, result: &RunResult) -> Option<Vec<Reading>> {
    match &result.repeats {
        Some(repeats) => repeats
            .runs
            .iter()
            .map(|run| metric.of_repeat(run))
            .collect(),
        None => Some(vec![metric.of(result)?]),
    }
}

fn values(readings: &[Reading]) -> Option<f64> {
    let values: Vec<f64> = readings.iter().map(|reading| reading.value()).collect();
    median(&values)
}

fn estimate(metric: Metric, result: &RunResult, readings: &[Reading]) -> Option<Estimate> {
    let logs: Vec<f64> = readings.iter().map(|reading| reading.log()).collect();
    let [only] = logs[..] else {
        return Estimate::of_runs(&logs);
    };
    let between = between_runs(metric, result)?;
    // So that the run's own precision is added to the variation between runs.
    let (interval, batches) = match readings[0] {
        Reading::Share { count, of } => (poisson_interval(only, count, of), usize::MAX),
        Reading::Value(_) => known_interval(metric, &result.statistics, only)?,
    };
    Some(Estimate::of_one_run(only, interval, batches, between))
}

fn between_runs(metric: Metric, result: &RunResult) -> Option<f64> {
    if metric == Metric::AchievedRate && result.plan.is_open_loop() {
        return Some(BETWEEN_RUNS_IN_STEP);
    }
    let (_, deviation) = BETWEEN_RUNS.iter().find(|(other, _)| *other == metric)?;
    Some(*deviation)
}

/// The logarithm's interval, from the blocks of the run.
fn known_interval(
    metric: Metric,
    statistics: &Statistics,
    log: f64,
) -> Option<((f64, f64), usize)> {
    let quantile = match metric {
        Metric::ResponseP50 => 0.5,
        Metric::ResponseP90 => 0.9,
        Metric::ResponseP99 => 0.99,
        Metric::AchievedRate | Metric::Throughput => {
            let rate = statistics.rate.as_ref()?;
            // Relative, because a stream's rate is counted in blocks.
            let ends = (rate.low / rate.rate, rate.high / rate.rate);
            let logs = (log + ends.0.max(f64::MIN_POSITIVE).ln(), log + ends.1.ln());
            return (rate.rate > 0.0).then_some((logs, rate.batches));
        }
        Metric::ServerCpu => return Some(((log, log), usize::MAX)),
        Metric::ServiceP50 | Metric::ServiceP99 | Metric::Failures => return None,
    };
    let estimates = &statistics.response;
    let known = estimates
        .iter()
        .find(|estimate| (estimate.quantile - quantile).abs() < 1e-9)?;
    let logs = (
        (known.low.max(1) as f64).ln(),
        (known.high.max(1) as f64).ln(),
    );
    Some((logs, known.batches))
}

/// The interval of the logarithm of a share, if messages failed independently (Katz and others,
/// "Obtaining Confidence Intervals for the Risk Ratio in Cohort Studies", Biometrics 34, 1978).
fn poisson_interval(log: f64, count: u64, of: u64) -> (f64, f64) {
    let variance = 1.0 / (count as f64 + 0.5) - 1.0 / (of as f64 + 1.0);
    let margin = 1.959_964 * variance.max(0.0).sqrt();
    (log - margin, log + margin)
}
