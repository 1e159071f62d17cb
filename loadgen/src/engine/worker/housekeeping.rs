//! Work without strict timing: timeouts, reconnects, the stop flag, rate changes, TCP_INFO, and
//! whether the target can be measured at all.

use std::sync::atomic::Ordering;

use super::thread::Worker;
use crate::engine::connection::{Connection, Ended, Unserved};
use crate::engine::interval::nanoseconds;
use crate::engine::recorder::End;
use crate::engine::task::Failure;
use crate::engine::workload::{Connects, Flow};
use crate::plan::Direction;

/// Maximum interval of the checks for timeouts, reconnects and the stop flag,
const MAX_HOUSEKEEPING_NS: u64 = 20_000_000;
/// and the minimum, if a timeout ends before: epoll_wait(2) counts milliseconds.
const MIN_HOUSEKEEPING_NS: u64 = 1_000_000;
/// How long a target may leave everything unanswered; two fifths of the timeout if that is longer.
const MIN_PATIENCE_NS: u64 = 1_900_000_000;
/// How long an interrupted run waits for outstanding echoes.
const INTERRUPTED_DRAIN_NS: u64 = 500_000_000;
/// Consecutive connections of every flow that were closed before a byte came back, after which the
/// target counts as not echoing.
const MAX_BARREN: u32 = 3;

impl<F: Flow> Worker<F> {
    /// Runs housekeeping if it is due. Completed intervals are handed over on every turn.
    pub(super) fn keep_house(&mut self) -> Result<(), Failure> {
        let now = self.context.now();
        if !self.resting.is_empty() {
            self.wake_resting();
        }
        if self.context.recorder.clock.is_interval_over() {
            self.settle();
        }
        self.context.recorder.enter_interval();
        if now < self.housekeeping_at {
            return Ok(());
        }
        if self.task.is_stopped() && !self.context.recorder.clock.is_draining() {
            self.interrupt(now);
        }
        self.apply_rate(now);
        let deadline = self.check_flows();
        // Of what begins from now on, no timeout ends before this.
        let deadline = deadline.min(now.saturating_add(self.context.timeout_ns));
        // After the window, the flows have no deadlines.
        let is_window_over = self.context.recorder.clock.is_window_over();
        self.context.none_overdue_until = if is_window_over { 0 } else { deadline };
        self.housekeeping_at = deadline.clamp(now + MIN_HOUSEKEEPING_NS, now + MAX_HOUSEKEEPING_NS);
        self.sample_tcp();
        self.check_echo(now);
        self.check_target()
    }

    /// Ends the window if nothing comes back as it was sent: the target is no echo server.
    fn check_echo(&mut self, now: u64) {
        let recorder = &self.context.recorder;
        let echo = &self.task.echo;
        if recorder.clock.is_window_over() || echo.is_seen.load(Ordering::Relaxed) {
            return;
        }
        if recorder.has_echo() {
            echo.is_seen.store(true, Ordering::Relaxed);
            return;
        }
        let is_silent =
            recorder.has_written() || self.task.plan.direction() == Some(Direction::Down);
        if is_silent {
            self.silent_since.get_or_insert(now);
        }
        // Who expects slow answers allows them more time.
        let patience = MIN_PATIENCE_NS.max(self.context.timeout_ns / 5 * 2);
        let is_hopeless = self
            .silent_since
            .is_some_and(|since| since.saturating_add(patience) <= now);
        if is_hopeless || echo.is_given_up.load(Ordering::Relaxed) {
            echo.is_given_up.store(true, Ordering::Relaxed);
            self.settle();
            self.context.end_window(now, End::NoEcho);
            self.deadline = now;
        }
    }

    /// Ends the window now and shortens the wait for echoes.
    fn interrupt(&mut self, now: u64) {
        self.settle();
        self.context.end_window(now, End::Interrupted);
        self.deadline = now + INTERRUPTED_DRAIN_NS.min(self.context.timeout_ns);
    }

    /// Updates counts that change without an event.
    pub(super) fn settle(&mut self) {
        for flow in &mut self.flows {
            flow.settle(&mut self.context);
        }
    }

