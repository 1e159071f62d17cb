//! A plan step by step: what is not given has its default, and what contradicts itself is an error.

use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use echomark::net::endpoint::Endpoint;

use super::sizes::{MIN_DATAGRAM, Sizes};
use super::{
    Direction, Load, MAX_DATAGRAM, MAX_IN_FLIGHT, Plan, Spacing, Target, Workload, defaults,
};
use crate::profile::{Profile, ProfileError};

/// Builds a [`Plan`]. Without a target it measures an echod in this process, without a rate it is a
/// closed loop. Defaults follow from what is given: the number of connections from the workload, the
/// timeout from the transport. Fields that are not here can be set on the built plan.
///
/// ```
/// use std::time::Duration;
///
/// use loadgen::observer::Unobserved;
/// use loadgen::{Control, Plan};
///
/// let plan = Plan::builder()
///     .connections(2)
///     .rate("1k".parse()?)
///     .warmup(Duration::ZERO)
///     .duration(Duration::from_millis(100))
///     .build()?;
/// let result = loadgen::run(&plan, &Control::default(), &mut Unobserved)?;
/// assert_eq!(result.messages.sent, 100);
/// assert_eq!(result.messages.corrupt, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct PlanBuilder {
    targets: Vec<Endpoint>,
    workload: Workload,
    connections: Option<usize>,
    threads: usize,
    rate: Option<Profile>,
    arrivals: Spacing,
    pipeline: Option<usize>,
    size: Option<Sizes>,
    duration: Option<Duration>,
    requests: Option<u64>,
    warmup: Option<Duration>,
    timeout: Option<Duration>,
    seed: u64,
}

impl Default for PlanBuilder {
    fn default() -> Self {
        Self {
            targets: Vec::new(),
            workload: Workload::Request,
            connections: None,
            threads: 1,
            rate: None,
            arrivals: Spacing::Constant,
            pipeline: None,
            size: None,
            duration: None,
            requests: None,
            warmup: None,
            timeout: None,
            seed: 0,
        }
    }
}

impl Plan {
    /// A builder of a plan.
    pub fn builder() -> PlanBuilder {
        PlanBuilder::default()
    }
}

impl PlanBuilder {
    /// Adds a server to measure. Connections are spread over all of them.
    pub fn target(mut self, target: Endpoint) -> Self {
        self.targets.push(target);
        self
    }

    /// What the connections do.
    pub fn workload(mut self, workload: Workload) -> Self {
        self.workload = workload;
        self
    }

