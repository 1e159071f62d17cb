//! The state of a running measurement, prepared for display. Pure: updates and times are inputs.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use loadgen::Plan;
use loadgen::observer::Phase;
use loadgen::report::format;
use loadgen::result::Counts;

use crate::terminal::updates::{
    BUCKETS_PER_DECADE, FlowPoint, Latencies, LatencyPoint, Totals, Update,
};

/// Points of a history. Each costs some bytes, and no terminal is wider.
pub(crate) const MAX_POINTS: usize = 600;
/// The last part of the window that gives the present rate.
const PRESENT: Duration = Duration::from_secs(1);
/// Maximum of slices in that time.
const MAX_PRESENT: usize = 64;

/// The known state of a run.
#[derive(Clone, Debug)]
pub(crate) struct LiveState {
    facts: Facts,
    phase: Phase,
    phase_began: Instant,
    /// Number of runs that began.
    run: usize,
    present: VecDeque<FlowPoint>,
    pub(crate) flow: History<FlowPoint>,
    pub(crate) latency: History<LatencyPoint>,
    pub(crate) totals: Option<Totals>,
}

/// The planned length of the run.
#[derive(Clone, Copy, Debug)]
struct Facts {
    ramp: Duration,
    timeout: Duration,
    requests: Option<u64>,
    runs: usize,
}

/// The progress of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stage {
    /// The phase,
    pub(crate) name: &'static str,
    /// the time spent in it,
    pub(crate) elapsed: Duration,
    /// its total time, if known,
    pub(crate) length: Option<Duration>,
    /// and the fraction done, from 0 to 1, if known.
    pub(crate) ratio: Option<f64>,
    /// The number of the run, and the total number, if there are several.
    pub(crate) run: Option<(usize, usize)>,
}

/// Several buckets of a distribution combined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bar {
    /// Its lower edge.
    pub(crate) from_ns: f64,
    /// Its share of all samples.
    pub(crate) share: f64,
}

impl Stage {
    /// The time left, if known.
    pub(crate) fn time_left(&self) -> Option<String> {
        let left = self.length?.saturating_sub(self.elapsed);
        Some(format!("{} left", format::clock(left)))
    }
}

