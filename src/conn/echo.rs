//! Echo, RFC 862.

use std::io;

use super::scratch::Scratch;
use super::{Conn, Flushed, Input, Next};
use crate::metrics::{CloseReason, WorkerMetrics};
use crate::net::readiness::Readiness;
use crate::net::stream::Stream;

impl<S: Stream> Conn<S> {
    /// Returns what comes until the input has ended and all of it was returned: twice at the most before
    /// other connections have their turn.
    // One exchange is all of nearly every call, so that it alone is inlined.
    #[inline(always)]
    pub(super) fn echo(&mut self, scratch: &mut Scratch, metrics: &WorkerMetrics) -> Next {
        if self.backlog.is_empty()
            && self.ready.is_readable()
            && !self.is_bulk
            && let Some(next) = self.exchange(scratch.first(), metrics)
        {
            return next;
        }
        if self.is_waiting() {
            return Next::Wait;
        }
        self.echo_on(scratch, metrics)
    }

    /// Writes what waits, then reads and writes once more: much at once if all was taken until now.
    #[inline(never)]
    fn echo_on(&mut self, scratch: &mut Scratch, metrics: &WorkerMetrics) -> Next {
        let keeps_up = self.backlog.is_empty();
        if !keeps_up {
            self.is_bulk = false;
            match self.flush(metrics) {
                Ok(Flushed::All) => {}
                Ok(Flushed::Blocked) => return Next::Wait,
                Ok(Flushed::Interrupted) => return Next::Yield,
                Err(error) => return self.fail(&error, metrics),
            }
        }
        if self.ready.is_readable() {
            let next = match keeps_up {
                true => self
                    .relay(scratch, metrics)
                    .unwrap_or_else(|| self.exchange(scratch.whole(), metrics)),
                false => self.exchange(scratch.first(), metrics),
            };
            if let Some(next) = next {
                return next;
            }
        }
        if self.is_waiting() {
            Next::Wait
        } else {
            Next::Yield
        }
    }

    /// Returns much at once without copying it. `None` if a read has to say what there is, otherwise what
    /// follows, if that is known.
    fn relay(&mut self, scratch: &mut Scratch, metrics: &WorkerMetrics) -> Option<Option<Next>> {
        // Small input before an end is left to reads, of which one more has to find the end anyway.
        let reads_better = Readiness::URGENT
            | if self.is_bulk {
                Readiness::NONE
            } else {
                Readiness::HANGUP
            };
        let was_bulk = std::mem::take(&mut self.is_bulk);
        if self.ready.intersects(reads_better)
            || !scratch.can_relay()
            || !self.stream.is_spliceable()
        {
            return None;
        }
        // A message of just the size of the first read.
        if !was_bulk && self.is_drained() {
            return Some(None);
        }
        let relayed = match scratch.relay(&mut self.stream)? {
            Ok(relayed) => relayed,
            Err(error) => return Some(Some(self.fail(&error, metrics))),
        };
        let (taken, rest) = (relayed.taken, relayed.rest);
        metrics.received_bytes.add(taken as u64);
        metrics.sent_bytes.add((taken - rest.len()) as u64);
        if !rest.is_empty() {
            let kept = self.keep_rest(rest, relayed.outcome, metrics);
            return Some(kept.err().map(|error| self.fail(&error, metrics)));
        }
        self.is_bulk = scratch.is_bulk(taken);
        self.is_drained();
        Some(None)
    }

    /// Asks whether input waits, where the answer is all that there is to know; see [`Conn::conclude`].
    fn is_drained(&mut self) -> bool {
        let hides_more = Readiness::HANGUP | Readiness::URGENT;
        let is_drained = !self.ready.intersects(hides_more) && self.stream.is_drained();
        if is_drained {
            self.ready.remove(Readiness::READABLE);
        }
        is_drained
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
