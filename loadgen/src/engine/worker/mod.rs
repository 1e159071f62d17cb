//! One measuring thread: an event loop that drives its flows at its schedule and records what happens.
//!
//! [`Worker::run`] reads as the life of a thread: connect everything, wait for the common start,
//! then turn the loop until the last echo is back or had its time. The thread shares nothing with
//! the others. Every now and then it hands what it recorded to the coordinator and goes on with
//! an empty [`Slice`].

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use echomark::net::affinity;
use echomark::net::clock::monotonic_ns;
use echomark::net::errno;
use mio::{Events, Interest, Poll, Token};

pub mod bench;
mod connect;
mod final_report;
mod housekeeping;
mod marked;
mod task;

pub(crate) use final_report::FlowReport;
pub(crate) use task::{Failure, Report, Task};

use marked::Marked;

use crate::engine::connection::{Connect, Connection, Dialer, Ended, FlowId};
use crate::engine::histogram::BucketCounts;
use crate::engine::meter::{End, Meter, nanoseconds};
use crate::engine::schedule::{Arrivals, Due, Schedule, Span};
use crate::engine::slice::Slice;
use crate::engine::sys::Alarm;
use crate::engine::tcp::TcpTotals;
use crate::engine::workload::{Connects, Flow, Order};
use crate::plan::{Direction, Load, Pacing, Spacing, Workload};

/// Events taken from the kernel at once.
const EVENTS: usize = 256;
/// Bytes of the read buffer; any datagram fits.
const BUFFER: usize = 64 << 10;
/// Messages of a thread that may be queued or out at a time. Beyond it, messages that are due are
/// counted as unsent, so that a server that stands still can't fill the client's memory.
const MAX_OUTSTANDING: usize = 1 << 21;
/// How long before a message is due the thread stops sleeping and spins. A thread that sleeps gives
/// its processor away and may get it back late: docs/calibration.md has the experiment.
const SPIN_NS: u64 = 250_000;
/// The same where spinning would take the processor away from the server: when this process may not
/// use more of them than it has measuring threads.
const SPIN_SHARED_NS: u64 = 50_000;
/// How long an interrupted run waits for the echoes of what is out.
const INTERRUPTED_DRAIN_NS: u64 = 500_000_000;
const ALARM: Token = Token(usize::MAX);

/// One thread's flows and loop.
#[derive(Debug)]
pub(crate) struct Worker<F> {
    poll: Poll,
    alarm: Alarm,
    armed_for: u64,
    /// How long before a message is due the thread stops sleeping.
    spin_ns: u64,
    dialer: Dialer,
    connects: Connects,
    flows: Vec<F>,
    meter: Meter,
    buffer: Box<[u8]>,
    /// Flows that have something new to write.
    dirty: Marked,
    /// Flows that may have more to read than their turn allowed.
    unread: Marked,
    /// Where any flow may take a message: the flows that have none,
    idle: VecDeque<usize>,
    /// those that failed and rest before the next try,
    resting: Vec<usize>,
    /// and the messages that wait for one.
    waiting: VecDeque<Order>,
    /// The flow of which TCP is asked next, and how many were asked in this interval.
    sample_next: usize,
    sampled: usize,
    sample_round_at: u64,
    rate_bits: u64,
    housekeeping_at: u64,
    /// Waiting for echoes ends then.
    deadline: u64,
    tcp_totals: TcpTotals,
    task: Task,
}

impl<F: Flow> Worker<F> {
    /// A thread's life. Whatever goes wrong is reported.
    pub(crate) fn run(task: Task, spare: Receiver<Box<Slice<BucketCounts>>>) {
        let (reports, worker) = (task.reports.clone(), task.worker);
        let result = Self::new(task, spare)
            .map_err(Failure::System)
            .and_then(Self::live);
        if let Err(failure) = result {
            // The coordinator is gone only if it has stopped caring.
            let _ = reports.send(Report::Failed { worker, failure });
        }
    }

