//! The servers behind the targets, by the greetings of connections.

use serde::{Deserialize, Serialize};

use super::latency::Latency;

/// A server that greeted.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BackendResult {
    /// Its name: POD_NAME or the host in the line of `echod --whoami`, else the whole greeting.
    pub id: String,
    /// Its connections, set-up and warm-up included.
    pub connections: u64,
    /// Its messages in the window that came back.
    pub messages: u64,
    /// Its share of the connections, from 0 to 1.
    pub share: f64,
    /// Response time of these messages in nanoseconds; null without any.
    pub response: Option<Latency>,
}

/// Whether the servers had the expected shares of the connections.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SharesResult {
    /// Each expectation, and one for all other servers together if these are not all.
    pub expected: Vec<ShareResult>,
    /// Whether the shares can be those expected, by chance: false with at most 5 % probability if they
    /// are.
    pub is_met: bool,
    /// The same in words.
    pub text: String,
}

/// An expected share, and what came of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ShareResult {
    /// The server's name; null for all others together.
    pub id: Option<String>,
    /// The expected share of the connections.
    pub expected: f64,
    /// Its connections.
    pub connections: u64,
    /// The probability of a number that is at most as likely as this one, if the expectation is true.
    pub p: f64,
}
