//! One run from plan to result: starts the threads, gathers what they recorded, draws the verdict.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, SystemTime};

use echomark::net::endpoint::Endpoint;
use echomark::net::sys::{self, monotonic_ns};
use echomark::{Config, Server, Service};

use crate::gather::Gathered;
use crate::host::CpuTicks;
use crate::pace::ProfileError;
use crate::payload::Payload;
use crate::plan::{Load, Plan, Target};
use crate::record::Slice;
use crate::result::{IntervalResult, RunResult};
use crate::worker::{Failure, Report, Task, Worker};

/// Descriptors besides those of the connections: standard streams, epoll instances, listeners.
const SPARE_DESCRIPTORS: usize = 64;
/// Time between the last connect and the start of the schedule, for the threads to get there.
const START_DELAY_NS: u64 = 5_000_000;
/// How often the coordinator looks whether the run was interrupted while threads connect.
const PATIENCE: Duration = Duration::from_millis(100);

/// Runs `plan` and returns what it found. Setting `stop` ends it early, with a valid result of what
/// was measured until then. `progress` is told of each interval that all threads have left.
///
/// # Errors
/// [`RunError`] when there is nothing to report: no target, no connection, no resources, or no
/// window for a rate that changes over it.
pub fn run(
    plan: &Plan,
    stop: &Arc<AtomicBool>,
    progress: &mut dyn FnMut(&IntervalResult),
) -> Result<RunResult, RunError> {
    let started_at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    check_descriptors(plan)?;
    if let Load::Open { rate, .. } = &plan.load {
        rate.resolve(plan.warmup, plan.duration)
            .map_err(RunError::Rate)?;
    }
    match &plan.target {
        Target::Servers { targets } => measure(plan, targets, started_at, stop, progress),
        Target::Embedded { embedded_workers } => {
            let server = Embedded::start(*embedded_workers)?;
            measure(
                plan,
                std::slice::from_ref(&server.endpoint),
                started_at,
                stop,
                progress,
            )
        }
    }
}

/// Why a run has no result.
#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "the fields are the target and the cause; Display says the rest"
)]
pub enum RunError {
    /// A target's host has no address.
    Resolve { target: Endpoint, source: io::Error },
    /// Not one connection could be made; the first failure.
    NoConnection { target: Endpoint, source: io::Error },
    /// A target accepts connections and closes them before it echoes a byte.
    ClosesAtOnce { target: Endpoint },
    /// More descriptors are needed than the process may have.
    Descriptors { needed: usize, limit: u64 },
    /// The rate can't be laid out over the window.
    Rate(ProfileError),
    /// The embedded server could not be started.
    Embedded(echomark::Error),
    /// A system call failed that should not.
    System(io::Error),
}

impl RunError {
    pub(crate) fn of_thread(failure: Failure, targets: &[Endpoint]) -> Self {
        match failure {
            Failure::System(error) => Self::System(error),
            Failure::ClosesAtOnce { target } => Self::ClosesAtOnce {
                target: targets[target].clone(),
            },
        }
    }

    pub(crate) fn thread_died() -> Self {
        Self::System(io::Error::other("a measuring thread ended unexpectedly"))
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve { target, source } => {
                write!(
                    f,
                    "cannot resolve the host of {target}: {source}; check the name"
                )
            }
            Self::NoConnection { target, source } => write!(
                f,
                "cannot connect to {target}: {source}; is an echo server listening there?"
            ),
            Self::ClosesAtOnce { target } => write!(
                f,
                "{target} accepts connections and closes them before it echoes a byte; is it an \
                 echo server, and does it admit this host?"
            ),
            Self::Descriptors { needed, limit } => write!(
                f,
                "{needed} open descriptors are needed and {limit} allowed; raise the limit \
                 (ulimit -Hn) or use fewer connections (-c)"
            ),
            Self::Rate(error) => error.fmt(f),
            Self::Embedded(error) => write!(f, "cannot start the embedded server: {error}"),
            Self::System(error) => write!(f, "a system call failed: {error}"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Resolve { source, .. } | Self::NoConnection { source, .. } => Some(source),
            Self::Embedded(source) => Some(source),
            Self::System(source) => Some(source),
            Self::Rate(source) => Some(source),
            Self::ClosesAtOnce { .. } | Self::Descriptors { .. } => None,
        }
    }
}

/// An echod in this process. Its threads and sockets are real; only the process is shared.
struct Embedded {
    endpoint: Endpoint,
    handle: echomark::Handle,
    thread: Option<thread::JoinHandle<Result<echomark::metrics::Snapshot, echomark::Error>>>,
}

impl Embedded {
    fn start(workers: NonZeroUsize) -> Result<Self, RunError> {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(Config {
            services: vec![(Service::Echo, Endpoint::Tcp(any_port.into()))],
            workers,
            ..Config::default()
        })
        .map_err(RunError::Embedded)?;
        let endpoint = server.endpoints()[0].1.clone();
        let handle = server.handle();
        let thread = thread::Builder::new()
            .name("echod".to_owned())
            .spawn(move || server.run())
            .map_err(RunError::System)?;
        Ok(Self {
            endpoint,
            handle,
            thread: Some(thread),
        })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            // Its failure would have shown in the measurement.
            let _ = thread.join();
        }
    }
}

