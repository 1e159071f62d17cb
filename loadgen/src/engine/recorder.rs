//! Records the events of a measuring thread: a slice for each interval, handed to the coordinator
//! when the interval is over, and the thread's account of the whole run.

use std::io;
use std::sync::mpsc::{Receiver, Sender};

use super::clock::{Clock, Elapsed};
use super::cpu::CpuAccount;
use super::histogram::BucketCounts;
use super::in_flight::{Done, Sent, Unanswered};
use super::interval::Interval;
use super::slice::{Contents, Slice};
use super::sys::TcpInfo;
use super::task::{Account, Foreign, Report, Task};
use crate::result::{Corruption, Counts};

/// Records the events of a thread's messages and connections.
///
/// The current slice belongs to the clock's interval. Both change together, in
/// [`Recorder::enter_interval`].
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) clock: Clock,
    slice: Slice<BucketCounts>,
    is_open_loop: bool,
    /// Whether a message was complete in an earlier interval.
    has_received: bool,
    /// When the last message of the window was due or complete.
    progress_at: u64,
    cpu: Option<CpuAccount>,
    account: Account,
    worker: usize,
    reports: Sender<Report>,
    /// Slices returned by the coordinator, cleared for reuse.
    spare: Receiver<Box<Slice<BucketCounts>>>,
}

/// Why a window ends early.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// The user stopped it.
    Interrupted,
    /// The target is no echo server.
    NoEcho,
    /// Every message came back or timed out.
    Complete,
}

impl Recorder {
    pub(crate) fn new(task: &Task, spare: Receiver<Box<Slice<BucketCounts>>>) -> Self {
        Self {
            clock: Clock::new(&task.plan),
            slice: *Slice::touched(),
            is_open_loop: task.plan.is_open_loop(),
            has_received: false,
            progress_at: 0,
            cpu: None,
            account: Account::default(),
            worker: task.worker,
            reports: task.reports.clone(),
            spare,
        }
    }

    /// Ends the ramp: every connect succeeded or failed.
    pub(crate) fn end_ramp(&mut self) {
        self.clock.tick();
        self.enter_interval();
        let elapsed = self.clock.end_ramp();
        self.hand_in(elapsed);
    }

    /// Ends the window at `now`, unless it is over.
    pub(crate) fn end_window(&mut self, now: u64, end: End) {
        if self.clock.is_draining() {
            return;
        }
        self.account.was_interrupted |= end == End::Interrupted;
        self.account.window_ended_at = match end {
            End::Interrupted | End::NoEcho => now,
            End::Complete => self.progress_at,
        };
        self.clock.end_window(now);
        self.enter_interval();
    }

    /// Hands over the last slices, and returns the thread's account.
    pub(crate) fn finish(&mut self) -> Account {
        self.hand_in(self.clock.elapsed());
        self.account.finished_at = self.clock.now();
        self.account
    }

    /// Hands over the slices of all intervals that are over.
    #[inline]
    pub(crate) fn enter_interval(&mut self) {
        if self.clock.is_interval_over() {
            self.leave_intervals();
        }
    }

    #[cold]
    fn leave_intervals(&mut self) {
        while let Some(elapsed) = self.clock.leave_interval() {
            self.hand_in(elapsed);
            if elapsed.interval == Interval::Before {
                self.cpu = Some(CpuAccount::begin());
            }
            if self.clock.is_draining() {
                self.account.cpu = self.cpu.take().map(|cpu| cpu.end()).unwrap_or_default();
                if self.account.window_ended_at == 0 {
                    self.account.window_ended_at = self.clock.window_end();
                }
            }
        }
    }

    fn hand_in(&mut self, elapsed: Elapsed) {
        self.add_to_account(elapsed.interval);
        let slice = if self.slice.is_empty() {
            None
        } else {
            let mut slice = self.spare.try_recv().unwrap_or_default();
            std::mem::swap(&mut *slice, &mut self.slice);
            Some(slice)
        };
        // The receiver is gone only if the run has failed.
        let _ = self.reports.send(Report::Slice {
            worker: self.worker,
            interval: elapsed.interval,
            end: elapsed.end,
            slice,
        });
    }

    /// Adds the slice to the account of the whole run, and keeps of it what belongs to `interval`.
    fn add_to_account(&mut self, interval: Interval) {
        let counts = &mut self.slice.counts;
        self.has_received |= counts.completed > 0;
        self.account.bytes_out += counts.bytes_out;
        self.account.bytes_in += counts.bytes_in;
        if !matches!(interval, Interval::Within(_)) {
            // Rates are those of the window.
            (counts.completed, counts.bytes_out, counts.bytes_in) = (0, 0, 0);
        }
    }

    /// Records that a message of the window is due, in the interval entered last.
    #[inline]
    pub(crate) fn record_issued(&mut self) {
        self.slice.counts.issued += 1;
        self.progress_at = self.clock.now();
    }

    /// Records a message whose first byte was written by a call that began at `began`.
    #[inline]
    pub(crate) fn record_sent(&mut self, sent: Sent, began: u64) {
        self.slice.record_sent(sent, began, self.is_open_loop);
    }

