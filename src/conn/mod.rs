//! One connection: [`Conn::pump`] moves its bytes. Each service is one file; the state and the
//! operations that they share are in `connection`.
//!
//! The code is generic over the stream, so that a scripted stream can drive it through any sequence
//! of short reads, short writes, blocking and failure without a socket.
//!
//! Invariants after every call of [`Conn::pump`] that did not close the connection:
//! - In an echo the written bytes are a prefix of the read bytes, and the backlog is the rest.
//! - The backlog is never larger than the read buffer, and while there is one, nothing is read.
//! - Either the stream would block in the direction needed next, and an edge will come when that
//!   changes, or the result was [`Next::Yield`] or [`Next::Retry`].
//! - Nothing is read that could not be kept: without memory for a backlog, input is written while
//!   it is still in the kernel, and only what was written is taken out.

use crate::metrics::{CloseReason, WorkerMetrics};
use crate::net::errno;
use crate::net::readiness::Readiness;
use crate::net::stream::Stream;

pub(crate) mod backlog;
mod chargen;
mod connection;
mod discard;
mod echo;
pub(crate) mod faulty;
pub(crate) mod header;
mod held;
pub(crate) mod scratch;
#[cfg(test)]
mod tests;

pub(crate) use connection::MAX_READS_PER_PUMP;
pub use connection::{Conn, Next};
use connection::{Input, State};
use scratch::Scratch;

impl<S: Stream> Conn<S> {
    /// Alternates writing pending bytes and reading, until both would block, the input has ended
    /// and everything was returned, or the budget is spent. `scratch` is only used during the call.
    // The echo of a whole message is inlined into the loop, because every message pays for each of
    // its instructions. Rarer paths are calls.
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
            State::EchoBehind(header) => return self.echo_behind(header, scratch, metrics),
            State::Discard => self.discard(scratch.whole(), metrics),
            State::Chargen(chargen) => self.chargen(chargen, scratch.whole(), metrics),
            State::Lingering(reason) => Ok(self.await_end(scratch.whole(), reason)),
            // Its deadline ends it.
            State::CutOff(_) | State::Closed => Ok(Next::Wait),
            State::AwaitingHeader => Ok(Next::Header),
        };
        match next {
            Ok(Next::Close(reason)) => self.finish(reason),
            Ok(next) => next,
            Err(error) => self.fail(&error),
        }
    }

    /// Ends the connection by our own decision: nothing more is echoed. If everything came back, it
    /// is half-closed, and input is discarded until the peer closes too; if not, it is going to be
    /// reset. The caller bounds the time until then.
    pub fn linger(
        &mut self,
        reason: CloseReason,
        scratch: &mut Scratch<S::Pipe>,
        metrics: &WorkerMetrics,
    ) -> Next {
        if self.would_cut_off() {
            self.drop_backlog(&mut scratch.memory, metrics);
            self.state = State::CutOff(reason);
            return Next::Wait;
        }
        if self.stream.shutdown_write().is_err() {
            return self.finish(reason);
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
