//! The command line of `loadgen`. Only this file knows clap; what leaves it is a typed [`Plan`] and
//! where to put the result.

use std::net::ToSocketAddrs;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use echomark::net::affinity;
use echomark::net::endpoint::{Endpoint, HostPort};
use echomark::net::units;
use loadgen::Plan;
use loadgen::pace::Profile;
use loadgen::plan::{Load, MAX_MESSAGE, Pacing, Spacing, Target, Workload};

/// With no target and no load asked for, the embedded server gets this: far below what one core can
/// echo, so that an idle two-core machine measures itself without being its own bottleneck.
const SELF_TEST_RATE: f64 = 5_000.0;
/// The window if neither its length nor its number of messages is given.
const DEFAULT_WINDOW: Duration = Duration::from_secs(10);
/// Messages of a run that may be out at a time in a closed loop.
const MAX_IN_FLIGHT: usize = 1 << 20;

/// Measures latency and throughput of echo servers, truthfully.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure once
    Run(RunArgs),
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Echo servers, tcp://HOST:PORT; connections are spread over them [default: an echod inside
    /// this process, on a free loopback port]
    #[arg(value_name = "TARGET", value_parser = parse_target)]
    targets: Vec<Endpoint>,

    /// Connections, in total
    #[arg(short, long, value_name = "N", default_value = "16", value_parser = parse_number)]
    connections: NonZeroUsize,

    /// Measuring threads [default: a core each, half of them if the target is on this machine]
    #[arg(short, long, value_name = "N", value_parser = parse_number)]
    threads: Option<NonZeroUsize>,

    /// Length of the measured window [default: 10s, that of a rate with lengths, or until -n
    /// messages are through]
    #[arg(short, long, value_name = "DURATION", value_parser = parse_positive_duration)]
    duration: Option<Duration>,

    /// Time before the window in which messages flow and are not counted [default: 1s, 0 with -n]
    #[arg(short, long, value_name = "DURATION", value_parser = units::parse_duration)]
    warmup: Option<Duration>,

    /// End the window after so many messages
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_positive_count)]
    requests: Option<NonZeroU64>,

    /// Messages per second, in total; makes the run open-loop: 5k; a ramp over the window,
    /// 1k..10k; equal steps in it, 1k,2k,5k; or pieces with lengths, 1k@10s,0@5s,2k..5k@20s, the
    /// last of which goes on [default: a closed loop; 5000 if neither a target nor any of -c, -n,
    /// -p is given]
    #[arg(short = 'R', long, value_name = "RATE")]
    rate: Option<Profile>,

    /// How an open loop spaces messages
    #[arg(long, value_enum, default_value_t = ArrivalsArg::Constant)]
    arrivals: ArrivalsArg,

    /// How threads wait for an open loop's next message
    #[arg(long, value_enum, default_value_t = PacingArg::Hybrid)]
    pacing: PacingArg,

    /// Messages in flight on each connection [default: 1 in a closed loop; no bound in an open
    /// loop, where messages beyond it queue with their intended time]
    #[arg(short, long, value_name = "N", value_parser = parse_number)]
    pipeline: Option<NonZeroUsize>,

    /// What connections do
    #[arg(long, value_enum, default_value_t = WorkloadArg::Request)]
    workload: WorkloadArg,

    /// Bytes of a message
    #[arg(short, long, value_name = "SIZE", default_value = "64", value_parser = parse_message_size)]
    size: NonZeroU64,

    /// Spread the connects over so long
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = units::parse_duration)]
    ramp: Duration,

    /// The longest that a connect or an echo may take
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_positive_duration)]
    timeout: Duration,

    /// Decides payloads and Poisson arrivals [default: from the clock; printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Do not compare what comes back
    #[arg(long)]
    no_verify: bool,

    /// Length of the intervals of the time series
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,

    /// Write the result here as JSON; -: to stdout, and nothing else there
    #[arg(long, value_name = "FILE|-")]
    pub(crate) json: Option<PathBuf>,

    /// Exit with 0 even if the verdict is invalid
    #[arg(long)]
    pub(crate) allow_invalid: bool,

    /// No progress and no table
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WorkloadArg {
    /// Messages go out and come back
    Request,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ArrivalsArg {
    Constant,
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

impl RunArgs {
    /// Resolves every option. `is_given` says whether an option was written by the user.
    ///
    /// # Errors
    /// One line for the user: options that don't go together.
    pub(crate) fn to_plan(&self, is_given: impl Fn(&str) -> bool) -> Result<Plan, String> {
        let is_self_test = self.targets.is_empty()
            && !["connections", "requests", "pipeline"]
                .into_iter()
                .any(is_given);
        let rate = match &self.rate {
            None if is_self_test => Some(
                Profile::constant(SELF_TEST_RATE).map_err(|error| format!("--rate: {error}"))?,
            ),
            rate => rate.clone(),
        };
        let duration = self.duration.or_else(|| match self.requests {
            Some(_) => None,
            None => rate
                .as_ref()
                .and_then(Profile::length)
                .or(Some(DEFAULT_WINDOW)),
        });
        let cpus = affinity::usable_cpus().get();
        let is_local = self.targets.is_empty() || self.targets.iter().any(is_loopback);
        let own_cpus = if is_local { (cpus / 2).max(1) } else { cpus };
        let threads = match self.threads {
            Some(threads) if threads > self.connections => {
                return Err(format!(
                    "{threads} threads (-t) need at least as many connections (-c), not {}",
                    self.connections
                ));
            }
            Some(threads) => threads,
            None => at_least_one(own_cpus).min(self.connections),
        };
        if self.targets.len() > self.connections.get() {
            return Err(format!(
                "{} targets need at least as many connections (-c), not {}",
                self.targets.len(),
                self.connections
            ));
        }
        let load = match rate {
            Some(rate) => Load::Open {
                rate: laid_out(rate, duration)?,
                arrivals: match self.arrivals {
                    ArrivalsArg::Constant => Spacing::Constant,
                    ArrivalsArg::Poisson => Spacing::Poisson,
                },
                pipeline: self.pipeline,
            },
            None if matches!(self.arrivals, ArrivalsArg::Poisson) => {
                return Err("--arrivals poisson needs a rate (-R)".to_owned());
            }
            None if !matches!(self.pacing, PacingArg::Hybrid) => {
                return Err("--pacing needs a rate (-R)".to_owned());
            }
            None => Load::Closed {
                pipeline: self.pipeline.unwrap_or(NonZeroUsize::MIN),
            },
        };
        if let Load::Closed { pipeline } = load
            && self.connections.get().saturating_mul(pipeline.get()) > MAX_IN_FLIGHT
        {
            return Err(format!(
                "{} connections (-c) with {pipeline} messages in flight each (-p) are more than \
                 {MAX_IN_FLIGHT} messages; use fewer",
                self.connections
            ));
        }
        Ok(Plan {
            target: if self.targets.is_empty() {
                Target::Embedded {
                    embedded_workers: at_least_one(cpus.saturating_sub(threads.get())),
                }
            } else {
                Target::Servers {
                    targets: self.targets.clone(),
                }
            },
            workload: match self.workload {
                WorkloadArg::Request => Workload::Request,
            },
            connections: self.connections,
            threads,
            load,
            pacing: match self.pacing {
                PacingArg::Sleep => Pacing::Sleep,
                PacingArg::Hybrid => Pacing::Hybrid,
                PacingArg::Spin => Pacing::Spin,
            },
            size: self.size,
            duration,
            warmup: self.warmup.unwrap_or_else(|| match self.requests {
                Some(_) => Duration::ZERO,
                None => Duration::from_secs(1),
            }),
            requests: self.requests,
            ramp: self.ramp,
            timeout: self.timeout,
            seed: self.seed.unwrap_or_else(echomark::net::sys::monotonic_ns),
            verify: !self.no_verify,
            interval: self.interval,
        })
    }
}

fn parse_target(text: &str) -> Result<Endpoint, String> {
    match text.parse::<Endpoint>() {
        Ok(target @ Endpoint::Tcp(_)) => Ok(target),
        Ok(_) => Err("only tcp:// targets can be measured".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn is_loopback(target: &Endpoint) -> bool {
    let Endpoint::Tcp(HostPort { host, port }) = target else {
        return true;
    };
    (host.as_str(), *port)
        .to_socket_addrs()
        .is_ok_and(|mut addresses| addresses.any(|address| address.ip().is_loopback()))
}

fn at_least_one(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN)
}

fn parse_number(text: &str) -> Result<NonZeroUsize, String> {
    /// More sockets or threads than any host has.
    const MOST: u64 = 10_000_000;
    match parse_positive_count(text)?.get() {
        count if count > MOST => Err(format!("must be at most {MOST}")),
        count => Ok(at_least_one(count as usize)),
    }
}

fn parse_positive_count(text: &str) -> Result<NonZeroU64, String> {
    let count = units::parse_count(text).map_err(|error| error.to_string())?;
    NonZeroU64::new(count).ok_or_else(|| "must be at least 1".to_owned())
}

/// A rate that the window has room for.
fn laid_out(rate: Profile, window: Option<Duration>) -> Result<Profile, String> {
    match rate.resolve(Duration::ZERO, window) {
        Ok(_) => Ok(rate),
        Err(error) => Err(format!("the rate (-R) {rate}: {error}")),
    }
}

fn parse_message_size(text: &str) -> Result<NonZeroU64, String> {
    match units::parse_size(text).map_err(|error| error.to_string())? {
        size if size > MAX_MESSAGE => Err(format!(
            "must be at most {}",
            units::format_size(MAX_MESSAGE)
        )),
        size => NonZeroU64::new(size).ok_or_else(|| "must be at least 1".to_owned()),
    }
}

fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    match units::parse_duration(text).map_err(|error| error.to_string())? {
        Duration::ZERO => Err("must be longer than 0".to_owned()),
        duration => Ok(duration),
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    /// Shorter ones would mostly measure the hand-over of intervals.
    const LEAST: Duration = Duration::from_millis(10);
    match parse_positive_duration(text)? {
        interval if interval < LEAST => Err("must be at least 10ms".to_owned()),
        interval => Ok(interval),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn plan(line: &str) -> Result<Plan, String> {
        let command = Cli::command();
        let matches = command
            .try_get_matches_from(line.split_whitespace())
            .map_err(|error| error.to_string())?;
        crate::plan_of(&matches).map(|(_, plan)| plan)
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn with_nothing_asked_for_the_machine_measures_itself_at_a_moderate_rate() {
        let plan = plan("loadgen run").unwrap();
        assert!(matches!(plan.target, Target::Embedded { .. }));
        assert_eq!(plan.target_rate(), Some(SELF_TEST_RATE));
        assert_eq!(plan.duration, Some(Duration::from_secs(10)));
        assert_eq!(plan.warmup, Duration::from_secs(1));
        assert!(plan.verify);
    }

    #[test]
    fn a_rate_makes_the_loop_open_and_its_absence_closed() {
        let closed = Load::Closed {
            pipeline: NonZeroUsize::MIN,
        };
        assert_eq!(plan("loadgen run tcp://127.0.0.1:7").unwrap().load, closed);
        assert_eq!(plan("loadgen run -c 1000 -d 5s").unwrap().load, closed);
        assert_eq!(
            plan("loadgen run -c 4 -R 2k -p 3").unwrap().load,
            Load::Open {
                rate: Profile::constant(2000.0).unwrap(),
                arrivals: Spacing::Constant,
                pipeline: NonZeroUsize::new(3)
            }
        );
    }

    #[test]
    fn a_rate_may_change_over_the_window() {
        let plan = |line: &str| plan(line).unwrap();
        let ramp = plan("loadgen run -R 1k..3k -d 4s");
        assert_eq!(ramp.target_rate(), Some(2000.0));
        assert_eq!(
            plan("loadgen run -R 1k,2k,3k,6k").target_rate(),
            Some(3000.0)
        );
        let timed = plan("loadgen run -R 1k@10s,0@5s,3k@5s");
        assert_eq!(timed.duration, Some(Duration::from_secs(20)));
        assert_eq!(timed.target_rate(), Some(1250.0));
        // The last rate goes on: 25k messages before the end, 60k after it.
        let longer = plan("loadgen run -R 1k@10s,0@5s,3k@5s -d 40s");
        assert_eq!(longer.target_rate(), Some(2125.0));
        // 10k messages in the first ten seconds, and the rest in the one after the pause.
        let counted = plan("loadgen run -R 1k@10s,0@5s,3k@5s -n 13k");
        assert_eq!(counted.duration, None);
        assert_eq!(counted.target_rate(), Some(13_000.0 / 16.0));
        // It falls silent before all messages are through.
        let silent = plan("loadgen run -R 2k..0@10s -n 1M");
        assert_eq!(silent.target_rate(), Some(1000.0));
    }

    #[test]
    fn threads_wait_as_they_are_told() {
        for (line, pacing) in [
            ("loadgen run", Pacing::Hybrid),
            ("loadgen run -R 1k --pacing hybrid", Pacing::Hybrid),
            ("loadgen run -R 1k --pacing sleep", Pacing::Sleep),
            ("loadgen run --pacing spin", Pacing::Spin),
        ] {
            assert_eq!(plan(line).unwrap().pacing, pacing, "{line}");
        }
    }

    #[test]
    fn a_number_of_messages_ends_the_window() {
        let plan = plan("loadgen run -n 10k").unwrap();
        assert_eq!((plan.duration, plan.warmup), (None, Duration::ZERO));
        assert_eq!(plan.requests, NonZeroU64::new(10_000));
    }

    #[test]
    fn what_can_t_be_is_refused_in_one_line() {
        for line in [
            "loadgen run -c 0",
            "loadgen run -R 0",
            "loadgen run -R 2G",
            "loadgen run -R 1k..",
            "loadgen run -R 0..0",
            "loadgen run -R 1k@1s,2k",
            "loadgen run -R 1k..2k -n 100",
            "loadgen run -R 1k,2k -n 100",
            "loadgen run -c 3 --pacing spin",
            "loadgen run -R 1k --pacing never",
            "loadgen run -s 0",
            "loadgen run -s 65MiB",
            "loadgen run -d 10",
            "loadgen run -d 0",
            "loadgen run --interval 1ms",
            "loadgen run -t 4 -c 3",
            "loadgen run --arrivals poisson -c 3",
            "loadgen run -c 10k -p 1k",
            "loadgen run -c 1 tcp://127.0.0.1:1 tcp://127.0.0.1:2",
            "loadgen run 127.0.0.1:7",
        ] {
            assert!(plan(line).is_err(), "{line}");
        }
    }
}
