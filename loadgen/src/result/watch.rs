//! The result of a watch.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::latency::Latency;
use super::origin::{Host, Tool};
use crate::plan::watch::WatchPlan;

/// The result of a watch: who was not answered, when, for how long, and why.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WatchResult {
    /// Version of this layout.
    pub schema: u32,
    /// The kind of the file; the result of a run has no such key.
    pub kind: WatchKind,
    /// The program that made the result.
    pub tool: Tool,
    /// Start of the watch, RFC 3339 in UTC. All other times count from here.
    pub started_at: String,
    /// Whether the user ended it before its time. A watch without a time is ended by the user, and is whole.
    pub interrupted: bool,
    /// Length of the watch in seconds.
    pub duration_s: f64,
    /// The host of the client.
    pub host: Host,
    /// Every option.
    pub plan: WatchPlan,
    /// Persistent connections and new ones of each target.
    pub targets: Vec<TargetResult>,
    /// What the client itself missed.
    pub client: WatchClient,
}

/// The kind of a result that is not that of a run.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum WatchKind {
    /// That of a watch.
    Watch,
}

/// On what a probe is sent.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ProbeKind {
    /// On a connection that stays.
    Persistent,
    /// On a connection of its own.
    New,
}

/// What became of the probes of one kind to one target. Each was answered, or failed, or was out at the end:
/// probes = answered + failed + unfinished.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TargetResult {
    /// The target.
    pub target: String,
    /// On what the probes were sent.
    pub kind: ProbeKind,
    /// Probes that were sent.
    pub probes: u64,
    /// Probes that were answered within the timeout.
    pub answered: u64,
    /// Those of the answered ones whose answer was late.
    pub late: u64,
    /// Probes that were not answered, by class.
    pub failed: Failures,
    /// Probes that were out at the end, and whose timeout was not over.
    pub unfinished: u64,
    /// Probes that were due and that the client did not send, because it did not run or lacked resources.
    pub unsent: u64,
    /// The share of the settled probes that were answered; null if none was settled.
    pub availability: Option<f64>,
    /// Number of outages. Stretches of late answers are none.
    pub outage_count: u64,
    /// Time within outages, in seconds.
    pub outage_total_s: f64,
    /// The longest outage in seconds; 0 without any.
    pub longest_outage_s: f64,
    /// The longest stretch of late answers, in seconds; 0 without any.
    pub longest_late_s: f64,
    /// Outages, and stretches of late answers (class late), by their start. The longest 1000 of both.
    pub outages: Vec<Outage>,
    /// What is not in `outages`.
    pub outages_omitted: OutagesOmitted,
    /// Connections that were lost and made again; 0 for new ones.
    pub reconnects: u64,
    /// From the loss of a connection until the next one was there; null if none was lost.
    pub reconnect: Option<Latency>,
    /// From when a probe was due until its answer was there; null without any. Probes that were out while the
    /// client did not run are left out.
    pub response: Option<Latency>,
    /// The same over time.
    pub timeline: Timeline,
}

/// Probes that were not answered, by class.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Failures {
    /// The connection was reset.
    pub reset: u64,
    /// The server closed the connection.
    pub closed: u64,
    /// The connection, or the datagram, was refused.
    pub refused: u64,
    /// The network said that there is no way to the target.
    pub unreachable: u64,
    /// Nothing came within the timeout.
    pub timeout: u64,
    /// Something else than the echo came back.
    pub wrong: u64,
}

/// Why a stretch is not as it should be.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OutageClass {
    /// The connection was reset.
    Reset,
    /// The server closed the connection.
    Closed,
    /// The connection, or the datagram, was refused.
    Refused,
    /// The network said that there is no way to the target.
    Unreachable,
    /// Nothing came within the timeout.
    Timeout,
    /// Something else than the echo came back.
    Wrong,
    /// Answers came within the timeout, and late: no outage.
    Late,
}

/// A stretch in which probes had no answer in time, or late ones.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Outage {
    /// When the first probe without an answer was due, in seconds since the start.
    pub start_s: f64,
    /// When the first answer after it came; the end of the watch if none did.
    pub end_s: f64,
    /// How it began.
    pub class: OutageClass,
    /// The system's error, if there was one.
    pub error: Option<String>,
    /// Probes that failed in it; of class late, that were answered late.
    pub probes: u64,
    /// Connections that it concerned; 1 for new ones.
    pub connections: u64,
    /// Whether the watch ended before it.
    pub ongoing: bool,
}

