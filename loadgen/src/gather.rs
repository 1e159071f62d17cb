//! Adds up what the threads report, interval by interval, and makes the result of it.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use echomark::net::endpoint::Endpoint;

use crate::host;
use crate::meter::{Account, Interval};
use crate::plan::Plan;
use crate::record::Slice;
use crate::result::{
    Bytes, Client, Connections, Corruption, IntervalLatency, IntervalResult, Latencies, Latency,
    Messages, Rate, RunResult, ThreadResult, Tool,
};
use crate::run::RunError;
use crate::verdict::{Evidence, Verdict};
use crate::worker::Report;

/// What the threads reported, added up.
pub(crate) struct Gathered {
    window_start: u64,
    interval: Duration,
    is_open_loop: bool,
    threads: usize,
    total: Slice,
    /// Intervals that some threads have not left yet.
    open: BTreeMap<Interval, OpenInterval>,
    intervals: Vec<IntervalResult>,
    drain: Option<Slice>,
    accounts: Vec<Account>,
}

struct OpenInterval {
    slice: Slice,
    /// When the last thread left it.
    end: u64,
    missing: usize,
}

impl Gathered {
    pub(crate) fn new(plan: &Plan, start: u64, threads: usize) -> Self {
        Self {
            window_start: start + plan.warmup.as_nanos() as u64,
            interval: plan.interval,
            is_open_loop: plan.is_open_loop(),
            threads,
            total: Slice::new(),
            open: BTreeMap::new(),
            intervals: Vec::new(),
            drain: None,
            accounts: vec![Account::default(); threads],
        }
    }

    /// Adds reports up until every thread has finished.
    pub(crate) fn gather(
        &mut self,
        reports: &Receiver<Report>,
        spare: &[Sender<Box<Slice>>],
        targets: &[Endpoint],
        progress: &mut dyn FnMut(&IntervalResult),
    ) -> Result<(), RunError> {
        let mut running = self.threads;
        while running > 0 {
            match reports.recv() {
                Ok(Report::Slice {
                    worker,
                    interval,
                    end,
                    slice,
                }) => {
                    self.add(interval, end, slice.as_deref(), progress);
                    if let Some(mut slice) = slice {
                        slice.clear();
                        // Of no use to a thread that has ended.
                        let _ = spare[worker].send(slice);
                    }
                }
                Ok(Report::Finished { worker, account }) => {
                    self.accounts[worker] = account;
                    running -= 1;
                }
                Ok(Report::Failed(failure)) => return Err(RunError::of_thread(failure, targets)),
                Ok(Report::Connected { .. }) => {}
                Err(_) => return Err(RunError::thread_died()),
            }
        }
        // Threads that a number of messages or an interruption stopped need not have entered the
        // same last interval.
        for (interval, open) in std::mem::take(&mut self.open) {
            self.close(interval, open, &mut |_| ());
        }
        Ok(())
    }

    fn add(
        &mut self,
        interval: Interval,
        end: u64,
        slice: Option<&Slice>,
        progress: &mut dyn FnMut(&IntervalResult),
    ) {
        let open = self.open.entry(interval).or_insert_with(|| OpenInterval {
            slice: Slice::new(),
            end: 0,
            missing: self.threads,
        });
        open.end = open.end.max(end);
        if let Some(slice) = slice {
            open.slice += slice;
        }
        open.missing -= 1;
        if open.missing == 0
            && let Some(open) = self.open.remove(&interval)
        {
            self.close(interval, open, progress);
        }
    }

    /// Adds a complete interval to the total and keeps a few figures of it.
    fn close(
        &mut self,
        interval: Interval,
        open: OpenInterval,
        progress: &mut dyn FnMut(&IntervalResult),
    ) {
        let mut slice = open.slice;
        if !self.is_open_loop {
            // In a closed loop the intended time is the time of the write.
            slice.response = slice.service.clone();
        }
        self.total += &slice;
        match interval {
            Interval::Before => {}
            Interval::Within(number) => {
                let start_s = self.interval.as_secs_f64() * number as f64;
                let end_s = open.end.saturating_sub(self.window_start) as f64 / 1e9;
                let result = interval_result(start_s, end_s, &slice);
                progress(&result);
                self.intervals.push(result);
            }
            Interval::Drain => self.drain = Some(slice),
        }
    }

