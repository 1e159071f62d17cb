//! One turn of a measuring thread's event loop.

use std::io;
use std::time::Duration;

use echomark::net::clock::monotonic_ns;
use mio::event::Event;
use mio::{Events, Token};

use super::thread::{ALARM, Worker};
use crate::engine::task::Failure;
use crate::engine::workload::Flow;

impl<F: Flow> Worker<F> {
    /// One turn of the loop.
    pub(super) fn turn(&mut self, events: &mut Events) -> Result<(), Failure> {
        self.wait(events).map_err(Failure::System)?;
        self.dispatch(events);
        self.read_on();
        self.issue();
        self.keep_house()
    }

    /// Sleeps until the next event or due message. Spins if the message is due too soon to wake up
    /// in time. epoll_wait(2) has milliseconds, so a timer provides the precision.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let before = self.context.now();
        let mut is_spinning = false;
        let schedule = &self.context.source.schedule;
        // A stream's next block becomes due without an event.
        let has_work =
            !self.unread.is_empty() || !self.dirty.is_empty() || schedule.has_ready(before);
        let timeout = if has_work {
            Duration::ZERO
        } else {
            // Counts are updated at the end of an interval.
            let boundary = self.context.recorder.clock.boundary();
            let housekeeping_at = self.housekeeping_at.min(boundary);
            let until_housekeeping = housekeeping_at.saturating_sub(before);
            match schedule.next_due() {
                Some(due) if due <= before.saturating_add(self.spin_ns) => {
                    is_spinning = true;
                    Duration::ZERO
                }
                Some(due) => {
                    // The alarm is needed even if housekeeping comes first, because the timeout of
                    // epoll_wait(2) may fire up to a millisecond late.
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
        // If a connection has an event, its first read sets the time.
        if events.is_empty() {
            self.context.tick();
            if is_spinning {
                self.context.recorder.note_spin(began);
            }
        }
        Ok(())
    }

    pub(super) fn poll_events(
        &mut self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    fn dispatch(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                ALARM => {
                    self.context.tick();
                }
                Token(key) => {
                    self.handle(key, event);
                    // Issue at once: due messages must not wait for the rest of the batch.
                    if self.has_to_issue() {
                        self.issue();
                    }
                }
            }
        }
    }

    fn handle(&mut self, key: usize, event: &Event) {
        let Some(flow) = self.flows.get_mut(key) else {
            return;
        };
        flow.connection_mut().note(event);
        if !flow.connection().is_open() {
            if self.go_on_connecting(key) && event.is_readable() {
                self.receive(key, F::MAX_READS);
            }
            return;
        }
        let result = flow.receive(&mut self.context, &mut *self.buffer);
        let key = flow.connection().id.key;
        match result {
            Ok(false) => {
                if flow.has_to_send() {
                    self.dirty.push(key);
                }
            }
            Ok(true) => self.receive(key, F::MAX_READS - 1),
            Err(ended) => self.end(key, &ended),
        }
    }

    /// Continues to read flows that reached the limit of their turn.
    fn read_on(&mut self) {
        for _ in 0..self.unread.len() {
            let Some(key) = self.unread.pop() else {
                return;
            };
            self.receive(key, F::MAX_READS);
        }
    }

    /// Reads from a flow until nothing is left, at most `reads` times.
    #[inline(never)]
    fn receive(&mut self, key: usize, mut reads: usize) {
        loop {
            let flow = &mut self.flows[key];
            match flow.receive(&mut self.context, &mut *self.buffer) {
                Ok(true) if reads > 1 => reads -= 1,
                Ok(may_have_more) => {
                    if flow.has_to_send() {
                        self.dirty.push(key);
                    }
                    if may_have_more {
                        self.unread.push(key);
                    }
                    return;
                }
                Err(ended) => return self.end(key, &ended),
            }
        }
    }
}
