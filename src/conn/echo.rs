//! Echo, RFC 862.

use std::io;
use std::ops::ControlFlow;

use super::backlog::BacklogMemory;
use super::connection::{Conn, Flushed, Input, Next};
use super::scratch::{Lent, Scratch};
use crate::metrics::{CloseReason, WorkerMetrics};
use crate::net::readiness::Readiness;
use crate::net::stream::{Stream, Taken};

/// Continue, or return this from [`Conn::pump`].
type Flow = ControlFlow<Next>;

impl<S: Stream> Conn<S> {
    /// Echoes until the input has ended and all of it was returned, at most two reads before other
    /// connections run.
    // Nearly every call is one exchange, so only that is inlined.
    #[inline(always)]
    pub(super) fn echo(&mut self, scratch: &mut Scratch<S::Pipe>, metrics: &WorkerMetrics) -> Next {
        if self.backlog.is_empty()
            && self.ready.is_readable()
            && !self.is_bulk
            && let Some(lent) = scratch.first_lent()
            && let ControlFlow::Break(next) = self.exchange(lent, metrics)
        {
            return next;
        }
        if self.is_waiting() {
            return Next::Wait;
        }
        self.echo_on(scratch, metrics)
    }

    /// Writes the backlog, then reads and writes once more: with the whole buffer if all output was
    /// taken so far.
    #[inline(never)]
    fn echo_on(&mut self, scratch: &mut Scratch<S::Pipe>, metrics: &WorkerMetrics) -> Next {
        let keeps_up = self.backlog.is_empty();
        if !keeps_up {
            self.is_bulk = false;
            match self.flush(&mut scratch.memory, metrics) {
                Ok(Flushed::All) => {}
                Ok(Flushed::Blocked) => return Next::Wait,
                Ok(Flushed::Interrupted) => return Next::Yield,
                Err(error) => return self.fail(&error),
            }
        }
        if self.ready.is_readable() {
            let flow = if !scratch.can_keep() {
                self.exchange_peeked(scratch.first(), metrics)
            } else if keeps_up {
                self.exchange_much(scratch, metrics)
            } else if let Some(lent) = scratch.first_lent() {
                self.exchange(lent, metrics)
            } else {
                Flow::Continue(())
            };
            if let ControlFlow::Break(next) = flow {
                return next;
            }
        }
        if self.is_waiting() {
            Next::Wait
        } else {
            Next::Yield
        }
    }

    /// As [`Conn::exchange`] with the whole buffer, through the pipe where possible.
    fn exchange_much(&mut self, scratch: &mut Scratch<S::Pipe>, metrics: &WorkerMetrics) -> Flow {
        let was_bulk = std::mem::take(&mut self.is_bulk);
        // Small input before an end is read, because one more read has to find the end anyway.
        let reads_better = if was_bulk {
            Readiness::URGENT
        } else {
            Readiness::URGENT | Readiness::HANGUP
        };
        if self.ready.intersects(reads_better)
            || !scratch.can_relay()
            || !self.stream.is_spliceable()
        {
            return self.exchange(scratch.whole_lent(), metrics);
        }
        // The message had exactly the size of the first read.
        if !was_bulk && self.is_drained() {
            return Flow::Continue(());
        }
        let relayed = match scratch.relay(&mut self.stream) {
            Some(Ok(relayed)) => relayed,
            Some(Err(error)) => return Flow::Break(self.fail(&error)),
            // Only a read reveals why nothing moved.
            None => return self.exchange(scratch.whole_lent(), metrics),
        };
        let (taken, rest) = (relayed.taken, relayed.rest);
        metrics.received_bytes.add(taken as u64);
        metrics.sent_bytes.add((taken - rest.len()) as u64);
        if !rest.is_empty() {
            return self.keep(rest, relayed.outcome, relayed.memory, metrics);
        }
        self.is_bulk = scratch.is_bulk(taken);
        self.is_drained();
        Flow::Continue(())
    }

    /// Checks for waiting input, where that alone decides; see [`Conn::read`].
    fn is_drained(&mut self) -> bool {
        let hides_more = Readiness::HANGUP | Readiness::URGENT;
        let is_drained = !self.ready.intersects(hides_more) && self.stream.is_drained();
        if is_drained {
            self.ready.remove(Readiness::READABLE);
        }
        is_drained
    }

    /// Reads and writes once.
    #[inline(always)]
    fn exchange(&mut self, lent: Lent<'_>, metrics: &WorkerMetrics) -> Flow {
        let Lent { buffer, memory } = lent;
        match self.read(buffer) {
            Ok(Input::Bytes(count)) => {
                metrics.received_bytes.add(count as u64);
                let input = &buffer[..count];
                match self.stream.write(input) {
                    Ok(written) if written == count => {
                        metrics.sent_bytes.add(count as u64);
                        Flow::Continue(())
                    }
                    outcome => self.keep(input, outcome, memory, metrics),
                }
            }
            nothing => Flow::Break(self.stop(nothing)),
        }
    }

    /// Writes input before it is taken out of the socket, and takes out only what was written: for
    /// want of memory for a backlog, the rest stays in the kernel. Costs a system call more.
    #[cold]
    fn exchange_peeked(&mut self, buffer: &mut [u8], metrics: &WorkerMetrics) -> Flow {
        metrics.peeked_reads.add(1);
        let count = match self.peek(buffer) {
            Ok(Input::Bytes(count)) => count,
            nothing => return Flow::Break(self.stop(nothing)),
        };
        if !self.ready.is_writable() {
            // The last write found no room, so an event reports when there is some.
            return Flow::Break(Next::Wait);
        }
        let written = match self.stream.write(&buffer[..count]) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.ready.remove(Readiness::WRITABLE);
                metrics.short_writes.add(1);
                return Flow::Break(Next::Wait);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return Flow::Break(Next::Yield);
            }
            written => written,
        };
        let taken = written.and_then(|written| {
            metrics.sent_bytes.add(written as u64);
            self.take_written(&mut buffer[..written])?;
            metrics.received_bytes.add(written as u64);
            Ok(written)
        });
        match taken {
            Ok(taken) if taken == count => self.note_taken(Taken {
                count,
                asked: buffer.len(),
            }),
            Ok(_) => metrics.short_writes.add(1),
            Err(error) => return Flow::Break(self.fail(&error)),
        }
        Flow::Continue(())
    }

    /// Keeps what a write with this outcome left of `input`.
    #[cold]
    fn keep(
        &mut self,
        input: &[u8],
        outcome: io::Result<usize>,
        memory: &mut BacklogMemory,
        metrics: &WorkerMetrics,
    ) -> Flow {
        match self.keep_rest(input, outcome, memory, metrics) {
            Ok(()) => Flow::Continue(()),
            Err(error) => Flow::Break(self.fail(&error)),
        }
    }

    /// Handles a read without input.
    #[cold]
    fn stop(&mut self, input: io::Result<Input>) -> Next {
        match input {
            Ok(Input::Bytes(_) | Input::Interrupted) => Next::Yield,
            Ok(Input::Blocked) => Next::Wait,
            // All was returned, because nothing is read while there is a backlog. Closing sends FIN
            // behind the last echoed byte, as shutdown(2) would: all input was read, so it can't
            // become a reset.
            Ok(Input::End) => self.finish(CloseReason::Finished),
            Err(error) => self.fail(&error),
        }
    }

    /// Whether there is nothing to do until the kernel reports something.
    #[inline(always)]
    fn is_waiting(&self) -> bool {
        self.backlog.is_empty() && !self.ready.is_readable()
    }
}
