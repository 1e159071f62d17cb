//! Whether a result is reliable, as it is stored. `analysis::verdict` judges runs, and
//! `compare::validity` comparisons.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether a result is reliable, and why not.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Verdict {
    /// The worst status of all reasons.
    pub status: Status,
    /// The highest percentile of the response time that the client's own disturbances can't have made,
    /// such as 99.9; null if there is none, or no response time. Beyond it, the tail may be the
    /// client's.
    #[serde(default)]
    pub vouched_percentile: Option<f64>,
    /// The reasons; empty for a valid result.
    pub reasons: Vec<Reason>,
}

/// How reliable a result is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// There is no objection.
    Valid,
    /// It may be distorted; the reason says what to do.
    Suspect,
    /// It does not show what the plan asks for.
    Invalid,
}

/// One objection, with its evidence.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reason {
    /// Its kind, for programs.
    pub code: Code,
    /// The evidence and what to do, for people.
    pub text: String,
    /// The status that it gives to the result.
    pub status: Status,
}

/// The kind of a [`Reason`].
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Messages did not come back as they were sent.
    Corrupt,
    /// The target accepts, and never answers, or answers something else from the first byte.
    NoEcho,
    /// The server closed, refused or never answered connections.
    NotServed,
    /// No message came back in the window.
    NoData,
    /// Messages were sent and did not come back.
    Missing,
    /// Messages came back that could not be verified.
    NotVerified,
    /// Less than 99 % of the offered rate came back.
    RateNotAchieved,
    /// More than 1 % of the messages that were due never reached the kernel.
    Unsent,
    /// The client sent messages late.
    SendLag,
    /// The user changed the rate during the run.
    RateChanged,
    /// The client's host had no port left for some connects.
    OutOfPorts,
    /// Connections could not be made.
    ConnectionsFailed,
    /// The server did not close connections within the timeout.
    Unclosed,
    /// Not all idle connections were open at the end.
    NotHeld,
    /// The server ended, or was replaced, during the run, so its counters are not known.
    ServerSideMissing,
    /// A repeat could not be made; those before it are in the result.
    RepeatFailed,
    /// The server left datagrams unanswered because of its limits on rates.
    ServerLimited,
    /// The server counted other bytes than the client: others used it, or it is not the one that was
    /// measured.
    ServerDisagrees,
    /// The parts of a union were not measured at the same time.
    NotTogether,
    /// The clocks of the shards' hosts are not synchronised, or may differ too much.
    ClocksDiffer,
    /// A shard started later than the run allows.
    StartedLate,
    /// A shard was ended before the end of its window.
    EndedEarly,
    /// Results of shards are missing.
    ShardsMissing,
    /// A client thread was busy almost all of the time.
    ClientBusy,
    /// A client thread had to wait for a CPU.
    Preempted,
    /// The hypervisor gave CPU time of the client's host to other guests.
    Steal,
    /// The client's host did not run the client at all for more than 1 % of the time.
    Standstill,
    /// The client's host failed to run the client for as long as the tail is.
    Hiccups,
    /// Too few messages for a p99.
    FewSamples,
    /// The beginning of the window differs from the rest.
    WarmingUp,
    /// The latency rose or fell during the whole window.
    Drift,
    /// Another tool measured it: what its figures can't show.
    Imported,
    // Of comparisons alone:
    /// A round could not be made; those before it are compared.
    RoundFailed,
    /// Runs were invalid.
    InvalidRuns,
    /// Runs were suspect.
    SuspectRuns,
    /// The stored results are of different hosts.
    HostsDiffer,
    /// A side or the comparison was ended early.
    Interrupted,
    /// A code of a later version.
    #[serde(untagged)]
    Unknown(Box<str>),
}

impl Verdict {
    /// Makes it the verdict on a union with another result: all reasons, and what both vouch for.
    pub(crate) fn union(&mut self, other: &mut Self) {
        let both = self.vouched_percentile.zip(other.vouched_percentile);
        self.vouched_percentile = both.map(|(one, other)| one.min(other));
        self.add_reasons(other.reasons.drain(..));
    }

    /// Whether there is a reason with this code.
    pub(crate) fn has(&self, code: &Code) -> bool {
        self.reasons.iter().any(|reason| reason.code == *code)
    }

    /// Adds reasons behind the others.
    pub(crate) fn add_reasons(&mut self, reasons: impl IntoIterator<Item = Reason>) {
        self.reasons.extend(reasons);
        let worst = self.reasons.iter().map(|reason| reason.status).max();
        self.status = worst.unwrap_or(Status::Valid);
    }

    /// The verdict that `reasons` demand.
    pub(crate) fn from_reasons(reasons: Vec<Reason>) -> Self {
        Self {
            status: reasons
                .iter()
                .map(|reason| reason.status)
                .max()
                .unwrap_or(Status::Valid),
            vouched_percentile: None,
            reasons,
        }
    }
}

impl Reason {
    pub(crate) fn invalid(code: Code, text: String) -> Self {
        Self {
            code,
            text,
            status: Status::Invalid,
        }
    }

    pub(crate) fn suspect(code: Code, text: String) -> Self {
        Self {
            code,
            text,
            status: Status::Suspect,
        }
    }
}

impl fmt::Display for Code {
    /// As it is stored.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_stored_by_name_and_those_of_later_versions_are_kept() {
        for (name, code) in [
            ("rate_not_achieved", Code::RateNotAchieved),
            ("no_data", Code::NoData),
            ("invalid_runs", Code::InvalidRuns),
            ("not_served", Code::NotServed),
            ("not_known_yet", Code::Unknown("not_known_yet".into())),
        ] {
            let json = format!("\"{name}\"");
            assert_eq!(serde_json::from_str::<Code>(&json).unwrap(), code);
            assert_eq!(serde_json::to_string(&code).unwrap(), json);
            assert_eq!(code.to_string(), name);
        }
    }
}
