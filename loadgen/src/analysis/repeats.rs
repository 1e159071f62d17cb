//! The union of several runs of one plan.
//!
//! Histograms and counts add, so percentiles of the union are exact. The spread of the runs shows
//! the variation that a single run can't show: between one set of connections and the next.

use crate::analysis::{tls, totals};
use crate::error::RunError;
use crate::plan::Plan;
use crate::result::statistics::Spread;
use crate::result::{
    Client, Latency, RepeatRun, RepeatSpread, Repeats, RunResult, Statistics, ThreadResult,
    Throughput,
};
use crate::result::{Code, Reason};

/// Combines `results`, at least one, in the order of the runs. `failure` is why the next run
/// failed.
pub(crate) fn union(results: Vec<RunResult>, failure: Option<&RunError>, plan: &Plan) -> RunResult {
    let made = results.len();
    let mut union = add_up(results, plan);
    if let Some(error) = failure {
        let text = format!("repeat {} of {} failed: {error}", made + 1, plan.repeat);
        union
            .verdict
            .add_reasons([Reason::invalid(Code::RepeatFailed, text)]);
        // The cause comes first.
        union.verdict.reasons.rotate_right(1);
    }
    union
}

fn add_up(mut results: Vec<RunResult>, plan: &Plan) -> RunResult {
    let rest = results.split_off(1);
    let first = results.remove(0);
    if rest.is_empty() {
        return first;
    }
    let runs: Vec<RepeatRun> = std::iter::once(&first)
        .chain(&rest)
        .map(RepeatRun::of)
        .collect();
    let mut union = first;
    number_reasons(&mut union.verdict.reasons, 1);
    for (index, mut result) in rest.into_iter().enumerate() {
        number_reasons(&mut result.verdict.reasons, index + 2);
        add(&mut union, result);
    }
    union.plan = plan.clone();
    // These describe a single run. The spread describes the precision of the union.
    union.statistics = Statistics::default();
    union.repeats = Some(Repeats {
        spread: RepeatSpread::of(&runs),
        runs,
    });
    union
}

fn number_reasons(reasons: &mut [Reason], run: usize) {
    for reason in reasons {
        reason.text = format!("run {run}: {}", reason.text);
    }
}

/// Adds a later run to an earlier one.
fn add(sum: &mut RunResult, mut next: RunResult) {
    totals::add(sum, &mut next);
    let (before_s, after_s) = (sum.duration_s, next.duration_s);
    let total_s = before_s + after_s;
    let mean = |before: f64, after: f64| {
        if total_s > 0.0 {
            (before * before_s + after * after_s) / total_s
        } else {
            0.0
        }
    };
    sum.rate.offered = mean(sum.rate.offered, next.rate.offered);
    sum.rate.achieved = mean(sum.rate.achieved, next.rate.achieved);
    sum.throughput = Throughput {
        sent_bits_per_s: mean(
            sum.throughput.sent_bits_per_s,
            next.throughput.sent_bits_per_s,
        ),
        received_bits_per_s: mean(
            sum.throughput.received_bits_per_s,
            next.throughput.received_bits_per_s,
        ),
    };
    let offset_s = sum.intervals.last().map_or(0.0, |interval| interval.end_s);
    sum.rate
        .changes
        .extend(next.rate.changes.into_iter().map(|mut change| {
            change.at_s += offset_s;
            change
        }));
    sum.intervals
        .extend(next.intervals.into_iter().map(|mut interval| {
            interval.start_s += offset_s;
            interval.end_s += offset_s;
            interval
        }));
    sum.duration_s = total_s;
    tls::set_rate(sum);
    // These describe single connections, which differ in each run. The last run's are kept.
    sum.ramp = next.ramp;
    sum.tcp = next.tcp;
    sum.fairness = next.fairness;
    sum.background = next.background;
    sum.server = match (sum.server.take(), next.server) {
        (Some(mut sum), Some(next)) => {
            sum.add(&next);
            Some(sum)
        }
        (sum, next) => sum.or(next),
    };
    add_client(&mut sum.client, next.client, &mean);
}

fn add_client(sum: &mut Client, next: Client, mean: &impl Fn(f64, f64) -> f64) {
    let mean_if_known = |before: Option<f64>, after| Some(mean(before?, after?));
    for (thread, next) in sum.threads.iter_mut().zip(next.threads) {
        *thread = ThreadResult {
            cpu_ratio: mean(thread.cpu_ratio, next.cpu_ratio),
            busy_ratio: mean(thread.busy_ratio, next.busy_ratio),
            involuntary_switches: thread.involuntary_switches + next.involuntary_switches,
            run_delay_ratio: mean_if_known(thread.run_delay_ratio, next.run_delay_ratio),
            run_delay_ns_mean: mean_if_known(thread.run_delay_ns_mean, next.run_delay_ns_mean),
        };
    }
    sum.steal_ratio = mean_if_known(sum.steal_ratio, next.steal_ratio);
}

impl RepeatRun {
    fn of(result: &RunResult) -> Self {
        let quantile = |quantile| result.latency_ns.response.as_ref()?.quantile(quantile);
        let service = |quantile| result.latency_ns.service.as_ref()?.quantile(quantile);
        Self {
            started_at: result.started_at.clone(),
            achieved: result.rate.achieved,
            received_bits_per_s: result.throughput.received_bits_per_s,
            response_p50_ns: quantile(0.5),
            response_p90_ns: quantile(0.9),
            response_p99_ns: quantile(0.99),
            response_p99_9_ns: quantile(0.999),
            response_max_ns: result.latency_ns.response.as_ref().map(Latency::max),
            service_p50_ns: service(0.5),
            service_p99_ns: service(0.99),
            due: Some(result.messages.sent + result.messages.unsent),
            failed: Some(result.messages.failed()),
            server_cpu_ns_per_message: result
                .server
                .as_ref()
                .and_then(|server| server.cpu_ns_per_message),
            status: result.verdict.status,
        }
    }
}

impl RepeatSpread {
    fn of(runs: &[RepeatRun]) -> Self {
        let figures = |figure: fn(&RepeatRun) -> f64| {
            Spread::of(&runs.iter().map(figure).collect::<Vec<_>>())
        };
        let latencies = |figure: fn(&RepeatRun) -> Option<u64>| {
            let values: Option<Vec<f64>> =
                runs.iter().map(|run| Some(figure(run)? as f64)).collect();
            Spread::of(&values?)
        };
        Self {
            achieved: figures(|run| run.achieved),
            received_bits_per_s: figures(|run| run.received_bits_per_s),
            response_p50_ns: latencies(|run| run.response_p50_ns),
            response_p99_ns: latencies(|run| run.response_p99_ns),
            response_p99_9_ns: latencies(|run| run.response_p99_9_ns),
        }
    }
}
