//! A measuring thread's loop, turned by the benchmark `turn`.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use echomark::net::clock::monotonic_ns;
use mio::Events;

use super::thread::{MAX_EVENTS, Worker};
use crate::engine::connection::Address;
use crate::engine::payload::Payload;
use crate::engine::priority::Scheduling;
use crate::engine::slice::Slice;
use crate::engine::task::{Report, Task};
use crate::engine::workload::Request;
use crate::plan::Plan;

/// A measuring thread without a thread: the caller turns its loop.
#[derive(Debug)]
pub struct Bench {
    worker: Worker<Request<false>>,
    events: Events,
    reports: Receiver<Report>,
    _go: Sender<u64>,
}

impl Bench {
    /// Connects to the listener at `path` with the connections of `plan`, and starts.
    ///
    /// # Panics
    /// If connecting fails.
    pub fn new(plan: &Plan, path: &Path) -> Self {
        let (reports_in, reports) = mpsc::channel();
        let (go, go_receiver) = mpsc::channel();
        let (spare, spare_receiver) = mpsc::channel();
        let _ = spare.send(Slice::touched());
        let task = Task {
            worker: 0,
            index: 0,
            plan: Arc::new(plan.clone()),
            payload: Arc::new(Payload::new(plan.seed)),
            addresses: Arc::new([Address::Unix(path.to_owned())]),
            reports: reports_in,
            go: go_receiver,
            stop: Default::default(),
            scheduling: Scheduling::default(),
            echo: Arc::default(),
            rate: Arc::default(),
        };
        let mut worker = Worker::new(task, spare_receiver).expect("an epoll instance");
        if worker.connect_all().is_err() {
            panic!("cannot connect to {}", path.display());
        }
        worker.begin(monotonic_ns());
        Self {
            worker,
            events: Events::with_capacity(MAX_EVENTS),
            reports,
            _go: go,
        }
    }

    /// One turn of the loop.
    ///
    /// # Panics
    /// If the target can't be measured.
    pub fn turn(&mut self) {
        assert!(self.worker.turn(&mut self.events).is_ok(), "a turn failed");
        while self.reports.try_recv().is_ok() {}
    }

    /// Messages queued or outstanding.
    pub fn outstanding(&self) -> usize {
        self.worker.context.source.outstanding
    }
}
