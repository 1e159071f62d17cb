//! A run as resolved from the command line: every option has its value.

use std::collections::BTreeSet;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use echomark::net::cidr::Cidr;
use echomark::net::endpoint::Endpoint;
use echomark::net::tuning::Tuning;
use serde::{Deserialize, Serialize};

use crate::admin::AdminUrl;
use crate::profile::Profile;

mod builder;
pub mod defaults;
pub mod opening;
pub mod shard;
pub mod sizes;
mod tls;
pub mod watch;

pub use builder::{PlanBuilder, PlanError};
pub use opening::{ExpectedShare, Opening, ProxyVersion};
pub use shard::{Shard, StartAt};
pub use tls::{TlsOptions, TlsVersion};

use sizes::Sizes;

/// Maximum of messages in flight in a closed loop over all connections: each is accounted for in memory.
pub const MAX_IN_FLIGHT: usize = 1 << 20;
/// Maximum payload of a UDP datagram over IPv4 (RFC 768).
pub const MAX_DATAGRAM: u32 = 65_507;

/// All options of a run. Part of the result, so that the run can be repeated.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Plan {
    /// The measured servers.
    #[serde(flatten)]
    pub target: Target,
    /// The workload.
    #[serde(flatten)]
    pub workload: Workload,
    /// Connections in total.
    pub connections: NonZeroUsize,
    /// Measuring threads.
    pub threads: NonZeroUsize,
    /// When messages are due.
    #[serde(flatten)]
    pub load: Load,
    /// Size of a message in bytes: a number if all are equal, else a distribution as text.
    pub size: Sizes,
    /// Length of the measured window in seconds; null if a number of messages ends it.
    #[serde(rename = "duration_s", with = "optional_seconds")]
    #[cfg_attr(test, schemars(with = "Option<f64>"))]
    pub duration: Option<Duration>,
    /// Length of the warm-up before the window, in seconds; its messages are not counted.
    #[serde(rename = "warmup_s", with = "seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub warmup: Duration,
    /// Number of messages that ends the window; null without a limit.
    pub requests: Option<NonZeroU64>,
    /// Time over which the connections are opened, in seconds.
    #[serde(rename = "ramp_s", with = "seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub ramp: Duration,
    /// Timeout of a connect or an echo, in seconds.
    #[serde(rename = "timeout_s", with = "seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub timeout: Duration,
    /// Seed of payloads, sizes and Poisson arrivals.
    pub seed: u64,
    /// Whether every received byte is compared.
    pub verify: bool,
    /// Length of the intervals in seconds.
    #[serde(rename = "interval_s", with = "seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub interval: Duration,
    /// How threads wait until the next message is due.
    pub pacing: Pacing,
    /// What the measuring threads ask of the scheduler.
    #[serde(default)]
    pub priority: Priority,
    /// Source networks and addresses of connections, used in turn; empty for the kernel's choice.
    #[serde(with = "as_strings")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub sources: Vec<Cidr>,
    /// What connections exchange before their first message; absent if nothing.
    #[serde(default, skip_serializing_if = "Opening::is_none")]
    pub opening: Opening,
    /// TLS of `tls://` targets; absent if nothing but the default is asked for.
    #[serde(default, skip_serializing_if = "TlsOptions::is_default")]
    pub tls: TlsOptions,
    /// Options of the client's sockets.
    pub socket: SocketOptions,
    /// Background streams; null if there are none.
    pub background: Option<Background>,
    /// Number of runs.
    pub repeat: NonZeroUsize,
    /// URL of the server's admin port; null if its counters are not read.
    #[serde(default)]
    pub server_admin: Option<AdminUrl>,
    /// The part of this run that the process makes, of the connections, the messages and the rate above
    /// (--rank); absent if it makes the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
}

