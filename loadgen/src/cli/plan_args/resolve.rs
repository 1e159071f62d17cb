//! Resolves the options of a plan.

use std::num::NonZeroUsize;
use std::time::Duration;

use echomark::net::affinity;
use echomark::net::clock::monotonic_ns;
use echomark::net::endpoint::Endpoint;
use loadgen::Plan;
use loadgen::plan::sizes::{MIN_DATAGRAM, Sizes};
use loadgen::plan::{
    Background, Close, Direction, Load, MAX_DATAGRAM, MAX_IN_FLIGHT, Opening, Pacing, Priority,
    ProxyVersion, SocketOptions, Spacing, Target, Workload, defaults,
};
use loadgen::profile::Profile;

use super::{
    ArrivalsArg, CloseArg, DirectionArg, LoadArgs, PacingArg, PriorityArg, ProxyArg, WorkloadArg,
    constant,
};
use crate::cli::parse::at_least_one;
use crate::cli::target_args::{TargetArgs, has_tls, is_datagram};

/// The embedded server's rate if neither a target nor a load is given: far below the capacity of
/// one core, so that an idle two-core machine measures itself without being the bottleneck.
pub(super) const SELF_TEST_RATE: f64 = 5_000.0;

impl LoadArgs {
    /// Resolves every option for these targets; see [`PlanArgs::to_plan`]. Longer than other functions,
    /// because it lists all options.
    ///
    /// # Errors
    /// One line for the user: options that don't go together.
    pub(crate) fn to_plan(
        &self,
        targets: &TargetArgs,
        is_given: impl Fn(&str) -> bool,
    ) -> Result<Plan, String> {
        targets.check()?;
        self.check_background(targets, &is_given)?;
        self.check_socket_options(targets)?;
        self.check_tls(targets)?;
        let workload = self.to_workload(targets)?;
        let connections = self.connections;
        let connections = connections.unwrap_or_else(|| defaults::connections(workload));
        let rate = self.to_rate(targets, workload, is_given)?;
        let duration = self.to_duration(rate.as_ref());
        let cpus = affinity::usable_cpus().get();
        let threads = self.to_threads(targets, connections, cpus)?;
        let load = self.to_load(rate, duration, workload)?;
        check_in_flight(connections, &load)?;
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
            priority: match self.priority {
                PriorityArg::Auto => Priority::Auto,
                PriorityArg::Normal => Priority::Normal,
                PriorityArg::High => Priority::High,
                PriorityArg::Realtime => Priority::Realtime,
            },
            size: self.to_size(targets, workload)?,
            duration,
            warmup: self.warmup.unwrap_or(match self.requests {
                Some(_) => Duration::ZERO,
                None => defaults::WARMUP,
            }),
            requests: self.requests,
            ramp: self.ramp,
            timeout: self
                .timeout
                .unwrap_or_else(|| defaults::timeout(targets.is_datagram())),
            seed: self.seed.unwrap_or_else(monotonic_ns),
            // A discard server returns nothing.
            verify: !self.no_verify && !is_up,
            interval: self
                .interval
                .unwrap_or_else(|| defaults::interval(duration)),
            sources: self.source.clone(),
            opening: self.to_opening(targets, workload)?,
            tls: self.tls.to_options(),
            socket: SocketOptions {
                recv_buffer: self.recv_buffer,
                send_buffer: self.send_buffer,
                congestion: self.congestion.clone(),
                nodelay: !self.no_nodelay,
            },
            background: self.to_background(duration)?,
            repeat: self.repeat,
            server_admin: self.server_admin.clone(),
            shard: None,
        })
    }

    /// Draws a seed, if none was given, so that every plan has the same.
    pub(in crate::cli) fn fix_seed(&mut self) {
        self.seed.get_or_insert_with(monotonic_ns);
    }

    fn check_background(
        &self,
        targets: &TargetArgs,
        is_given: &impl Fn(&str) -> bool,
    ) -> Result<(), String> {
        if self.background.is_none() {
            let without_effect = ["background_direction", "background_target"]
                .into_iter()
                .find(|name| is_given(name));
            return match without_effect {
                Some(name) => Err(format!(
                    "--{} needs background streams (--background)",
                    name.replace('_', "-")
                )),
                None => Ok(()),
            };
        }
        let is_over_udp = if self.background_target.is_empty() {
            targets.is_datagram()
        } else {
            self.background_target.iter().any(is_datagram)
        };
        if is_over_udp {
            return Err(
                "background streams (--background) use TCP, TLS or Unix sockets; name a \
                 target for them with --background-target"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// The targets, and those of the background streams.
    fn endpoints<'a>(
        &'a self,
        targets: &'a TargetArgs,
    ) -> impl Iterator<Item = &'a Endpoint> + Clone {
        let background = self.background.and(Some(&self.background_target));
        targets
            .targets
            .iter()
            .chain(background.into_iter().flatten())
    }

    /// Refuses options of TLS where no target has it.
    fn check_tls(&self, targets: &TargetArgs) -> Result<(), String> {
        match self.tls.given() {
            Some(name) if !self.endpoints(targets).any(has_tls) => Err(format!(
                "{name} is for TLS, and no target is tls://HOST:PORT; leave it out"
            )),
            _ => Ok(()),
        }
    }

    /// Refuses options that have no effect on any socket of the run.
    fn check_socket_options(&self, targets: &TargetArgs) -> Result<(), String> {
        let mut endpoints = self.endpoints(targets);
        // The embedded server is on TCP.
        let is_tcp = |it: &Endpoint| matches!(it, Endpoint::Tcp(_) | Endpoint::Tls(_));
        let has_tcp = targets.is_empty() || endpoints.clone().any(is_tcp);
        let has_internet = has_tcp || endpoints.any(is_datagram);
        let options = [
            ("--congestion", self.congestion.is_some(), has_tcp, "TCP"),
            ("--no-nodelay", self.no_nodelay, has_tcp, "TCP"),
            (
                "--source",
                !self.source.is_empty(),
                has_internet,
                "TCP and UDP",
            ),
            (
                "--recv-buffer",
                self.recv_buffer.is_some(),
                has_internet,
                "TCP and UDP",
            ),
            (
                "--send-buffer",
                self.send_buffer.is_some(),
                has_internet,
                "TCP and UDP",
            ),
        ];
        let without_effect = options
            .iter()
            .find(|(_, is_given, has_effect, _)| *is_given && !has_effect);
        match without_effect {
            Some((name, _, _, transports)) => Err(format!(
                "{name} is an option of {transports}, and no target is one of these; leave it out"
            )),
            None => Ok(()),
        }
    }

    /// What connections exchange before their first message.
    fn to_opening(&self, targets: &TargetArgs, workload: Workload) -> Result<Opening, String> {
        let opening = Opening {
            proxy_protocol: self.proxy_protocol.map(|version| match version {
                ProxyArg::V1 => ProxyVersion::V1,
                ProxyArg::V2 => ProxyVersion::V2,
            }),
            proxy_sources: self.proxy_source.clone(),
            greeting: self.greeting,
            expected_shares: self.expect_share.clone(),
        };
        let option = if opening.greeting {
            "--greeting"
        } else if opening.proxy_protocol.is_some() {
            "--proxy-protocol"
        } else {
            return Ok(opening);
        };
        if targets.is_datagram() {
            return Err(format!("{option} is for connections, and a target is UDP"));
        }
        if targets.is_empty() {
            return Err(format!(
                "{option} needs a target: the embedded server expects messages at once"
            ));
        }
        let is_one_way = matches!(
            workload,
            Workload::Stream {
                direction: Direction::Up | Direction::Down
            }
        );
        if opening.greeting && (is_one_way || self.background.is_some()) {
            return Err(
                "--greeting is for messages and their echoes, and not for one-way streams or \
                 --background"
                    .to_owned(),
            );
        }
        let sum: f64 = opening.expected_shares.iter().map(|it| it.share).sum();
        if sum > 1.0 + 1e-9 {
            return Err(format!(
                "the shares in --expect-share add up to {:.1} %, more than there is",
                100.0 * sum
            ));
        }
        Ok(opening)
    }

    fn to_rate(
        &self,
        targets: &TargetArgs,
        workload: Workload,
        is_given: impl Fn(&str) -> bool,
    ) -> Result<Option<Profile>, String> {
        let is_self_test = targets.is_empty()
            && workload == Workload::Request
            && !["connections", "requests", "pipeline"]
                .into_iter()
                .any(is_given);
        match (&self.rate, workload) {
            (None, Workload::Idle) => constant(defaults::PROBE_RATE).map(Some),
            (None, _) if is_self_test => constant(SELF_TEST_RATE).map(Some),
            (rate, _) => Ok(rate.clone()),
        }
    }

    /// The length of the window. `None` if a number of messages ends it.
    fn to_duration(&self, rate: Option<&Profile>) -> Option<Duration> {
        self.duration.or_else(|| match self.requests {
            Some(_) => None,
            None => rate.and_then(Profile::length).or(Some(defaults::WINDOW)),
        })
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
                Err("UDP has no connections to make and close; churn needs tcp://, tls:// or unix:".to_owned())
            }
            Workload::Churn { .. } if self.pipeline.is_some() => Err(
                "each message of churn has a connection of its own; -c says how many there are at \
                 a time, and -p has nothing to do"
                    .to_owned(),
            ),
            Workload::Stream {
                direction: Direction::Up | Direction::Down,
            } if targets.is_datagram() => Err(
                "over UDP the receiver reports nothing: only --direction echo can be measured".to_owned(),
            ),
            Workload::Stream {
                direction: Direction::Down,
            } if self.rate.is_some() || self.requests.is_some() || self.pipeline.is_some() => Err(
                "the server decides how much it sends: --direction down takes neither -R, -n nor -p"
                    .to_owned(),
            ),
            workload => Ok(workload),
        }
    }

    pub(super) fn to_threads(
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
            return Ok(Load::Closed {
                pipeline: self
                    .pipeline
                    .unwrap_or_else(|| defaults::pipeline(workload)),
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
        let size = self.size.clone();
        let size = size.unwrap_or_else(|| defaults::size(workload, targets.is_datagram()));
        let is_within =
            (MIN_DATAGRAM..=MAX_DATAGRAM).contains(&size.least()) && size.most() <= MAX_DATAGRAM;
        if targets.is_datagram() && !is_within {
            return Err(format!(
                "a datagram has {MIN_DATAGRAM} to {MAX_DATAGRAM} bytes, its sequence number \
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
            return Err("background streams (--background) need a window (-d)".to_owned());
        }
        Ok(Some(Background {
            streams,
            direction: self.background_direction.into(),
            targets: self.background_target.clone(),
        }))
    }
}

fn check_in_flight(connections: NonZeroUsize, load: &Load) -> Result<(), String> {
    match load {
        Load::Closed { pipeline }
            if connections.get().saturating_mul(pipeline.get()) > MAX_IN_FLIGHT =>
        {
            Err(format!(
                "{connections} connections (-c) with {pipeline} messages in flight each (-p) are \
                 more than {MAX_IN_FLIGHT} messages; use fewer"
            ))
        }
        _ => Ok(()),
    }
}
