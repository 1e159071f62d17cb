//! A measuring thread's state and life.

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use echomark::net::affinity;
use echomark::net::tuning::Tuning;
use mio::{Events, Interest, Poll, Token};

use super::key_queue::KeyQueue;
use super::tcp_sampler::TcpSampler;
use crate::engine::connection::{Address, Connection, Dialer, FlowId};
use crate::engine::context::Context;
use crate::engine::histogram::BucketCounts;
use crate::engine::interval::nanoseconds;
use crate::engine::priority::Granted;
use crate::engine::recorder::End;
use crate::engine::schedule::{Arrivals, Schedule, Span};
use crate::engine::slice::Slice;
use crate::engine::source::Order;
use crate::engine::sys::Alarm;
use crate::engine::task::{Account, Failure, Report, Task};
use crate::engine::tcp::TcpTotals;
use crate::engine::workload::{Connects, Flow};
use crate::plan::{Direction, Load, Opening, Pacing, Spacing, Workload};

/// Maximum of events per epoll_wait(2).
pub(super) const MAX_EVENTS: usize = 256;
/// Bytes of the read buffer. Any datagram fits.
const BUFFER_BYTES: usize = 64 << 10;
/// How long before a due message the thread stops sleeping and spins. A sleeping thread gives up
/// its CPU and may get it back late; docs/calibration.md has the experiment.
const SPIN_NS: u64 = 250_000;
/// The same time if this process has no more CPUs than measuring threads. Longer spinning would
/// take CPU time from the server.
const SPIN_SHARED_NS: u64 = 50_000;
/// The token of the alarm. Flows use their keys as tokens.
pub(super) const ALARM: Token = Token(usize::MAX);

/// One thread's flows and loop.
#[derive(Debug)]
pub(crate) struct Worker<F> {
    pub(super) poll: Poll,
    pub(super) alarm: Alarm,
    pub(super) armed_for: u64,
    /// How long before a due message the thread stops sleeping.
    pub(super) spin_ns: u64,
    pub(super) dialer: Dialer,
    pub(super) connects: Connects,
    pub(super) flows: Vec<F>,
    pub(super) context: Context,
    pub(super) buffer: Box<[u8; BUFFER_BYTES]>,
    /// Flows with new data to write.
    pub(super) dirty: KeyQueue,
    /// Flows with more to read than their turn allowed.
    pub(super) unread: KeyQueue,
    /// If any flow may take a message: the idle flows,
    pub(super) idle: VecDeque<usize>,
    /// the failed flows that wait for their backoff,
    pub(super) resting: Vec<usize>,
    /// and the messages that wait for a flow.
    pub(super) waiting: VecDeque<Order>,
    pub(super) tcp_sampler: TcpSampler,
    pub(super) tcp_totals: TcpTotals,
    /// The last rate set by the user.
    pub(super) rate_bits: u64,
    pub(super) housekeeping_at: u64,
    /// Since when nothing came back as it was sent, although something was sent.
    pub(super) silent_since: Option<u64>,
    /// The end of the wait for echoes.
    pub(super) deadline: u64,
    pub(super) task: Task,
    /// The start, and how late the first message was.
    began_at: u64,
    /// What the thread got of the scheduler.
    scheduling: Granted,
}

impl<F: Flow> Worker<F> {
    /// A thread's life. Errors are reported to the coordinator.
    pub(crate) fn run(task: Task, spare: Receiver<Box<Slice<BucketCounts>>>) {
        let (reports, worker) = (task.reports.clone(), task.worker);
        let result = Self::new(task, spare)
            .map_err(Failure::System)
            .and_then(Self::live);
        if let Err(failure) = result {
            // The receiver is gone only if the run has failed.
            let _ = reports.send(Report::Failed { worker, failure });
        }
    }