    fn new(task: Task, spare: Receiver<Box<Slice<BucketCounts>>>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut alarm = Alarm::new()?;
        poll.registry()
            .register(&mut alarm, ALARM, Interest::READABLE)?;
        let meter = Meter::new(&task, spare);
        let share = task.share();
        let mut flows = Vec::with_capacity(share.len());
        for key in 0..share.len() {
            let number = share.global(key);
            let target = number % task.addresses.len();
            let connection = Connection::new(FlowId {
                key,
                number,
                target,
            });
            flows.push(F::new(connection, &meter));
        }
        let plan = &task.plan;
        Ok(Self {
            poll,
            alarm,
            armed_for: 0,
            spin_ns: match plan.pacing {
                Pacing::Sleep => 0,
                Pacing::Spin => u64::MAX,
                Pacing::Hybrid if plan.threads < affinity::usable_cpus() => SPIN_NS,
                Pacing::Hybrid => SPIN_SHARED_NS,
            },
            dialer: Dialer::new(
                Arc::clone(&task.addresses),
                plan.socket.tuning(),
                plan.sources.clone(),
                task.index,
                plan.threads.get(),
            ),
            connects: match plan.workload {
                Workload::Churn { .. } => Connects::PerMessage,
                Workload::Idle => Connects::Once,
                Workload::Request | Workload::Stream { .. } => Connects::Always,
            },
            dirty: Marked::new(flows.len()),
            unread: Marked::new(flows.len()),
            idle: VecDeque::new(),
            resting: Vec::new(),
            waiting: VecDeque::new(),
            sample_next: 0,
            sampled: 0,
            sample_round_at: 0,
            rate_bits: 0,
            flows,
            meter,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            housekeeping_at: 0,
            deadline: u64::MAX,
            tcp_totals: TcpTotals::default(),
            task,
        })
    }

    fn live(mut self) -> Result<(), Failure> {
        self.connect_all()?;
        let Ok(start) = self.task.go.recv() else {
            return Ok(());
        };
        self.begin(start);
        let mut events = Events::with_capacity(EVENTS);
        while !self.is_finished() {
            self.turn(&mut events)?;
        }
        self.finish();
        Ok(())
    }

    /// One turn of the loop.
    fn turn(&mut self, events: &mut Events) -> Result<(), Failure> {
        self.wait(events).map_err(Failure::System)?;
        self.dispatch(events);
        self.read_on();
        self.issue();
        self.look_after()
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
        let span = Span {
            start,
            counted_from: window_start,
            end,
            quota,
        };
        let schedule = match &plan.load {
            // The server decides what comes.
            _ if plan.direction() == Some(Direction::Down) => Schedule::idle(),
            Load::Closed { pipeline } => {
                let depth = match self.connects {
                    Connects::PerMessage => 1,
                    Connects::Always | Connects::Once => pipeline.get(),
                };
                Schedule::new(Arrivals::Closed { depth }, share, span)
            }
            Load::Open { rate, arrivals, .. } => {
                let profile = rate.clone();
                let arrivals = match arrivals {
                    Spacing::Constant => Arrivals::Constant { profile },
                    Spacing::Poisson => Arrivals::Poisson {
                        profile,
                        seed: plan.seed.wrapping_add(self.task.index as u64),
                    },
                };
                Schedule::new(arrivals, share, span)
            }
        };
        self.meter.begin(schedule, window_start, end);
        self.deadline = end.saturating_add(self.meter.timeout_ns);
        for key in 0..self.flows.len() {
            if self.connects == Connects::PerMessage {
                self.idle.push_back(key);
            } else if self.flows[key].connection().is_open() {
                // What happened to the connections since they stood shows at the first read.
                self.unread.push(key);
            }
        }
    }

