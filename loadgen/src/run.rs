//! One run from plan to result: starts the threads, receives their reports, and summarizes them.

use std::num::NonZeroUsize;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, SystemTime};

use echomark::Service;
use echomark::net::clock::monotonic_ns;
use echomark::net::descriptors;
use echomark::net::endpoint::Endpoint;

use crate::analysis::aggregate::Aggregate;
use crate::analysis::repeats;
use crate::analysis::server_side::ServerProbe;
use crate::analysis::summarize::{Context, summarize};
use crate::embedded::Embedded;
use crate::engine::hiccups::HiccupProbe;
use crate::engine::priority::{MemoryLock, Scheduling, SessionPriority};
use crate::engine::sys;
use crate::engine::task::Report;
use crate::error::RunError;
use crate::host::CpuTicks;
use crate::observer::{Control, Observer, Phase, Unobserved};
use crate::plan::sizes::Sizes;
use crate::plan::{Background, Direction, Load, Plan, Target, Workload};
use crate::result::{Code, RateChange, RunResult};

pub(crate) mod addresses;
mod start;
mod threads;

use threads::{Threads, error_of, spawn};

/// Descriptors besides connections: standard streams, epoll instances, listeners.
const SPARE_DESCRIPTORS: usize = 64;
/// How often the coordinator checks for interruptions and rate changes.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Niceness of the coordinator: measuring threads and the server go first (nice(1)).
const COORDINATOR_NICE: i32 = 10;
/// Block size of background streams, and the number of blocks in flight on each.
const BACKGROUND_BLOCK: u32 = 64 << 10;
const BACKGROUND_DEPTH: NonZeroUsize = NonZeroUsize::new(4).expect("4 is not 0");

/// Runs `plan`, with its repeats, and returns the result. `control` steers the run from other
/// threads; `observer` receives its progress.
///
/// # Errors
/// [`RunError`] if there is nothing to report: no target, no connection, too few resources, or a
/// rate that needs a window and has none.
pub fn run(
    plan: &Plan,
    control: &Control,
    observer: &mut dyn Observer,
) -> Result<RunResult, RunError> {
    check_descriptors(plan)?;
    if let Load::Open { rate, .. } = &plan.load {
        rate.resolve(plan.warmup, plan.duration)
            .map_err(RunError::Rate)?;
    }
    let scheduling = Scheduling::of(plan);
    let session = SessionPriority::take(plan.priority, &scheduling);
    let session_nice = session.as_ref().map_or(0, |session| session.nice);
    let embedded = match &plan.target {
        Target::Servers { .. } => None,
        Target::Embedded { embedded_workers } => {
            let beside = plan.background.as_ref();
            let services: Vec<Service> = std::iter::once(plan.direction())
                .chain(beside.map(|background| Some(background.direction)))
                .map(service_for)
                .collect();
            Some(Embedded::start(*embedded_workers, &services, &scheduling)?)
        }
    };
    let (targets, beside) = targets_of(plan, embedded.as_ref());
    let clock = WallClock::start();
    let mut results = Vec::with_capacity(plan.repeat.get());
    let mut failure = None;
    for _ in 0..plan.repeat.get() {
        // A thread of its own, because its niceness must not apply to the caller's thread.
        let result = thread::scope(|scope| {
            thread::Builder::new()
                .name("loadgen-coord".to_owned())
                .spawn_scoped(scope, || {
                    measure(
                        plan,
                        &targets,
                        &beside,
                        &scheduling,
                        control,
                        &mut *observer,
                        &clock,
                    )
                })
                .map_err(RunError::System)?
                .join()
                .map_err(|_| RunError::thread_died())?
        });
        let result = match result {
            Ok(result) => result,
            Err(error) if results.is_empty() => return Err(error),
            // The results of the earlier repeats are delivered.
            Err(error) => {
                failure = Some(error);
                break;
            }
        };
        let result = with_session(result, session_nice);
        let is_hopeless = result.interrupted || result.verdict.has(&Code::NoEcho);
        results.push(result);
        if is_hopeless {
            break;
        }
    }
    Ok(repeats::union(results, failure.as_ref(), plan))
}

