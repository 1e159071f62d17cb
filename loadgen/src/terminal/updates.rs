//! Updates from the coordinator of a run to a thread that shows its progress.
//!
//! The coordinator must not wait for a terminal. It sends a few figures through a bounded channel
//! to a thread, and drops updates while the channel is full. Totals are sums since the start, so a
//! later update replaces dropped ones.

use std::io;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use loadgen::observer::{Live, Observer, Phase};
use loadgen::result::Counts;
use loadgen::result::histogram;
use loadgen::result::latency::supports;

use super::viewer::Viewer;

/// Maximum of waiting updates: several seconds of slices.
const MAX_WAITING: usize = 64;
/// Minimum time between two totals.
const TOTALS_PERIOD: Duration = Duration::from_millis(200);
/// A point of the percentiles over time has at least as many samples as a p99 needs,
const SAMPLES_OF_POINT: u64 = 1000;
/// or spans this much time.
const MAX_POINT: Duration = Duration::from_secs(1);
/// Buckets of a [`Buckets`] per factor of ten.
pub(crate) const BUCKETS_PER_DECADE: usize = 10;
/// Buckets up to the hour that histograms reach.
const BUCKETS: usize = 126;

/// An update from the coordinator.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    /// The phase of the run, and its start.
    pub(crate) phase: Phase,
    pub(crate) phase_began: Instant,
    /// The complete slice, if there is one.
    pub(crate) flow: Option<FlowPoint>,
    /// Percentiles of the last few slices, if they have enough messages.
    pub(crate) latency: Option<LatencyPoint>,
    /// The totals since the start.
    pub(crate) totals: Option<Box<Totals>>,
}

/// The traffic in a part of the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FlowPoint {
    /// From the start of the window.
    pub(crate) begin: Duration,
    pub(crate) end: Duration,
    /// Echoes complete.
    pub(crate) completed: u64,
    /// Payload bytes that came back.
    pub(crate) bytes_in: u64,
}

/// The response times in a part of the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LatencyPoint {
    /// From the start of the window.
    pub(crate) end: Duration,
    pub(crate) p50_ns: Option<u64>,
    pub(crate) p99_ns: Option<u64>,
    pub(crate) max_ns: u64,
}

/// The totals since the start of the window.
#[derive(Clone, Debug)]
pub(crate) struct Totals {
    pub(crate) counts: Counts,
    /// Response times, if there are any.
    pub(crate) latency: Option<Latencies>,
    /// The client's own send lag, in an open loop.
    pub(crate) send_lag_p99_ns: Option<u64>,
}

/// A distribution of response times, in nanoseconds. A percentile is left out if fewer than ten
/// samples lie beyond it.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    pub(crate) p50: Option<u64>,
    pub(crate) p90: Option<u64>,
    pub(crate) p99: Option<u64>,
    pub(crate) p99_9: Option<u64>,
    pub(crate) max: u64,
    pub(crate) buckets: Buckets,
}

/// Number of samples in buckets of equal width on a logarithmic scale.
#[derive(Clone, Debug)]
pub(crate) struct Buckets {
    /// The first bucket begins at one nanosecond.
    pub(crate) counts: [u64; BUCKETS],
}

impl Latencies {
    /// `None` for an empty histogram.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        (!histogram.is_empty()).then(|| Self {
            p50: quantile(histogram, 0.5),
            p90: quantile(histogram, 0.9),
            p99: quantile(histogram, 0.99),
            p99_9: quantile(histogram, 0.999),
            max: histogram.max(),
            buckets: Buckets::of(histogram),
        })
    }
}

impl Buckets {
    fn of(histogram: &Histogram<u64>) -> Self {
        let mut counts = [0; BUCKETS];
        for value in histogram.iter_recorded() {
            let position = (value.value_iterated_to().max(1) as f64).log10();
            let bucket = (position * BUCKETS_PER_DECADE as f64) as usize;
            counts[bucket.min(BUCKETS - 1)] += value.count_at_value();
        }
        Self { counts }
    }
}

/// A thread that shows a run. Dropping it ends the thread and joins it.
#[derive(Debug)]
pub(crate) struct Updates {
    viewer: Viewer<Update>,
    phase: Phase,
    phase_began: Instant,
    totals_at: Option<Instant>,
    /// Response times since the last point, and the end of that point.
    recent: Histogram<u64>,
    recent_began: Duration,
}

impl Updates {
    /// Starts a thread that runs `show` until its channel is closed.
    ///
    /// # Errors
    /// The error of the kernel if no thread can be started.
    pub(crate) fn start(
        name: &str,
        show: impl FnOnce(&Receiver<Update>) + Send + 'static,
    ) -> io::Result<Self> {
        Ok(Self {
            viewer: Viewer::start(name, MAX_WAITING, show)?,
            phase: Phase::Connecting,
            phase_began: Instant::now(),
            totals_at: None,
            recent: histogram::empty(),
            recent_began: Duration::ZERO,
        })
    }

    fn send(
        &self,
        flow: Option<FlowPoint>,
        latency: Option<LatencyPoint>,
        totals: Option<Box<Totals>>,
    ) {
        self.viewer.send(Update {
            phase: self.phase,
            phase_began: self.phase_began,
            flow,
            latency,
            totals,
        });
    }

