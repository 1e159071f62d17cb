//! Progress of a watch.

use std::time::Duration;

use crate::result::watch::{AbsenceCause, OutageClass, ProbeKind, TimelineBin};

/// What happened. Times count from the start of the watch.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    /// A connection, or new ones, are not answered any more. It is known as soon as the first probe has
    /// failed, which for a timeout is later.
    OutageBegan {
        /// The index of the target,
        target: usize,
        /// and the kind of its probes.
        kind: ProbeKind,
        /// The index of the connection; 0 for new ones.
        connection: usize,
        /// When the first probe was due.
        start: Duration,
        /// How it failed.
        class: OutageClass,
        /// The system's error, if there was one.
        error: Option<String>,
    },
    /// A stretch is over: an outage, or one of late answers.
    Ended {
        /// The index of the target,
        target: usize,
        /// and the kind of its probes.
        kind: ProbeKind,
        /// The index of the connection; 0 for new ones.
        connection: usize,
        /// When the first probe was due.
        start: Duration,
        /// When the first answer was there.
        end: Duration,
        /// How it began.
        class: OutageClass,
        /// Probes that failed, or were late.
        probes: u64,
    },
    /// A persistent connection that was lost was made again.
    Reconnected {
        /// The index of the target.
        target: usize,
        /// The index of the connection.
        connection: usize,
        /// When.
        at: Duration,
        /// How long there was none.
        after: Duration,
    },
    /// The client did not run.
    ClientAbsent {
        /// When it last ran.
        start: Duration,
        /// When it ran again.
        end: Duration,
        /// Why it did not.
        cause: AbsenceCause,
    },
}

/// The state of a watch.
#[derive(Clone, Debug, Default)]
pub struct WatchStatus {
    /// Time since the start.
    pub elapsed: Duration,
    /// Each kind of probes of each target, in the order of the result.
    pub targets: Vec<TargetStatus>,
    /// Number of absences of the client, and their length together.
    pub absences: (u64, Duration),
}

/// The state of one kind of probes to one target.
#[derive(Clone, Debug)]
pub struct TargetStatus {
    /// The index of the target.
    pub target: usize,
    /// The kind of its probes.
    pub kind: ProbeKind,
    /// Since when it is out, and why; `None` while it answers.
    pub out: Option<(Duration, OutageClass)>,
    /// Probes that were answered, and that failed.
    pub answered: u64,
    /// Probes that failed.
    pub failed: u64,
    /// Probes that were answered late.
    pub late: u64,
    /// Number of outages that are over or going on.
    pub outages: u64,
    /// The longest of them.
    pub longest: Duration,
    /// All of them together.
    pub total: Duration,
    /// Median, 99th percentile and maximum of the response times, in nanoseconds.
    pub p50_ns: Option<u64>,
    /// 99th percentile.
    pub p99_ns: Option<u64>,
    /// Maximum.
    pub max_ns: Option<u64>,
    /// Length of a bin of the timeline,
    pub bin: Duration,
    /// and its bins from the start on.
    pub bins: Vec<TimelineBin>,
}

impl TargetStatus {
    /// The share of the settled probes that were answered; `None` if none is settled.
    pub fn availability(&self) -> Option<f64> {
        let settled = self.answered + self.failed;
        (settled > 0).then(|| self.answered as f64 / settled as f64)
    }
}

/// Receives the progress of a watch, on the thread that probes: it must not block.
pub trait WatchObserver {
    /// Something happened.
    fn event(&mut self, _event: &WatchEvent) {}

    /// The present state, several times per second.
    fn status(&mut self, _status: &WatchStatus) {}
}

impl WatchObserver for super::Unobserved {}
