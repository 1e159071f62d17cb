//! What a thread looks after between messages: what needs no precision.

use std::io;
use std::sync::atomic::Ordering;

use super::{Failure, Worker};
use crate::engine::connection::{Connection, Ended};
use crate::engine::meter::nanoseconds;
use crate::engine::workload::{Connects, Flow};

/// How often timeouts, reconnects and the stop flag are looked at.
const HOUSEKEEPING_NS: u64 = 20_000_000;
/// Connections in a row that every flow saw closed before a byte came back, until the target is
/// taken for one that does not echo.
const BARREN_LIMIT: u32 = 3;
/// The most connections of which TCP is asked between two turns, and what asking may take of the
/// time until the next message is due.
const MAX_SAMPLED: u64 = 32;
const SAMPLE_NS: u64 = 2_000;

impl<F: Flow> Worker<F> {
    /// Gives messages that wait for a flow one that has rested.
    fn rouse(&mut self) {
        let now = self.meter.now();
        let mut index = 0;
        while index < self.resting.len() {
            if self.flows[self.resting[index]]
                .connection()
                .wants_to_connect(now)
            {
                self.idle.push_back(self.resting.swap_remove(index));
            } else {
                index += 1;
            }
        }
        // Not more than there were: one that fails at once rests again.
        for _ in 0..self.idle.len() {
            let Some(order) = self.waiting.pop_front() else {
                return;
            };
            if let Some(key) = self.idle.pop_front() {
                self.exchange(key, order);
            }
        }
    }

    /// Timeouts, reconnects, the stop flag: what needs no precision.
    pub(super) fn look_after(&mut self) -> Result<(), Failure> {
        let now = self.meter.now();
        if !self.resting.is_empty() {
            self.rouse();
        }
        if now >= self.meter.boundary() {
            self.settle();
        }
        self.meter.enter_interval();
        if now < self.housekeeping_at {
            return Ok(());
        }
        self.housekeeping_at = now + HOUSEKEEPING_NS;
        if self.task.is_stopped() && !self.meter.is_draining() {
            self.interrupt(now);
        }
        self.obey_rate(now);
        self.look_after_flows();
        self.sample_tcp();
        self.check_target()
    }

    fn look_after_flows(&mut self) {
        let is_window_over = self.meter.is_window_over();
        if is_window_over {
            self.settle();
        }
        for key in 0..self.flows.len() {
            let flow = &mut self.flows[key];
            let now = self.meter.now();
            if flow
                .connection()
                .is_connect_overdue(now, self.meter.timeout_ns)
            {
                self.end(key, &Ended::NotConnected(io::ErrorKind::TimedOut.into()));
                continue;
            }
            if flow.connection().is_waiting_for_room() {
                self.go_on_connecting(key);
                continue;
            }
            // After the window the deadline does the same, and tells what is unfinished.
            let overdue = flow
                .overdue(&mut self.meter)
                .filter(|_| !is_window_over || self.connects == Connects::PerMessage);
            if let Some(ended) = overdue {
                self.end(key, &ended);
            } else if self.connects == Connects::Always {
                self.reconnect(key);
            }
            // The kernel may have had no room without saying when it has.
            if self.flows[key].has_to_send() && self.flows[key].connection().can_write() {
                self.dirty.push(key);
            }
        }
    }

    pub(super) fn settle(&mut self) {
        for flow in &mut self.flows {
            flow.settle(&mut self.meter);
        }
    }

    /// Takes over the rate that the user wishes.
    fn obey_rate(&mut self, now: u64) {
        let bits = self.task.rate.load(Ordering::Relaxed);
        if bits != self.rate_bits {
            self.rate_bits = bits;
            self.meter.schedule.set_rate(now, f64::from_bits(bits));
        }
    }

    /// Asks TCP of some connections, once in an interval of each: as many as fit into the time until
    /// the next message is due, and one in any case.
    fn sample_tcp(&mut self) {
        if !self.meter.is_within_window() {
            return;
        }
        let now = self.meter.now();
        if now >= self.sample_round_at {
            self.sample_round_at = now + nanoseconds(self.task.plan.interval);
            self.sampled = 0;
        }
        let slack = self.meter.schedule.next_due().map_or(MAX_SAMPLED, |due| {
            (due.saturating_sub(now) / SAMPLE_NS).clamp(1, MAX_SAMPLED)
        });
        for _ in 0..slack {
            if self.sampled >= self.flows.len() {
                return;
            }
            self.sampled += 1;
            self.sample_next = (self.sample_next + 1) % self.flows.len();
            let connection = self.flows[self.sample_next].connection_mut();
            if let Some(info) = connection.tcp_info() {
                let seen = std::mem::replace(&mut connection.seen_retransmits, info.total_retrans);
                self.meter.slice.tcp.add(&info, seen);
            }
        }
    }

    /// Whether the target is one that can't be measured at all.
    fn check_target(&self) -> Result<(), Failure> {
        if self.meter.has_received() || self.meter.is_window_over() {
            return Ok(());
        }
        let mut connections = self.flows.iter().map(|flow| flow.connection());
        // One refusal of datagrams says as much as several connections that are closed at once.
        let is_barren = |connection: &Connection| {
            connection.barren >= BARREN_LIMIT || connection.is_refused_datagrams()
        };
        let is_hopeless = match self.connects {
            // Not every flow may have had a message.
            Connects::PerMessage => connections.any(is_barren),
            Connects::Always | Connects::Once => connections.all(is_barren),
        };
        if !is_hopeless {
            return Ok(());
        }
        let mut connections = self.flows.iter().map(|flow| flow.connection());
        if let Some(connection) = connections.find(|connection| connection.was_closed_at_once) {
            return Err(Failure::ClosesAtOnce {
                target: connection.id.target,
            });
        }
        let mut connections = self.flows.iter().map(|flow| flow.connection());
        match connections.find(|connection| connection.is_refused_datagrams()) {
            Some(connection) => Err(Failure::Refused {
                target: connection.id.target,
            }),
            None => Ok(()),
        }
    }
}