/// Notes the niceness of the process's session.
fn with_session(mut result: RunResult, nice: i32) -> RunResult {
    if let Some(scheduling) = &mut result.client.scheduling {
        scheduling.session_nice = nice;
    }
    result
}

/// The targets of the workload, and of the background streams.
fn targets_of(plan: &Plan, embedded: Option<&Embedded>) -> (Vec<Endpoint>, Vec<Endpoint>) {
    let (targets, beside) = match (&plan.target, embedded) {
        (Target::Embedded { .. }, Some(server)) => {
            let (own, beside) = server.endpoints.split_at(1);
            (own.to_vec(), beside.to_vec())
        }
        (Target::Servers { targets }, _) => (targets.clone(), targets.clone()),
        (Target::Embedded { .. }, None) => (Vec::new(), Vec::new()),
    };
    match &plan.background {
        Some(background) if !background.targets.is_empty() => (targets, background.targets.clone()),
        _ => (targets, beside),
    }
}

/// The time of day, read once: the windows of repeats follow each other even if the clock is set
/// meanwhile.
struct WallClock {
    started: SystemTime,
    started_ns: u64,
}

impl WallClock {
    fn start() -> Self {
        Self {
            started: SystemTime::now(),
            started_ns: monotonic_ns(),
        }
    }

    /// The time of day at a time of the measuring threads' clock.
    fn at(&self, ns: u64) -> SystemTime {
        self.started + Duration::from_nanos(ns.saturating_sub(self.started_ns))
    }
}

/// Makes one run. Longer than other functions, because the order of its steps decides what is
/// measured, and shows here.
fn measure(
    plan: &Plan,
    targets: &[Endpoint],
    beside: &[Endpoint],
    scheduling: &Scheduling,
    control: &Control,
    observer: &mut dyn Observer,
    clock: &WallClock,
) -> Result<RunResult, RunError> {
    let started_at = humantime::format_rfc3339_millis(clock.at(monotonic_ns())).to_string();
    let background_plan = plan
        .background
        .as_ref()
        .map(|background| background_plan(plan, background));
    let Some(addresses) = addresses::resolve(targets, plan.timeout, control)? else {
        return Ok(stopped_before_connecting(plan, targets, started_at));
    };
    let mut server_probe = match plan.server_admin.clone() {
        None => None,
        Some(admin) => {
            match addresses::unless_stopped(control, move || ServerProbe::start(&admin))? {
                Some(server_probe) => Some(server_probe?),
                None => return Ok(stopped_before_connecting(plan, targets, started_at)),
            }
        }
    };
    let mut threads = Threads::default();
    let (reports_in, reports) = mpsc::channel();
    spawn(
        plan,
        &addresses,
        scheduling,
        control,
        &reports_in,
        &mut threads,
    )?;
    if let Some(background_plan) = &background_plan {
        let Some(addresses) = addresses::resolve(beside, plan.timeout, control)? else {
            return Ok(stopped_before_connecting(plan, targets, started_at));
        };
        // It ends with the run, but its rate is not changed.
        let steady = control.with_own_rate();
        spawn(
            background_plan,
            &addresses,
            scheduling,
            &steady,
            &reports_in,
            &mut threads,
        )?;
    }
    drop(reports_in);
    let mut hiccup_probe = HiccupProbe::new(scheduling.clone());
    // If this fails, only a little precision is lost.
    let _ = sys::set_thread_nice(COORDINATOR_NICE);

    let mut groups = vec![Aggregate::new(plan)];
    groups.extend(background_plan.as_ref().map(Aggregate::new));
    let mut coordinator = Coordinator {
        plan,
        targets: [targets, beside],
        reports: &reports,
        threads: &threads,
        groups,
        control,
        rate: None,
        rate_changes: Vec::new(),
    };
    observer.phase(Phase::Connecting);
    coordinator.await_connections(observer)?;
    let memory_lock = scheduling.is_raised().then(MemoryLock::take).flatten();
    let start = start::next_start(&plan.load);
    for group in &mut coordinator.groups {
        group.window_start = start + plan.warmup.as_nanos() as u64;
    }
    observer.window(clock.at(coordinator.groups[0].window_start));
    if let Some(server_probe) = &server_probe {
        server_probe.window(coordinator.groups[0].window_start);
    }
    for go in &threads.go {
        // A thread that has ended has reported the reason.
        let _ = go.send(start);
    }
    observer.phase(Phase::WarmingUp(plan.warmup));
    let ticks = CpuTicks::now();
    hiccup_probe.begin(start + plan.warmup.as_nanos() as u64);
    coordinator.receive_reports(observer)?;
    let steal_ratio = CpuTicks::now()
        .zip(ticks)
        .and_then(|(now, earlier)| now.steal_ratio_since(earlier));
    if let Some(server_probe) = &mut server_probe {
        server_probe.end();
    }
    let rate_changes = coordinator.rate_changes;
    let mut groups = coordinator.groups.into_iter();
    // Ends the threads, and with them the connections.
    drop(threads);
    let Some(main) = groups.next() else {
        return Err(RunError::thread_died());
    };
    let context = Context {
        targets,
        started_at,
        steal_ratio,
        hiccup: hiccup_probe.finish(),
        memory_locked: memory_lock.is_some(),
        rate_changes,
        background: plan.background.as_ref().zip(groups.next()),
        server_probe,
    };
    Ok(summarize(main, plan, context))
}

