//! The thread that receives the measuring threads' reports.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use echomark::net::clock::monotonic_ns;
use echomark::net::endpoint::Endpoint;

use super::threads::{Threads, error_of};
use crate::analysis::aggregate::Aggregate;
use crate::engine::task::Report;
use crate::error::RunError;
use crate::observer::{Control, Observer, Phase, Unobserved};
use crate::plan::Plan;
use crate::result::RateChange;

/// How often interruptions and rate changes are looked for.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Receives the threads' reports.
pub(super) struct Coordinator<'a> {
    pub(super) plan: &'a Plan,
    /// The targets of the workload, and of the background streams.
    pub(super) targets: [&'a [Endpoint]; 2],
    pub(super) reports: &'a Receiver<Report>,
    pub(super) threads: &'a Threads,
    /// The reports of the workload's threads, and of the background streams' threads.
    pub(super) groups: Vec<Aggregate>,
    pub(super) control: &'a Control,
    pub(super) rate: Option<f64>,
    pub(super) rate_changes: Vec<RateChange>,
}

impl Coordinator<'_> {
    /// Waits until every thread has tried to connect. Fails if a group has no connection.
    pub(super) fn await_connections(
        &mut self,
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        let mut opened_by = [0; 2];
        let mut failures = [None, None];
        let mut waiting = self.threads.handles.len();
        while waiting > 0 {
            match self.reports.recv_timeout(POLL_INTERVAL) {
                Ok(Report::Connected {
                    worker,
                    opened,
                    failure,
                }) => {
                    let group = self.group(worker);
                    opened_by[group] += opened;
                    failures[group] = failures[group].take().or(failure);
                    waiting -= 1;
                }
                Ok(report) => {
                    self.take(report, observer)?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(RunError::thread_died()),
            }
        }
        for group in &mut self.groups {
            group.close_ramp(&mut Unobserved);
        }
        if self.control.is_stopped() {
            // An interrupted run ends soon by itself, and has a result.
            return Ok(());
        }
        for (group, failure) in failures.into_iter().enumerate() {
            if let Some((target, source)) = failure.filter(|_| opened_by[group] == 0) {
                return Err(RunError::NoConnection {
                    target: self.targets[group][target].clone(),
                    source,
                });
            }
        }
        Ok(())
    }

    /// The group of a thread: 0 is the workload, 1 the background streams.
    fn group(&self, worker: usize) -> usize {
        usize::from(worker >= self.plan.threads.get())
    }

    /// Adds reports until every thread has finished.
    pub(super) fn receive_reports(&mut self, observer: &mut dyn Observer) -> Result<(), RunError> {
        let mut running = self.threads.handles.len();
        let mut phases = self.phases().into_iter().peekable();
        while running > 0 {
            match self.reports.recv_timeout(POLL_INTERVAL) {
                Ok(report) => running -= usize::from(self.take(report, observer)?),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(RunError::thread_died()),
            }
            if let Some((_, phase)) = phases.next_if(|&(begin, _)| begin <= monotonic_ns()) {
                observer.phase(phase);
            }
            self.note_rate();
        }
        let (main, others) = self.groups.split_at_mut(1);
        for group in main {
            group.close_all(observer);
            group.close_drain(observer);
        }
        for group in others {
            group.close_all(&mut Unobserved);
        }
        Ok(())
    }

    /// The phases after the warm-up, and when they begin.
    fn phases(&self) -> Vec<(u64, Phase)> {
        let start = self.groups[0].window_start;
        let end = self
            .plan
            .duration
            .map(|duration| (start + duration.as_nanos() as u64, Phase::Draining));
        std::iter::once((start, Phase::Measuring(self.plan.duration)))
            .chain(end)
            .collect()
    }

    /// Handles a report, and returns whether its thread has finished.
    fn take(&mut self, report: Report, observer: &mut dyn Observer) -> Result<bool, RunError> {
        let group = self.group(report.worker());
        // Background streams are not observed.
        let mut unobserved = Unobserved;
        let observer = if group == 0 {
            observer
        } else {
            &mut unobserved
        };
        match report {
            Report::Slice {
                worker,
                interval,
                end,
                slice,
            } => {
                self.groups[group].add(interval, end, slice, &self.threads.spare[worker], observer);
                Ok(false)
            }
            Report::Finished {
                worker,
                account,
                flows,
                tcp,
                backends,
                agreed,
            } => {
                self.groups[group].backends.extend(backends);
                self.groups[group].agreed.extend(agreed);
                let thread = worker - group * self.plan.threads.get();
                self.groups[group].add_account(thread, *account, flows, tcp);
                Ok(true)
            }
            Report::Failed { failure, .. } => Err(error_of(failure, self.targets[group])),
            Report::Connected { .. } => Ok(false),
        }
    }

    /// Records a rate change by the user.
    fn note_rate(&mut self) {
        let rate = self.control.rate();
        if rate != self.rate {
            self.rate = rate;
            let at_s = (monotonic_ns() as f64 - self.groups[0].window_start as f64) / 1e9;
            self.rate_changes
                .extend(rate.map(|rate| RateChange { at_s, rate }));
        }
    }
}
