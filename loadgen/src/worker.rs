//! One measuring thread: an event loop that drives its flows at its pace and records what happens.
//!
//! [`Worker::run`] reads as the life of a thread: connect everything, wait for the common start,
//! then turn the loop until the last echo is back or had its time. The thread shares nothing with
//! the others. Once in each interval it hands what it recorded to the coordinator and goes on with
//! an empty [`Slice`].

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use echomark::net::affinity;
use echomark::net::sys::{Alarm, monotonic_ns};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

mod connect;

use crate::flow::{Connect, Ended, Flow};
use crate::meter::{Account, Interval, Meter, nanoseconds};
use crate::pace::{Arrivals, Due, Pace, Share, Span};
use crate::payload::Payload;
use crate::plan::{Load, Pacing, Plan, Spacing};
use crate::record::Slice;
use crate::workload::request::Requests;

/// Events taken from the kernel at once.
const EVENTS: usize = 256;
/// Bytes of the read buffer.
const BUFFER: usize = 64 << 10;
/// Messages of a thread that may be queued or out at a time. Beyond it, messages that are due are
/// counted as unsent, so that a server that stands still can't fill the client's memory.
const MAX_OUTSTANDING: usize = 1 << 21;
/// How often timeouts, reconnects and the stop flag are looked at.
const HOUSEKEEPING_NS: u64 = 20_000_000;
/// How long before a message is due the thread stops sleeping and spins. A thread that sleeps gives
/// its processor away and may get it back late: docs/calibration.md has the experiment.
const SPIN_NS: u64 = 250_000;
/// The same where spinning would take the processor away from the server: when this process may not
/// use more of them than it has measuring threads.
const SPIN_SHARED_NS: u64 = 50_000;
/// How long an interrupted run waits for the echoes of what is out.
const INTERRUPTED_DRAIN_NS: u64 = 500_000_000;
/// Connections in a row that every flow saw closed before a byte came back, until the target is
/// taken for one that does not echo.
const BARREN_LIMIT: u32 = 3;

const ALARM: Token = Token(usize::MAX);

/// What a thread needs to know.
#[derive(Debug)]
pub(crate) struct Task {
    /// The thread's number.
    pub(crate) index: usize,
    pub(crate) plan: Arc<Plan>,
    pub(crate) payload: Arc<Payload>,
    /// One address for each target, in the plan's order.
    pub(crate) addresses: Arc<[SocketAddr]>,
    pub(crate) reports: Sender<Report>,
    /// The start of the schedule, once every thread is connected; closed if there will be none.
    pub(crate) go: Receiver<u64>,
    /// Any of them set ends the run early: the user's wish, another thread's failure.
    pub(crate) stop: [Arc<AtomicBool>; 2],
}

/// What a thread tells the coordinator.
#[derive(Debug)]
pub(crate) enum Report {
    /// All connects are through.
    Connected {
        opened: usize,
        /// The first that failed: its target's number, and why.
        failure: Option<(usize, io::Error)>,
    },
    /// What was recorded in an interval; `None` if nothing.
    Slice {
        worker: usize,
        interval: Interval,
        /// When the interval ended, by plan or because the window did.
        end: u64,
        slice: Option<Box<Slice>>,
    },
    /// The thread is done; it has reported every slice.
    Finished { worker: usize, account: Account },
    /// The thread can't go on.
    Failed(Failure),
}

/// Why a thread can't go on.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A system call failed that should not.
    System(io::Error),
    /// The target with this number accepts connections and closes them without an echo.
    ClosesAtOnce { target: usize },
}

/// One thread's flows and loop.
#[derive(Debug)]
pub(crate) struct Worker {
    poll: Poll,
    alarm: Alarm,
    armed_for: u64,
    /// How long before a message is due the thread stops sleeping.
    spin_ns: u64,
    flows: Slab<Flow>,
    meter: Meter,
    buffer: Box<[u8]>,
    /// Flows that have something new to write.
    dirty: Vec<usize>,
    /// Flows that may have more to read than their turn allowed.
    unread: VecDeque<usize>,
    housekeeping_at: u64,
    /// Waiting for echoes ends then.
    deadline: u64,
    task: Task,
}

