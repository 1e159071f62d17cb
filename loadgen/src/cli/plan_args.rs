//! The options that make a [`Plan`], and how they go together.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use clap::{Args, ValueEnum};
use echomark::net::affinity;
use echomark::net::cidr::Cidr;
use echomark::net::endpoint::Endpoint;
use echomark::net::units;
use loadgen::Plan;
use loadgen::admin::AdminUrl;
use loadgen::engine::payload::SEQUENCE_BYTES;
use loadgen::plan::sizes::Sizes;
use loadgen::plan::{
    Background, Close, Direction, Load, Pacing, SocketOptions, Spacing, Target, Workload,
};
use loadgen::profile::Profile;
use loadgen::search::Axis;

use super::parse::{self, at_least_one};
use super::target_args::{TargetArgs, is_datagram};

/// With no target and no load asked for, the embedded server gets this: far below what one core can
/// echo, so that an idle two-core machine measures itself without being its own bottleneck.
const SELF_TEST_RATE: f64 = 5_000.0;
/// How often a connection that is held is tried, over all of them.
const PROBE_RATE: f64 = 100.0;
/// The window if neither its length nor its number of messages is given.
const DEFAULT_WINDOW: Duration = Duration::from_secs(10);
/// Messages of a run that may be out at a time in a closed loop.
pub(super) const MAX_IN_FLIGHT: usize = 1 << 20;
/// The longest that an answer may take, on a stream and over UDP, where none may come.
const STREAM_TIMEOUT: Duration = Duration::from_secs(5);
const DATAGRAM_TIMEOUT: Duration = Duration::from_secs(1);
/// What fits into a UDP datagram over IPv4 (RFC 768).
const LARGEST_DATAGRAM: u32 = 65_507;
/// Intervals are at least this part of the window unless told otherwise, so that the result of a day
/// is no larger than that of an hour.
const MOST_INTERVALS: u32 = 3600;

/// What is measured, and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    targets: TargetArgs,

    #[command(flatten)]
    load: LoadArgs,
}

/// How servers are measured.
#[derive(Args, Clone, Debug)]
pub(crate) struct LoadArgs {
    /// Connections, in total [default: 16; 1 stream; 1000 that are held]
    #[arg(short, long, value_name = "N", value_parser = parse::number, help_heading = "Load")]
    connections: Option<NonZeroUsize>,

    /// Measuring threads [default: a core each, half of them if the target is on this machine]
    #[arg(short, long, value_name = "N", value_parser = parse::number, help_heading = "Load")]
    threads: Option<NonZeroUsize>,

