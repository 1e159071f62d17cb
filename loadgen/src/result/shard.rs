//! Shards: results of processes that made one run together.

use serde::{Deserialize, Serialize};

/// One of several processes that made one run.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ShardResult {
    /// Its number, from 0.
    pub rank: usize,
    /// Number of shards.
    pub size: usize,
    /// The start that was agreed on, RFC 3339 in UTC with nanoseconds; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<String>,
    /// When it really started, by the clock of its host: the start of its schedule, and how late it was
    /// with its first message.
    pub started_at: String,
    /// That clock.
    pub clock: ClockState,
}

/// How far a clock may be off (adjtimex(2)).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ClockState {
    /// Whether a time source keeps it.
    pub synchronized: bool,
    /// The maximum error in nanoseconds, as the kernel estimates it; null if it does not tell.
    pub max_error_ns: Option<u64>,
    /// Which clock it is: the kernel's boot id (/proc/sys/kernel/random/boot_id), which the containers of
    /// a host have in common; null if it is not known.
    #[serde(default)]
    pub boot_id: Option<String>,
}

/// How the shards of a union belong together.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ShardsResult {
    /// Number of shards of the run.
    pub size: usize,
    /// The ranks whose results are missing.
    pub missing: Vec<usize>,
    /// Number of clocks, which is that of the hosts that they ran on.
    pub clocks: usize,
    /// The time between the first and the last start in nanoseconds, by the clocks of their hosts.
    pub start_skew_ns: u64,
    /// By how much more the starts may differ, because clocks differ: 0 on one host, null if a clock is
    /// not synchronised.
    pub clock_error_ns: Option<u64>,
    /// The share of the longest window in which all shards measured.
    pub overlap: f64,
}