/// Outages that were left out of a list because they are the shortest of too many.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OutagesOmitted {
    /// Number of outages.
    pub count: u64,
    /// Their length together, in seconds.
    pub total_s: f64,
    /// The longest of them, in seconds.
    pub longest_s: f64,
    /// Number of stretches of late answers.
    pub late_count: u64,
}

/// The probes of a watch over time, in bins of equal length.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Timeline {
    /// Length of a bin in seconds. It doubles whenever there would be more than 600 bins.
    pub bin_s: f64,
    /// The bins from the start on. A probe counts in the bin in which it was due.
    pub bins: Vec<TimelineBin>,
}

/// What became of the probes that were due in a part of the time.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TimelineBin {
    /// Answered, late ones included.
    pub answered: u64,
    /// Answered late.
    pub late: u64,
    /// Not answered.
    pub failed: u64,
    /// The longest response time, in nanoseconds.
    pub max_ns: u64,
}

/// What the client itself missed.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WatchClient {
    /// When the client did not run, by start: the longest 1000.
    pub absences: Vec<Absence>,
    /// Number of shorter absences that are not in the list.
    pub absences_omitted: u64,
    /// Time in which it did not run, in seconds.
    pub absent_s: f64,
    /// The longest absence in seconds.
    pub longest_absence_s: f64,
    /// How late the client was each time that it was to wake up; null if it never was.
    pub lag: Option<Latency>,
    /// The first error that the client had itself, such as a lack of descriptors or ports.
    pub error: Option<String>,
}

/// A stretch in which the client did not run.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Absence {
    /// Its start, in seconds since the start of the watch.
    pub start_s: f64,
    /// Its end.
    pub end_s: f64,
    /// Why.
    pub cause: AbsenceCause,
}

/// Why the client did not run.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum AbsenceCause {
    /// The host was suspended.
    Suspend,
    /// The hypervisor gave its CPUs to others.
    Steal,
    /// It waited for a CPU that other threads had.
    Busy,
    /// It was stopped by a signal, or its host by something else.
    Stopped,
}

impl WatchResult {
    /// The longest outage of any target.
    pub fn longest_outage(&self) -> Duration {
        let longest = self.targets.iter().map(|target| target.longest_outage_s);
        seconds(longest.fold(0.0, f64::max))
    }

    /// Whether an outage was longer than the plan allows.
    pub fn exceeds_limit(&self) -> bool {
        let limit = self.plan.max_outage;
        limit.is_some_and(|limit| self.longest_outage() > limit)
    }

    /// Whether the client was absent for longer than the limit, so that it can't tell whether the limit was kept.
    pub fn is_blind(&self) -> bool {
        let absence = seconds(self.client.longest_absence_s);
        self.plan.max_outage.is_some_and(|limit| absence > limit)
    }
}

/// A stored number may be none that a duration can be.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

impl Failures {
    /// Counts one.
    pub fn count(&mut self, class: OutageClass) {
        match class {
            OutageClass::Reset => self.reset += 1,
            OutageClass::Closed => self.closed += 1,
            OutageClass::Refused => self.refused += 1,
            OutageClass::Unreachable => self.unreachable += 1,
            OutageClass::Timeout => self.timeout += 1,
            OutageClass::Wrong => self.wrong += 1,
            // Not a failure.
            OutageClass::Late => {}
        }
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.by_class().iter().map(|(_, count)| count).sum()
    }

    /// The counts with their classes.
    pub fn by_class(&self) -> [(OutageClass, u64); 6] {
        [
            (OutageClass::Reset, self.reset),
            (OutageClass::Closed, self.closed),
            (OutageClass::Refused, self.refused),
            (OutageClass::Unreachable, self.unreachable),
            (OutageClass::Timeout, self.timeout),
            (OutageClass::Wrong, self.wrong),
        ]
    }
}

impl Outage {
    /// Its length in seconds.
    pub fn length_s(&self) -> f64 {
        self.end_s - self.start_s
    }

    /// Whether it is an outage, and not a stretch of late answers.
    pub fn is_outage(&self) -> bool {
        self.class != OutageClass::Late
    }
}

impl OutageClass {
    /// Its name in a result.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Wrong => "wrong",
            Self::Late => "late",
        }
    }
}

impl ProbeKind {
    /// Its name in a result.
    pub fn name(self) -> &'static str {
        match self {
            Self::Persistent => "persistent",
            Self::New => "new",
        }
    }
}

impl AbsenceCause {
    /// Its name in a result.
    pub fn name(self) -> &'static str {
        match self {
            Self::Suspend => "suspend",
            Self::Steal => "steal",
            Self::Busy => "busy",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for OutageClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for AbsenceCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