/// What is measured.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Target {
    /// Running servers.
    Servers {
        /// Their endpoints; at least one.
        #[serde(with = "as_strings")]
        #[cfg_attr(test, schemars(with = "Vec<String>"))]
        targets: Vec<Endpoint>,
    },
    /// An echod in this process, on a free loopback port, measured over real sockets.
    Embedded {
        /// Number of its worker threads.
        embedded_workers: NonZeroUsize,
    },
}

/// What the connections do.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "workload", rename_all = "lowercase")]
pub enum Workload {
    /// Messages to an echo server and back.
    Request,
    /// A new connection for each message: connect, exchange, close.
    Churn {
        /// How the client closes the connection.
        close: Close,
    },
    /// A stream of bytes without a pace.
    Stream {
        /// The direction.
        direction: Direction,
    },
    /// Connections are held open, with an occasional message on one of them.
    Idle,
}

/// How a connection is closed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Close {
    /// Half-close, wait for the server's close, and close.
    Orderly,
    /// Close with a reset, which leaves nothing in TIME_WAIT.
    Reset,
}

/// The direction of a stream.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To an echo server and back.
    Echo,
    /// To a discard server.
    Up,
    /// From a chargen server.
    Down,
}

/// Options of the client's sockets; see [`Tuning`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SocketOptions {
    /// SO_RCVBUF in bytes; null for the kernel's choice.
    pub recv_buffer: Option<usize>,
    /// SO_SNDBUF in bytes; null for the kernel's choice.
    pub send_buffer: Option<usize>,
    /// TCP_CONGESTION; null for the kernel's choice.
    pub congestion: Option<String>,
    /// TCP_NODELAY.
    pub nodelay: bool,
}

impl SocketOptions {
    /// The same for the module that makes sockets.
    pub fn tuning(&self) -> Tuning {
        Tuning {
            recv_buffer: self.recv_buffer,
            send_buffer: self.send_buffer,
            congestion: self.congestion.clone(),
            nodelay: self.nodelay,
            ..Tuning::default()
        }
    }
}

impl Default for SocketOptions {
    fn default() -> Self {
        let tuning = Tuning::default();
        Self {
            recv_buffer: tuning.recv_buffer,
            send_buffer: tuning.send_buffer,
            congestion: tuning.congestion,
            nodelay: tuning.nodelay,
        }
    }
}

/// Background streams, beside the workload, on their own thread.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Background {
    /// Number of streams.
    pub streams: NonZeroUsize,
    /// Their direction.
    pub direction: Direction,
    /// Their endpoints; empty for the targets of the run.
    #[serde(with = "as_strings")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub targets: Vec<Endpoint>,
}

/// When messages are due.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "loop", rename_all = "lowercase")]
pub enum Load {
    /// Each response triggers the next message.
    Closed {
        /// Messages in flight on each connection.
        pipeline: NonZeroUsize,
    },
    /// A schedule triggers messages, independent of responses.
    Open {
        /// Messages per second over all connections; a number if it is constant, else a text.
        rate: Profile,
        /// The distances between messages.
        arrivals: Spacing,
        /// Maximum of messages in flight on each connection; further messages queue with their
        /// intended time.
        pipeline: Option<NonZeroUsize>,
    },
}

/// The distances between messages of an open loop.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Spacing {
    /// Equal distances.
    Constant,
    /// A Poisson process.
    Poisson,
}

/// How a thread waits until the next message is due. Timers have nanoseconds, but a thread that sleeps
/// gives its CPU away and may get it back late.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Pacing {
    /// Sleeps until the message is due: uses little CPU time, and sends late.
    Sleep,
    /// Sleeps until shortly before, and polls from there.
    #[default]
    Hybrid,
    /// Polls without sleeping: each thread needs a CPU.
    Spin,
}

/// What measuring threads ask of the scheduler. Above normal, the memory is locked too, and threads
/// keep off the CPUs of the embedded server's workers.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Niceness -10, if the process may and a CPU is left for the server.
    Auto,
    /// No more than other programs.
    #[default]
    Normal,
    /// Niceness -20.
    High,
    /// SCHED_FIFO, if two CPUs are left; else niceness -20.
    Realtime,
}

