//! One connection: [`Conn::pump`] moves its bytes. What it does with them is its service's, one file
//! for each; their common calls and the state are in `connection`.
//!
//! Generic over its stream, so that a scripted stream can drive it through any sequence of short
//! reads, short writes, blocking and failure without a socket.
//!
//! What holds after every call of [`Conn::pump`] that did not close the connection:
//! - What was written is a prefix of what was read, and the rest of what was read is the backlog.
//! - The backlog is never larger than the read buffer, and while there is one, nothing is read.
//! - Either the stream would block in the direction that is needed next, and an edge will come when
//!   that changes, or the answer was [`Next::Yield`].

use crate::metrics::{CloseReason, WorkerMetrics};
use crate::net::errno;
use crate::net::readiness::Readiness;
use crate::net::stream::Stream;

pub(crate) mod backlog;
mod chargen;
mod connection;
mod discard;
mod echo;
pub(crate) mod scratch;
#[cfg(test)]
mod tests;

pub use connection::{Conn, Next};
use connection::{Input, MAX_READS_PER_PUMP, State};
use scratch::Scratch;

impl<S: Stream> Conn<S> {
    /// Writes what is pending and reads in turn, until both would block, the input has ended and
    /// everything was returned, or the budget is spent. `scratch` is only used during the call.
    // An echo that comes and goes whole is inlined into the loop, because each instruction on its way
    // is paid for every message. What happens less often is a call away.
    #[inline(always)]
    pub fn pump(&mut self, scratch: &mut Scratch<S::Pipe>, metrics: &WorkerMetrics) -> Next {
        match self.state {
            State::Echo => self.echo(scratch, metrics),
            _ => self.pump_otherwise(scratch, metrics),
        }
    }

    #[inline(never)]
    fn pump_otherwise(&mut self, scratch: &mut Scratch<S::Pipe>, metrics: &WorkerMetrics) -> Next {
        let next = match self.state {
            State::Echo => return self.echo(scratch, metrics),
            State::Discard => self.discard(scratch.whole(), metrics),
            State::Chargen(chargen) => self.chargen(chargen, scratch.whole(), metrics),
            State::Lingering(reason) => Ok(self.await_end(scratch.whole(), reason)),
            State::Closed => Ok(Next::Wait),
        };
        match next {
            Ok(Next::Close(reason)) => self.finish(reason, metrics),
            Ok(next) => next,
            Err(error) => self.fail(&error, metrics),
        }
    }

    /// Ends the connection by our own decision: no more is echoed, the peer is told, and until it
    /// has closed too, its input is discarded. The caller bounds how long that may take.
    pub fn linger(
        &mut self,
        reason: CloseReason,
        scratch: &mut Scratch<S::Pipe>,
        metrics: &WorkerMetrics,
    ) -> Next {
        self.drop_backlog(metrics);
        if self.stream.shutdown_write().is_err() {
            return self.finish(reason, metrics);
        }
        self.state = State::Lingering(reason);
        // A read that stopped at the short-read rule may have left an end unseen.
        self.ready |= Readiness::READABLE;
        self.pump(scratch, metrics)
    }

    /// Discards input until the peer ends the connection too.
    fn await_end(&mut self, buffer: &mut [u8], reason: CloseReason) -> Next {
        for _ in 0..MAX_READS_PER_PUMP {
            if !self.ready.is_readable() {
                return Next::Wait;
            }
            match self.discard_input(buffer) {
                Ok(Input::Bytes(_)) => {}
                Ok(Input::Blocked) => return Next::Wait,
                Ok(Input::Interrupted) => return Next::Yield,
                Err(error) if errno::is_lack_of_memory(&error) => return Next::Retry,
                Ok(Input::End) | Err(_) => return Next::Close(reason),
            }
        }
        Next::Yield
    }
}
