//! The compared figures.

use crate::plan::{Direction, Plan, Workload};
use crate::result::comparison::{Better, Unit};
use crate::result::{Latency, RepeatRun, RunResult};

/// A figure that both sides have.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Metric {
    /// Echoes complete in the window, per second.
    AchievedRate,
    /// Payload bits that came back in the window, per second.
    Throughput,
    /// Median response time.
    ResponseP50,
    /// 90th percentile of the response time.
    ResponseP90,
    /// 99th percentile of the response time.
    ResponseP99,
    /// Median service time.
    ServiceP50,
    /// 99th percentile of the service time.
    ServiceP99,
    /// Messages that were due and did not come back as they were sent.
    Failures,
    /// The server's CPU time per message.
    ServerCpu,
}

/// The value of a figure in one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reading {
    /// In the unit of the figure.
    Value(f64),
    /// A number of messages out of all due messages.
    Share {
        /// The messages counted.
        count: u64,
        /// All.
        of: u64,
    },
}

/// The logarithm of zero and of other values without a logarithm.
const NOTHING: f64 = f64::MIN_POSITIVE;

impl Metric {
    /// The figures to compare under `plan`, in the order of a report. In a closed loop, the service
    /// time is the response time.
    pub fn of_plan(plan: &Plan) -> Vec<Self> {
        let latency = match (plan.workload, plan.is_open_loop()) {
            (Workload::Stream { .. }, _) => &[][..],
            (_, false) => &[Self::ResponseP50, Self::ResponseP90, Self::ResponseP99],
            (_, true) => &[
                Self::ResponseP50,
                Self::ResponseP90,
                Self::ResponseP99,
                Self::ServiceP50,
                Self::ServiceP99,
            ],
        };
        let rate = match plan.direction() {
            None => Self::AchievedRate,
            Some(Direction::Echo | Direction::Up | Direction::Down) => Self::Throughput,
        };
        [&[rate], latency, &[Self::Failures, Self::ServerCpu]].concat()
    }

    /// The key of the figure.
    pub fn name(self) -> &'static str {
        match self {
            Self::AchievedRate => "achieved_rate",
            Self::Throughput => "throughput",
            Self::ResponseP50 => "response_p50",
            Self::ResponseP90 => "response_p90",
            Self::ResponseP99 => "response_p99",
            Self::ServiceP50 => "service_p50",
            Self::ServiceP99 => "service_p99",
            Self::Failures => "failures",
            Self::ServerCpu => "server_cpu_per_message",
        }
    }

    /// The name of the figure, as the subject of a sentence.
    pub fn label(self) -> &'static str {
        match self {
            Self::AchievedRate => "The achieved rate",
            Self::Throughput => "The throughput",
            Self::ResponseP50 => "The median response time",
            Self::ResponseP90 => "The p90 of the response time",
            Self::ResponseP99 => "The p99 of the response time",
            Self::ServiceP50 => "The median service time",
            Self::ServiceP99 => "The p99 of the service time",
            Self::Failures => "The share of failed messages",
            Self::ServerCpu => "The server's processor time per message",
        }
    }

    /// The unit of the figure.
    pub fn unit(self) -> Unit {
        match self {
            Self::AchievedRate => Unit::PerSecond,
            Self::Throughput => Unit::BitsPerSecond,
            Self::Failures => Unit::Ratio,
            Self::ResponseP50
            | Self::ResponseP90
            | Self::ResponseP99
            | Self::ServiceP50
            | Self::ServiceP99
            | Self::ServerCpu => Unit::Ns,
        }
    }

    /// Whether more or less is better.
    pub fn better(self) -> Better {
        match self.unit() {
            Unit::PerSecond | Unit::BitsPerSecond => Better::Higher,
            Unit::Ns | Unit::Ratio => Better::Lower,
        }
    }

    /// The value in a run; `None` if it is unknown.
    pub fn of(self, result: &RunResult) -> Option<Reading> {
        let latency = &result.latency_ns;
        let quantile = |latency: &Option<Latency>, quantile| {
            let value = latency.as_ref()?.quantile(quantile)?;
            Some(Reading::Value(value as f64))
        };
        match self {
            Self::AchievedRate => Some(Reading::Value(result.rate.achieved)),
            Self::Throughput => Some(Reading::Value(throughput(result))),
            Self::ResponseP50 => quantile(&latency.response, 0.5),
            Self::ResponseP90 => quantile(&latency.response, 0.9),
            Self::ResponseP99 => quantile(&latency.response, 0.99),
            Self::ServiceP50 => quantile(&latency.service, 0.5),
            Self::ServiceP99 => quantile(&latency.service, 0.99),
            Self::Failures => {
                let messages = &result.messages;
                Some(Reading::Share {
                    count: messages.failed(),
                    of: messages.sent + messages.unsent,
                })
            }
            Self::ServerCpu => {
                let server = result.server.as_ref()?;
                server.cpu_ns_per_message.map(Reading::Value)
            }
        }
    }

    /// The value in one of several runs.
    pub fn of_repeat(self, run: &RepeatRun) -> Option<Reading> {
        let value = |value: Option<u64>| value.map(|value| Reading::Value(value as f64));
        match self {
            Self::AchievedRate => Some(Reading::Value(run.achieved)),
            Self::Throughput => Some(Reading::Value(run.received_bits_per_s)),
            Self::ResponseP50 => value(run.response_p50_ns),
            Self::ResponseP90 => value(run.response_p90_ns),
            Self::ResponseP99 => value(run.response_p99_ns),
            Self::ServiceP50 => value(run.service_p50_ns),
            Self::ServiceP99 => value(run.service_p99_ns),
            Self::Failures => run
                .failed
                .zip(run.due)
                .map(|(count, of)| Reading::Share { count, of }),
            Self::ServerCpu => run.server_cpu_ns_per_message.map(Reading::Value),
        }
    }
}

