//! One connection: its state, and the one function that moves bytes through it. What it does with
//! them is its service's, one file for each.
//!
//! Generic over its stream, so that a scripted stream can drive it through any sequence of short
//! reads, short writes, blocking and failure without a socket.
//!
//! What holds after every call of [`Conn::pump`] that did not close the connection:
//! - What was written is a prefix of what was read, and the rest of what was read is the backlog.
//! - The backlog is never larger than the read buffer, and while there is one, nothing is read.
//! - Either the stream would block in the direction that is needed next, and an edge will come when
//!   that changes, or the answer was [`Next::Yield`].

use std::io;

use crate::metrics::{CloseReason, WorkerMetrics};
use crate::net::errno;
use crate::net::readiness::Readiness;
use crate::net::stream::{Stream, Taken};
use crate::service::Service;

pub mod backlog;
mod chargen;
mod discard;
mod echo;
pub mod scratch;

use backlog::Backlog;
use scratch::Scratch;

/// Reads of input that nobody wants in one call of [`Conn::pump`], before other connections have their
/// turn: it bounds how long one peer at full speed can keep a worker to itself.
const READS_PER_PUMP: usize = 4;

/// What a connection needs after [`Conn::pump`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// Nothing until the kernel reports an event.
    Wait,
    /// Another call soon: there is more to do, and others had to have their turn.
    Yield,
    /// Another call after a while: the kernel has no memory to give, and will not report when it has.
    Retry,
    /// To be removed.
    Close(CloseReason),
}

/// A connection that is served.
#[derive(Debug)]
pub struct Conn<S> {
    stream: S,
    backlog: Backlog,
    /// Where chargen is in its pattern.
    offset: u16,
    service: Service,
    state: State,
    /// What is known of the stream. A hang-up that was reported once stays: from then on only read(2)
    /// tells where the input ends. Urgent data stays until a read blocks: one may have stopped short
    /// of its mark with more behind it.
    ready: Readiness,
    queued: bool,
    /// It kept a large buffer full, and took all of it back: input goes by way of the pipe.
    is_bulk: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Open,
    /// The peer has sent its last byte and is still sent to: chargen alone goes on without input.
    Ended,
    /// We said our last byte for this reason and wait for the peer to do so. Input is discarded:
    /// closing a socket with unread input would reset the connection, and a reset may destroy what
    /// the peer has not read yet (RFC 9293 section 3.10.4; RFC 1122 section 4.2.2.13).
    Lingering(CloseReason),
    Closed,
}

impl<S: Stream> Conn<S> {
    /// A connection whose stream is writable, as a fresh socket is, and not known to be readable.
    pub fn new(stream: S, service: Service) -> Self {
        Self {
            stream,
            backlog: Backlog::default(),
            offset: 0,
            service,
            state: State::Open,
            ready: Readiness::WRITABLE,
            queued: false,
            is_bulk: false,
        }
    }

    /// Adds what the kernel reported to what is known.
    #[inline]
    pub fn note(&mut self, readiness: Readiness) {
        self.ready |= readiness;
    }

    /// Writes what is pending and reads in turn, until both would block, the input has ended and
    /// everything was returned, or the budget is spent. `scratch` is only used during the call.
    // The path of an echo that comes and goes whole is inlined into the loop, as every instruction on it
    // is paid for each message. All that happens less often is a call away.
    #[inline(always)]
    pub fn pump(&mut self, scratch: &mut Scratch, metrics: &WorkerMetrics) -> Next {
        match (self.state, self.service) {
            (State::Open, Service::Echo) => self.echo(scratch, metrics),
            _ => self.pump_otherwise(scratch, metrics),
        }
    }

    #[inline(never)]
    fn pump_otherwise(&mut self, scratch: &mut Scratch, metrics: &WorkerMetrics) -> Next {
        let next = match (self.state, self.service) {
            (State::Open | State::Ended, Service::Echo) => return self.echo(scratch, metrics),
            (State::Open | State::Ended, Service::Discard) => {
                self.discard(scratch.whole(), metrics)
            }
            (State::Open | State::Ended, Service::Chargen) => {
                self.chargen(scratch.whole(), metrics)
            }
            (State::Lingering(reason), _) => Ok(self.see_off(scratch.whole(), reason)),
            (State::Closed, _) => Ok(Next::Wait),
        };
        match next {
            Ok(Next::Close(reason)) => self.finish(reason, metrics),
            Ok(next) => next,
            Err(error) => self.fail(&error, metrics),
        }
    }

    /// What follows from a call that failed.
    #[cold]
    fn fail(&mut self, error: &io::Error, metrics: &WorkerMetrics) -> Next {
        if errno::is_lack_of_memory(error) {
            Next::Retry
        } else if errno::is_disconnect(error) {
            self.finish(CloseReason::Reset, metrics)
        } else {
            self.finish(CloseReason::Error, metrics)
        }
    }

    #[cold]
    fn finish(&mut self, reason: CloseReason, metrics: &WorkerMetrics) -> Next {
        self.close(metrics);
        Next::Close(reason)
    }

