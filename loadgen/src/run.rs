//! One run from plan to result: starts the threads, receives their reports, and summarizes them.

use std::num::NonZeroUsize;
use std::sync::mpsc;
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
use crate::error::RunError;
use crate::host::CpuTicks;
use crate::observer::{Control, Observer, Phase};
use crate::plan::sizes::Sizes;
use crate::plan::{Background, Direction, Load, Plan, Target, Workload};
use crate::result::{Code, RunResult};

pub(crate) mod addresses;
mod coordinator;
mod start;
mod threads;
pub(crate) mod tls;
mod together;

pub(crate) use together::Meeting;

use coordinator::Coordinator;
use threads::{Threads, spawn};
use tls::Tls;

/// Descriptors besides connections: standard streams, epoll instances, listeners.
const SPARE_DESCRIPTORS: usize = 64;
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
    run_together(plan, control, observer, None)
}

/// The same, with a start that `meeting` agrees on with the other processes of the run.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_together(
    plan: &Plan,
    control: &Control,
    observer: &mut dyn Observer,
    mut meeting: Option<&mut dyn Meeting>,
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
    let surroundings = Surroundings {
        targets: &targets,
        beside: &beside,
        scheduling: &scheduling,
        clock: WallClock::start(),
    };
    let mut results = Vec::with_capacity(plan.repeat.get());
    let mut failure = None;
    for _ in 0..plan.repeat.get() {
        // A thread of its own, because its niceness must not apply to the caller's thread.
        let result = thread::scope(|scope| {
            thread::Builder::new()
                .name("loadgen-coord".to_owned())
                .spawn_scoped(scope, || {
                    let meeting = meeting.as_deref_mut().map(|meeting| meeting as _);
                    measure(plan, &surroundings, control, &mut *observer, meeting)
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

/// What the repeats of a run share.
struct Surroundings<'a> {
    /// The targets of the workload, and of the background streams.
    targets: &'a [Endpoint],
    beside: &'a [Endpoint],
    scheduling: &'a Scheduling,
    clock: WallClock,
}

/// Makes one run. Longer than other functions, because the order of its steps decides what is
/// measured, and shows here.
fn measure(
    plan: &Plan,
    surroundings: &Surroundings<'_>,
    control: &Control,
    observer: &mut dyn Observer,
    meeting: Option<&mut dyn Meeting>,
) -> Result<RunResult, RunError> {
    let &Surroundings {
        targets,
        beside,
        scheduling,
        ref clock,
    } = surroundings;
    let started_at = humantime::format_rfc3339_millis(clock.at(monotonic_ns())).to_string();
    let planned = together::planned(plan)?;
    let background_plan = plan
        .background
        .as_ref()
        .map(|background| background_plan(plan, background));
    let tls = Tls::load(targets.iter().chain(beside), &plan.tls)?;
    let tls = tls.as_ref();
    let Some(addresses) = addresses::resolve(targets, tls, plan.timeout, control)? else {
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
        let Some(addresses) = addresses::resolve(beside, tls, plan.timeout, control)? else {
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
    let planned = match meeting {
        Some(meeting) => meeting.agree(control)?,
        None => planned,
    };
    let start = match planned {
        Some(planned) => together::await_start(planned, plan, control)?,
        None => start::next_start(&plan.load),
    };
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
    let common_start = plan.shard.is_some().then(|| together::note(start, planned));
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
        common_start,
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
        common_start: None,
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

fn check_descriptors(plan: &Plan) -> Result<(), RunError> {
    let sockets_per_connection = match plan.target {
        Target::Servers { .. } => 1,
        Target::Embedded { .. } => 2,
    };
    let streams = plan
        .background
        .as_ref()
        .map_or(0, |background| background.streams.get());
    let needed = (plan.own_connections() + streams)
        .saturating_mul(sockets_per_connection)
        .saturating_add(SPARE_DESCRIPTORS);
    let limit = descriptors::raise_descriptor_limit().map_err(RunError::System)?;
    if needed as u64 > limit {
        return Err(RunError::Descriptors { needed, limit });
    }
    Ok(())
}