impl Worker {
    /// A thread's life. Whatever goes wrong is reported.
    pub(crate) fn run(task: Task, spare: Receiver<Box<Slice>>) {
        let reports = task.reports.clone();
        let result = Self::new(task, spare)
            .map_err(Failure::System)
            .and_then(Self::live);
        if let Err(failure) = result {
            // The coordinator is gone only if it has stopped caring.
            let _ = reports.send(Report::Failed(failure));
        }
    }

    fn new(task: Task, spare: Receiver<Box<Slice>>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut alarm = Alarm::new()?;
        poll.registry()
            .register(&mut alarm, ALARM, Interest::READABLE)?;
        let meter = Meter::new(&task, spare);
        let share = task.share();
        let mut flows = Slab::with_capacity(share.len());
        for flow in 0..share.len() {
            let number = share.global(flow);
            let target = number % task.addresses.len();
            let depth = task.plan.pipeline().map(usize::from);
            let requests = Requests::new(task.plan.size.get(), depth);
            flows.insert(Flow::new(
                flow,
                number,
                target,
                task.addresses[target],
                requests,
                &meter,
            ));
        }
        Ok(Self {
            poll,
            alarm,
            armed_for: 0,
            spin_ns: match task.plan.pacing {
                Pacing::Sleep => 0,
                Pacing::Hybrid if task.plan.threads < affinity::usable_cpus() => SPIN_NS,
                Pacing::Hybrid => SPIN_SHARED_NS,
                Pacing::Spin => u64::MAX,
            },
            flows,
            meter,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            dirty: Vec::new(),
            unread: VecDeque::new(),
            housekeeping_at: 0,
            deadline: u64::MAX,
            task,
        })
    }

    fn live(mut self) -> Result<(), Failure> {
        self.connect_all().map_err(Failure::System)?;
        let Ok(start) = self.task.go.recv() else {
            return Ok(());
        };
        self.begin(start);
        let mut events = Events::with_capacity(EVENTS);
        while !self.is_finished() {
            self.wait(&mut events).map_err(Failure::System)?;
            self.dispatch(&events);
            self.read_on();
            self.issue();
            self.look_after()?;
        }
        self.finish();
        Ok(())
    }

    /// Lays the schedule out from the common start on.
    fn begin(&mut self, start: u64) {
        let plan = &self.task.plan;
        let share = self.task.share();
        let window_start = start + nanoseconds(plan.warmup);
        let end = plan.duration.map_or(u64::MAX, |duration| {
            window_start.saturating_add(nanoseconds(duration))
        });
        let quota = plan.requests.map_or(u64::MAX, |requests| {
            // The first threads take one more each until the rest is used up.
            let threads = self.task.plan.threads.get() as u64;
            let rest = requests.get() % threads;
            requests.get() / threads + u64::from((self.task.index as u64) < rest)
        });
        let arrivals = match &plan.load {
            Load::Closed { pipeline } => Arrivals::Closed {
                depth: pipeline.get(),
            },
            Load::Open {
                rate,
                arrivals: Spacing::Constant,
                ..
            } => Arrivals::Constant {
                profile: rate.clone(),
            },
            Load::Open {
                rate,
                arrivals: Spacing::Poisson,
                ..
            } => Arrivals::Poisson {
                profile: rate.clone(),
                seed: plan.seed.wrapping_add(self.task.index as u64),
            },
        };
        let span = Span {
            start,
            counted_from: window_start,
            end,
            quota,
        };
        let pace = Pace::new(arrivals, share, span);
        self.meter.begin(pace, window_start, end);
        self.deadline = end.saturating_add(self.meter.timeout_ns);
        // What happened to the connections since they stood shows at the first read.
        for (key, flow) in &mut self.flows {
            flow.is_unread = flow.is_open();
            if flow.is_unread {
                self.unread.push_back(key);
            }
        }
    }