    /// The number of connections in total: at least one for each thread and for each target.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = Some(connections);
        self
    }

    /// The number of measuring threads.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Makes it an open loop, in which a schedule of this rate triggers the messages.
    pub fn rate(mut self, rate: Profile) -> Self {
        self.rate = Some(rate);
        self
    }

    /// The distances between the messages of an open loop.
    pub fn arrivals(mut self, arrivals: Spacing) -> Self {
        self.arrivals = arrivals;
        self
    }

    /// The messages in flight on each connection: as many as this in a closed loop, at most as many in
    /// an open one, which has no bound without it.
    pub fn pipeline(mut self, pipeline: usize) -> Self {
        self.pipeline = Some(pipeline);
        self
    }

    /// The size of the messages.
    pub fn size(mut self, size: Sizes) -> Self {
        self.size = Some(size);
        self
    }

    /// The length of the window.
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = Some(duration);
        self
    }

    /// Ends the window after this number of messages. Without a duration too, there is no warm-up.
    pub fn requests(mut self, requests: u64) -> Self {
        self.requests = Some(requests);
        self
    }

    /// The length of the warm-up, whose messages do not count.
    pub fn warmup(mut self, warmup: Duration) -> Self {
        self.warmup = Some(warmup);
        self
    }

    /// The timeout of a connect and of an echo.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The seed of payloads, sizes and Poisson arrivals.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The plan.
    ///
    /// # Errors
    /// [`PlanError`] is the first contradiction.
    pub fn build(self) -> Result<Plan, PlanError> {
        let is_datagram = self.transport_is_datagrams()?;
        self.check_workload(is_datagram)?;
        let connections = match self.connections {
            Some(connections) => above_zero(connections, "connections")?,
            None => defaults::connections(self.workload),
        };
        let threads = above_zero(self.threads, "threads")?;
        let needed = threads.get().max(self.targets.len());
        if connections.get() < needed {
            return Err(PlanError::Connections {
                connections: connections.get(),
                needed,
            });
        }
        let requests = self
            .requests
            .map(|requests| NonZeroU64::new(requests).ok_or(PlanError::Zero { what: "requests" }));
        let requests = requests.transpose()?;
        let duration = self.duration_of_window()?;
        let size = self.size_of_messages(is_datagram)?;
        let load = self.load(connections, duration)?;
        let discards = Workload::Stream {
            direction: Direction::Up,
        };
        Ok(Plan {
            target: if self.targets.is_empty() {
                Target::Embedded {
                    embedded_workers: NonZeroUsize::MIN,
                }
            } else {
                Target::Servers {
                    targets: self.targets,
                }
            },
            workload: self.workload,
            connections,
            threads,
            load,
            size,
            duration,
            warmup: self.warmup.unwrap_or(match requests {
                Some(_) => Duration::ZERO,
                None => defaults::WARMUP,
            }),
            requests,
            timeout: self
                .timeout
                .unwrap_or_else(|| defaults::timeout(is_datagram)),
            seed: self.seed,
            // A discard server returns nothing.
            verify: self.workload != discards,
            interval: defaults::interval(duration),
            ..Plan::default()
        })
    }

    /// Whether the targets are over UDP: all, or none.
    fn transport_is_datagrams(&self) -> Result<bool, PlanError> {
        let is_datagram = |target: &Endpoint| matches!(target, Endpoint::Udp(_));
        let any = self.targets.iter().any(is_datagram);
        if any && !self.targets.iter().all(is_datagram) {
            return Err(PlanError::Transports);
        }
        Ok(any)
    }

    fn check_workload(&self, is_datagram: bool) -> Result<(), PlanError> {
        let refuse = |reason| Err(PlanError::Workload { reason });
        match self.workload {
            Workload::Churn { close: _ } if is_datagram => {
                refuse("UDP has no connections to make and close")
            }
            Workload::Churn { close: _ } if self.pipeline.is_some() => {
                refuse("each message of churn has a connection of its own, and no pipeline")
            }
            Workload::Stream {
                direction: Direction::Up | Direction::Down,
            } if is_datagram => refuse("over UDP a receiver reports nothing"),
            Workload::Stream {
                direction: Direction::Down,
            } if self.rate.is_some() || self.requests.is_some() || self.pipeline.is_some() => {
                refuse("the server decides how much it sends: no rate, no requests, no pipeline")
            }
            _ => Ok(()),
        }
    }

    fn duration_of_window(&self) -> Result<Option<Duration>, PlanError> {
        match self.duration {
            Some(Duration::ZERO) => Err(PlanError::Zero { what: "duration" }),
            Some(duration) => Ok(Some(duration)),
            None if self.requests.is_some() => Ok(None),
            None => {
                let length = self.rate.as_ref().and_then(Profile::length);
                Ok(length.or(Some(defaults::WINDOW)))
            }
        }
    }

    fn size_of_messages(&self, is_datagram: bool) -> Result<Sizes, PlanError> {
        let Some(size) = &self.size else {
            return Ok(defaults::size(self.workload, is_datagram));
        };
        let is_datagrams_size = size.least() >= MIN_DATAGRAM && size.most() <= MAX_DATAGRAM;
        if size.least() == 0 {
            return Err(PlanError::Zero { what: "size" });
        }
        if is_datagram && !is_datagrams_size {
            return Err(PlanError::DatagramSize { size: size.clone() });
        }
        Ok(size.clone())
    }

    fn load(
        &self,
        connections: NonZeroUsize,
        duration: Option<Duration>,
    ) -> Result<Load, PlanError> {
        let pipeline = self
            .pipeline
            .map(|pipeline| above_zero(pipeline, "pipeline"));
        let pipeline = pipeline.transpose()?;
        let rate = match (&self.rate, self.workload) {
            (Some(rate), _) => Some(rate.clone()),
            (None, Workload::Idle) => {
                Some(Profile::constant(defaults::PROBE_RATE).map_err(PlanError::Rate)?)
            }
            (None, _) => None,
        };
        if let Some(rate) = rate {
            rate.resolve(Duration::ZERO, duration)
                .map_err(PlanError::Rate)?;
            return Ok(Load::Open {
                rate,
                arrivals: self.arrivals,
                pipeline,
            });
        }
        let pipeline = pipeline.unwrap_or_else(|| defaults::pipeline(self.workload));
        let in_flight = connections.get().saturating_mul(pipeline.get());
        if in_flight > MAX_IN_FLIGHT {
            return Err(PlanError::InFlight { in_flight });
        }
        Ok(Load::Closed { pipeline })
    }
}

fn above_zero(number: usize, what: &'static str) -> Result<NonZeroUsize, PlanError> {
    NonZeroUsize::new(number).ok_or(PlanError::Zero { what })
}

