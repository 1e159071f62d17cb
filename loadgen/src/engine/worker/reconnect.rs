//! Connections that end during the run, and their successors.

use std::io;

use echomark::net::errno;

use super::thread::Worker;
use crate::engine::connection::{Connect, ConnectError, Ended};
use crate::engine::workload::{Connects, Flow};

impl<F: Flow> Worker<F> {
    pub(super) fn connect(&mut self, key: usize) {
        let connection = self.flows[key].connection_mut();
        let result = connection.connect(&mut self.dialer, self.poll.registry());
        match self.in_time(result) {
            Ok(connect) => {
                self.note_connect(key, &connect);
            }
            Err(ended) => self.end(key, &ended),
        }
    }

    /// Continues a connect, and returns whether the connection is established.
    pub(super) fn go_on_connecting(&mut self, key: usize) -> bool {
        let connection = self.flows[key].connection_mut();
        let result = connection.finish_connect(&mut self.dialer, self.poll.registry());
        match self.in_time(result) {
            Ok(connect) => self.note_connect(key, &connect),
            Err(ended) => {
                self.end(key, &ended);
                false
            }
        }
    }

    /// A connect that took longer than the timeout has failed.
    pub(super) fn in_time(&self, result: Result<Connect, Ended>) -> Result<Connect, Ended> {
        let connect = result?;
        match connect.overdue(self.context.timeout_ns) {
            Some(error) => Err(Ended::NotConnected(error)),
            None => Ok(connect),
        }
    }

    fn note_connect(&mut self, key: usize, connect: &Connect) -> bool {
        let Some(took) = connect.took() else {
            return false;
        };
        self.context.tick();
        self.context.recorder.enter_interval();
        if let Connect::Secured { handshake, .. } = connect {
            self.flows[key].secured(handshake, &mut self.context);
        }
        self.flows[key].connected(took, &mut self.context);
        self.dirty.push(key);
        true
    }

    /// Ends a connection, and reconnects if that makes sense.
    pub(super) fn end(&mut self, key: usize, ended: &Ended) {
        let now = self.context.tick();
        self.context.recorder.enter_interval();
        self.count_end(ended);
        // With one connection per message, this would be an additional system call for each
        // message.
        if self.connects != Connects::PerMessage {
            self.ask_tcp(key);
        }
        let flow = &mut self.flows[key];
        flow.abandon(ended, &mut self.context);
        flow.connection_mut().close(ended, now);
        match self.connects {
            Connects::Always => self.reconnect(key),
            Connects::Once => {}
            Connects::PerMessage => self.resting.push(key),
        }
    }

    pub(super) fn count_end(&mut self, ended: &Ended) {
        if let Ended::NotConnected(error) = ended {
            self.context.recorder.note_connect_error(error);
        }
        let counts = self.context.recorder.counts();
        match ended {
            Ended::NotConnected(error) => {
                counts.failed += 1;
                counts.out_of_ports += u64::from(errno::is_port_exhaustion(error));
                counts.failed_handshakes += u64::from(is_refusal(error));
            }
            Ended::ByPeer => counts.closed_by_peer += 1,
            Ended::Broken | Ended::Refused(_) => counts.reset += 1,
            Ended::Truncated => {
                counts.reset += 1;
                counts.truncated += 1;
            }
            // The client ends these itself.
            Ended::Excess | Ended::TimedOut | Ended::ByUs | Ended::Unclosed => {}
        }
    }

    pub(super) fn reconnect(&mut self, key: usize) {
        let now = self.context.now();
        let flow = &self.flows[key];
        // After the window, what was due in it may still be sent.
        let has_use = !self.context.recorder.clock.is_window_over() || flow.has_to_send();
        // A failed connect waits for its backoff, so this does not recur at once.
        if has_use && flow.connection().wants_to_connect(now) {
            self.connect(key);
        }
    }
}

/// Whether a connect failed in the TLS handshake.
fn is_refusal(error: &io::Error) -> bool {
    matches!(ConnectError::from(error), ConnectError::Tls(_))
}