    /// Length of the measured window [default: 10s, that of a rate with lengths, or until -n
    /// messages are through]
    #[arg(short, long, value_name = "DURATION", value_parser = parse::positive_duration,
          help_heading = "Load")]
    duration: Option<Duration>,

    /// Time before the window in which messages flow and are not counted [default: 1s, 0 with -n]
    #[arg(short, long, value_name = "DURATION", value_parser = units::parse_duration,
          help_heading = "Load")]
    warmup: Option<Duration>,

    /// End the window after so many messages
    #[arg(short = 'n', long, value_name = "N", value_parser = parse::positive_count,
          help_heading = "Load")]
    requests: Option<NonZeroU64>,

    /// Messages per second, in total; makes the run open-loop: 5k; a ramp over the window,
    /// 1k..10k; equal steps in it, 1k,2k,5k; or pieces with lengths, 1k@10s,0@5s,2k..5k@20s, the
    /// last of which goes on [default: a closed loop; 5000 if neither a target nor any of -c, -n,
    /// -p is given]
    #[arg(short = 'R', long, value_name = "RATE", help_heading = "Load")]
    rate: Option<Profile>,

    /// How an open loop spaces messages
    #[arg(long, value_enum, default_value_t = ArrivalsArg::Constant, help_heading = "Load")]
    arrivals: ArrivalsArg,

    /// How threads wait for an open loop's next message
    #[arg(long, value_enum, default_value_t = PacingArg::Hybrid, help_heading = "Load")]
    pacing: PacingArg,

    /// Messages in flight on each connection [default: 1 in a closed loop, 4 in a stream; no bound in
    /// an open loop, where messages beyond it queue with their intended time]
    #[arg(short, long, value_name = "N", value_parser = parse::number, help_heading = "Load")]
    pipeline: Option<NonZeroUsize>,

    /// Make the run so many times, each with fresh connections, and report how the runs differ
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse::number,
          help_heading = "Load")]
    repeat: NonZeroUsize,

    /// What connections do
    #[arg(long, value_enum, default_value_t = WorkloadArg::Request, help_heading = "Workload")]
    workload: WorkloadArg,

    /// Bytes of a message: 64; from a range, uniform:64-1500; or some with their weights,
    /// mix:64=90,1500=10 [default: 64; blocks of 64KiB in a stream]
    #[arg(short, long, value_name = "SIZE", help_heading = "Workload")]
    size: Option<Sizes>,

    /// Which way a stream flows [default: echo]
    #[arg(long, value_enum, value_name = "WAY", help_heading = "Workload")]
    direction: Option<DirectionArg>,

    /// How a workload that closes connections does it [default: orderly]
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Workload")]
    close: Option<CloseArg>,

    /// Let so many streams flow beside the workload, from a thread of their own
    #[arg(long, value_name = "N", value_parser = parse::number, help_heading = "Workload")]
    background: Option<NonZeroUsize>,

    /// Which way they flow
    #[arg(long, value_enum, value_name = "WAY", default_value_t = DirectionArg::Echo,
          requires = "background", help_heading = "Workload")]
    background_direction: DirectionArg,

    /// Where they flow to [default: the targets]
    #[arg(long, value_name = "TARGET", value_parser = parse::endpoint, requires = "background",
          help_heading = "Workload")]
    background_target: Vec<Endpoint>,

    /// Do not compare what comes back
    #[arg(long, help_heading = "Workload")]
    no_verify: bool,

    /// Spread the connects over so long
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = units::parse_duration,
          help_heading = "Connections")]
    ramp: Duration,

    /// The longest that a connect or an echo may take [default: 5s, 1s over UDP]
    #[arg(long, value_name = "DURATION", value_parser = parse::positive_duration,
          help_heading = "Connections")]
    timeout: Option<Duration>,

    /// Connect from these addresses in turn, each with its own ports: 127.1.0.0/24,10.0.0.7
    #[arg(
        long,
        value_name = "CIDR",
        value_delimiter = ',',
        help_heading = "Connections"
    )]
    source: Vec<Cidr>,

    /// Receive buffer of each socket [default: the kernel's choice]
    #[arg(long, value_name = "SIZE", value_parser = parse::buffer, help_heading = "Connections")]
    recv_buffer: Option<usize>,

    /// Send buffer of each socket [default: the kernel's choice]
    #[arg(long, value_name = "SIZE", value_parser = parse::buffer, help_heading = "Connections")]
    send_buffer: Option<usize>,

    /// Congestion control of this side, for example cubic or bbr [default: the kernel's choice]
    #[arg(long, value_name = "NAME", help_heading = "Connections")]
    congestion: Option<String>,

    /// Let TCP wait for more before it sends little (Nagle's algorithm)
    #[arg(long, help_heading = "Connections")]
    no_nodelay: bool,

    /// Read what the server counts at the admin port of its echod, http://HOST:PORT, and put it beside
    /// the client's figures
    #[arg(long, value_name = "URL", help_heading = "Connections")]
    server_admin: Option<AdminUrl>,

    /// Decides payloads, sizes and Poisson arrivals [default: from the clock; printed]
    #[arg(long, value_name = "N", help_heading = "Load")]
    seed: Option<u64>,

    /// Length of the intervals of the time series [default: 1s, or a 3600th of the window]
    #[arg(long, value_name = "DURATION", value_parser = parse::interval, help_heading = "Load")]
    interval: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum WorkloadArg {
    /// Messages go out and come back
    Request,
    /// Each message has a connection of its own: connect, exchange, close
    Churn,
    /// Bytes flow as fast as they may
    Stream,
    /// Connections are held, and tried now and then
    Idle,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DirectionArg {
    /// To an echo server and back
    Echo,
    /// To a discard server
    Up,
    /// From a chargen server
    Down,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CloseArg {
    /// Half-close, wait for the server's, close
    Orderly,
    /// With a reset, which leaves nothing in TIME_WAIT
    Reset,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ArrivalsArg {
    /// At even distances
    Constant,
    /// At random, as a Poisson process
    Poisson,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PacingArg {
    /// Sleep until it is due; late where the host is slow to wake up
    Sleep,
    /// Sleep until shortly before and poll the rest
    Hybrid,
    /// Poll all the time; takes a processor for each thread
    Spin,
}

/// What a search decides about its trials.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial {
    /// What the load is a number of.
    pub(super) over: Axis,
    /// The first load.
    pub(super) start: f64,
    pub(super) window: Duration,
    /// Where the user does not say otherwise.
    pub(super) warmup: Duration,
    /// See above.
    pub(super) timeout: Duration,
}

impl PlanArgs {
    /// The plan of the first trial of a search.
    ///
    /// # Errors
    /// One line for the user: options that don't go together.
    pub(super) fn to_trial_plan(
        &self,
        is_given: impl Fn(&str) -> bool,
        trial: &Trial,
    ) -> Result<Plan, String> {
        let mut args = LoadArgs {
            duration: Some(trial.window),
            warmup: self.load.warmup.or(Some(trial.warmup)),
            timeout: self.load.timeout.or(Some(trial.timeout)),
            ..self.load.clone()
        };
        match trial.over {
            Axis::Rate => args.rate = Some(constant(trial.start)?),
            Axis::Connections => {
                if self
                    .load
                    .rate
                    .as_ref()
                    .is_some_and(|rate| rate.constant_rate().is_none())
                {
                    return Err("a search over connections needs a constant rate (-R)".to_owned());
                }
                let start = at_least_one(trial.start as usize);
                args.connections = Some(start.max(at_least_one(self.targets.len())));
                // As many as there may be once there are connections enough.
                let first = args.connections.unwrap_or(start);
                args.threads = self.load.threads.map(|threads| threads.min(first));
            }
        }
        let mut plan = args.to_plan(&self.targets, |name| {
            // An embedded server, too, is to get the load that is searched for and no other.
            name == "connections" || is_given(name)
        })?;
        if trial.over == Axis::Connections {
            plan.threads = self.load.to_threads(
                &self.targets,
                at_least_one(MAX_IN_FLIGHT),
                affinity::usable_cpus().get(),
            )?;
        }
        Ok(plan)
    }

    /// Resolves every option. `is_given` says whether an option was written by the user.
    ///
    /// # Errors
    /// One line for the user: options that don't go together.
    pub(crate) fn to_plan(&self, is_given: impl Fn(&str) -> bool) -> Result<Plan, String> {
        self.load.to_plan(&self.targets, is_given)
    }
}

impl LoadArgs {
    /// Resolves every option for these targets; see [`PlanArgs::to_plan`].
    ///
    /// # Errors
    /// One line for the user: options that don't go together.
    pub(crate) fn to_plan(
        &self,
        targets: &TargetArgs,
        is_given: impl Fn(&str) -> bool,
    ) -> Result<Plan, String> {
        targets.check()?;
        self.check_background_targets(targets)?;
        let workload = self.to_workload(targets)?;
        let connections = self.connections.unwrap_or_else(|| match workload {
            Workload::Request | Workload::Churn { .. } => at_least_one(16),
            Workload::Stream { .. } => NonZeroUsize::MIN,
            Workload::Idle => at_least_one(1000),
        });
        let is_self_test = targets.is_empty()
            && workload == Workload::Request
            && !["connections", "requests", "pipeline"]
                .into_iter()
                .any(&is_given);
        let rate = match (&self.rate, workload) {
            (None, Workload::Idle) => Some(constant(PROBE_RATE)?),
            (None, _) if is_self_test => Some(constant(SELF_TEST_RATE)?),
            (rate, _) => rate.clone(),
        };
        let duration = self.duration.or_else(|| match self.requests {
            Some(_) => None,
            None => rate
                .as_ref()
                .and_then(Profile::length)
                .or(Some(DEFAULT_WINDOW)),
        });
        let cpus = affinity::usable_cpus().get();
        let threads = self.to_threads(targets, connections, cpus)?;
        let load = self.to_load(rate, duration, workload)?;
        if let Load::Closed { pipeline } = load
            && connections.get().saturating_mul(pipeline.get()) > MAX_IN_FLIGHT
        {
            return Err(format!(
                "{connections} connections (-c) with {pipeline} messages in flight each (-p) are \
                 more than {MAX_IN_FLIGHT} messages; use fewer"
            ));
        }
        let is_up = matches!(
            workload,
            Workload::Stream {
                direction: Direction::Up
            }
        );
        Ok(Plan {
            target: if targets.is_empty() {
                Target::Embedded {
                    embedded_workers: at_least_one(cpus.saturating_sub(threads.get())),
                }
            } else {
                Target::Servers {
                    targets: targets.targets.clone(),
                }
            },
            workload,
            connections,
            threads,
            load,
            pacing: match self.pacing {
                PacingArg::Sleep => Pacing::Sleep,
                PacingArg::Hybrid => Pacing::Hybrid,
                PacingArg::Spin => Pacing::Spin,
            },
            size: self.to_size(targets, workload)?,
            duration,
            warmup: self.warmup.unwrap_or_else(|| match self.requests {
                Some(_) => Duration::ZERO,
                None => Duration::from_secs(1),
            }),
            requests: self.requests,
            ramp: self.ramp,
            timeout: self.timeout.unwrap_or_else(|| {
                if targets.is_datagram() {
                    DATAGRAM_TIMEOUT
                } else {
                    STREAM_TIMEOUT
                }
            }),
            seed: self.seed.unwrap_or_else(echomark::net::clock::monotonic_ns),
            // Nothing comes back from a discard server.
            verify: !self.no_verify && !is_up,
            interval: self.interval.unwrap_or_else(|| {
                let least = duration.unwrap_or_default() / MOST_INTERVALS;
                Duration::from_secs(1).max(least)
            }),
            sources: self.source.clone(),
            socket: SocketOptions {
                recv_buffer: self.recv_buffer,
                send_buffer: self.send_buffer,
                congestion: self.congestion.clone(),
                nodelay: !self.no_nodelay,
            },
            background: self.to_background(duration)?,
            repeat: self.repeat,
            server_admin: self.server_admin.clone(),
        })
    }

    /// Draws the seed, if there is none, so that every plan has the same.
    pub(super) fn fix_seed(&mut self) {
        self.seed
            .get_or_insert_with(echomark::net::clock::monotonic_ns);
    }

    fn check_background_targets(&self, targets: &TargetArgs) -> Result<(), String> {
        if self.background_target.iter().any(is_datagram)
            || (self.background.is_some()
                && self.background_target.is_empty()
                && targets.is_datagram())
        {
            return Err(
                "streams beside the workload (--background) go over TCP or Unix sockets; name a \
                 target for them with --background-target"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn to_workload(&self, targets: &TargetArgs) -> Result<Workload, String> {
        if self.direction.is_some() && self.workload != WorkloadArg::Stream {
            return Err("--direction is for --workload stream".to_owned());
        }
        if self.close.is_some() && self.workload != WorkloadArg::Churn {
            return Err("--close is for --workload churn".to_owned());
        }
        let workload = match self.workload {
            WorkloadArg::Request => Workload::Request,
            WorkloadArg::Churn => Workload::Churn {
                close: match self.close {
                    None | Some(CloseArg::Orderly) => Close::Orderly,
                    Some(CloseArg::Reset) => Close::Reset,
                },
            },
            WorkloadArg::Stream => Workload::Stream {
                direction: self.direction.unwrap_or(DirectionArg::Echo).into(),
            },
            WorkloadArg::Idle => Workload::Idle,
        };
        match workload {
            Workload::Churn { .. } if targets.is_datagram() => {
                Err("UDP has no connections to make and close; churn needs tcp:// or unix:".to_owned())
            }
            Workload::Churn { .. } if self.pipeline.is_some() => Err(
                "each message of churn has a connection of its own; -c says how many there are at \
                 a time, and -p has nothing to do"
                    .to_owned(),
            ),
            Workload::Stream {
                direction: Direction::Up | Direction::Down,
            } if targets.is_datagram() => Err(
                "over UDP nobody tells what arrived: only --direction echo can be measured".to_owned(),
            ),
            Workload::Stream {
                direction: Direction::Down,
            } if self.rate.is_some() || self.requests.is_some() || self.pipeline.is_some() => Err(
                "the server decides what comes from it: --direction down takes neither -R, -n nor -p"
                    .to_owned(),
            ),
            workload => Ok(workload),
        }
    }

    fn to_threads(
        &self,
        targets: &TargetArgs,
        connections: NonZeroUsize,
        cpus: usize,
    ) -> Result<NonZeroUsize, String> {
        if targets.len() > connections.get() {
            return Err(format!(
                "{} targets need at least as many connections (-c), not {connections}",
                targets.len()
            ));
        }
        let is_local = targets.is_empty() || targets.is_on_this_host();
        let own_cpus = if is_local { (cpus / 2).max(1) } else { cpus };
        match self.threads {
            Some(threads) if threads > connections => Err(format!(
                "{threads} threads (-t) need at least as many connections (-c), not {connections}"
            )),
            Some(threads) => Ok(threads),
            None => Ok(at_least_one(own_cpus).min(connections)),
        }
    }

    fn to_load(
        &self,
        rate: Option<Profile>,
        duration: Option<Duration>,
        workload: Workload,
    ) -> Result<Load, String> {
        let Some(rate) = rate else {
            if matches!(self.arrivals, ArrivalsArg::Poisson) {
                return Err("--arrivals poisson needs a rate (-R)".to_owned());
            }
            if !matches!(self.pacing, PacingArg::Hybrid) {
                return Err("--pacing needs a rate (-R)".to_owned());
            }
            let usual = match workload {
                Workload::Stream { .. } => 4,
                Workload::Request | Workload::Churn { .. } | Workload::Idle => 1,
            };
            return Ok(Load::Closed {
                pipeline: self.pipeline.unwrap_or_else(|| at_least_one(usual)),
            });
        };
        match rate.resolve(Duration::ZERO, duration) {
            Ok(_) => Ok(Load::Open {
                rate,
                arrivals: match self.arrivals {
                    ArrivalsArg::Constant => Spacing::Constant,
                    ArrivalsArg::Poisson => Spacing::Poisson,
                },
                pipeline: self.pipeline,
            }),
            Err(error) => Err(format!("the rate (-R) {rate}: {error}")),
        }
    }

    fn to_size(&self, targets: &TargetArgs, workload: Workload) -> Result<Sizes, String> {
        let size = self.size.clone().unwrap_or_else(|| match workload {
            // The largest that most networks carry whole.
            Workload::Stream { .. } if targets.is_datagram() => Sizes::Fixed(1400),
            Workload::Stream { .. } => Sizes::Fixed(64 << 10),
            Workload::Request | Workload::Churn { .. } | Workload::Idle => Sizes::Fixed(64),
        });
        let is_within = (SEQUENCE_BYTES as u32..=LARGEST_DATAGRAM).contains(&size.least())
            && size.most() <= LARGEST_DATAGRAM;
        if targets.is_datagram() && !is_within {
            return Err(format!(
                "a datagram has {SEQUENCE_BYTES} to {LARGEST_DATAGRAM} bytes, its sequence number \
                 included; -s {size} is not within"
            ));
        }
        Ok(size)
    }

    fn to_background(&self, duration: Option<Duration>) -> Result<Option<Background>, String> {
        let Some(streams) = self.background else {
            return Ok(None);
        };
        if duration.is_none() {
            return Err("streams beside the workload (--background) need a window (-d)".to_owned());
        }
        Ok(Some(Background {
            streams,
            direction: self.background_direction.into(),
            targets: self.background_target.clone(),
        }))
    }
}

impl From<DirectionArg> for Direction {
    fn from(direction: DirectionArg) -> Self {
        match direction {
            DirectionArg::Echo => Self::Echo,
            DirectionArg::Up => Self::Up,
            DirectionArg::Down => Self::Down,
        }
    }
}

fn constant(rate: f64) -> Result<Profile, String> {
    Profile::constant(rate).map_err(|error| format!("--rate: {error}"))
}

#[cfg(test)]
mod tests;
