//! How evenly the connections were served.

use serde::{Deserialize, Serialize};

use super::statistics::Fairness;

/// Fairness between the connections.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FairnessResult {
    /// The figure by which connections are compared.
    pub basis: FairnessBasis,
    /// Jain's index and the extremes.
    #[serde(flatten)]
    pub index: Fairness,
    /// The slowest connections.
    pub slowest: Vec<ConnectionShare>,
    /// The fastest connections.
    pub fastest: Vec<ConnectionShare>,
    /// Connections grouped by target; null with a single target.
    pub by_target: Option<Groups>,
    /// Connections grouped by the client's thread; null with a single thread.
    pub by_thread: Option<Groups>,
    /// Connections grouped by the CPU that received their packets (SO_INCOMING_CPU); null with a
    /// single CPU, or if the CPU of a connection is not known.
    pub by_incoming_cpu: Option<Groups>,
}

/// The figure by which connections are compared.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FairnessBasis {
    /// Messages of the window, in a closed loop: responses decide their number.
    Messages,
    /// One over the mean response time, in an open loop: the schedule decides the number of
    /// messages of each connection.
    Speed,
}

/// Several groups of connections.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Groups {
    /// Jain's index over the groups' means.
    pub jain: f64,
    /// The groups.
    pub groups: Vec<Group>,
}

/// A group of connections.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Group {
    /// Target, number of the thread, or number of the CPU.
    pub name: String,
    /// Number of connections.
    pub connections: usize,
    /// Mean number of messages per connection.
    pub messages_mean: f64,
    /// Mean response time in nanoseconds; null in a stream in one direction.
    pub response_ns_mean: Option<f64>,
}

/// The part of one connection in the window.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConnectionShare {
    /// Its number in the run.
    pub connection: usize,
    /// The client's port; null if the connection was not open at the end or has none.
    pub local_port: Option<u16>,
    /// Messages.
    pub messages: u64,
    /// Mean response time in nanoseconds; null in a stream in one direction, or without messages.
    pub response_ns_mean: Option<f64>,
}