/// Failed messages, by kind.
pub(crate) fn message_failures(counts: &Counts) -> [(&'static str, u64); 5] {
    [
        ("corrupt", counts.corrupt + counts.corrupt_in_warm_up),
        ("lost", counts.lost),
        ("timed out", counts.timed_out),
        ("abandoned", counts.abandoned),
        ("unsent", counts.unsent),
    ]
}

/// Failed connections, by kind.
pub(crate) fn connection_failures(counts: &Counts) -> [(&'static str, u64); 2] {
    [("failed", counts.failed), ("reset", counts.reset)]
}

impl LiveState {
    /// The state before a run of `plan`.
    pub(crate) fn new(plan: &Plan, now: Instant) -> Self {
        Self {
            facts: Facts {
                ramp: plan.ramp,
                timeout: plan.timeout,
                requests: plan.own_requests(),
                runs: plan.repeat.get(),
            },
            phase: Phase::Connecting,
            phase_began: now,
            run: 1,
            present: VecDeque::new(),
            flow: History::default(),
            latency: History::default(),
            totals: None,
        }
    }

    /// Applies an update from the coordinator.
    pub(crate) fn take(&mut self, update: Update) {
        if update.phase == Phase::Connecting && self.phase != Phase::Connecting {
            self.begin_again();
        }
        self.phase = update.phase;
        self.phase_began = update.phase_began;
        if let Some(point) = update.flow {
            self.flow.push(point);
            self.present.push_back(point);
            let since = point.end.saturating_sub(PRESENT);
            while self.present.len() > MAX_PRESENT
                || self
                    .present
                    .front()
                    .is_some_and(|oldest| oldest.end <= since)
            {
                self.present.pop_front();
            }
        }
        if let Some(point) = update.latency {
            self.latency.push(point);
        }
        if let Some(totals) = update.totals {
            self.totals = Some(*totals);
        }
    }

    /// The progress of the run. If a number of messages ends it, sent messages count.
    pub(crate) fn stage(&self, now: Instant) -> Stage {
        let (name, length) = match self.phase {
            Phase::Connecting => ("connecting", Some(self.facts.ramp)),
            Phase::WarmingUp(length) => ("warming up", Some(length)),
            Phase::Measuring(length) => ("measuring", length),
            Phase::Draining => ("draining", Some(self.facts.timeout)),
        };
        let length = length.filter(|length| !length.is_zero());
        let elapsed = now.saturating_duration_since(self.phase_began);
        let elapsed = length.map_or(elapsed, |length| elapsed.min(length));
        let of_time = length.map(|length| elapsed.as_secs_f64() / length.as_secs_f64());
        let of_messages = match (self.phase, self.facts.requests, &self.totals) {
            (Phase::Measuring(_), Some(requests), Some(totals)) => {
                Some((totals.counts.sent as f64 / requests as f64).min(1.0))
            }
            _ => None,
        };
        Stage {
            name,
            elapsed,
            length,
            // The first of both limits ends the window.
            ratio: match (of_time, of_messages) {
                (Some(time), Some(messages)) => Some(time.max(messages)),
                (one, other) => one.or(other),
            },
            run: (self.facts.runs > 1).then_some((self.run, self.facts.runs)),
        }
    }

    /// Whether the window has begun.
    pub(crate) fn is_measured(&self) -> bool {
        matches!(self.phase, Phase::Measuring(_) | Phase::Draining)
    }

    /// The present traffic.
    pub(crate) fn present_flow(&self) -> Option<FlowPoint> {
        let mut points = self.present.iter().copied();
        let first = points.next()?;
        Some(points.fold(first, FlowPoint::merge))
    }

    /// The response times so far.
    pub(crate) fn latencies(&self) -> Option<&Latencies> {
        self.totals.as_ref()?.latency.as_ref()
    }

    /// The distribution of response times in at most `most` bars, from the first non-empty to the
    /// last, as fine as possible.
    pub(crate) fn bars(&self, most: usize) -> Vec<Bar> {
        let Some(latencies) = self.latencies() else {
            return Vec::new();
        };
        let counts = &latencies.buckets.counts;
        let is_used = |count: &u64| *count > 0;
        let (Some(first), Some(last)) = (
            counts.iter().position(is_used),
            counts.iter().rposition(is_used),
        ) else {
            return Vec::new();
        };
        let total: u64 = counts.iter().sum();
        let bars_of = |width: usize| last / width - first / width + 1;
        // Widths that divide a factor of ten, or are whole factors.
        let Some(width) = [1, 2, 5, 10, 20, 50, 100, 200]
            .into_iter()
            .find(|&width| bars_of(width) <= most)
        else {
            return Vec::new();
        };
        counts
            .chunks(width)
            .enumerate()
            .take(last / width + 1)
            .skip(first / width)
            .map(|(number, chunk)| Bar {
                from_ns: 10_f64.powf((number * width) as f64 / BUCKETS_PER_DECADE as f64),
                share: chunk.iter().sum::<u64>() as f64 / total as f64,
            })
            .collect()
    }

    /// The next of several runs.
    fn begin_again(&mut self) {
        self.run += 1;
        self.present.clear();
        self.flow = History::default();
        self.latency = History::default();
        self.totals = None;
    }
}

/// Neighbouring points that can be combined.
pub(crate) trait Point: Copy {
    /// This point and the next combined.
    fn merge(self, next: Self) -> Self;
}

impl Point for FlowPoint {
    fn merge(self, next: Self) -> Self {
        Self {
            begin: self.begin,
            end: next.end,
            completed: self.completed + next.completed,
            bytes_in: self.bytes_in + next.bytes_in,
        }
    }
}

impl Point for LatencyPoint {
    /// Percentiles do not add. The worse ones are kept, so that no peak is lost.
    fn merge(self, next: Self) -> Self {
        Self {
            end: next.end,
            p50_ns: self.p50_ns.max(next.p50_ns),
            p99_ns: self.p99_ns.max(next.p99_ns),
            max_ns: self.max_ns.max(next.max_ns),
        }
    }
}

impl FlowPoint {
    /// Echoes per second.
    pub(crate) fn rate(&self) -> f64 {
        self.per_second(self.completed as f64)
    }

    /// Payload bits received per second.
    pub(crate) fn bits_per_second(&self) -> f64 {
        self.per_second(self.bytes_in as f64 * 8.0)
    }

    fn per_second(&self, amount: f64) -> f64 {
        let seconds = self.end.saturating_sub(self.begin).as_secs_f64();
        if seconds > 0.0 { amount / seconds } else { 0.0 }
    }
}

/// A limited number of points for an unlimited time: when there are too many, neighbours are
/// merged, and later points too.
#[derive(Clone, Debug)]
pub(crate) struct History<P> {
    points: Vec<P>,
    /// How many updates make one point,
    per_point: usize,
    /// and how many are in the last point.
    in_last: usize,
}

impl<P: Point> History<P> {
    pub(crate) fn points(&self) -> &[P] {
        &self.points
    }

    fn push(&mut self, point: P) {
        match self.points.last_mut() {
            Some(last) if self.in_last < self.per_point => {
                *last = last.merge(point);
                self.in_last += 1;
            }
            _ => {
                if self.points.len() == MAX_POINTS {
                    self.halve();
                }
                self.points.push(point);
                self.in_last = 1;
            }
        }
    }

    fn halve(&mut self) {
        self.points = self
            .points
            .chunks(2)
            .map(|pair| pair[1..].iter().fold(pair[0], |sum, &next| sum.merge(next)))
            .collect();
        self.per_point *= 2;
    }
}

impl<P> Default for History<P> {
    fn default() -> Self {
        Self {
            points: Vec::new(),
            per_point: 1,
            in_last: 0,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