fn throughput(result: &RunResult) -> f64 {
    result.throughput.received_bits_per_s
}

impl Reading {
    /// In the unit of the figure.
    pub fn value(self) -> f64 {
        match self {
            Self::Value(value) => value,
            Self::Share { of: 0, .. } => 0.0,
            Self::Share { count, of } => count as f64 / of as f64,
        }
    }

    /// Whether it is a share, and nothing was counted.
    pub fn is_nothing(self) -> bool {
        matches!(self, Self::Share { count: 0, .. })
    }

    /// The logarithm of `new` over `base`.
    ///
    /// A share of zero has no logarithm, so a half is added to the count (Anscombe, "On Estimating
    /// Binomial Response Relations", Biometrika 43, 1956). If nothing was counted on either side,
    /// the sides are equal, whatever the totals.
    pub fn log_ratio(base: Self, new: Self) -> f64 {
        if base.is_nothing() && new.is_nothing() {
            0.0
        } else {
            new.log() - base.log()
        }
    }

    /// The logarithm; of a share, with the added half.
    pub fn log(self) -> f64 {
        match self {
            Self::Value(value) => value.max(NOTHING).ln(),
            Self::Share { count, of } => ((count as f64 + 0.5) / (of as f64 + 1.0)).ln(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_nothing_are_alike_and_have_a_ratio_to_others() {
        let share = |count, of| Reading::Share { count, of };
        assert!(Reading::log_ratio(share(0, 10), share(0, 1000)).abs() < 1e-12);
        let some = Reading::log_ratio(share(0, 999), share(10, 999));
        assert!((some - 21_f64.ln()).abs() < 1e-12);
        assert_eq!(share(0, 0).value(), 0.0);
    }

    #[test]
    fn what_stopped_is_infinitely_less() {
        let ratio = Reading::log_ratio(Reading::Value(100.0), Reading::Value(0.0));
        assert!(ratio.is_finite() && ratio.exp() < 1e-300);
        let none = Reading::log_ratio(Reading::Value(0.0), Reading::Value(0.0));
        assert!(none.abs() < 1e-12);
    }
}