    /// Applies the rate that the user set.
    fn apply_rate(&mut self, now: u64) {
        let bits = self.task.rate.load(Ordering::Relaxed);
        if bits != self.rate_bits {
            self.rate_bits = bits;
            let rate = f64::from_bits(bits);
            self.context.source.schedule.set_rate(now, rate);
            self.follow_schedule();
        }
    }

    /// Ends overdue connections, and reconnects. Returns when the next timeout ends.
    fn check_flows(&mut self) -> u64 {
        let mut deadline = u64::MAX;
        let is_window_over = self.context.recorder.clock.is_window_over();
        if is_window_over {
            self.settle();
        }
        for key in 0..self.flows.len() {
            let flow = &mut self.flows[key];
            if let Some(since) = flow.connection().connecting_since() {
                if self.context.is_overdue(since) {
                    let timeout = flow.connection().connect_timeout();
                    self.end(key, &Ended::NotConnected(timeout));
                    continue;
                }
                deadline = deadline.min(since.saturating_add(self.context.timeout_ns));
            }
            if flow.connection().is_waiting_for_room() {
                self.go_on_connecting(key);
                continue;
            }
            // After the window, the drain deadline does the same and counts unfinished messages.
            let is_limited = !is_window_over || self.connects == Connects::PerMessage;
            let overdue = flow.overdue(&mut self.context).filter(|_| is_limited);
            if let Some(ended) = overdue {
                self.end(key, &ended);
            } else if self.connects == Connects::Always {
                self.reconnect(key);
            }
            let waits_since = self.flows[key].waits_since().filter(|_| is_limited);
            if let Some(since) = waits_since {
                deadline = deadline.min(since.saturating_add(self.context.timeout_ns));
            }
            // The kernel may have had no room, and no event reports when it has.
            if self.flows[key].has_to_send() && self.flows[key].connection().can_write() {
                self.dirty.push(key);
            }
        }
        deadline
    }

    /// Reads the TCP_INFO of some connections: as many as fit into the time until the next message
    /// is due, at least one.
    fn sample_tcp(&mut self) {
        if !self.context.recorder.clock.is_within_window() {
            return;
        }
        let now = self.context.now();
        let interval_ns = nanoseconds(self.task.plan.interval);
        let next_due = self.context.source.schedule.next_due();
        self.tcp_sampler.begin(now, interval_ns, next_due);
        while let Some(key) = self.tcp_sampler.next(self.flows.len()) {
            let connection = self.flows[key].connection_mut();
            if let Some(info) = connection.tcp_info() {
                let seen = std::mem::replace(&mut connection.seen_retransmits, info.total_retrans);
                self.context.recorder.record_tcp(&info, seen);
            }
        }
    }

    /// Fails if the target can't be measured at all.
    fn check_target(&self) -> Result<(), Failure> {
        let recorder = &self.context.recorder;
        if recorder.has_received() || recorder.clock.is_window_over() {
            return Ok(());
        }
        let connections = || self.flows.iter().map(|flow| flow.connection());
        // One refused datagram is as conclusive as several connections closed at once.
        let is_barren = |connection: &Connection| {
            connection.barren >= MAX_BARREN || connection.is_refused_datagrams()
        };
        let is_hopeless = match self.connects {
            // Not every flow may have sent a message.
            Connects::PerMessage => connections().any(is_barren),
            Connects::Always | Connects::Once => connections().all(is_barren),
        };
        let cause_of = |is_cause: fn(&&Connection) -> bool| {
            connections().filter(|_| is_hopeless).find(is_cause)
        };
        let closed_at_once = |connection: &&Connection| connection.was_closed_at_once;
        if let Some(connection) = cause_of(closed_at_once) {
            let target = connection.id.target;
            return Err(match connection.unserved() {
                Unserved::Refused(refusal) => Failure::Tls { target, refusal },
                _ => Failure::ClosesAtOnce { target },
            });
        }
        match cause_of(|connection| connection.is_refused_datagrams()) {
            Some(connection) => Err(Failure::Refused {
                target: connection.id.target,
            }),
            None => Ok(()),
        }
    }
}