    /// Records that a counted message intended for `intended` waits for its connection from `now`
    /// on.
    pub(crate) fn record_held(&mut self, intended: u64, now: u64) {
        if self.is_open_loop {
            self.slice.record_held(intended, now);
        }
    }

    /// Records a message whose echo is complete. Its contents are recorded apart.
    #[inline]
    pub(crate) fn record_done(&mut self, done: &Done) {
        let now = self.clock.now();
        self.progress_at = now;
        self.slice.counts.completed += 1;
        if done.counted {
            self.slice.counts.received += 1;
            self.slice.record_latency(done, now, self.is_open_loop);
        }
    }

    /// Records a complete message without a latency.
    #[inline]
    pub(crate) fn record_received(&mut self, counted: bool) {
        self.progress_at = self.clock.now();
        let counts = &mut self.slice.counts;
        counts.completed += 1;
        counts.received += u64::from(counted);
    }

    /// Records the result of verifying a complete message.
    #[inline]
    pub(crate) fn record_contents(&mut self, counted: bool, contents: Contents) {
        self.slice.record_contents(counted, contents);
    }

    /// Records the position of a wrong byte.
    #[cold]
    pub(crate) fn record_corruption(&mut self, position: Corruption) {
        let now = self.clock.now();
        self.account.corruption.get_or_insert((now, position));
    }

    /// Notes that bytes came back as they were sent.
    #[inline]
    pub(crate) fn note_echo(&mut self) {
        self.account.has_echo = true;
    }

    /// Notes the first bytes that came instead of an echo.
    #[cold]
    pub(crate) fn note_foreign(&mut self, bytes: &[u8]) {
        self.account
            .foreign
            .get_or_insert_with(|| Foreign::new(bytes));
    }

    pub(crate) fn note_connect_error(&mut self, error: &io::Error) {
        self.account.connect_errors.add(error);
    }

    /// Whether bytes came back as they were sent.
    pub(crate) fn has_echo(&self) -> bool {
        self.account.has_echo
    }

    /// Whether any byte was written.
    pub(crate) fn has_written(&self) -> bool {
        // The account has those of slices that were handed in.
        self.account.bytes_out + self.slice.counts.bytes_out > 0
    }

    /// Records messages that were given up.
    pub(crate) fn record_unanswered(&mut self, unanswered: Unanswered) {
        self.enter_interval();
        self.slice.counts.lost += unanswered.lost;
        self.slice.counts.timed_out += unanswered.timed_out;
        self.slice.counts.abandoned += unanswered.abandoned;
    }

    /// Records that `count` bytes were written, of which `counted` belong to messages that count.
    #[inline]
    pub(crate) fn record_bytes_out(&mut self, count: u64, counted: u64) {
        let counts = &mut self.slice.counts;
        counts.bytes_out += count;
        counts.bytes_sent += counted;
    }

    /// Records that `count` bytes came back or were acknowledged, of which `counted` belong to
    /// messages that count.
    #[inline]
    pub(crate) fn record_bytes_in(&mut self, count: u64, counted: u64) {
        let counts = &mut self.slice.counts;
        counts.bytes_in += count;
        counts.bytes_received += counted;
    }

    /// Records a connect that took `took` nanoseconds.
    pub(crate) fn record_connect(&mut self, took: u64) {
        self.slice.counts.opened += 1;
        self.slice.connect.record(took);
    }

    /// Records a complete TLS handshake, and its time if that counts.
    pub(crate) fn record_handshake(&mut self, is_resumed: bool, took: Option<u64>) {
        let slice = &mut self.slice;
        let (count, histogram) = if is_resumed {
            (
                &mut slice.counts.resumed_handshakes,
                &mut slice.resumed_handshake,
            )
        } else {
            (&mut slice.counts.full_handshakes, &mut slice.full_handshake)
        };
        *count += 1;
        if let Some(took) = took {
            histogram.record(took);
        }
    }

    /// Records the time from the start of the write call to the first byte of the echo.
    pub(crate) fn record_first_byte(&mut self, took: u64) {
        self.slice.first_byte.record(took);
    }

    /// Records the time from the half-close until the server closed too.
    pub(crate) fn record_close(&mut self, took: u64) {
        self.slice.close.record(took);
    }

    /// Records the TCP_INFO of a connection; its last sample had `seen_retransmits` retransmits.
    pub(crate) fn record_tcp(&mut self, info: &TcpInfo, seen_retransmits: u32) {
        self.slice.tcp.add(info, seen_retransmits);
    }

    /// The counts of the current interval.
    #[inline]
    pub(crate) fn counts(&mut self) -> &mut Counts {
        &mut self.slice.counts
    }

    /// Notes that the thread spun since `began`, until the next message was due.
    pub(crate) fn note_spin(&mut self, began: u64) {
        let now = self.clock.now();
        if let Some(cpu) = &mut self.cpu {
            cpu.note_spin(now.saturating_sub(began));
        }
    }

    /// Whether any message was complete.
    pub(crate) fn has_received(&self) -> bool {
        self.has_received || self.slice.counts.completed > 0
    }

    /// Whether the schedule alone decides when messages are due.
    #[inline]
    pub(crate) fn is_open_loop(&self) -> bool {
        self.is_open_loop
    }
}
