//! A watch as resolved from the command line: every option has its value.

use std::fmt;
use std::time::Duration;

use echomark::net::endpoint::Endpoint;
use serde::{Deserialize, Serialize};

use super::{TlsOptions, as_strings, optional_seconds, seconds};

/// Maximum of probes of one connection, or of new connections to one target, that may be without an answer
/// at a time: each is accounted for in memory.
pub const MAX_UNANSWERED: u64 = 10_000;
/// Maximum of persistent connections to each target.
pub const MAX_CONNECTIONS: usize = 10_000;

/// All options of a watch. Part of its result, so that it can be repeated.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WatchPlan {
    /// The watched servers.
    #[serde(with = "as_strings")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub targets: Vec<Endpoint>,
    /// Time between two probes of a persistent connection, in seconds.
    #[serde(rename = "interval_s", with = "seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub interval: Duration,
    /// Persistent connections to each target.
    pub connections: usize,
    /// New connections per second to each target.
    pub new_rate: f64,
    /// The time after which a probe counts as not answered, in seconds.
    #[serde(rename = "timeout_s", with = "seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub timeout: Duration,
    /// An answer that takes longer is late, in seconds.
    #[serde(rename = "late_s", with = "seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub late: Duration,
    /// The longest outage that is allowed, in seconds; null if any is.
    #[serde(rename = "max_outage_s", with = "optional_seconds")]
    #[cfg_attr(test, schemars(with = "Option<f64>"))]
    pub max_outage: Option<Duration>,
    /// Length of the watch in seconds; null if only the user ends it.
    #[serde(rename = "duration_s", with = "optional_seconds")]
    #[cfg_attr(test, schemars(with = "Option<f64>"))]
    pub duration: Option<Duration>,
    /// TLS of `tls://` targets; absent if nothing but the default is asked for.
    #[serde(default, skip_serializing_if = "TlsOptions::is_default")]
    pub tls: TlsOptions,
}

/// Why a watch can't be made as planned.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are what the sentence says")]
pub enum WatchPlanError {
    /// There is no target.
    NoTarget,
    /// Neither persistent connections nor new ones are asked for.
    NoProbes,
    /// More persistent connections than are allowed.
    Connections { connections: usize },
    /// A time that has to be longer than 0 is not.
    NoTime { option: &'static str },
    /// The rate of new connections is not a number from 0 on.
    Rate { rate: f64 },
    /// What is late would never be told from what is not answered.
    Late { late: Duration, timeout: Duration },
    /// Too many probes may be without an answer at a time.
    Unanswered { option: &'static str },
}

impl WatchPlan {
    /// A watch of `targets` with the defaults of every option.
    pub fn new(targets: Vec<Endpoint>) -> Self {
        let timeout = Duration::from_secs(5);
        Self {
            targets,
            interval: Duration::from_millis(50),
            connections: 1,
            new_rate: 10.0,
            timeout,
            late: Self::usual_late(timeout),
            max_outage: None,
            duration: None,
            tls: TlsOptions::default(),
        }
    }

    /// The limit from which on an answer is late, if none is given.
    pub fn usual_late(timeout: Duration) -> Duration {
        timeout / 5
    }

    /// Checks that the options go together.
    ///
    /// # Errors
    /// The first that does not go with the others.
    pub fn check(&self) -> Result<(), WatchPlanError> {
        if self.targets.is_empty() {
            return Err(WatchPlanError::NoTarget);
        }
        if !(0.0..f64::INFINITY).contains(&self.new_rate) {
            let rate = self.new_rate;
            return Err(WatchPlanError::Rate { rate });
        }
        if self.connections == 0 && self.new_rate == 0.0 {
            return Err(WatchPlanError::NoProbes);
        }
        if self.connections > MAX_CONNECTIONS {
            let connections = self.connections;
            return Err(WatchPlanError::Connections { connections });
        }
        for (option, time) in [
            ("--interval", self.interval),
            ("--timeout", self.timeout),
            ("--late", self.late),
        ] {
            if time.is_zero() {
                return Err(WatchPlanError::NoTime { option });
            }
        }
        if self.late > self.timeout {
            let (late, timeout) = (self.late, self.timeout);
            return Err(WatchPlanError::Late { late, timeout });
        }
        let unanswered = |per_second: f64| self.timeout.as_secs_f64() * per_second;
        let most = MAX_UNANSWERED as f64;
        if unanswered(self.interval.as_secs_f64().recip()) > most {
            let option = "--interval";
            return Err(WatchPlanError::Unanswered { option });
        }
        if unanswered(self.new_rate) > most {
            let option = "--new-rate";
            return Err(WatchPlanError::Unanswered { option });
        }
        Ok(())
    }
}

impl fmt::Display for WatchPlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTarget => f.write_str("name a server to watch, tcp://HOST:PORT"),
            Self::NoProbes => {
                f.write_str("-c 0 and --new-rate 0 together ask nothing; leave one of them out")
            }
            Self::Connections { connections } => write!(
                f,
                "{connections} connections (-c) are more than {MAX_CONNECTIONS} to each target; use fewer"
            ),
            Self::NoTime { option } => write!(f, "{option} must be longer than 0"),
            Self::Rate { rate } => {
                write!(f, "--new-rate {rate}: no number of connections per second")
            }
            Self::Late { late, timeout } => write!(
                f,
                "an answer that takes longer than --timeout {timeout:?} is none, so --late {late:?} would \
                 never be; give a shorter one"
            ),
            Self::Unanswered { option } => write!(
                f,
                "more than {MAX_UNANSWERED} probes could be without an answer at a time; use a shorter \
                 --timeout or fewer probes ({option})"
            ),
        }
    }
}

impl std::error::Error for WatchPlanError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> WatchPlan {
        WatchPlan::new(vec!["tcp://127.0.0.1:7".parse().unwrap()])
    }

    #[test]
    fn the_defaults_go_together() {
        assert_eq!(plan().check(), Ok(()));
    }

    #[test]
    fn what_does_not_go_together_is_refused_by_its_name() {
        let change = |change: fn(&mut WatchPlan)| {
            let mut plan = plan();
            change(&mut plan);
            plan.check().unwrap_err().to_string()
        };
        for (text, words) in [
            (change(|plan| plan.targets.clear()), "tcp://HOST:PORT"),
            (
                change(|plan| {
                    plan.connections = 0;
                    plan.new_rate = 0.0;
                }),
                "-c 0",
            ),
            (change(|plan| plan.connections = 10_001), "(-c)"),
            (change(|plan| plan.new_rate = f64::NAN), "--new-rate"),
            (change(|plan| plan.new_rate = 1e6), "--new-rate"),
            (change(|plan| plan.interval = Duration::ZERO), "--interval"),
            (
                change(|plan| plan.interval = Duration::from_micros(10)),
                "--interval",
            ),
            (change(|plan| plan.late = plan.timeout * 2), "--late"),
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}