/// Why options do not make a plan.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PlanError {
    /// An option that must be above 0 is 0.
    Zero {
        /// The method of the builder.
        what: &'static str,
    },
    /// Some targets are over UDP and others are not.
    Transports,
    /// There are fewer connections than threads or targets.
    Connections {
        /// Their number.
        connections: usize,
        /// The number of threads or of targets, the greater.
        needed: usize,
    },
    /// The workload can't be measured with these options.
    Workload {
        /// Why not.
        reason: &'static str,
    },
    /// Some messages do not fit into a datagram, or lack room for its sequence number.
    DatagramSize {
        /// The size.
        size: Sizes,
    },
    /// More than [`MAX_IN_FLIGHT`] messages would be in flight.
    InFlight {
        /// Their number.
        in_flight: usize,
    },
    /// The rate can't be laid out over the window.
    Rate(ProfileError),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero { what } => write!(f, "{what} must be above 0"),
            Self::Transports => f.write_str("a run is either over UDP or over streams"),
            Self::Connections {
                connections,
                needed,
            } => write!(
                f,
                "{connections} connections are too few; each thread and each target needs one, \
                 which is {needed}"
            ),
            Self::Workload { reason } => f.write_str(reason),
            Self::DatagramSize { size } => write!(
                f,
                "a datagram has {MIN_DATAGRAM} to {MAX_DATAGRAM} bytes, its sequence number \
                 included; {size} is not within"
            ),
            Self::InFlight { in_flight } => write!(
                f,
                "{in_flight} messages in flight are more than {MAX_IN_FLIGHT}"
            ),
            Self::Rate(error) => write!(f, "the rate: {error}"),
        }
    }
}

impl std::error::Error for PlanError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Rate(source) => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Close;
    use super::*;

    fn to(target: &str) -> PlanBuilder {
        Plan::builder().target(target.parse().expect("an endpoint"))
    }

    const CHURN: Workload = Workload::Churn {
        close: Close::Orderly,
    };

    fn stream(direction: Direction) -> Workload {
        Workload::Stream { direction }
    }

    #[test]
    fn nothing_given_is_the_default_plan() {
        assert_eq!(Plan::builder().build(), Ok(Plan::default()));
    }

    #[test]
    fn defaults_follow_from_what_is_given() {
        let plan = to("udp://127.0.0.1:7").workload(stream(Direction::Echo));
        let plan = plan.build().expect("a plan");
        assert_eq!(plan.connections.get(), 1);
        assert_eq!(plan.size, Sizes::Fixed(1400));
        assert_eq!(plan.timeout, Duration::from_secs(1));
        let plan = to("tcp://127.0.0.1:9").workload(stream(Direction::Up));
        let plan = plan.build().expect("a plan");
        assert!(!plan.verify, "a discard server returns nothing");
        let plan = Plan::builder().workload(Workload::Idle).build();
        let plan = plan.expect("a plan");
        assert_eq!(plan.target_rate(), Some(defaults::PROBE_RATE));
        let plan = Plan::builder().requests(10).build().expect("a plan");
        assert_eq!((plan.duration, plan.warmup), (None, Duration::ZERO));
        let rate = "1k@3s,2k@4s".parse().expect("a profile");
        let plan = Plan::builder().rate(rate).build().expect("a plan");
        assert_eq!(plan.duration, Some(Duration::from_secs(7)));
    }

    #[test]
    fn contradictions_are_errors() {
        let ramp: Profile = "1k..2k".parse().expect("a profile");
        let tiny = Sizes::Fixed(MIN_DATAGRAM - 1);
        let huge = Sizes::Fixed(MAX_DATAGRAM + 1);
        for (builder, expected) in [
            (
                Plan::builder().connections(0),
                "connections must be above 0",
            ),
            (Plan::builder().threads(0), "threads must be above 0"),
            (Plan::builder().requests(0), "requests must be above 0"),
            (Plan::builder().pipeline(0), "pipeline must be above 0"),
            (
                Plan::builder().size(Sizes::Fixed(0)),
                "size must be above 0",
            ),
            (
                Plan::builder().duration(Duration::ZERO),
                "duration must be above 0",
            ),
            (
                Plan::builder().connections(3).threads(4),
                "3 connections are too few; each thread",
            ),
            (
                to("tcp://127.0.0.1:7").connections(1).target(endpoint()),
                "which is 2",
            ),
            (
                to("udp://127.0.0.1:7").target(endpoint()),
                "either over UDP or over streams",
            ),
            (
                to("udp://127.0.0.1:7").workload(CHURN),
                "UDP has no connections",
            ),
            (
                to("udp://127.0.0.1:7").workload(stream(Direction::Up)),
                "reports nothing",
            ),
            (to("udp://127.0.0.1:7").size(tiny), "7B is not within"),
            (to("udp://127.0.0.1:7").size(huge), "65508B is not within"),
            (
                Plan::builder().workload(CHURN).pipeline(2),
                "a connection of its own",
            ),
            (
                Plan::builder()
                    .workload(stream(Direction::Down))
                    .requests(2),
                "the server decides",
            ),
            (
                Plan::builder().connections(1 << 11).pipeline(1 << 10),
                "2097152 messages in flight",
            ),
            (
                Plan::builder().rate(ramp).requests(5),
                "the rate: pieces without lengths",
            ),
        ] {
            let error = builder.build().expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    fn endpoint() -> Endpoint {
        "tcp://127.0.0.1:8".parse().expect("an endpoint")
    }
}
