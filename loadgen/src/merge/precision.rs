//! The precision of a union's figures, from its intervals: they are what single processes call slices, of
//! all shards together.

use hdrhistogram::Histogram;

use crate::analysis::statistics::blocks::Blocks;
use crate::analysis::statistics::interval::{quantile_interval, rate_interval};
use crate::analysis::summarize::ESTIMATED;
use crate::plan::Plan;
use crate::result::statistics::Trend;
use crate::result::{IntervalLatency, IntervalResult, RunResult, Statistics, histogram};

/// Maximum of blocks, as in a single process.
const BLOCKS: usize = 64;

/// The precision of `union`; nothing if an interval lacks its samples.
pub(super) fn of(union: &RunResult) -> Statistics {
    let mut blocks = Blocks::new(BLOCKS);
    for interval in &union.intervals {
        // Those before and after the window, and a last one that was cut off, have another length.
        if !is_whole(interval, &union.plan, union.duration_s) {
            continue;
        }
        let Some(samples) = samples(interval.response.as_ref()) else {
            return Statistics::default();
        };
        blocks.push(&samples, interval.counts.received);
    }
    let response = union.latency_ns.response.as_ref();
    Statistics {
        rate: rate_interval(&blocks, union.plan.interval),
        response: response.map_or_else(Vec::new, |response| {
            let estimates = ESTIMATED
                .iter()
                .filter_map(|&quantile| quantile_interval(&blocks, response.histogram(), quantile));
            estimates.collect()
        }),
        trend: Trend::of_medians(&blocks),
    }
}

/// Whether an interval is within the window, and has the length of the plan.
fn is_whole(interval: &IntervalResult, plan: &Plan, window_s: f64) -> bool {
    let length_s = plan.interval.as_secs_f64();
    let is_long = (interval.end_s - interval.start_s - length_s).abs() < length_s * 1e-6;
    is_long && interval.end_s <= window_s * (1.0 + 1e-9)
}

/// The samples of an interval, which may have had none; `None` if it did not keep them.
fn samples(latency: Option<&IntervalLatency>) -> Option<Histogram<u64>> {
    match latency {
        None => Some(histogram::empty()),
        Some(latency) => latency.samples(),
    }
}
