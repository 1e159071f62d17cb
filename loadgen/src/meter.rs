//! What a measuring thread records into and draws from: everything of it but its sockets. The clock
//! is read here, the window and its intervals are kept here, and the thread watches itself here.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use echomark::net::sys::{self, ThreadUsage, monotonic_ns};

use crate::pace::Pace;
use crate::payload::Payload;
use crate::record::Slice;
use crate::worker::{Report, Task};
use crate::workload::request::Done;

/// The longest that a poll which finds nothing can take while it runs. In one that took longer, the
/// thread was not on a processor, and that is no spinning.
const EMPTY_POLL_NS: u64 = 10_000;
/// A stretch of the run.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Interval {
    /// Connecting and warming up.
    Before,
    /// The number-th interval of the window.
    Within(u64),
    /// After the window, waiting for what is still out.
    Drain,
}

/// A thread's account of itself over the window.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    /// When it recorded its last echo, or gave up waiting.
    pub(crate) finished_at: u64,
    /// Length of the window as the thread lived it.
    pub(crate) wall_ns: u64,
    /// Time on a processor.
    pub(crate) cpu_ns: u64,
    /// The part of it that it spun, with nothing to do but wait for the next message's time.
    pub(crate) spin_ns: u64,
    pub(crate) involuntary_switches: u64,
    /// The stop flag ended its window.
    pub(crate) was_interrupted: bool,
    /// Where the first wrong byte was: flow, and offset in its stream.
    pub(crate) corruption: Option<(usize, u64)>,
}

/// What a flow records into and draws from: everything of the thread but its sockets.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) payload: Arc<Payload>,
    pub(crate) slice: Box<Slice>,
    pub(crate) pace: Pace,
    pub(crate) is_open_loop: bool,
    pub(crate) is_verifying: bool,
    pub(crate) timeout_ns: u64,
    now: u64,
    window: Window,
    interval: Interval,
    interval_ns: u64,
    /// When the current interval ends.
    boundary: u64,
    /// Messages queued or out, over all flows.
    pub(crate) outstanding: usize,
    pub(crate) has_received: bool,
    usage: ThreadUsage,
    usage_at: u64,
    account: Account,
    reports: Sender<Report>,
    spare: Receiver<Box<Slice>>,
    worker: usize,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    start: u64,
    end: u64,
}

impl Meter {
    pub(crate) fn new(task: &Task, spare: Receiver<Box<Slice>>) -> Self {
        Self {
            payload: Arc::clone(&task.payload),
            slice: Slice::touched(),
            pace: Pace::idle(),
            is_open_loop: task.plan.is_open_loop(),
            is_verifying: task.plan.verify,
            timeout_ns: nanoseconds(task.plan.timeout),
            now: 0,
            window: Window {
                start: u64::MAX,
                end: u64::MAX,
            },
            interval: Interval::Before,
            interval_ns: nanoseconds(task.plan.interval),
            boundary: u64::MAX,
            outstanding: 0,
            has_received: false,
            usage: ThreadUsage::default(),
            usage_at: 0,
            account: Account::default(),
            reports: task.reports.clone(),
            spare,
            worker: task.index,
        }
    }

    /// Takes the real pace and window, once the start is known.
    pub(crate) fn begin(&mut self, pace: Pace, start: u64, end: u64) {
        self.pace = pace;
        self.window = Window { start, end };
        self.boundary = start;
        self.now = monotonic_ns();
    }

    /// Ends the window now, unless it is over, and with it the schedule.
    pub(crate) fn end_window(&mut self, now: u64) {
        if self.is_draining() {
            return;
        }
        self.pace.end_at(now);
        self.window.start = self.window.start.min(now);
        self.window.end = self.window.end.min(now);
        self.boundary = self.boundary.min(now);
        self.enter_interval_of(now);
    }

    /// Hands the rest in and returns the thread's account.
    pub(crate) fn finish(&mut self) -> Account {
        self.report_slice();
        self.account.finished_at = self.now;
        self.account
    }

    /// Reads the clock.
    pub(crate) fn tick(&mut self) {
        self.now = monotonic_ns();
    }

    /// Notes that the thread had nothing to do but wait for the next message's time since `began`.
    pub(crate) fn note_spin(&mut self, began: u64) {
        if self.is_within_window() {
            self.account.spin_ns += self.now.saturating_sub(began).min(EMPTY_POLL_NS);
        }
    }

    /// Notes that the window ended before its time.
    pub(crate) fn note_interrupt(&mut self) {
        self.account.was_interrupted = true;
    }

    /// Notes that it is `now`, and hands in what was recorded in every interval that is over.
    pub(crate) fn enter_interval_of(&mut self, now: u64) {
        self.now = now;
        while now >= self.boundary {
            self.report_slice();
            let next = match self.interval {
                Interval::Before => {
                    self.usage = sys::thread_usage();
                    self.usage_at = monotonic_ns();
                    0
                }
                Interval::Within(number) => number + 1,
                Interval::Drain => return,
            };
            let start = self.window.start + next * self.interval_ns;
            if start >= self.window.end {
                self.close_account();
                self.interval = Interval::Drain;
                self.boundary = u64::MAX;
            } else {
                self.interval = Interval::Within(next);
                self.boundary = (start + self.interval_ns).min(self.window.end);
            }
        }
    }

    pub(crate) fn record_done(&mut self, flow: usize, done: Done, now: u64) {
        self.pace.completed(flow);
        self.outstanding -= 1;
        self.has_received = true;
        self.slice.counts.completed += u64::from(self.is_within_window());
        self.slice
            .record_done(done, now, self.is_open_loop, self.is_verifying);
    }

    /// The time when the clock was last read.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Whether a message that is due at `intended` counts.
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

    pub(crate) fn note_corruption(&mut self, flow: usize, offset: u64) {
        self.account.corruption.get_or_insert((flow, offset));
    }

    pub(crate) fn record_connect(&mut self, took: u64) {
        self.slice.counts.opened += 1;
        self.slice.connect.saturating_record(took);
    }

    pub(crate) fn is_within_window(&self) -> bool {
        self.window.start <= self.now && self.now < self.window.end
    }

    /// What the thread used in the window ends with it.
    fn close_account(&mut self) {
        let usage = sys::thread_usage();
        let used = |usage: ThreadUsage| (usage.user + usage.system).as_nanos() as u64;
        self.account.wall_ns = monotonic_ns() - self.usage_at;
        self.account.cpu_ns = used(usage) - used(self.usage);
        self.account.involuntary_switches =
            usage.involuntary_switches - self.usage.involuntary_switches;
    }

    fn report_slice(&mut self) {
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
            end: self.boundary,
            slice,
        });
    }
}

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
