//! The first part of a thread's life: making every connection once.

use std::io;
use std::time::Duration;

use echomark::net::sys::monotonic_ns;
use mio::{Events, Token};

use super::{EVENTS, Report, Worker};
use crate::flow::{Connect, Ended};
use crate::meter::nanoseconds;

/// Connects under way at a time: within any listener's backlog.
const MAX_CONNECTING: usize = 100;

impl Worker {
    /// Makes every connection once, spread over the ramp, a bounded number at a time.
    pub(super) fn connect_all(&mut self) -> io::Result<()> {
        let share = self.task.share();
        let begin = monotonic_ns();
        let ramp_ns = nanoseconds(self.task.plan.ramp) as f64;
        let mut next = 0;
        let mut connecting = 0;
        let mut failure = None;
        let mut events = Events::with_capacity(EVENTS);
        while next < self.flows.len() || connecting > 0 {
            if self.task.is_stopped() {
                break;
            }
            self.meter.tick();
            while next < self.flows.len() && connecting < MAX_CONNECTING {
                let due = begin + (ramp_ns * share.global(next) as f64 / share.total as f64) as u64;
                if due > self.meter.now() {
                    break;
                }
                match self.flows[next].connect(self.poll.registry(), Token(next)) {
                    Ok(()) => connecting += 1,
                    Err(ended) => self.fail_connect(next, ended, &mut failure),
                }
                next += 1;
            }
            // Short, so that the ramp's times and the connect timeout are kept.
            self.poll_events(&mut events, Some(Duration::from_millis(1)))?;
            for event in &events {
                let Token(key) = event.token();
                let Some(flow) = self.flows.get_mut(key) else {
                    continue;
                };
                let was_connecting = flow.is_connecting();
                flow.note(event);
                match flow.finish_connect(&self.meter) {
                    Ok(Connect::Pending) => {}
                    Ok(Connect::Done(took)) => {
                        connecting -= 1;
                        self.meter.record_connect(took);
                    }
                    Err(ended) => {
                        connecting -= usize::from(was_connecting);
                        self.fail_connect(key, ended, &mut failure);
                    }
                }
            }
            self.meter.tick();
            for key in 0..next {
                if self.flows[key].is_connecting()
                    && let Some(ended) =
                        self.flows[key].overdue(self.meter.now(), self.meter.timeout_ns)
                {
                    connecting -= 1;
                    self.fail_connect(key, ended, &mut failure);
                }
            }
        }
        let opened = self.flows.iter().filter(|(_, flow)| flow.is_open()).count();
        let _ = self
            .task
            .reports
            .send(Report::Connected { opened, failure });
        Ok(())
    }

    fn fail_connect(&mut self, key: usize, ended: Ended, failure: &mut Option<(usize, io::Error)>) {
        let flow = &mut self.flows[key];
        flow.end(&ended, self.meter.now(), &mut self.meter);
        if let Ended::NotConnected(error) = ended {
            failure.get_or_insert((flow.target, error));
        }
    }
}