    /// Ends the connection by our own decision: no more is echoed, the peer is told, and until it
    /// has closed too, its input is discarded. The caller bounds how long that may take.
    pub fn linger(
        &mut self,
        reason: CloseReason,
        scratch: &mut Scratch,
        metrics: &WorkerMetrics,
    ) -> Next {
        metrics.backlog_bytes.sub(self.backlog.clear() as u64);
        if self.stream.shutdown_write().is_err() {
            return self.finish(reason, metrics);
        }
        self.state = State::Lingering(reason);
        // A read that stopped at the short-read rule may have left an end unseen.
        self.ready |= Readiness::READABLE;
        self.pump(scratch, metrics)
    }

    /// Marks the connection as closed: it takes no more part, and waits to be removed.
    pub fn close(&mut self, metrics: &WorkerMetrics) {
        metrics.backlog_bytes.sub(self.backlog.clear() as u64);
        self.state = State::Closed;
    }

    /// Marks the connection as waiting in the run queue and says whether it was not yet.
    pub fn enqueue(&mut self) -> bool {
        !std::mem::replace(&mut self.queued, true)
    }

    /// Takes the mark of [`Conn::enqueue`] away and says whether it was there.
    pub fn dequeue(&mut self) -> bool {
        std::mem::replace(&mut self.queued, false)
    }

    /// Why the connection lingers, if it does.
    pub fn lingering(&self) -> Option<CloseReason> {
        match self.state {
            State::Lingering(reason) => Some(reason),
            State::Open | State::Ended | State::Closed => None,
        }
    }

    /// Whether it was closed and waits to be removed.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether output waits for the peer to take it, of which chargen always has some.
    pub fn is_blocked(&self) -> bool {
        !self.backlog.is_empty() || self.service == Service::Chargen
    }

    /// Bytes that were read and wait to be written.
    pub fn backlog_len(&self) -> usize {
        self.backlog.len()
    }

    /// Reads once and draws the conclusion: did that drain the stream?
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Input> {
        let taken = self.stream.read(buffer).map(|count| Taken {
            count,
            asked: buffer.len(),
        });
        self.conclude(taken)
    }

    /// As [`Conn::read`], for input that nobody wants.
    fn throw_away(&mut self, scratch: &mut [u8]) -> io::Result<Input> {
        let taken = self.stream.discard(scratch);
        self.conclude(taken)
    }

    #[inline]
    fn conclude(&mut self, taken: io::Result<Taken>) -> io::Result<Input> {
        match taken {
            Ok(Taken { count: 0, .. }) => {
                self.ready.remove(Readiness::READABLE);
                Ok(Input::End)
            }
            Ok(Taken { count, asked }) => {
                // Fewer bytes than asked for: the stream is drained, and the next arrival raises an
                // edge (epoll(7), question 9). Not so when an end or an error hides behind the
                // bytes, for which no further edge comes, nor at an urgent mark, where a read stops
                // with more behind it (tcp(7)).
                if count < asked
                    && !self.ready.intersects(Readiness::HANGUP | Readiness::URGENT)
                    && self.stream.drained_by_short_read()
                {
                    self.ready.remove(Readiness::READABLE);
                }
                Ok(Input::Bytes(count))
            }
            Err(error) => self.conclude_from_error(error),
        }
    }

    #[cold]
    fn conclude_from_error(&mut self, error: io::Error) -> io::Result<Input> {
        match error.kind() {
            io::ErrorKind::WouldBlock => {
                self.ready.remove(Readiness::READABLE | Readiness::URGENT);
                Ok(Input::Blocked)
            }
            io::ErrorKind::Interrupted => Ok(Input::Interrupted),
            _ => Err(error),
        }
    }

    /// Keeps what a write call that ended so left of `input`.
    #[cold]
    fn keep_rest(
        &mut self,
        input: &[u8],
        outcome: io::Result<usize>,
        metrics: &WorkerMetrics,
    ) -> io::Result<()> {
        let mut lack_of_memory = None;
        let written = match outcome {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.ready.remove(Readiness::WRITABLE);
                0
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            // The input has left the socket and must not be lost.
            Err(error) if errno::is_lack_of_memory(&error) => {
                lack_of_memory = Some(error);
                0
            }
            Err(error) => return Err(error),
        };
        let rest = &input[written..];
        metrics.sent_bytes.add(written as u64);
        metrics.short_writes.add(1);
        metrics.backlog_bytes.add(rest.len() as u64);
        self.backlog.store(rest);
        lack_of_memory.map_or(Ok(()), Err)
    }

    /// Writes the backlog. A short write is not taken as "would block": only the error is.
    #[cold]
    fn flush(&mut self, metrics: &WorkerMetrics) -> io::Result<Flushed> {
        // Each turn either takes bytes out of the bounded backlog or leaves the loop.
        while !self.backlog.is_empty() {
            if !self.ready.is_writable() {
                return Ok(Flushed::Blocked);
            }
            match self.stream.write(self.backlog.bytes()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.backlog.consume(written);
                    metrics.sent_bytes.add(written as u64);
                    metrics.backlog_bytes.sub(written as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready.remove(Readiness::WRITABLE)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    return Ok(Flushed::Interrupted);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Flushed::All)
    }

    /// Waits for the peer's end after our own.
    fn see_off(&mut self, buffer: &mut [u8], reason: CloseReason) -> Next {
        for _ in 0..READS_PER_PUMP {
            if !self.ready.is_readable() {
                return Next::Wait;
            }
            match self.throw_away(buffer) {
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

enum Input {
    Bytes(usize),
    Blocked,
    Interrupted,
    End,
}

enum Flushed {
    All,
    Blocked,
    Interrupted,
}

#[cfg(test)]
mod tests;