    /// Sleeps until something happens or is due; spins when it is due so soon that waking up could
    /// come too late. epoll_wait(2) counts milliseconds, so the precise part is a timer's.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let before = self.meter.now();
        let mut is_spinning = false;
        let timeout = if !self.unread.is_empty() {
            Duration::ZERO
        } else {
            let until_housekeeping = self.housekeeping_at.saturating_sub(before);
            match self.meter.pace.next_due() {
                Some(due) if due <= before.saturating_add(self.spin_ns) => {
                    is_spinning = true;
                    Duration::ZERO
                }
                Some(due) => {
                    // Even if housekeeping comes first: it may wake up to a millisecond late.
                    let wake_at = due - self.spin_ns;
                    if self.armed_for != wake_at {
                        self.alarm.set(wake_at)?;
                        self.armed_for = wake_at;
                    }
                    Duration::from_nanos(until_housekeeping)
                }
                None => Duration::from_nanos(until_housekeeping),
            }
        };
        let began = if is_spinning { monotonic_ns() } else { 0 };
        self.poll_events(events, Some(timeout))?;
        // With a connection's event, its first read tells the time.
        if events.is_empty() {
            self.meter.tick();
            if is_spinning {
                self.meter.note_spin(began);
            }
        }
        Ok(())
    }

    fn dispatch(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                ALARM => self.meter.tick(),
                Token(key) => {
                    self.handle(key, event);
                    // At once, so that a closed loop's next message does not wait for the batch.
                    self.issue();
                }
            }
        }
    }

    fn handle(&mut self, key: usize, event: &mio::event::Event) {
        let Some(flow) = self.flows.get_mut(key) else {
            return;
        };
        flow.note(event);
        if flow.is_connecting() {
            match flow.finish_connect(&self.meter) {
                Ok(Connect::Pending) => return,
                Ok(Connect::Done(took)) => self.meter.record_connect(took),
                Err(ended) => return self.end(key, &ended),
            }
        }
        self.receive(key);
        if self.flows[key].requests.writable() > 0 {
            self.mark_dirty(key);
        }
    }

    /// Gives flows that did not read all they could another turn.
    fn read_on(&mut self) {
        for _ in 0..self.unread.len() {
            let Some(key) = self.unread.pop_front() else {
                return;
            };
            self.flows[key].is_unread = false;
            self.receive(key);
            if self.flows[key].requests.writable() > 0 {
                self.mark_dirty(key);
            }
        }
    }

    fn receive(&mut self, key: usize) {
        let flow = &mut self.flows[key];
        match flow.receive(&mut self.meter, &mut self.buffer) {
            Ok(false) => {}
            Ok(true) => {
                if !std::mem::replace(&mut flow.is_unread, true) {
                    self.unread.push_back(key);
                }
            }
            Err(ended) => self.end(key, &ended),
        }
    }

    /// Queues every message that is due on its flow and writes what flows have to write.
    fn issue(&mut self) {
        while let Some(due) = self.meter.pace.pop(self.meter.now()) {
            self.queue(due);
        }
        while let Some(key) = self.dirty.pop() {
            let flow = &mut self.flows[key];
            flow.is_dirty = false;
            if let Err(ended) = flow.send(&mut self.meter) {
                self.end(key, &ended);
            }
        }
    }

    fn queue(&mut self, due: Due) {
        let is_counted = self.meter.counts(due.intended);
        if is_counted {
            self.meter.enter_interval_of(self.meter.now());
            self.meter.slice.counts.issued += 1;
        }
        if self.meter.outstanding >= MAX_OUTSTANDING {
            self.meter.slice.counts.unsent += u64::from(is_counted);
            return;
        }
        self.meter.outstanding += 1;
        let flow = &mut self.flows[due.flow];
        let can_write = flow.can_write();
        let is_held = flow.requests.push(due.intended, can_write, is_counted);
        if is_held && is_counted && self.meter.is_open_loop {
            self.meter.slice.record_held(due.intended, self.meter.now());
        }
        self.mark_dirty(due.flow);
    }

    fn mark_dirty(&mut self, key: usize) {
        if !std::mem::replace(&mut self.flows[key].is_dirty, true) {
            self.dirty.push(key);
        }
    }

    /// Gives a connection up and, if there is a point in it, makes it anew.
    fn end(&mut self, key: usize, ended: &Ended) {
        self.meter.tick();
        let now = self.meter.now();
        self.meter.enter_interval_of(now);
        let flow = &mut self.flows[key];
        let before = flow.requests.len();
        flow.end(ended, now, &mut self.meter);
        self.meter.outstanding -= before - flow.requests.len();
        if matches!(ended, Ended::Excess) {
            self.meter.slice.counts.duplicated += 1;
        }
        self.reconnect(key);
    }

    fn reconnect(&mut self, key: usize) {
        let now = self.meter.now();
        let flow = &mut self.flows[key];
        if !self.meter.is_window_over()
            && flow.wants_to_connect(now)
            && let Err(ended) = flow.connect(self.poll.registry(), Token(key))
        {
            // It waits out its backoff, so this does not recur at once.
            flow.end(&ended, now, &mut self.meter);
        }
    }

    /// Timeouts, reconnects, the stop flag: what needs no precision.
    fn look_after(&mut self) -> Result<(), Failure> {
        let now = self.meter.now();
        self.meter.enter_interval_of(now);
        if now < self.housekeeping_at {
            return Ok(());
        }
        self.housekeeping_at = now + HOUSEKEEPING_NS;
        if self.task.is_stopped() && !self.meter.is_draining() {
            self.interrupt(now);
        }
        if self.meter.is_window_over() {
            return Ok(());
        }
        for key in 0..self.flows.len() {
            if let Some(ended) = self.flows[key].overdue(now, self.meter.timeout_ns) {
                self.end(key, &ended);
            } else {
                self.reconnect(key);
            }
        }
        if !self.meter.has_received
            && self
                .flows
                .iter()
                .all(|(_, flow)| flow.barren >= BARREN_LIMIT)
            && let Some((_, flow)) = self.flows.iter().find(|(_, flow)| flow.was_closed_at_once)
        {
            return Err(Failure::ClosesAtOnce {
                target: flow.target,
            });
        }
        Ok(())
    }

    /// Ends the window now and shortens the wait for echoes.
    fn interrupt(&mut self, now: u64) {
        self.meter.note_interrupt();
        self.meter.end_window(now);
        self.deadline = now + INTERRUPTED_DRAIN_NS.min(self.meter.timeout_ns);
    }

    fn is_finished(&self) -> bool {
        let now = self.meter.now();
        if now >= self.deadline {
            return true;
        }
        let is_window_over = self.meter.is_window_over() || self.task.plan.requests.is_some();
        is_window_over && self.meter.outstanding == 0 && self.meter.pace.is_over(now)
    }

    /// Closes the books: what is still out is unfinished, what is still queued is unsent.
    fn finish(&mut self) {
        self.meter.end_window(self.meter.now());
        for (_, flow) in &self.flows {
            let (out, queued) = flow.requests.left();
            self.meter.slice.counts.unfinished += out;
            self.meter.slice.counts.unsent += queued;
        }
        let account = self.meter.finish();
        let _ = self.task.reports.send(Report::Finished {
            worker: self.task.index,
            account,
        });
    }

    fn poll_events(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }
}

impl Task {
    fn is_stopped(&self) -> bool {
        self.stop.iter().any(|flag| flag.load(Ordering::Relaxed))
    }

    fn share(&self) -> Share {
        Share {
            total: self.plan.connections.get(),
            first: self.index,
            stride: self.plan.threads.get(),
        }
    }
}
