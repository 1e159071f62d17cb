//! Assigns due messages to flows and writes them.

use super::thread::Worker;
use crate::engine::schedule::Due;
use crate::engine::source::Order;
use crate::engine::workload::{Connects, Flow};

impl<F: Flow> Worker<F> {
    #[inline]
    pub(super) fn has_to_issue(&self) -> bool {
        let schedule = &self.context.source.schedule;
        !self.dirty.is_empty() || schedule.may_be_due(self.context.now())
    }

    /// Queues every due message on its flow, and writes.
    pub(super) fn issue(&mut self) {
        while let Some(due) = self.context.source.schedule.pop(self.context.now()) {
            self.queue(due);
        }
        for _ in 0..self.dirty.len() {
            let Some(key) = self.dirty.pop() else {
                return;
            };
            let flow = &mut self.flows[key];
            match flow.send(&mut self.context) {
                // A stream may write without end, so other flows get turns between.
                Ok(()) if flow.has_to_send() && flow.connection().can_write() => {
                    self.dirty.push(key)
                }
                Ok(()) => {}
                Err(ended) => self.end(key, &ended),
            }
        }
    }

    fn queue(&mut self, due: Due) {
        if self.context.source.schedule.is_used_up() {
            self.follow_schedule();
        }
        self.context.recorder.enter_interval();
        let order = self.context.issue(due.intended);
        let flow = self
            .flow_for(due)
            .filter(|_| !self.context.source.is_full());
        let Some(flow) = flow else {
            self.context.recorder.counts().unsent += u64::from(order.counted);
            return;
        };
        self.context.source.outstanding += 1;
        let is_held = match self.connects {
            Connects::Always | Connects::Once => {
                self.dirty.push(flow);
                self.flows[flow].push(order, &mut self.context)
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
        if is_held && order.counted {
            let now = self.context.now();
            self.context.recorder.record_held(order.intended, now);
        }
    }

    /// The flow for a due message: the one that the schedule names, or if its connection is gone
    /// for good, the next connected one. `None` if there is none.
    fn flow_for(&self, due: Due) -> Option<usize> {
        if self.connects != Connects::Once {
            return Some(due.flow);
        }
        let flows = self.flows.len();
        (0..flows)
            .map(|step| (due.flow + step) % flows)
            .find(|&flow| self.flows[flow].connection().is_open())
    }

    /// Assigns waiting messages to flows whose backoff is over.
    pub(super) fn wake_resting(&mut self) {
        let now = self.context.now();
        let mut index = 0;
        while index < self.resting.len() {
            let connection = self.flows[self.resting[index]].connection();
            if connection.wants_to_connect(now) {
                self.idle.push_back(self.resting.swap_remove(index));
            } else {
                index += 1;
            }
        }
        // At most the initial number: a flow that fails at once rests again.
        for _ in 0..self.idle.len() {
            let Some(order) = self.waiting.pop_front() else {
                return;
            };
            if let Some(key) = self.idle.pop_front() {
                self.exchange(key, order);
            }
        }
    }

    /// An idle flow opens a connection for a message.
    fn exchange(&mut self, key: usize, order: Order) {
        self.flows[key].push(order, &mut self.context);
        self.connect(key);
    }
}
