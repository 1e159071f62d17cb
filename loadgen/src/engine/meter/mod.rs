//! What a measuring thread records into and draws from: everything of it but its sockets. The clock
//! is read here, the window and its intervals are kept here, and the thread watches itself here.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use echomark::net::clock::monotonic_ns;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use crate::engine::histogram::BucketCounts;
use crate::engine::in_flight::{Abandoned, Done};
use crate::engine::payload::{Payload, StreamId};
use crate::engine::schedule::Schedule;
use crate::engine::slice::Slice;
use crate::engine::sys::{self, SchedulerStatistics, ThreadUsage};
use crate::engine::worker::{Report, Task};
use crate::engine::workload::Order;
use crate::plan::sizes::Sizes;
use crate::plan::{Close, Workload};

mod division;

pub(crate) use division::Division;

/// The longest that a poll which finds nothing can take while it runs. In one that took longer, the
/// thread was not on a processor, and that is no spinning.
const EMPTY_POLL_NS: u64 = 10_000;

/// A stretch of the run.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Interval {
    /// The number-th interval of the time in which all connections are made.
    Ramp(u64),
    /// Warming up.
    Before,
    /// The number-th slice of the window.
    Within(u64),
    /// After the window, waiting for what is still out.
    Drain,
}

/// A thread's account of itself over the window.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    /// When it recorded its last echo, or gave up waiting.
    pub(crate) finished_at: u64,
    /// When its window ended: by plan, by an interruption, or with the last echo of so many
    /// messages, whatever was still waited for.
    pub(crate) window_ended_at: u64,
    /// Length of the window as the thread lived it.
    pub(crate) wall_ns: u64,
    /// Time on a processor.
    pub(crate) cpu_ns: u64,
    /// The part of it that it spun, with nothing to do but wait for the next message's time.
    pub(crate) spin_ns: u64,
    pub(crate) involuntary_switches: u64,
    /// Time that it was ready to run and had no processor, and how often it then got one, where the
    /// kernel tells.
    pub(crate) run_delay: Option<(u64, u64)>,
    /// The stop flag ended its window.
    pub(crate) was_interrupted: bool,
    /// Payload bytes of the whole run, handed to the kernel and come back or acknowledged.
    pub(crate) bytes_out: u64,
    pub(crate) bytes_in: u64,
    /// Where the first wrong byte was: flow, and offset in its stream.
    pub(crate) corruption: Option<(usize, u64)>,
}

/// What a flow records into and draws from: everything of the thread but its sockets.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) payload: Arc<Payload>,
    pub(crate) slice: Box<Slice<BucketCounts>>,
    pub(crate) schedule: Schedule,
    /// The most messages out on each connection.
    pub(crate) depth: Option<usize>,
    pub(crate) is_open_loop: bool,
    pub(crate) is_verifying: bool,
    pub(crate) timeout_ns: u64,
    /// How a workload that closes connections does it.
    pub(crate) close: Close,
    sizes: Sizes,
    size_rng: Xoshiro256PlusPlus,
    /// A datagram is put together here.
    scratch: Vec<u8>,
    now: u64,
    ramp_began: u64,
    window: Window,
    interval: Interval,
    division: Division,
    /// When the current interval ends.
    boundary: u64,
    /// The same if the interval lies within the window and all messages are of one size, else 0.
    turns_until: u64,
    /// That size.
    turn_size: u32,
    /// Messages queued or out, over all flows.
    pub(crate) outstanding: usize,
    has_received: bool,
    /// When a message of the window last was due or complete.
    progress_at: u64,
    usage: ThreadUsage,
    usage_at: u64,
    sched: Option<SchedulerStatistics>,
    account: Account,
    reports: Sender<Report>,
    spare: Receiver<Box<Slice<BucketCounts>>>,
    worker: usize,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    start: u64,
    end: u64,
}