    /// Percentiles since the last point, if they are due.
    fn latency_point(&mut self, live: &Live<'_>) -> Option<LatencyPoint> {
        self.recent
            .add(&live.slice.response)
            .expect("all histograms have the same bounds");
        let length = live.elapsed.saturating_sub(self.recent_began);
        let is_due = self.recent.len() >= SAMPLES_OF_POINT || length >= MAX_POINT;
        if !is_due || self.recent.is_empty() {
            return None;
        }
        let point = LatencyPoint {
            end: live.elapsed,
            p50_ns: quantile(&self.recent, 0.5),
            p99_ns: quantile(&self.recent, 0.99),
            max_ns: self.recent.max(),
        };
        self.recent.reset();
        self.recent_began = live.elapsed;
        Some(point)
    }

    /// Totals, if the last ones are old enough.
    fn totals(&mut self, live: &Live<'_>) -> Option<Box<Totals>> {
        let now = Instant::now();
        if self.totals_at.is_some_and(|at| now < at + TOTALS_PERIOD) {
            return None;
        }
        self.totals_at = Some(now);
        Some(Box::new(Totals {
            counts: live.total.counts,
            latency: Latencies::of(&live.total.response),
            send_lag_p99_ns: live
                .is_open_loop
                .then(|| quantile(&live.total.own_send_lag(), 0.99))
                .flatten(),
        }))
    }
}

impl Observer for Updates {
    fn phase(&mut self, phase: Phase) {
        self.phase = phase;
        self.phase_began = Instant::now();
        if phase == Phase::Connecting {
            self.totals_at = None;
            self.recent.reset();
            self.recent_began = Duration::ZERO;
        }
        self.send(None, None, None);
    }

    fn slice(&mut self, live: &Live<'_>) {
        let flow = FlowPoint {
            begin: live.elapsed.saturating_sub(live.slice_length),
            end: live.elapsed,
            completed: live.slice.counts.completed,
            bytes_in: live.slice.counts.bytes_in,
        };
        let latency = self.latency_point(live);
        let totals = self.totals(live);
        self.send(Some(flow), latency, totals);
    }
}

fn quantile(histogram: &Histogram<u64>, quantile: f64) -> Option<u64> {
    supports(histogram.len(), quantile).then(|| histogram.value_at_quantile(quantile))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use loadgen::observer::Slice;

    /// A slice of 100 ms with `messages` messages of 1 ms each.
    fn observe(feed: &mut Updates, number: u32, messages: u64) {
        let mut slice: Slice = Slice::new();
        slice.response.record_n(1_000_000, messages).unwrap();
        slice.counts.completed = messages;
        feed.slice(&Live {
            elapsed: Duration::from_millis(100) * number,
            length: None,
            slice: &slice,
            slice_length: Duration::from_millis(100),
            total: &slice,
            is_open_loop: true,
        });
    }

    /// A feed whose updates are kept.
    fn feed() -> (Updates, Receiver<Update>) {
        let (sender, kept) = mpsc::channel();
        let feed = Updates::start("test", move |update| {
            for update in update {
                sender.send(update).unwrap();
            }
        });
        (feed.unwrap(), kept)
    }

    #[test]
    fn percentiles_wait_for_enough_messages_or_a_second() {
        let (mut feed, kept) = feed();
        for number in 1..=4 {
            observe(&mut feed, number, 500);
        }
        for number in 5..=14 {
            observe(&mut feed, number, 20);
        }
        drop(feed);
        let points: Vec<LatencyPoint> = kept.iter().filter_map(|update| update.latency).collect();
        let ends: Vec<u128> = points.iter().map(|point| point.end.as_millis()).collect();
        assert_eq!(ends, [200, 400, 1400]);
        assert!(points[0].p99_ns.is_some());
        assert!(points[2].p50_ns.is_some() && points[2].p99_ns.is_none());
    }

    #[test]
    fn who_does_not_look_does_not_hold_up_the_run() {
        let (go, wait) = mpsc::channel::<()>();
        let (sender, kept) = mpsc::channel();
        let mut feed = Updates::start("test", move |update| {
            // Until the other end is dropped.
            let _ = wait.recv();
            for update in update {
                sender.send(update).unwrap();
            }
        })
        .unwrap();
        let rounds = 2 * MAX_WAITING as u32;
        for number in 1..=rounds {
            observe(&mut feed, number, 1);
        }
        drop(go);
        drop(feed);
        assert_eq!(kept.iter().count(), MAX_WAITING);
    }

    #[test]
    fn buckets_hold_every_sample_where_it_belongs() {
        let mut histogram = histogram::empty();
        histogram.record_n(1, 1).unwrap();
        histogram.record_n(1_500, 2).unwrap();
        histogram.record_n(3_600_000_000_000, 3).unwrap();
        let counts = Buckets::of(&histogram).counts;
        assert_eq!(counts[0], 1);
        assert_eq!(counts[31], 2);
        assert_eq!(counts[BUCKETS - 1], 3);
        assert_eq!(counts.iter().sum::<u64>(), 6);
        assert!(Latencies::of(&histogram::empty()).is_none());
    }
}
