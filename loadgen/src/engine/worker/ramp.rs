//! The ramp: every flow connects once.

use std::io;
use std::time::Duration;

use mio::{Events, Token};

use super::thread::{MAX_EVENTS, Worker};
use crate::engine::connection::{Connect, Ended};
use crate::engine::interval::nanoseconds;
use crate::engine::task::{Failure, Report};
use crate::engine::workload::{Connects, Flow};

/// Maximum of concurrent connects, below the backlog of any listener.
const MAX_CONNECTING: usize = 100;

/// Progress of a thread's connects.
struct Ramp {
    begin: u64,
    next: usize,
    connecting: usize,
    /// The first failed connect: the number of its target, and the error.
    failure: Option<(usize, io::Error)>,
}

impl<F: Flow> Worker<F> {
    /// Connects every flow once, spread over the ramp, with a limit on concurrent connects. In the
    /// churn workload, one connection per target shows that the target accepts.
    pub(super) fn connect_all(&mut self) -> Result<(), Failure> {
        let share = self.task.share();
        let most = match self.connects {
            Connects::Always | Connects::Once => self.flows.len(),
            Connects::PerMessage => self.task.addresses.len().min(self.flows.len()),
        };
        self.context.recorder.clock.begin_ramp();
        let mut ramp = Ramp {
            begin: self.context.now(),
            next: 0,
            connecting: 0,
            failure: None,
        };
        let ramp_ns = nanoseconds(self.task.plan.ramp) as f64;
        let mut events = Events::with_capacity(MAX_EVENTS);
        while ramp.next < most || ramp.connecting > 0 {
            if self.task.is_stopped() {
                break;
            }
            self.context.tick();
            while ramp.next < most && ramp.connecting < MAX_CONNECTING {
                let part = share.global(ramp.next) as f64 / share.total as f64;
                if ramp.begin + (ramp_ns * part) as u64 > self.context.now() {
                    break;
                }
                ramp.connecting += 1;
                let connection = self.flows[ramp.next].connection_mut();
                let result = connection.connect(&mut self.dialer, self.poll.registry());
                self.follow(ramp.next, result, &mut ramp);
                ramp.next += 1;
            }
            // A short timeout, so that the ramp's times and the connect timeout are kept.
            self.poll_events(&mut events, Some(Duration::from_millis(1)))
                .map_err(Failure::System)?;
            for event in &events {
                let Token(key) = event.token();
                if let Some(flow) = self.flows.get_mut(key) {
                    flow.connection_mut().note(event);
                    self.try_on(key, &mut ramp);
                }
            }
            self.context.tick();
            self.context.recorder.enter_interval();
            self.check_connects(&mut ramp);
        }
        let opened = self
            .flows
            .iter()
            .filter(|flow| flow.connection().is_open())
            .count();
        if self.connects == Connects::PerMessage {
            self.hang_up();
        }
        self.context.recorder.end_ramp();
        let _ = self.task.reports.send(Report::Connected {
            worker: self.task.worker,
            opened,
            failure: ramp.failure,
        });
        Ok(())
    }

    /// Ends overdue connects, and retries those without an event to wait for.
    fn check_connects(&mut self, ramp: &mut Ramp) {
        for key in 0..ramp.next {
            let connection = self.flows[key].connection();
            let since = connection.connecting_since();
            if since.is_some_and(|since| self.context.is_overdue(since)) {
                let timeout = connection.connect_timeout();
                self.follow(key, Err(Ended::NotConnected(timeout)), ramp);
            } else if connection.is_waiting_for_room() {
                self.try_on(key, ramp);
            }
        }
    }

    fn try_on(&mut self, key: usize, ramp: &mut Ramp) {
        let connection = self.flows[key].connection_mut();
        if connection.is_connecting() {
            let result = connection.finish_connect(&mut self.dialer, self.poll.registry());
            self.follow(key, result, ramp);
        }
    }

    fn follow(&mut self, key: usize, result: Result<Connect, Ended>, ramp: &mut Ramp) {
        match self.in_time(result) {
            Ok(Connect::Pending) => {}
            Ok(Connect::Done(took)) => {
                ramp.connecting -= 1;
                self.flows[key].connected(took, &mut self.context);
            }
            Ok(Connect::Secured { took, handshake }) => {
                ramp.connecting -= 1;
                self.flows[key].secured(&handshake, &mut self.context);
                self.flows[key].connected(took, &mut self.context);
            }
            Err(ended) => {
                ramp.connecting -= 1;
                self.count_end(&ended);
                let now = self.context.now();
                let connection = self.flows[key].connection_mut();
                connection.close(&ended, now);
                if let Ended::NotConnected(error) = ended {
                    let target = connection.id.target;
                    ramp.failure.get_or_insert((target, error));
                }
            }
        }
    }

    /// Closes the connections that only tested the targets.
    fn hang_up(&mut self) {
        let now = self.context.now();
        for flow in &mut self.flows {
            if flow.connection().is_open() {
                flow.connection_mut().close(&Ended::ByUs, now);
            }
        }
    }
}