fn measure(
    plan: &Plan,
    targets: &[Endpoint],
    started_at: String,
    stop: &Arc<AtomicBool>,
    progress: &mut dyn FnMut(&IntervalResult),
) -> Result<RunResult, RunError> {
    let addresses: Arc<[SocketAddr]> = targets
        .iter()
        .map(|target| address_of(target, plan.timeout))
        .collect::<Result<_, _>>()?;
    let threads = plan.threads.get();
    let (reports_in, reports) = mpsc::channel();
    let mut crew = Crew {
        abort: Arc::default(),
        go: Vec::with_capacity(threads),
        spare: Vec::with_capacity(threads),
        threads: Vec::with_capacity(threads),
    };
    let shared_plan = Arc::new(plan.clone());
    let payload = Arc::new(Payload::new(plan.seed));
    for index in 0..threads {
        let (go, go_receiver) = mpsc::channel();
        let (spare, spare_receiver) = mpsc::channel();
        let task = Task {
            index,
            plan: Arc::clone(&shared_plan),
            payload: Arc::clone(&payload),
            addresses: Arc::clone(&addresses),
            reports: reports_in.clone(),
            go: go_receiver,
            stop: [Arc::clone(stop), Arc::clone(&crew.abort)],
        };
        let thread = thread::Builder::new()
            .name(format!("loadgen-{index}"))
            .spawn(move || Worker::run(task, spare_receiver))
            .map_err(RunError::System)?;
        // One to record into and one on its way back: the thread never has to make one.
        let _ = spare.send(Slice::touched());
        crew.go.push(go);
        crew.spare.push(spare);
        crew.threads.push(thread);
    }
    drop(reports_in);

    await_connections(&reports, threads, targets, stop)?;
    let start = monotonic_ns() + START_DELAY_NS;
    for go in &crew.go {
        // A thread that ended has reported why.
        let _ = go.send(start);
    }
    let ticks = CpuTicks::now();
    let mut gathered = Gathered::new(plan, start, threads);
    gathered.gather(&reports, &crew.spare, targets, progress)?;
    let steal_ratio = CpuTicks::now()
        .zip(ticks)
        .and_then(|(now, earlier)| now.steal_ratio_since(earlier));
    Ok(gathered.into_result(plan, started_at, steal_ratio))
}

/// The threads of a run. Dropping it ends those that still run, because another one failed, and
/// joins all.
struct Crew {
    abort: Arc<AtomicBool>,
    go: Vec<Sender<u64>>,
    spare: Vec<Sender<Box<Slice>>>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.abort.store(true, Ordering::Relaxed);
        self.go.clear();
        for thread in self.threads.drain(..) {
            // A panic has been printed, and its missing report ends the run with an error.
            let _ = thread.join();
        }
    }
}

fn await_connections(
    reports: &Receiver<Report>,
    threads: usize,
    targets: &[Endpoint],
    stop: &AtomicBool,
) -> Result<(), RunError> {
    let mut total = 0;
    let mut first_failure = None;
    let mut waiting = threads;
    while waiting > 0 {
        match reports.recv_timeout(PATIENCE) {
            Ok(Report::Connected { opened, failure }) => {
                total += opened;
                first_failure = first_failure.or(failure);
                waiting -= 1;
            }
            Ok(Report::Failed(failure)) => return Err(RunError::of_thread(failure, targets)),
            Ok(Report::Slice { .. } | Report::Finished { .. }) => {}
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(RunError::thread_died()),
        }
    }
    // An interrupted run goes on to its end, which is near, for the sake of its result.
    let is_interrupted = stop.load(Ordering::Relaxed);
    match first_failure {
        Some((target, source)) if total == 0 && !is_interrupted => Err(RunError::NoConnection {
            target: targets[target].clone(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Looks a target up. Of several addresses, the first that accepts a connection is taken, as a
/// client would that tries them in turn.
fn address_of(target: &Endpoint, timeout: Duration) -> Result<SocketAddr, RunError> {
    let addresses = target.resolve().map_err(|source| RunError::Resolve {
        target: target.clone(),
        source,
    })?;
    if let [only] = addresses[..] {
        return Ok(only);
    }
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(_) => return Ok(address),
            Err(error) => failure = error,
        }
    }
    Err(RunError::NoConnection {
        target: target.clone(),
        source: failure,
    })
}

fn check_descriptors(plan: &Plan) -> Result<(), RunError> {
    let sockets_per_connection = match plan.target {
        Target::Servers { .. } => 1,
        Target::Embedded { .. } => 2,
    };
    let needed = plan
        .connections
        .get()
        .saturating_mul(sockets_per_connection)
        .saturating_add(SPARE_DESCRIPTORS);
    let limit = sys::raise_descriptor_limit().map_err(RunError::System)?;
    if needed as u64 > limit {
        return Err(RunError::Descriptors { needed, limit });
    }
    Ok(())
}