/// The result of a run that the user stopped before its first connect.
fn stopped_before_connecting(plan: &Plan, targets: &[Endpoint], started_at: String) -> RunResult {
    let mut aggregate = Aggregate::new(plan);
    for account in &mut aggregate.accounts {
        account.was_interrupted = true;
    }
    let context = Context {
        targets,
        started_at,
        steal_ratio: None,
        hiccup: None,
        memory_locked: false,
        rate_changes: Vec::new(),
        background: None,
        server_probe: None,
    };
    summarize(aggregate, plan, context)
}

/// The plan of the background streams of `plan`.
fn background_plan(plan: &Plan, background: &Background) -> Plan {
    Plan {
        workload: Workload::Stream {
            direction: background.direction,
        },
        connections: background.streams,
        threads: NonZeroUsize::MIN,
        load: Load::Closed {
            pipeline: BACKGROUND_DEPTH,
        },
        size: Sizes::Fixed(BACKGROUND_BLOCK),
        requests: None,
        ramp: Duration::ZERO,
        seed: plan.seed.wrapping_add(1),
        background: None,
        ..plan.clone()
    }
}

/// The embedded server's service for a stream direction; echo for other workloads.
fn service_for(direction: Option<Direction>) -> Service {
    match direction {
        None | Some(Direction::Echo) => Service::Echo,
        Some(Direction::Up) => Service::Discard,
        Some(Direction::Down) => Service::Chargen,
    }
}

/// Receives the threads' reports.
struct Coordinator<'a> {
    plan: &'a Plan,
    /// The targets of the workload, and of the background streams.
    targets: [&'a [Endpoint]; 2],
    reports: &'a Receiver<Report>,
    threads: &'a Threads,
    /// The reports of the workload's threads, and of the background streams' threads.
    groups: Vec<Aggregate>,
    control: &'a Control,
    rate: Option<f64>,
    rate_changes: Vec<RateChange>,
}