impl Plan {
    /// Whether the schedule alone decides when messages are due.
    pub fn is_open_loop(&self) -> bool {
        matches!(self.load, Load::Open { .. })
    }

    /// The requested rate of an open loop: its mean over the window.
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

    /// The direction of a stream; `None` for other workloads.
    pub fn direction(&self) -> Option<Direction> {
        match self.workload {
            Workload::Stream { direction } => Some(direction),
            Workload::Request | Workload::Churn { .. } | Workload::Idle => None,
        }
    }

    /// Whether each message has its own connection.
    pub fn has_connection_per_message(&self) -> bool {
        matches!(self.workload, Workload::Churn { .. })
    }

    /// Whether messages are datagrams.
    pub fn is_datagram(&self) -> bool {
        match &self.target {
            Target::Servers { targets } => targets
                .iter()
                .any(|target| matches!(target, Endpoint::Udp(_))),
            Target::Embedded { .. } => false,
        }
    }

    /// Whether the load is the same all along the window.
    pub fn has_steady_load(&self) -> bool {
        match &self.load {
            Load::Closed { .. } => true,
            Load::Open { rate, .. } => rate.constant_rate().is_some(),
        }
    }

    /// What makes figures of two plans incomparable: the options that differ, each with both values,
    /// under the names of the result. What is measured may differ, and `besides` may too.
    pub fn differences(&self, other: &Self, besides: &[&str]) -> Vec<String> {
        let mut differences = Vec::new();
        let values = [self, other].map(|plan| serde_json::to_value(plan).unwrap_or_default());
        collect_differences("", [&values[0], &values[1]], &mut differences);
        let is_other = |name: &str| {
            let option = name.split('.').next().unwrap_or(name);
            SERVER_OPTIONS.contains(&option) || besides.contains(&name)
        };
        differences.retain(|(name, _)| !is_other(name));
        differences
            .into_iter()
            .map(|(name, values)| format!("{name}: {values}"))
            .collect()
    }

    /// The bound on messages in flight on each connection, if there is one.
    pub fn pipeline(&self) -> Option<NonZeroUsize> {
        match &self.load {
            Load::Closed { pipeline } => Some(*pipeline),
            Load::Open { pipeline, .. } => *pipeline,
        }
    }
}

/// Options that say which server is measured, and whether and how it is encrypted.
const SERVER_OPTIONS: &[&str] = &["targets", "embedded_workers", "server_admin", "tls"];

/// Collects what differs between two options of the name, or within them, as text of both values.
fn collect_differences(
    name: &str,
    values: [&serde_json::Value; 2],
    differences: &mut Vec<(String, String)>,
) {
    if values[0] == values[1] {
        return;
    }
    let [Some(first), Some(second)] = values.map(serde_json::Value::as_object) else {
        differences.push((name.to_owned(), format!("{} and {}", values[0], values[1])));
        return;
    };
    let names: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
    for key in names {
        let whole = if name.is_empty() {
            key.clone()
        } else {
            format!("{name}.{key}")
        };
        let absent = &serde_json::Value::Null;
        let parts = [first, second].map(|object| object.get(key).unwrap_or(absent));
        collect_differences(&whole, parts, differences);
    }
}

fn nanoseconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

/// A duration as its seconds.
pub(crate) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds).map_err(D::Error::custom)
    }
}

/// A duration as its seconds, or null.
mod optional_seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let seconds = duration.as_ref().map(Duration::as_secs_f64);
        seconds.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Option::<f64>::deserialize(deserializer)?
            .map(|seconds| Duration::try_from_secs_f64(seconds).map_err(D::Error::custom))
            .transpose()
    }
}

/// A list as the texts that a user would write.
mod as_strings {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(
        items: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(items.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let items = texts.iter().map(|text| text.parse());
        items.collect::<Result<_, _>>().map_err(D::Error::custom)
    }
}
