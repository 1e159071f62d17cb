//! Echo, RFC 862.

use std::io;

use super::{Conn, Flushed, Input, Next};
use crate::metrics::{CloseReason, WorkerMetrics};
use crate::stream::Stream;

/// The most that the first read of a turn takes. Copying in large pieces costs half as much as in
/// pieces of this size, but of a peer that reads slowly most of a large piece would have to be kept: so
/// a read of the whole buffer follows only one of this size that was filled and written whole.
const FIRST_READ: usize = 64 << 10;

impl<S: Stream> Conn<S> {
    /// Returns what comes until the input has ended and all of it was returned: twice at the most before
    /// other connections have their turn.
    // One exchange is all of nearly every call, so that it alone is inlined.
    #[inline(always)]
    pub(super) fn echo(&mut self, buffer: &mut [u8], metrics: &WorkerMetrics) -> Next {
        if self.backlog.is_empty() && self.ready.is_readable() {
            let first = buffer.len().min(FIRST_READ);
            if let Some(next) = self.exchange(&mut buffer[..first], metrics) {
                return next;
            }
        }
        if self.is_waiting() {
            return Next::Wait;
        }
        self.echo_on(buffer, metrics)
    }

    /// Writes what waits, then reads and writes once more.
    #[inline(never)]
    fn echo_on(&mut self, buffer: &mut [u8], metrics: &WorkerMetrics) -> Next {
        let mut most = buffer.len();
        if !self.backlog.is_empty() {
            most = most.min(FIRST_READ);
            match self.flush(metrics) {
                Ok(Flushed::All) => {}
                Ok(Flushed::Blocked) => return Next::Wait,
                Ok(Flushed::Interrupted) => return Next::Yield,
                Err(error) => return self.fail(&error, metrics),
            }
        }
        if self.ready.is_readable()
            && let Some(next) = self.exchange(&mut buffer[..most], metrics)
        {
            return next;
        }
        if self.is_waiting() {
            Next::Wait
        } else {
            Next::Yield
        }
    }

    /// Reads and writes once. Says what follows if that is known.
    #[inline(always)]
    fn exchange(&mut self, buffer: &mut [u8], metrics: &WorkerMetrics) -> Option<Next> {
        match self.read(buffer) {
            Ok(Input::Bytes(count)) => {
                metrics.received_bytes.add(count as u64);
                let input = &buffer[..count];
                match self.stream.write(input) {
                    Ok(written) if written == count => {
                        metrics.sent_bytes.add(count as u64);
                        None
                    }
                    outcome => {
                        let kept = self.keep_rest(input, outcome, metrics);
                        kept.err().map(|error| self.fail(&error, metrics))
                    }
                }
            }
            nothing => Some(self.stop(nothing, metrics)),
        }
    }

    /// What follows from a read that brought nothing.
    #[cold]
    fn stop(&mut self, input: io::Result<Input>, metrics: &WorkerMetrics) -> Next {
        match input {
            Ok(Input::Bytes(_) | Input::Interrupted) => Next::Yield,
            Ok(Input::Blocked) => Next::Wait,
            // All was returned, as nothing is read while there is a backlog. Closing sends the end of
            // our stream behind the last echoed byte, as shutting the write side down before would:
            // all input was read, so it can't become a reset.
            Ok(Input::End) => self.finish(CloseReason::Finished, metrics),
            Err(error) => self.fail(&error, metrics),
        }
    }

    /// Whether there is nothing to do until the kernel reports something.
    #[inline(always)]
    fn is_waiting(&self) -> bool {
        self.backlog.is_empty() && !self.ready.is_readable()
    }
}
