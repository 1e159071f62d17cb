//! The measuring threads of a run: start and join.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;

use echomark::net::endpoint::Endpoint;

use crate::engine::connection::Address;
use crate::engine::histogram::BucketCounts;
use crate::engine::payload::Payload;
use crate::engine::priority::Scheduling;
use crate::engine::slice::Slice;
use crate::engine::task::{Failure, Report, Task};
use crate::engine::worker::Worker;
use crate::engine::workload::{Churn, Datagram, Download, Request, Upload};
use crate::error::RunError;
use crate::observer::Control;
use crate::plan::{Direction, Plan, Workload};

/// Slices of each thread besides the one in use, so that the thread need not allocate: a
/// coordinator that waits for a CPU returns them late.
const SPARE_SLICES: usize = 3;

/// Starts the threads of `plan`.
pub(super) fn spawn(
    plan: &Plan,
    addresses: &Arc<[Address]>,
    scheduling: &Scheduling,
    control: &Control,
    reports: &Sender<Report>,
    threads: &mut Threads,
) -> Result<(), RunError> {
    let shared_plan = Arc::new(plan.clone());
    let payload = Arc::new(Payload::new(plan.seed));
    let echo = Arc::default();
    let is_datagram = addresses
        .iter()
        .any(|address| matches!(address, Address::Udp(_)));
    let first = threads.handles.len();
    for index in 0..plan.threads.get() {
        let (go, go_receiver) = mpsc::channel();
        let (spare, spare_receiver) = mpsc::channel();
        let task = Task {
            worker: first + index,
            index,
            plan: Arc::clone(&shared_plan),
            payload: Arc::clone(&payload),
            addresses: Arc::clone(addresses),
            reports: reports.clone(),
            go: go_receiver,
            stop: [control.stop_flag(), Arc::clone(&threads.abort)],
            scheduling: scheduling.clone(),
            echo: Arc::clone(&echo),
            rate: control.rate_flag(),
        };
        let (workload, is_greeted) = (plan.workload, plan.opening.greeting);
        let thread = thread::Builder::new()
            .name(format!("loadgen-{}", first + index))
            .spawn(move || match workload {
                _ if is_datagram => Worker::<Datagram>::run(task, spare_receiver),
                Workload::Churn { .. } => Worker::<Churn>::run(task, spare_receiver),
                Workload::Stream {
                    direction: Direction::Up,
                } => Worker::<Upload>::run(task, spare_receiver),
                Workload::Stream {
                    direction: Direction::Down,
                } => Worker::<Download>::run(task, spare_receiver),
                Workload::Request | Workload::Idle | Workload::Stream { .. } => {
                    if is_greeted {
                        Worker::<Request<true>>::run(task, spare_receiver);
                    } else {
                        Worker::<Request<false>>::run(task, spare_receiver);
                    }
                }
            })
            .map_err(RunError::System)?;
        for _ in 0..SPARE_SLICES {
            let _ = spare.send(Slice::touched());
        }
        threads.go.push(go);
        threads.spare.push(spare);
        threads.handles.push(thread);
    }
    Ok(())
}

/// The threads of a run. Dropping it stops the threads that still run, because another one failed,
/// and joins all.
#[derive(Default)]
pub(super) struct Threads {
    abort: Arc<AtomicBool>,
    pub(super) go: Vec<Sender<u64>>,
    pub(super) spare: Vec<Sender<Box<Slice<BucketCounts>>>>,
    pub(super) handles: Vec<thread::JoinHandle<()>>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.abort.store(true, Ordering::Relaxed);
        self.go.clear();
        for thread in self.handles.drain(..) {
            // The panic was printed. The missing report ends the run with an error.
            let _ = thread.join();
        }
    }
}

/// The run's error for a thread's failure.
pub(super) fn error_of(failure: Failure, targets: &[Endpoint]) -> RunError {
    match failure {
        Failure::System(error) => RunError::System(error),
        Failure::ClosesAtOnce { target } => RunError::ClosesAtOnce {
            target: targets[target].clone(),
        },
        Failure::Tls { target, refusal } => RunError::NoConnection {
            target: targets[target].clone(),
            source: io::Error::new(io::ErrorKind::InvalidData, refusal),
        },
        Failure::Refused { target } => RunError::Refused {
            target: targets[target].clone(),
        },
    }
}