impl Meter {
    pub(crate) fn new(task: &Task, spare: Receiver<Box<Slice<BucketCounts>>>) -> Self {
        let plan = &task.plan;
        Self {
            payload: Arc::clone(&task.payload),
            slice: Slice::touched(),
            schedule: Schedule::idle(),
            depth: plan.pipeline().map(usize::from),
            is_open_loop: plan.is_open_loop(),
            is_verifying: plan.verify,
            timeout_ns: nanoseconds(plan.timeout),
            close: match plan.workload {
                Workload::Churn { close } => close,
                _ => Close::Orderly,
            },
            sizes: plan.size.clone(),
            size_rng: Xoshiro256PlusPlus::seed_from_u64(
                plan.seed ^ (task.index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            ),
            scratch: Vec::new(),
            now: 0,
            ramp_began: 0,
            window: Window {
                start: u64::MAX,
                end: u64::MAX,
            },
            interval: Interval::Ramp(0),
            division: Division::of(plan),
            boundary: u64::MAX,
            turns_until: 0,
            turn_size: plan.size.fixed().unwrap_or(0),
            outstanding: 0,
            has_received: false,
            progress_at: 0,
            usage: ThreadUsage::default(),
            usage_at: 0,
            sched: None,
            account: Account::default(),
            reports: task.reports.clone(),
            spare,
            worker: task.worker,
        }
    }

    /// Begins to make connections.
    pub(crate) fn begin_ramp(&mut self) {
        self.now = monotonic_ns();
        self.ramp_began = self.now;
        self.boundary = self.now.saturating_add(self.division.interval_ns);
    }

    /// All connects are through.
    pub(crate) fn end_ramp(&mut self) {
        self.tick();
        self.enter_interval();
        self.boundary = self.now;
        self.report_slice();
        self.interval = Interval::Before;
        self.boundary = u64::MAX;
    }

    /// Takes the real schedule and window, once the start is known.
    pub(crate) fn begin(&mut self, schedule: Schedule, start: u64, end: u64) {
        self.schedule = schedule;
        self.window = Window { start, end };
        self.boundary = start;
        self.now = monotonic_ns();
    }

    /// Ends the window now, unless it is over, and with it the schedule.
    pub(crate) fn end_window(&mut self, now: u64, end: End) {
        if self.is_draining() {
            return;
        }
        self.account.window_ended_at = match end {
            End::Interrupted => {
                self.account.was_interrupted = true;
                now
            }
            End::Complete => self.progress_at,
        };
        self.schedule.end_at(now);
        self.window.start = self.window.start.min(now);
        self.window.end = self.window.end.min(now);
        self.boundary = self.boundary.min(now);
        self.now = now;
        self.enter_interval();
    }

    /// Hands the rest in and returns the thread's account.
    pub(crate) fn finish(&mut self) -> Account {
        self.report_slice();
        self.account.finished_at = self.now;
        self.account
    }

    /// Reads the clock.
    #[inline]
    pub(crate) fn tick(&mut self) {
        self.now = monotonic_ns();
    }

    /// Reads the clock and tells what it says.
    #[inline]
    pub(crate) fn read_clock(&mut self) -> u64 {
        self.tick();
        self.now
    }

    /// Notes that the thread had nothing to do but wait for the next message's time since `began`.
    pub(crate) fn note_spin(&mut self, began: u64) {
        if self.is_within_window() {
            self.account.spin_ns += self.now.saturating_sub(began).min(EMPTY_POLL_NS);
        }
    }

    /// Hands in what was recorded in every interval that is over.
    #[inline]
    pub(crate) fn enter_interval(&mut self) {
        if self.now >= self.boundary {
            self.cross_boundaries();
        }
    }

    #[cold]
    fn cross_boundaries(&mut self) {
        self.report_intervals();
        self.turns_until = match self.interval {
            Interval::Within(_) if self.turn_size > 0 => self.boundary,
            _ => 0,
        };
    }

    fn report_intervals(&mut self) {
        while self.now >= self.boundary {
            self.report_slice();
            let next = match self.interval {
                Interval::Ramp(number) => {
                    self.interval = Interval::Ramp(number + 1);
                    self.boundary = self.boundary.saturating_add(self.division.interval_ns);
                    continue;
                }
                Interval::Before => {
                    self.usage = sys::thread_usage();
                    self.usage_at = monotonic_ns();
                    self.sched = SchedulerStatistics::of_this_thread();
                    0
                }
                Interval::Within(number) => number + 1,
                Interval::Drain => return,
            };
            let start = self
                .window
                .start
                .saturating_add(self.division.begin_of(next));
            if start >= self.window.end {
                if self.account.window_ended_at == 0 {
                    self.account.window_ended_at = self.window.end;
                }
                self.close_account();
                self.interval = Interval::Drain;
                self.boundary = u64::MAX;
            } else {
                self.interval = Interval::Within(next);
                let end = self.division.begin_of(next + 1);
                self.boundary = self.window.start.saturating_add(end).min(self.window.end);
            }
        }
    }

    /// Records that a message of the window is due.
    #[inline]
    pub(crate) fn record_issued(&mut self) {
        self.enter_interval();
        self.slice.counts.issued += 1;
        self.progress_at = self.now;
    }

    /// Notes that a message is complete, of the window or not.
    #[inline]
    fn note_completed(&mut self) {
        self.has_received = true;
        self.progress_at = self.now;
        self.slice.counts.completed += u64::from(self.is_within_window());
    }

    /// Records a message whose echo is complete.
    #[inline]
    pub(crate) fn record_done(&mut self, done: Done) {
        self.note_completed();
        self.slice
            .record_done(done, self.now, self.is_open_loop, self.is_verifying);
    }

    /// Records a block that the server has acknowledged.
    pub(crate) fn record_delivered(&mut self, counted: bool, size: u64) {
        self.note_completed();
        self.outstanding -= 1;
        if counted {
            self.slice.counts.received += 1;
            self.slice.counts.bytes_received += size;
        }
    }

    /// Records a block that came from the server; `known` if what it ought to hold is known.
    pub(crate) fn record_block(&mut self, counted: bool, contents: Contents) {
        self.note_completed();
        let counts = &mut self.slice.counts;
        match (counted, contents) {
            (false, Contents::Wrong) => counts.corrupt_in_warm_up += 1,
            (false, _) => {}
            (true, contents) => {
                counts.received += 1;
                counts.corrupt += u64::from(contents == Contents::Wrong);
                counts.verified += u64::from(contents == Contents::Right && self.is_verifying);
            }
        }
    }

    /// Records messages of a flow that were given up; a closed loop gets their places back.
    pub(crate) fn record_abandoned(&mut self, flow: usize, abandoned: Abandoned) {
        self.forget(abandoned);
        for _ in 0..abandoned.places {
            self.schedule.completed(flow);
        }
    }

    /// Records messages that were given up.
    pub(crate) fn forget(&mut self, abandoned: Abandoned) {
        self.enter_interval();
        self.slice.record_abandoned(abandoned);
        self.outstanding -= abandoned.places;
    }

    /// Notes that the echo of a message of a flow is complete. In a closed loop its place goes to the
    /// message that is returned and that is to be written now.
    #[inline]
    pub(crate) fn answered(&mut self, flow: usize) -> Option<Order> {
        let Some(due) = self.schedule.answered(flow, self.now) else {
            self.outstanding -= 1;
            return None;
        };
        let counted = self.counts(due.intended);
        if counted {
            self.record_issued();
        }
        Some(Order {
            intended: due.intended,
            counted,
            has_waited: false,
        })
    }

    /// The size of the message that an answer of now makes due in its place: within the window of a closed
    /// loop, where all messages are alike. It counts as taken from the schedule, and is to be recorded with
    /// [`Meter::record_turn`].
    #[inline]
    pub(crate) fn take_turn(&mut self) -> Option<u32> {
        (self.now < self.turns_until && self.schedule.turn(self.now)).then_some(self.turn_size)
    }

    /// Records a turn: a message that counts took `took` from its write to its echo, which is right; and
    /// the next one was due and written.
    #[inline]
    pub(crate) fn record_turn(&mut self, took: u64) {
        self.progress_at = self.now;
        self.slice.record_turn(took);
    }

    /// Notes that a message of a flow is over; a closed loop gets its place back.
    pub(crate) fn free_place(&mut self, flow: usize) {
        self.outstanding -= 1;
        self.schedule.completed(flow);
    }

    /// Whether any message was complete.
    pub(crate) fn has_received(&self) -> bool {
        self.has_received || self.slice.has_turns()
    }

    /// The time when the clock was last read.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// When the current interval ends.
    #[inline]
    pub(crate) fn boundary(&self) -> u64 {
        self.boundary
    }

    /// Whether a message that is due at `intended` counts.
    #[inline]
    pub(crate) fn counts(&self, intended: u64) -> bool {
        intended >= self.window.start
    }

    /// Whether the window has ended by the clock.
    pub(crate) fn is_window_over(&self) -> bool {
        self.now >= self.window.end
    }

    /// Whether the window has ended and its last interval is handed in.
    pub(crate) fn is_draining(&self) -> bool {
        self.interval == Interval::Drain
    }

    /// Whether what is recorded now belongs to the window: the slice at hand decides, so that what
    /// is settled at the end of one belongs to it.
    #[inline]
    pub(crate) fn is_within_window(&self) -> bool {
        matches!(self.interval, Interval::Within(_))
    }

    pub(crate) fn note_corruption(&mut self, flow: usize, offset: u64) {
        self.account.corruption.get_or_insert((flow, offset));
    }

    pub(crate) fn record_connect(&mut self, took: u64) {
        self.slice.counts.opened += 1;
        self.slice.connect.record(took);
    }

    /// Notes that bytes were handed to the kernel.
    #[inline]
    pub(crate) fn note_bytes_out(&mut self, count: u64) {
        self.account.bytes_out += count;
        if self.is_within_window() {
            self.slice.counts.bytes_out += count;
        }
    }

    /// Notes that bytes came back or were acknowledged.
    #[inline]
    pub(crate) fn note_bytes_in(&mut self, count: u64) {
        self.account.bytes_in += count;
        if self.is_within_window() {
            self.slice.counts.bytes_in += count;
        }
    }

    /// The size of the next message.
    #[inline]
    pub(crate) fn draw_size(&mut self) -> u32 {
        self.sizes.draw(&mut self.size_rng)
    }

    /// The largest size of a message.
    pub(crate) fn largest_size(&self) -> u32 {
        self.sizes.most()
    }

    /// Where `bytes`, received at `position` of `stream`, first differ from what was sent there, if
    /// that is looked at.
    #[inline]
    pub(crate) fn first_difference(
        &self,
        stream: StreamId,
        position: u64,
        bytes: &[u8],
    ) -> Option<usize> {
        if self.is_verifying {
            self.payload.first_difference(stream, position, bytes)
        } else {
            None
        }
    }

    /// Whether a datagram of `stream` holds what was sent in it, if that is looked at.
    pub(crate) fn is_datagram_intact(&self, stream: StreamId, sequence: u64, bytes: &[u8]) -> bool {
        !self.is_verifying || self.payload.is_datagram(stream, sequence, bytes)
    }

    /// Puts a datagram together. The buffer is to be given back with [`Meter::give_back`].
    pub(crate) fn datagram(&mut self, stream: StreamId, sequence: u64, size: u32) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.scratch);
        self.payload
            .fill_datagram(stream, sequence, size, &mut bytes);
        bytes
    }

    pub(crate) fn give_back(&mut self, bytes: Vec<u8>) {
        self.scratch = bytes;
    }

    /// What the thread used in the window ends with it.
    fn close_account(&mut self) {
        let usage = sys::thread_usage();
        self.account.wall_ns = monotonic_ns() - self.usage_at;
        self.account.cpu_ns = nanoseconds(usage.cpu_time - self.usage.cpu_time);
        self.account.involuntary_switches =
            usage.involuntary_switches - self.usage.involuntary_switches;
        self.account.run_delay =
            self.sched
                .zip(SchedulerStatistics::of_this_thread())
                .map(|(before, now)| {
                    let delay = now.run_delay.saturating_sub(before.run_delay);
                    let times = now.timeslices.saturating_sub(before.timeslices);
                    (delay.as_nanos() as u64, times)
                });
    }

    fn report_slice(&mut self) {
        self.has_received = self.has_received();
        let bytes = self
            .slice
            .settle_turns(self.turn_size.into(), self.is_verifying);
        self.account.bytes_out += bytes;
        self.account.bytes_in += bytes;
        let slice = if self.slice.is_empty() {
            None
        } else {
            // A slice that the coordinator has added up and cleared, or a new one.
            let fresh = self.spare.try_recv().unwrap_or_default();
            Some(std::mem::replace(&mut self.slice, fresh))
        };
        let _ = self.reports.send(Report::Slice {
            worker: self.worker,
            interval: self.interval,
            end: match self.interval {
                Interval::Ramp(_) => self.boundary - self.ramp_began,
                _ => self.boundary,
            },
            slice,
        });
    }
}

/// Why a window ends before its time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// The user wishes it.
    Interrupted,
    /// All messages are through, or had their time.
    Complete,
}

/// What a block that came from the server was found to hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Contents {
    Right,
    Wrong,
    /// The server's pattern is not one that is known, or nobody looked.
    Unknown,
}

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
