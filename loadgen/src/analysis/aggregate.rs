//! Adds up the threads' reports: slices to intervals, intervals to the total.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::time::Duration;

use echomark::tls::Agreed;

use crate::analysis::statistics::blocks::Blocks;
use crate::engine::backends::BackendReport;
use crate::engine::histogram::BucketCounts;
use crate::engine::interval::{Division, Interval};
use crate::engine::slice::Slice;
use crate::engine::task::Account;
use crate::engine::task::FlowReport;
use crate::engine::tcp::TcpTotals;
use crate::observer::{Live, Observer};
use crate::plan::Plan;
use crate::result::{IntervalLatency, IntervalResult, RampInterval};

/// Maximum of blocks for the statistics of a run.
const BLOCKS: usize = 64;
/// Maximum of intervals that keep their histograms, which unions need for percentiles. The two
/// histograms take one to eight kilobytes, so a result grows by some megabytes at most.
const MAX_HISTOGRAMS: usize = 1000;

/// The reports of one workload's threads, added up.
pub(crate) struct Aggregate {
    pub(crate) window_start: u64,
    pub(crate) division: Division,
    pub(crate) interval: Duration,
    pub(crate) length: Option<Duration>,
    pub(crate) is_open_loop: bool,
    threads: usize,
    pub(crate) total: Slice,
    /// Slices that some threads are still recording.
    open: BTreeMap<Interval, OpenSlice>,
    /// The interval that is being filled.
    current: Option<OpenInterval>,
    pub(crate) intervals: Vec<IntervalResult>,
    /// Bytes that came back within each of them, whatever their message.
    pub(crate) arrived: Vec<u64>,
    pub(crate) ramp: Vec<RampInterval>,
    pub(crate) drain: Option<Slice>,
    pub(crate) blocks: Blocks,
    pub(crate) accounts: Vec<Account>,
    pub(crate) flows: Vec<(usize, FlowReport)>,
    pub(crate) tcp: TcpTotals,
    /// Each thread's.
    pub(crate) backends: Vec<BackendReport>,
    /// What their TLS handshakes agreed on.
    pub(crate) agreed: Vec<Agreed>,
}

struct OpenSlice {
    slice: Slice,
    /// When the last thread left it.
    end: u64,
    missing: usize,
}

struct OpenInterval {
    number: u64,
    slice: Slice,
    end: u64,
}

impl Aggregate {
    pub(crate) fn new(plan: &Plan) -> Self {
        let threads = plan.threads.get();
        Self {
            window_start: u64::MAX,
            division: Division::of(plan),
            interval: plan.interval,
            length: plan.duration,
            is_open_loop: plan.is_open_loop(),
            threads,
            total: Slice::new(),
            open: BTreeMap::new(),
            current: None,
            intervals: Vec::new(),
            arrived: Vec::new(),
            ramp: Vec::new(),
            drain: None,
            blocks: Blocks::new(BLOCKS),
            accounts: vec![Account::default(); threads],
            flows: Vec::new(),
            tcp: TcpTotals::default(),
            backends: Vec::new(),
            agreed: Vec::new(),
        }
    }

    /// Adds a thread's slice, and returns the memory to the thread.
    pub(crate) fn add(
        &mut self,
        interval: Interval,
        end: u64,
        slice: Option<Box<Slice<BucketCounts>>>,
        spare: &Sender<Box<Slice<BucketCounts>>>,
        observer: &mut dyn Observer,
    ) {
        let open = self.open.entry(interval).or_insert_with(|| OpenSlice {
            slice: Slice::new(),
            end: 0,
            missing: self.threads,
        });
        open.end = open.end.max(end);
        open.missing -= 1;
        let is_complete = open.missing == 0;
        if let Some(mut slice) = slice {
            open.slice += &slice;
            slice.clear();
            // A finished thread has no use for the memory.
            let _ = spare.send(slice);
        }
        // Threads may take different times to connect.
        if is_complete
            && !matches!(interval, Interval::Ramp(_))
            && let Some(open) = self.open.remove(&interval)
        {
            self.close(interval, open, observer);
        }
    }

    /// Adds the account and the flows of a finished thread.
    pub(crate) fn add_account(
        &mut self,
        thread: usize,
        account: Account,
        flows: Vec<FlowReport>,
        tcp: TcpTotals,
    ) {
        self.accounts[thread] = account;
        self.flows
            .extend(flows.into_iter().map(|flow| (thread, flow)));
        self.tcp += tcp;
    }