    pub(super) fn new(task: Task, spare: Receiver<Box<Slice<BucketCounts>>>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut alarm = Alarm::new()?;
        poll.registry()
            .register(&mut alarm, ALARM, Interest::READABLE)?;
        let context = Context::new(&task, spare);
        let share = task.share();
        let flow = |key| {
            let number = share.global(key);
            let target = number % task.addresses.len();
            let connection = Connection::new(FlowId {
                key,
                number,
                target,
            });
            F::new(connection, &context)
        };
        let flows: Vec<F> = (0..share.len()).map(flow).collect();
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
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
                tuning(&task),
                plan.sources.clone(),
                share,
            )
            .opening(
                &plan.opening,
                matches!(plan.workload, Workload::Churn { .. }),
            ),
            connects: match plan.workload {
                Workload::Churn { .. } => Connects::PerMessage,
                Workload::Idle => Connects::Once,
                Workload::Request | Workload::Stream { .. } => Connects::Always,
            },
            dirty: KeyQueue::new(flows.len()),
            unread: KeyQueue::new(flows.len()),
            idle: VecDeque::new(),
            resting: Vec::new(),
            waiting: VecDeque::new(),
            tcp_sampler: TcpSampler::default(),
            tcp_totals: TcpTotals::default(),
            rate_bits: 0,
            flows,
            context,
            buffer: buffer.try_into().expect("it has this length"),
            housekeeping_at: 0,
            silent_since: None,
            deadline: u64::MAX,
            task,
            began_at: 0,
            scheduling: Granted::default(),
        })
    }

    fn live(mut self) -> Result<(), Failure> {
        self.scheduling = self.task.scheduling.apply();
        self.connect_all()?;
        let Ok(start) = self.task.go.recv() else {
            return Ok(());
        };
        self.begin(start);
        let first_due = self.context.source.schedule.next_due().unwrap_or(start);
        let mut events = Events::with_capacity(MAX_EVENTS);
        while self.context.now() < first_due && !self.is_finished() {
            self.turn(&mut events)?;
        }
        self.began_at = start + self.context.now().saturating_sub(first_due);
        while !self.is_finished() {
            self.turn(&mut events)?;
        }
        self.finish();
        Ok(())
    }

    /// Lays out the schedule from the common start on.
    pub(super) fn begin(&mut self, start: u64) {
        let plan = &self.task.plan;
        let window_start = start + nanoseconds(plan.warmup);
        let window_end = plan.duration.map_or(u64::MAX, |duration| {
            window_start.saturating_add(nanoseconds(duration))
        });
        let schedule = self.schedule(Span {
            start,
            counted_from: window_start,
            end: window_end,
            quota: plan.requests.map_or(u64::MAX, NonZeroU64::get),
        });
        let window_end = window_end.min(schedule.end());
        self.context.begin(schedule, window_start, window_end);
        self.deadline = window_end.saturating_add(self.context.timeout_ns);
        for key in 0..self.flows.len() {
            if self.connects == Connects::PerMessage {
                self.idle.push_back(key);
            } else if self.flows[key].connection().is_open() {
                // Connections may have ended since they were established; the first read shows it.
                self.unread.push(key);
            }
        }
    }

    /// Ends the window with the schedule, whose end a number of messages, or a rate that the user set,
    /// may have changed.
    pub(super) fn follow_schedule(&mut self) {
        let end = self.context.source.schedule.end();
        if self.task.plan.requests.is_some() && self.context.recorder.clock.set_window_end(end) {
            self.deadline = end.saturating_add(self.context.timeout_ns);
        }
    }

    fn schedule(&self, span: Span) -> Schedule {
        let plan = &self.task.plan;
        let arrivals = match &plan.load {
            // The server decides the amount.
            _ if plan.direction() == Some(Direction::Down) => return Schedule::idle(),
            Load::Closed { pipeline } => Arrivals::Closed {
                depth: match self.connects {
                    Connects::PerMessage => 1,
                    Connects::Always | Connects::Once => pipeline.get(),
                },
            },
            Load::Open { rate, arrivals, .. } => {
                let profile = rate.clone();
                match arrivals {
                    Spacing::Constant => Arrivals::Constant { profile },
                    Spacing::Poisson => Arrivals::Poisson {
                        profile,
                        seed: plan.seed.wrapping_add(self.task.share().first as u64),
                    },
                }
            }
        };
        Schedule::new(arrivals, self.task.share(), span)
    }

    fn is_finished(&self) -> bool {
        let now = self.context.now();
        if now >= self.deadline {
            return true;
        }
        let clock = &self.context.recorder.clock;
        // A closed loop's number of messages ends with the last answer.
        let is_counted = self.task.plan.requests.is_some()
            && (!self.context.recorder.is_open_loop() || clock.window_end() == u64::MAX);
        let is_window_over = clock.is_window_over() || is_counted;
        let source = &self.context.source;
        is_window_over && source.outstanding == 0 && source.schedule.is_over(now)
    }

    /// Settles the counts: outstanding messages are unfinished, queued ones unsent.
    fn finish(&mut self) {
        self.settle();
        self.context.end_window(self.context.now(), End::Complete);
        let waiting = self.waiting.iter().filter(|order| order.counted).count();
        let (mut unfinished, mut unsent) = (0, waiting as u64);
        for flow in &mut self.flows {
            // A datagram beyond its timeout is lost. Connections end with the run anyway.
            let _ = flow.overdue(&mut self.context);
            let left = flow.left();
            unfinished += left.out;
            unsent += left.queued;
        }
        let counts = self.context.recorder.counts();
        counts.unfinished += unfinished;
        counts.unsent += unsent;
        let account = Box::new(Account {
            scheduling: self.scheduling,
            began_at: self.began_at,
            ..self.context.recorder.finish()
        });
        let (flows, tcp) = self.final_reports();
        // The receiver is gone only if the run has failed.
        let _ = self.task.reports.send(Report::Finished {
            worker: self.task.worker,
            account,
            flows,
            tcp,
            backends: self.context.backends.reports(),
            agreed: std::mem::take(&mut self.context.agreed),
        });
    }
}

/// The options of the thread's sockets. TCP_NODELAY is not set where it would change nothing: Nagle's
/// algorithm holds no segment back while none is unacknowledged (RFC 9293, section 3.7.4), and in churn a
/// message that fits one segment is all that its connection sends.
fn tuning(task: &Task) -> Tuning {
    /// The segment that every path takes (RFC 9293, section 3.7.1).
    const MIN_SEGMENT: u32 = 536;
    let plan = &task.plan;
    let tuning = plan.socket.tuning();
    // A handshake has several segments.
    let mut addresses = task.addresses.iter();
    let has_tls = addresses.any(|address| matches!(address, Address::Tls { .. }));
    let is_one_segment = matches!(plan.workload, Workload::Churn { .. })
        && plan.size.most() <= MIN_SEGMENT
        && plan.opening == Opening::default()
        && !has_tls;
    Tuning {
        nodelay: tuning.nodelay && !is_one_segment,
        ..tuning
    }
}