impl Coordinator<'_> {
    /// Waits until every thread has tried to connect. Fails if a group has no connection.
    fn await_connections(&mut self, observer: &mut dyn Observer) -> Result<(), RunError> {
        let mut opened_by = [0; 2];
        let mut failures = [None, None];
        let mut waiting = self.threads.handles.len();
        while waiting > 0 {
            match self.reports.recv_timeout(POLL_INTERVAL) {
                Ok(Report::Connected {
                    worker,
                    opened,
                    failure,
                }) => {
                    let group = self.group(worker);
                    opened_by[group] += opened;
                    failures[group] = failures[group].take().or(failure);
                    waiting -= 1;
                }
                Ok(report) => {
                    self.take(report, observer)?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(RunError::thread_died()),
            }
        }
        for group in &mut self.groups {
            group.close_ramp(&mut Unobserved);
        }
        if self.control.is_stopped() {
            // An interrupted run ends soon by itself, and has a result.
            return Ok(());
        }
        for (group, failure) in failures.into_iter().enumerate() {
            if let Some((target, source)) = failure.filter(|_| opened_by[group] == 0) {
                return Err(RunError::NoConnection {
                    target: self.targets[group][target].clone(),
                    source,
                });
            }
        }
        Ok(())
    }

    /// The group of a thread: 0 is the workload, 1 the background streams.
    fn group(&self, worker: usize) -> usize {
        usize::from(worker >= self.plan.threads.get())
    }

    /// Adds reports until every thread has finished.
    fn receive_reports(&mut self, observer: &mut dyn Observer) -> Result<(), RunError> {
        let mut running = self.threads.handles.len();
        let mut phases = self.phases().into_iter().peekable();
        while running > 0 {
            match self.reports.recv_timeout(POLL_INTERVAL) {
                Ok(report) => running -= usize::from(self.take(report, observer)?),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(RunError::thread_died()),
            }
            if let Some((_, phase)) = phases.next_if(|&(begin, _)| begin <= monotonic_ns()) {
                observer.phase(phase);
            }
            self.note_rate();
        }
        let (main, others) = self.groups.split_at_mut(1);
        for group in main {
            group.close_all(observer);
            group.close_drain(observer);
        }
        for group in others {
            group.close_all(&mut Unobserved);
        }
        Ok(())
    }

    /// The phases after the warm-up, and when they begin.
    fn phases(&self) -> Vec<(u64, Phase)> {
        let start = self.groups[0].window_start;
        let end = self
            .plan
            .duration
            .map(|duration| (start + duration.as_nanos() as u64, Phase::Draining));
        std::iter::once((start, Phase::Measuring(self.plan.duration)))
            .chain(end)
            .collect()
    }

    /// Handles a report, and returns whether its thread has finished.
    fn take(&mut self, report: Report, observer: &mut dyn Observer) -> Result<bool, RunError> {
        let group = self.group(report.worker());
        // Background streams are not observed.
        let mut unobserved = Unobserved;
        let observer = if group == 0 {
            observer
        } else {
            &mut unobserved
        };
        match report {
            Report::Slice {
                worker,
                interval,
                end,
                slice,
            } => {
                self.groups[group].add(interval, end, slice, &self.threads.spare[worker], observer);
                Ok(false)
            }
            Report::Finished {
                worker,
                account,
                flows,
                tcp,
                backends,
            } => {
                self.groups[group].backends.extend(backends);
                let thread = worker - group * self.plan.threads.get();
                self.groups[group].add_account(thread, *account, flows, tcp);
                Ok(true)
            }
            Report::Failed { failure, .. } => Err(error_of(failure, self.targets[group])),
            Report::Connected { .. } => Ok(false),
        }
    }

    /// Records a rate change by the user.
    fn note_rate(&mut self) {
        let rate = self.control.rate();
        if rate != self.rate {
            self.rate = rate;
            let at_s = (monotonic_ns() as f64 - self.groups[0].window_start as f64) / 1e9;
            self.rate_changes
                .extend(rate.map(|rate| RateChange { at_s, rate }));
        }
    }
}

fn check_descriptors(plan: &Plan) -> Result<(), RunError> {
    let sockets_per_connection = match plan.target {
        Target::Servers { .. } => 1,
        Target::Embedded { .. } => 2,
    };
    let streams = plan
        .background
        .as_ref()
        .map_or(0, |background| background.streams.get());
    let needed = (plan.connections.get() + streams)
        .saturating_mul(sockets_per_connection)
        .saturating_add(SPARE_DESCRIPTORS);
    let limit = descriptors::raise_descriptor_limit().map_err(RunError::System)?;
    if needed as u64 > limit {
        return Err(RunError::Descriptors { needed, limit });
    }
    Ok(())
}