    /// Closes the ramp, once all threads have connected.
    pub(crate) fn close_ramp(&mut self, observer: &mut dyn Observer) {
        while let Some((interval @ Interval::Ramp(_), _)) = self.open.first_key_value() {
            let interval = *interval;
            if let Some(open) = self.open.remove(&interval) {
                self.close(interval, open, observer);
            }
        }
    }

    /// Closes the remaining slices. Threads stopped by a number of messages or an interruption need
    /// not have reached the same last slice.
    pub(crate) fn close_all(&mut self, observer: &mut dyn Observer) {
        for (interval, open) in std::mem::take(&mut self.open) {
            self.close(interval, open, observer);
        }
        self.close_interval(observer);
    }

    /// Adds a complete slice to its interval, and to the total.
    fn close(&mut self, interval: Interval, open: OpenSlice, observer: &mut dyn Observer) {
        let OpenSlice { mut slice, end, .. } = open;
        if !self.is_open_loop {
            // In a closed loop, the intended time is the time of the write.
            slice.response.clone_from(&slice.service);
        }
        self.total += &slice;
        match interval {
            Interval::Ramp(number) => {
                let start_s = self.interval.as_secs_f64() * number as f64;
                let mut connect = IntervalLatency::new(&slice.connect);
                if let Some(connect) = &mut connect
                    && self.ramp.len() < MAX_HISTOGRAMS
                {
                    connect.keep(&slice.connect);
                }
                self.ramp.push(RampInterval {
                    start_s,
                    end_s: end as f64 / 1e9,
                    opened: slice.counts.opened,
                    failed: slice.counts.failed,
                    connect,
                });
            }
            Interval::Before => {}
            Interval::Within(number) => self.close_slice(number, &slice, end, observer),
            Interval::Drain => self.drain = Some(slice),
        }
    }

    fn close_slice(&mut self, number: u64, slice: &Slice, end: u64, observer: &mut dyn Observer) {
        let begin = self.window_start + self.division.begin_of(number);
        let full = self.window_start + self.division.begin_of(number + 1);
        // The statistics need slices of equal length.
        if end == full {
            self.blocks.push(&slice.response, slice.counts.completed);
        }
        observer.slice(&Live {
            elapsed: Duration::from_nanos(end.saturating_sub(self.window_start)),
            length: self.length,
            slice,
            slice_length: Duration::from_nanos(end.saturating_sub(begin)),
            total: &self.total,
            is_open_loop: self.is_open_loop,
        });
        let interval = number / self.division.slices();
        if self.current.as_ref().is_some_and(|c| c.number != interval) {
            self.close_interval(observer);
        }
        let current = self.current.get_or_insert_with(|| OpenInterval {
            number: interval,
            slice: Slice::new(),
            end: 0,
        });
        current.slice += slice;
        current.end = end;
        if end
            == self.window_start
                + self
                    .division
                    .begin_of((interval + 1) * self.division.slices())
        {
            self.close_interval(observer);
        }
    }

    fn close_interval(&mut self, observer: &mut dyn Observer) {
        let Some(OpenInterval { number, slice, end }) = self.current.take() else {
            return;
        };
        let start_s = self.interval.as_secs_f64() * number as f64;
        let end_s = end.saturating_sub(self.window_start) as f64 / 1e9;
        let result = IntervalResult::new(start_s, end_s, &slice);
        observer.interval(&result, &slice);
        self.keep(result, &slice);
    }

    /// Adds an interval to the result, with the samples of `slice` for its latencies.
    pub(crate) fn keep(&mut self, mut interval: IntervalResult, slice: &Slice) {
        if self.intervals.len() < MAX_HISTOGRAMS {
            interval.keep_histograms(slice);
        }
        self.intervals.push(interval);
        self.arrived.push(slice.counts.bytes_in);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::samples;

    #[test]
    fn so_many_intervals_keep_their_histograms_and_no_more() {
        let mut slice: Slice = Slice::new();
        slice.service.saturating_record(1_000);
        let interval = IntervalResult::new(0.0, 1.0, &slice);
        let mut gathered = Aggregate::new(&samples::plan(1));
        gathered.intervals = vec![interval.clone(); MAX_HISTOGRAMS - 1];
        gathered.keep(interval.clone(), &slice);
        gathered.keep(interval, &slice);
        let has_histogram = |interval: &IntervalResult| {
            let service = interval.service.as_ref();
            service.is_some_and(|service| service.histogram.is_some())
        };
        let last_two = &gathered.intervals[MAX_HISTOGRAMS - 1..];
        let kept: Vec<bool> = last_two.iter().map(has_histogram).collect();
        assert_eq!(kept, [true, false]);
    }
}