    /// Sleeps until something happens or is due; spins when it is due so soon that waking up could
    /// come too late. epoll_wait(2) counts milliseconds, so the precise part is a timer's.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let before = self.meter.now();
        let mut is_spinning = false;
        // A stream makes its own next block due, without an event.
        let has_work =
            self.unread.len() + self.dirty.len() > 0 || self.meter.schedule.has_ready(before);
        let timeout = if has_work {
            Duration::ZERO
        } else {
            // At the end of an interval, counts are brought up to date.
            let housekeeping_at = self.housekeeping_at.min(self.meter.boundary());
            let until_housekeeping = housekeeping_at.saturating_sub(before);
            match self.meter.schedule.next_due() {
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
                    // At once, so that what is due does not wait for the batch.
                    if self.has_to_issue() {
                        self.issue();
                    }
                }
            }
        }
    }

    fn handle(&mut self, key: usize, event: &mio::event::Event) {
        let Some(flow) = self.flows.get_mut(key) else {
            return;
        };
        flow.connection_mut().note(event);
        if !flow.connection().is_open() {
            if self.go_on_connecting(key) && event.is_readable() {
                self.receive(key);
            }
            return;
        }
        match flow.receive(&mut self.meter, &mut self.buffer) {
            Ok(false) => {
                if flow.has_to_send() {
                    self.dirty.push(key);
                }
            }
            result => self.follow_up(key, result),
        }
    }

    /// Goes on with a connect that is under way, and says whether the connection stands.
    fn go_on_connecting(&mut self, key: usize) -> bool {
        let connection = self.flows[key].connection_mut();
        match connection.finish_connect(&mut self.dialer, self.poll.registry()) {
            Ok(connect) => self.note_connect(key, &connect),
            Err(ended) => {
                self.end(key, &ended);
                false
            }
        }
    }

    fn note_connect(&mut self, key: usize, connect: &Connect) -> bool {
        match *connect {
            Connect::Pending => false,
            Connect::Done(took) => {
                self.meter.tick();
                self.meter.enter_interval();
                self.flows[key].connected(took, &mut self.meter);
                self.dirty.push(key);
                true
            }
        }
    }

    /// Gives flows that did not read all they could another turn.
    fn read_on(&mut self) {
        for _ in 0..self.unread.len() {
            let Some(key) = self.unread.pop() else {
                return;
            };
            self.receive(key);
        }
    }

    #[inline(never)]
    fn receive(&mut self, key: usize) {
        let result = self.flows[key].receive(&mut self.meter, &mut self.buffer);
        self.follow_up(key, result);
    }

    /// Does what a flow's read calls for.
    #[inline(never)]
    fn follow_up(&mut self, key: usize, result: Result<bool, Ended>) {
        match result {
            Ok(may_have_more) => {
                if may_have_more {
                    self.unread.push(key);
                }
                if self.flows[key].has_to_send() {
                    self.dirty.push(key);
                }
            }
            Err(ended) => self.end(key, &ended),
        }
    }

    #[inline]
    fn has_to_issue(&self) -> bool {
        self.dirty.len() > 0 || self.meter.schedule.may_be_due(self.meter.now())
    }

    /// Queues every message that is due on its flow and writes what flows have to write.
    fn issue(&mut self) {
        while let Some(due) = self.meter.schedule.pop(self.meter.now()) {
            self.queue(due);
        }
        for _ in 0..self.dirty.len() {
            let Some(key) = self.dirty.pop() else {
                return;
            };
            let flow = &mut self.flows[key];
            match flow.send(&mut self.meter) {
                // A stream writes for as long as it may, and others have their turn between.
                Ok(()) if flow.has_to_send() && flow.connection().can_write() => {
                    self.dirty.push(key)
                }
                Ok(()) => {}
                Err(ended) => self.end(key, &ended),
            }
        }
    }

    fn queue(&mut self, due: Due) {
        let order = Order {
            intended: due.intended,
            counted: self.meter.counts(due.intended),
            has_waited: false,
        };
        if order.counted {
            self.meter.record_issued();
        }
        if self.meter.outstanding >= MAX_OUTSTANDING {
            self.meter.slice.counts.unsent += u64::from(order.counted);
            return;
        }
        let Some(flow) = self.flow_for(due) else {
            self.meter.slice.counts.unsent += u64::from(order.counted);
            return;
        };
        self.meter.outstanding += 1;
        let is_held = match self.connects {
            Connects::Always | Connects::Once => {
                self.dirty.push(flow);
                self.flows[flow].push(order, &mut self.meter)
            }
            Connects::PerMessage => match self.idle.pop_front() {
                Some(key) => {
                    self.exchange(key, order);
                    false
                }
                None => {
                    self.waiting.push_back(Order {
                        has_waited: true,
                        ..order
                    });
                    true
                }
            },
        };
        if is_held && order.counted && self.meter.is_open_loop {
            let now = self.meter.now();
            self.meter.slice.record_held(order.intended, now);
        }
    }

    /// The flow that is to send what is due: the one that the schedule names, or if its connection is
    /// gone for good, the next one whose is not. `None` if none is left.
    fn flow_for(&self, due: Due) -> Option<usize> {
        if self.connects != Connects::Once {
            return Some(due.flow);
        }
        let flows = self.flows.len();
        (0..flows)
            .map(|step| (due.flow + step) % flows)
            .find(|&flow| self.flows[flow].connection().is_open())
    }

    /// Lets an idle flow make the connection for a message.
    fn exchange(&mut self, key: usize, order: Order) {
        self.flows[key].push(order, &mut self.meter);
        self.connect(key);
    }

    fn connect(&mut self, key: usize) {
        let connection = self.flows[key].connection_mut();
        match connection.connect(&mut self.dialer, self.poll.registry()) {
            Ok(connect) => {
                self.note_connect(key, &connect);
            }
            Err(ended) => self.end(key, &ended),
        }
    }

    /// Gives a connection up and, if there is a point in it, makes it anew.
    fn end(&mut self, key: usize, ended: &Ended) {
        self.meter.tick();
        self.meter.enter_interval();
        self.count_end(ended);
        self.note_final_report(key);
        let now = self.meter.now();
        let flow = &mut self.flows[key];
        flow.abandon(ended, &mut self.meter);
        flow.connection_mut().close(ended, now);
        match self.connects {
            Connects::Always => self.reconnect(key),
            Connects::Once => {}
            Connects::PerMessage => self.resting.push(key),
        }
    }

    fn count_end(&mut self, ended: &Ended) {
        let counts = &mut self.meter.slice.counts;
        match ended {
            Ended::NotConnected(error) => {
                counts.failed += 1;
                counts.out_of_ports += u64::from(errno::is_port_exhaustion(error));
            }
            Ended::ByPeer => counts.closed_by_peer += 1,
            Ended::Broken => counts.reset += 1,
            // We end it ourselves.
            Ended::Excess | Ended::TimedOut | Ended::ByUs | Ended::Unclosed => {}
        }
    }

    fn reconnect(&mut self, key: usize) {
        let now = self.meter.now();
        // One that fails waits out its backoff, so this does not recur at once.
        if !self.meter.is_window_over() && self.flows[key].connection().wants_to_connect(now) {
            self.connect(key);
        }
    }

    /// Ends the window now and shortens the wait for echoes.
    fn interrupt(&mut self, now: u64) {
        self.settle();
        self.meter.end_window(now, End::Interrupted);
        self.deadline = now + INTERRUPTED_DRAIN_NS.min(self.meter.timeout_ns);
    }

    fn is_finished(&self) -> bool {
        let now = self.meter.now();
        if now >= self.deadline {
            return true;
        }
        let is_window_over = self.meter.is_window_over() || self.task.plan.requests.is_some();
        is_window_over && self.meter.outstanding == 0 && self.meter.schedule.is_over(now)
    }

    /// Closes the books: what is still out is unfinished, what is still queued is unsent.
    fn finish(&mut self) {
        self.settle();
        self.meter.end_window(self.meter.now(), End::Complete);
        for flow in &mut self.flows {
            // A datagram that had its time is lost. Connections end with the run anyway.
            let _ = flow.overdue(&mut self.meter);
            let left = flow.left();
            self.meter.slice.counts.unfinished += left.out;
            self.meter.slice.counts.unsent += left.queued;
        }
        let waiting = self.waiting.iter().filter(|order| order.counted).count();
        self.meter.slice.counts.unsent += waiting as u64;
        let account = self.meter.finish();
        let (flows, tcp) = self.take_final_reports();
        let _ = self.task.reports.send(Report::Finished {
            worker: self.task.worker,
            account,
            flows,
            tcp,
        });
    }

    fn poll_events(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }
}
