//! A run as resolved from the command line: every option has its value.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use echomark::net::endpoint::Endpoint;
use serde::{Serialize, Serializer};

use crate::pace::Profile;

/// Largest message: with several in flight on many connections, more would not fit into memory.
pub const MAX_MESSAGE: u64 = 64 << 20;

/// Everything that decides a run. Part of the result, so that it can be repeated.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// What is measured.
    #[serde(flatten)]
    pub target: Target,
    /// What flows do.
    pub workload: Workload,
    /// Connections of the whole run, spread over targets and threads in turn.
    pub connections: NonZeroUsize,
    /// Measuring threads.
    pub threads: NonZeroUsize,
    /// When messages are due.
    #[serde(flatten)]
    pub load: Load,
    /// How threads wait for the next message's time in an open loop.
    pub pacing: Pacing,
    /// Bytes of a message.
    pub size: NonZeroU64,
    /// Length of the measured window; `None` with a number of requests.
    #[serde(rename = "duration_s", serialize_with = "optional_seconds")]
    pub duration: Option<Duration>,
    /// Time before the window in which messages flow and are not counted.
    #[serde(rename = "warmup_s", serialize_with = "seconds")]
    pub warmup: Duration,
    /// Ends the window after so many messages.
    pub requests: Option<NonZeroU64>,
    /// Time over which the connections are made, before the warm-up.
    #[serde(rename = "ramp_s", serialize_with = "seconds")]
    pub ramp: Duration,
    /// How long a connect or an echo may take.
    #[serde(rename = "timeout_s", serialize_with = "seconds")]
    pub timeout: Duration,
    /// Decides payloads and Poisson arrivals.
    pub seed: u64,
    /// Whether every echoed byte is compared.
    pub verify: bool,
    /// Length of the intervals of the time series.
    #[serde(rename = "interval_s", serialize_with = "seconds")]
    pub interval: Duration,
}

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Target {
    /// Servers that others run.
    Servers {
        /// Where they listen; at least one.
        #[serde(serialize_with = "as_strings")]
        targets: Vec<Endpoint>,
    },
    /// An echod in this process, on a free loopback port, measured over real sockets.
    Embedded {
        /// Its worker threads.
        embedded_workers: NonZeroUsize,
    },
}

/// What flows do on their connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Messages go out and come back.
    Request,
}

/// When messages are due.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "loop", rename_all = "lowercase")]
pub enum Load {
    /// An echo that comes back lets the next message go.
    Closed {
        /// Messages in flight on each connection.
        pipeline: NonZeroUsize,
    },
    /// Messages go by a schedule, whatever comes back.
    Open {
        /// Messages per second over all connections; a number if it is constant, else a text.
        rate: Profile,
        /// How the schedule spaces them.
        arrivals: Spacing,
        /// The most messages in flight on each connection; those beyond it queue with their
        /// intended time.
        pipeline: Option<NonZeroUsize>,
    },
}

/// How an open loop's schedule spaces messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Spacing {
    /// At even distances.
    Constant,
    /// As a Poisson process.
    Poisson,
}

/// How a thread waits for the next message's time. Sleeping is on a timer of nanoseconds, but who
/// sleeps gives the processor away and may get it back late.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pacing {
    /// Sleeps until the message is due: leaves the processor to others, and sends late.
    Sleep,
    /// Sleeps until shortly before, and polls the rest.
    #[default]
    Hybrid,
    /// Never sleeps while a message is still to come: a processor for each thread.
    Spin,
}

impl Plan {
    /// Whether the schedule alone decides when messages are due.
    pub fn is_open_loop(&self) -> bool {
        matches!(self.load, Load::Open { .. })
    }

    /// The rate that was asked for, in an open loop: its mean over the window.
    pub fn target_rate(&self) -> Option<f64> {
        let Load::Open { rate, .. } = &self.load else {
            return None;
        };
        if let Some(rate) = rate.constant_rate() {
            return Some(rate);
        }
        let curve = rate.resolve(Duration::ZERO, self.duration).ok()?;
        let after_requests = self
            .requests
            .and_then(|requests| curve.time_ns(requests.get() as f64));
        let after_duration = self.duration.map(nanoseconds);
        // A profile that falls silent before the last message ends the window with it.
        let end_ns = match (after_requests, after_duration) {
            (Some(requests), Some(duration)) => requests.min(duration),
            (one, other) => one.or(other).or_else(|| rate.length().map(nanoseconds))?,
        };
        Some(curve.count(end_ns) / end_ns * 1e9)
    }

    /// The bound on messages in flight on each connection, if there is one.
    pub fn pipeline(&self) -> Option<NonZeroUsize> {
        match self.load {
            Load::Closed { pipeline } => Some(pipeline),
            Load::Open { pipeline, .. } => pipeline,
        }
    }
}

fn nanoseconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn optional_seconds<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    duration
        .as_ref()
        .map(Duration::as_secs_f64)
        .serialize(serializer)
}

fn as_strings<S: Serializer>(endpoints: &[Endpoint], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(endpoints.iter().map(ToString::to_string))
}
