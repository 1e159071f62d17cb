//! How evenly the connections were served.

use serde::{Deserialize, Serialize};

use super::statistics::Fairness;

/// How evenly the connections were served.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FairnessResult {
    /// By what connections are compared.
    pub basis: FairnessBasis,
    /// Over the connections.
    #[serde(flatten)]
    pub index: Fairness,
    /// The slowest connections.
    pub slowest: Vec<ConnectionShare>,
    /// The fastest connections.
    pub fastest: Vec<ConnectionShare>,
    /// Connections grouped by target; null if there is one only.
    pub by_target: Option<Groups>,
    /// Connections grouped by the client's thread; null if there is one only.
    pub by_thread: Option<Groups>,
    /// Connections grouped by the CPU that took in what came on them (SO_INCOMING_CPU); null if it
    /// was one only or is not known of all.
    pub by_incoming_cpu: Option<Groups>,
}

/// By what connections are compared.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FairnessBasis {
    /// Messages of the window. For a closed loop, in which answers decide how many there are.
    Messages,
    /// How fast answers came: one over the mean response time. For an open loop, in which the
    /// schedule decides how many messages each connection has.
    Speed,
}

/// Several groups of connections.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Groups {
    /// Jain's index over the groups' means.
    pub jain: f64,
    /// Each of them.
    pub groups: Vec<Group>,
}

/// A group of connections.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Group {
    /// Target, number of the thread, or number of the CPU.
    pub name: String,
    /// How many connections it has.
    pub connections: usize,
    /// Messages per connection, on average.
    pub messages_mean: f64,
    /// Response time in nanoseconds, on average; null in a stream in one direction.
    pub response_ns_mean: Option<f64>,
}

/// What one connection had of the window.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConnectionShare {
    /// Its number in the run.
    pub connection: usize,
    /// The client's port; null if it did not stand at the end or has none.
    pub local_port: Option<u16>,
    /// Messages.
    pub messages: u64,
    /// Response time in nanoseconds, on average; null in a stream in one direction, or without
    /// messages.
    pub response_ns_mean: Option<f64>,
}