    pub(crate) fn into_result(
        mut self,
        plan: &Plan,
        started_at: String,
        steal_ratio: Option<f64>,
    ) -> RunResult {
        let interrupted = self.accounts.iter().any(|a| a.was_interrupted);
        let finished_at = self.accounts.iter().map(|a| a.finished_at).max();
        let lived = finished_at.unwrap_or(0).saturating_sub(self.window_start) as f64 / 1e9;
        // A number of messages or an interruption may have ended the window before its time.
        let duration_s = match plan.duration {
            Some(duration) if !interrupted && plan.requests.is_none() => duration.as_secs_f64(),
            Some(duration) => duration.as_secs_f64().min(lived),
            None => lived,
        };
        if let Some(drain) = self.drain.take().filter(|drain| !drain.is_empty()) {
            self.intervals
                .push(interval_result(duration_s, lived.max(duration_s), &drain));
        }
        let counts = self.total.counts;
        let per_second = |count: u64| {
            if duration_s > 0.0 {
                count as f64 / duration_s
            } else {
                0.0
            }
        };
        let rate = Rate {
            target: plan.target_rate(),
            offered: per_second(counts.issued),
            achieved: per_second(counts.completed),
        };
        let (send_lag, own_send_lag) = (self.total.send_lag(), self.total.own_send_lag());
        let latency_ns = Latencies {
            response: Latency::new(self.total.response),
            service: Latency::new(self.total.service),
            connect: Latency::new(self.total.connect),
            send_lag: Latency::new(send_lag),
        };
        let client = Client {
            threads: self
                .accounts
                .iter()
                .copied()
                .map(Account::into_result)
                .collect(),
            steal_ratio,
            own_send_lag: Latency::new(own_send_lag),
            first_corruption: self
                .accounts
                .iter()
                .find_map(|account| account.corruption)
                .map(|(connection, offset)| Corruption { connection, offset }),
        };
        let verdict = Verdict::of(&Evidence {
            offered: rate.offered,
            achieved: rate.achieved,
            is_open_loop: plan.is_open_loop(),
            issued: counts.issued,
            received: counts.received,
            unsent: counts.unsent,
            corrupt: counts.corrupt + counts.corrupt_in_warm_up + counts.duplicated,
            missing: counts.lost + counts.timed_out + counts.unfinished,
            failed_connections: counts.failed,
            response: latency_ns.response.as_ref(),
            own_send_lag: client.own_send_lag.as_ref(),
            threads: &client.threads,
        });
        RunResult {
            schema: 1,
            tool: Tool {
                name: env!("CARGO_PKG_NAME"),
                version: env!("CARGO_PKG_VERSION"),
            },
            started_at,
            interrupted,
            host: host::describe(),
            plan: plan.clone(),
            duration_s,
            rate,
            messages: Messages {
                sent: counts.sent,
                received: counts.received,
                verified: counts.verified,
                corrupt: counts.corrupt,
                lost: counts.lost,
                duplicated: counts.duplicated,
                reordered: 0,
                unsent: counts.unsent,
                unfinished: counts.unfinished,
                timed_out: counts.timed_out,
            },
            bytes: Bytes {
                sent: counts.bytes_sent,
                received: counts.bytes_received,
            },
            connections: Connections {
                opened: counts.opened,
                failed: counts.failed,
                reset: counts.reset,
                closed_by_peer: counts.closed_by_peer,
            },
            latency_ns,
            intervals: self.intervals,
            client,
            verdict,
        }
    }
}

impl Account {
    fn into_result(self) -> ThreadResult {
        let share = |nanoseconds: u64| {
            if self.wall_ns > 0 {
                nanoseconds as f64 / self.wall_ns as f64
            } else {
                0.0
            }
        };
        ThreadResult {
            cpu_ratio: share(self.cpu_ns),
            busy_ratio: share(self.cpu_ns.saturating_sub(self.spin_ns)),
            involuntary_switches: self.involuntary_switches,
        }
    }
}

fn interval_result(start_s: f64, end_s: f64, slice: &Slice) -> IntervalResult {
    IntervalResult {
        start_s,
        end_s,
        sent: slice.counts.sent,
        received: slice.counts.received,
        lost: slice.counts.lost,
        timed_out: slice.counts.timed_out,
        response: IntervalLatency::new(&slice.response),
        service: IntervalLatency::new(&slice.service),
    }
}
