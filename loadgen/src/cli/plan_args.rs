//! The options of a [`Plan`].

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use clap::{Args, ValueEnum};
use echomark::net::affinity;
use echomark::net::cidr::Cidr;
use echomark::net::endpoint::Endpoint;
use echomark::net::units;
use loadgen::Plan;
use loadgen::admin::AdminUrl;
use loadgen::plan::sizes::Sizes;
use loadgen::plan::{Direction, ExpectedShare, MAX_IN_FLIGHT};
use loadgen::profile::Profile;
use loadgen::search::Axis;

mod resolve;

use super::parse::{self, at_least_one};
use super::target_args::TargetArgs;
use super::tls_args::TlsArgs;

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

    /// End the window after this number of messages
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

    /// What the measuring threads ask of the scheduler, where the system allows it
    #[arg(long, value_enum, default_value_t = PriorityArg::Auto, help_heading = "Load")]
    priority: PriorityArg,

    /// Messages in flight on each connection [default: 1 in a closed loop, 4 in a stream; no bound in
    /// an open loop, where messages beyond it queue with their intended time]
    #[arg(short, long, value_name = "N", value_parser = parse::number, help_heading = "Load")]
    pipeline: Option<NonZeroUsize>,

    /// Number of runs, each with fresh connections; the report shows how they differ
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

    /// Number of background streams beside the workload, from a separate thread
    #[arg(long, value_name = "N", value_parser = parse::number, help_heading = "Workload")]
    background: Option<NonZeroUsize>,

    /// Direction of the background streams
    #[arg(long, value_enum, value_name = "WAY", default_value_t = DirectionArg::Echo,
          requires = "background", help_heading = "Workload")]
    background_direction: DirectionArg,

    /// Targets of the background streams [default: the targets]
    #[arg(long, value_name = "TARGET", value_parser = parse::endpoint, requires = "background",
          help_heading = "Workload")]
    background_target: Vec<Endpoint>,

    /// Do not compare what comes back
    #[arg(long, help_heading = "Workload")]
    no_verify: bool,

    /// Spread the connects over this time
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = units::parse_duration,
          help_heading = "Connections")]
    ramp: Duration,

    /// Timeout of a connect or an echo [default: 5s, 1s over UDP]
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

    /// Begin each connection with a PROXY header, as a load balancer does
    #[arg(long, value_enum, value_name = "VERSION", help_heading = "Connections")]
    proxy_protocol: Option<ProxyArg>,

    /// The clients that PROXY headers speak for, in turn: 192.0.2.0/24,2001:db8::7 [default: the
    /// connection's own address]
    #[arg(
        long,
        value_name = "CIDR",
        value_delimiter = ',',
        requires = "proxy_protocol",
        help_heading = "Connections"
    )]
    proxy_source: Vec<Cidr>,

    /// Read a line from the server on each connection before the first message, such as that of
    /// echod --whoami, and report connections, messages and latency of each server by it
    #[arg(long, help_heading = "Connections")]
    greeting: bool,

    /// Test whether the servers that greet have these shares of the connections, blue=70%,green=30%;
    /// exit code 99 if not
    #[arg(
        long,
        value_name = "ID=SHARE",
        value_delimiter = ',',
        requires = "greeting",
        help_heading = "Connections"
    )]
    expect_share: Vec<ExpectedShare>,

    #[command(flatten)]
    tls: TlsArgs,

    /// Receive buffer of each socket [default: the kernel's choice]
    #[arg(long, value_name = "SIZE", value_parser = parse::buffer, help_heading = "Connections")]
    recv_buffer: Option<usize>,

    /// Send buffer of each socket [default: the kernel's choice]
    #[arg(long, value_name = "SIZE", value_parser = parse::buffer, help_heading = "Connections")]
    send_buffer: Option<usize>,

    /// Congestion control of this side, for example cubic or bbr [default: the kernel's choice]
    #[arg(long, value_name = "NAME", help_heading = "Connections")]
    congestion: Option<String>,

    /// Let TCP collect small writes before sending (Nagle's algorithm)
    #[arg(long, help_heading = "Connections")]
    no_nodelay: bool,

    /// Admin port of the measured echod, http://HOST:PORT or unix:PATH: report its counters beside
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
enum ProxyArg {
    /// A line of text
    V1,
    /// Binary
    V2,
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

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PriorityArg {
    /// Niceness -10, if a processor is left for the server
    Auto,
    /// No more than other programs
    Normal,
    /// Niceness -20
    High,
    /// SCHED_FIFO, if two processors are left for the server and the kernel; else as high
    Realtime,
}

/// The parts of the trials' plan that a search decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial {
    /// What the load is a number of.
    pub(super) over: Axis,
    /// The first load.
    pub(super) start: f64,
    pub(super) window: Duration,
    /// The default warm-up.
    pub(super) warmup: Duration,
    /// The default timeout.
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
                // As many as fit once there are enough connections.
                let first = args.connections.unwrap_or(start);
                args.threads = self.load.threads.map(|threads| threads.min(first));
            }
        }
        let mut plan = args.to_plan(&self.targets, |name| {
            // An embedded server gets the searched load too, not its default rate.
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
    /// The first option given that is for targets with TLS.
    pub(crate) fn tls_option(&self) -> Option<&'static str> {
        self.tls.given()
    }

    /// The same for a target without TLS, beside one that has it.
    #[must_use]
    pub(crate) fn without_tls(&self) -> Self {
        Self {
            tls: TlsArgs::default(),
            ..self.clone()
        }
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
