//! All that is known of one kind of probes to one target. Pure.

use std::collections::{BTreeMap, VecDeque};

use hdrhistogram::Histogram;

use super::stretches::{Stretch, Stretches};
use super::timeline::Bins;
use crate::result::Latency;
use crate::result::histogram;
use crate::result::latency::supports;
use crate::result::watch::{
    Failures, Outage, OutageClass, OutagesOmitted, ProbeKind, TargetResult,
};

/// Counts, response times and stretches of one kind of probes to one target.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) target: usize,
    pub(super) kind: ProbeKind,
    pub(super) sent: u64,
    pub(super) unsent: u64,
    answered: u64,
    late: u64,
    failed: Failures,
    response: Histogram<u64>,
    reconnect: Histogram<u64>,
    bins: Bins,
    outages: Stretches,
    late_stretches: Stretches,
    /// The outages that are going on, by connection: since when, and how they began.
    out: BTreeMap<usize, (u64, OutageClass)>,
    changes: VecDeque<Change>,
}

/// What happened to one connection, in nanoseconds since the start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Change {
    Began {
        connection: usize,
        start: u64,
        class: OutageClass,
        error: Option<Box<str>>,
    },
    Ended {
        connection: usize,
        stretch: Stretch,
    },
}

/// An answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// When the probe was due.
    pub(super) due: u64,
    /// From then until the answer was there, without the time in which the client did not run.
    pub(super) response: u64,
    pub(super) is_late: bool,
    /// Whether the client ran all that time.
    pub(super) is_timed: bool,
}

impl Series {
    pub(super) fn new(target: usize, kind: ProbeKind) -> Self {
        Self {
            target,
            kind,
            sent: 0,
            unsent: 0,
            answered: 0,
            late: 0,
            failed: Failures::default(),
            response: histogram::empty(),
            reconnect: histogram::empty(),
            bins: Bins::default(),
            outages: Stretches::default(),
            late_stretches: Stretches::default(),
            out: BTreeMap::new(),
            changes: VecDeque::new(),
        }
    }

    pub(super) fn note_answer(&mut self, answer: Answer) {
        self.answered += 1;
        self.late += u64::from(answer.is_late);
        let bin = self.bins.at(answer.due);
        bin.answered += 1;
        bin.late += u64::from(answer.is_late);
        if answer.is_timed {
            bin.max_ns = bin.max_ns.max(answer.response);
            self.response.saturating_record(answer.response);
        }
    }

    pub(super) fn note_failure(&mut self, due: u64, class: OutageClass) {
        self.failed.count(class);
        self.bins.at(due).failed += 1;
    }

    pub(super) fn note_reconnect(&mut self, after: u64) {
        self.reconnect.saturating_record(after);
    }

    /// An outage of a connection begins.
    pub(super) fn begin(
        &mut self,
        connection: usize,
        start: u64,
        class: OutageClass,
        error: Option<Box<str>>,
    ) {
        self.out.insert(connection, (start, class));
        self.changes.push_back(Change::Began {
            connection,
            start,
            class,
            error,
        });
    }

    /// An outage of a connection, or a stretch of late answers, is over.
    pub(super) fn end(&mut self, connection: usize, stretch: Stretch) {
        if stretch.class == OutageClass::Late {
            self.late_stretches.add(stretch.clone());
        } else {
            self.out.remove(&connection);
            self.outages.add(stretch.clone());
        }
        self.changes.push_back(Change::Ended {
            connection,
            stretch,
        });
    }

    /// Takes what happened since the last call.
    pub(super) fn take_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// Since when a connection is out, and how that began.
    pub(super) fn out_since(&self) -> Option<(u64, OutageClass)> {
        self.out.values().copied().min_by_key(|(start, _)| *start)
    }

    /// Number, longest and sum of the outages up to `now`.
    pub(super) fn outages(&self, now: u64) -> (u64, u64, u64) {
        let mut outages = self.outages.clone();
        for (&connection, &(start, class)) in &self.out {
            outages.add(Stretch {
                start,
                end: now.max(start),
                class,
                error: None,
                probes: 0,
                connections: [connection].into(),
                ongoing: true,
            });
        }
        (outages.count(), outages.longest(), outages.total())
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered
    }

    pub(super) fn late(&self) -> u64 {
        self.late
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed.total()
    }

    pub(super) fn bins(&self) -> &Bins {
        &self.bins
    }

    /// A percentile of the response times, if there are enough.
    pub(super) fn quantile(&self, quantile: f64) -> Option<u64> {
        let is_known = supports(self.response.len(), quantile);
        is_known.then(|| self.response.value_at_quantile(quantile))
    }

    /// The longest response time.
    pub(super) fn max(&self) -> Option<u64> {
        (!self.response.is_empty()).then(|| self.response.max())
    }

    /// The result, after every lane has ended.
    pub(super) fn result(&self, target: String) -> TargetResult {
        let settled = self.answered + self.failed();
        let mut outages: Vec<Outage> = [&self.outages, &self.late_stretches]
            .into_iter()
            .flat_map(Stretches::kept)
            .map(outage)
            .collect();
        outages.sort_by(|one, other| one.start_s.total_cmp(&other.start_s));
        let (count, total, longest) = self.outages.omitted;
        TargetResult {
            target,
            kind: self.kind,
            probes: self.sent,
            answered: self.answered,
            late: self.late,
            failed: self.failed,
            unfinished: self.sent - settled,
            unsent: self.unsent,
            availability: (settled > 0).then(|| self.answered as f64 / settled as f64),
            outage_count: self.outages.count(),
            outage_total_s: seconds(self.outages.total()),
            longest_outage_s: seconds(self.outages.longest()),
            longest_late_s: seconds(self.late_stretches.longest()),
            outages,
            outages_omitted: OutagesOmitted {
                count,
                total_s: seconds(total),
                longest_s: seconds(longest),
                late_count: self.late_stretches.omitted.0,
            },
            reconnects: self.reconnect.len(),
            reconnect: Latency::new(self.reconnect.clone()),
            response: Latency::new(self.response.clone()),
            timeline: self.bins.result(),
        }
    }
}

fn outage(stretch: &Stretch) -> Outage {
    Outage {
        start_s: seconds(stretch.start),
        end_s: seconds(stretch.end),
        class: stretch.class,
        error: stretch.error.as_deref().map(str::to_owned),
        probes: stretch.probes,
        connections: stretch.connections.len() as u64,
        ongoing: stretch.ongoing,
    }
}

pub(super) fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}
