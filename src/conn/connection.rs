//! The state of one connection, and the stream operations that all services share.

use std::io;
use std::net::SocketAddr;

use super::backlog::{Backlog, BacklogMemory};
use crate::metrics::{CloseReason, WorkerMetrics};
use crate::net::errno;
use crate::net::readiness::Readiness;
use crate::net::stream::{Stream, Taken};
use crate::service::Service;

/// Reads of discarded input in one call of [`Conn::pump`]. It bounds how long one peer at full
/// speed can occupy a worker.
pub(crate) const MAX_READS_PER_PUMP: usize = 4;
/// Reads to take out bytes that were already written. An urgent mark divides them, and a call may
/// be interrupted.
const MAX_READS_OF_WRITTEN: usize = 16;

/// What a connection needs after [`Conn::pump`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// Nothing until the kernel reports an event.
    Wait,
    /// Another call soon: there is more to do, but other connections come first.
    Yield,
    /// Another call after a pause: the kernel is out of memory and reports no event when it has
    /// some.
    Retry,
    /// A look at the PROXY header, of which more may have come.
    Header,
    /// Removal.
    Close(CloseReason),
}

/// A served connection.
#[derive(Debug)]
pub struct Conn<S> {
    pub(super) stream: S,
    pub(super) backlog: Backlog,
    pub(super) state: State,
    /// The stream's known readiness. A reported hang-up stays: from then on only read(2) tells
    /// where the input ends. Urgent data stays until a read blocks, because a read may stop at its
    /// mark with more behind it.
    pub(super) ready: Readiness,
    is_queued: bool,
    /// The last large read was filled and fully written: input goes through the pipe.
    pub(super) is_bulk: bool,
}

/// What a connection does with its stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    Echo,
    /// Behind so many bytes of a PROXY header.
    EchoBehind(u16),
    Discard,
    Chargen(Chargen),
    /// Its PROXY header is not there yet, and decides whether it is served.
    AwaitingHeader,
    /// We half-closed the connection for this reason and wait for the peer's end. Input is
    /// discarded: closing a socket with unread input resets the connection, and a reset may destroy
    /// what the peer has not read yet (RFC 9293 section 3.10.4; RFC 1122 section 4.2.2.13).
    Lingering(CloseReason),
    /// We stopped serving it for this reason with data left that will not be echoed. Closing it
    /// resets it, so that the peer does not take what it got for everything; until then the kernel
    /// may still deliver what was echoed.
    CutOff(CloseReason),
    Closed,
}

impl State {
    /// That of a new connection of a service.
    pub(super) fn of(service: Service) -> Self {
        match service {
            // A whoami has sent its line when it begins.
            Service::Echo | Service::Whoami => Self::Echo,
            Service::Discard => Self::Discard,
            Service::Chargen => Self::Chargen(Chargen::default()),
        }
    }
}

/// The state of the character generator.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Chargen {
    /// The next byte's position in the pattern.
    pub(super) offset: u16,
    /// The peer has ended its output and still reads.
    pub(super) has_input_ended: bool,
}

// Most connections are idle and cost this size; in debug builds mio's types are larger.
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Conn<crate::net::stream::Socket>>() <= 24);

impl<S: Stream> Conn<S> {
    /// A connection whose stream is writable, like any fresh socket, and not known to be readable.
    pub fn new(stream: S, service: Service) -> Self {
        Self {
            stream,
            backlog: Backlog::default(),
            state: State::of(service),
            ready: Readiness::WRITABLE,
            is_queued: false,
            is_bulk: false,
        }
    }

    /// The addresses of the client and of our end, as far as they have some.
    pub(crate) fn addresses(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        self.stream.addresses()
    }

    /// Its stream, to be registered.
    pub(crate) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Its stream, of a connection that is not served.
    pub(crate) fn into_stream(self) -> S {
        self.stream
    }

    /// Adds readiness that the kernel reported.
    #[inline]
    pub fn note(&mut self, readiness: Readiness) {
        self.ready |= readiness;
    }

    /// What the kernel has reported and no call has used up.
    pub(crate) fn readiness(&self) -> Readiness {
        self.ready
    }

    /// What a connection needs whose stream's handshake has stopped with this outcome.
    #[cold]
    pub(crate) fn await_handshake(&mut self, outcome: io::Result<()>) -> Next {
        match outcome {
            Ok(()) => Next::Yield,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Next::Wait,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Next::Yield,
            Err(error) => self.fail(&error),
        }
    }

    /// Marks the connection as closed: it does nothing more until it is removed. If bytes are left
    /// that will not be echoed, removing it resets it.
    pub fn close(&mut self) {
        if !self.backlog.is_empty() || matches!(self.state, State::CutOff(_)) {
            // If it fails, the connection is gone already.
            let _ = self.stream.reset_on_close();
        }
        self.state = State::Closed;
    }

    /// Whether bytes that the peer sent would not come back if the connection ended now. Only an
    /// echo owes its input.
    pub(super) fn would_cut_off(&mut self) -> bool {
        matches!(self.state, State::Echo | State::EchoBehind(_))
            && (!self.backlog.is_empty() || !self.stream.is_drained())
    }

    /// Marks the connection as queued to run and returns whether the mark is new.
    pub fn enqueue(&mut self) -> bool {
        !std::mem::replace(&mut self.is_queued, true)
    }

    /// Removes the mark of [`Conn::enqueue`] and returns whether it was set.
    pub fn dequeue(&mut self) -> bool {
        std::mem::replace(&mut self.is_queued, false)
    }

    /// The reason why the connection lingers, half-closed or about to be reset, if it does.
    pub fn lingering(&self) -> Option<CloseReason> {
        match self.state {
            State::Lingering(reason) | State::CutOff(reason) => Some(reason),
            State::Echo
            | State::EchoBehind(_)
            | State::Discard
            | State::Chargen(_)
            | State::AwaitingHeader
            | State::Closed => None,
        }
    }

    /// Whether it was closed and waits to be removed.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether output waits for the peer, which is always true of chargen.
    pub fn is_blocked(&self) -> bool {
        !self.backlog.is_empty() || matches!(self.state, State::Chargen(_))
    }

    /// Bytes that were read and wait to be written.
    pub fn backlog_len(&self) -> usize {
        self.backlog.len()
    }

    /// Frees the backlog of a connection that is removed.
    pub(crate) fn drop_backlog(&mut self, memory: &mut BacklogMemory, metrics: &WorkerMetrics) {
        metrics.backlog_bytes.sub(self.backlog.clear(memory) as u64);
    }

    #[cfg(test)]
    pub(crate) fn backlog_cost(&self) -> usize {
        self.backlog.cost()
    }

    #[cfg(test)]
    pub(crate) fn is_queued(&self) -> bool {
        self.is_queued
    }

    /// Acts on this connection as if another stream, over its own, were its stream.
    pub(crate) fn over<'a, T: Stream, R>(
        &'a mut self,
        wrap: impl FnOnce(&'a mut S) -> T,
        act: impl FnOnce(&mut Conn<T>) -> R,
    ) -> R {
        let Self {
            stream,
            backlog,
            state,
            ready,
            is_queued,
            is_bulk,
        } = self;
        let mut conn = Conn {
            stream: wrap(stream),
            backlog: std::mem::take(backlog),
            state: *state,
            ready: *ready,
            is_queued: *is_queued,
            is_bulk: *is_bulk,
        };
        let result = act(&mut conn);
        *backlog = conn.backlog;
        *state = conn.state;
        *ready = conn.ready;
        *is_queued = conn.is_queued;
        *is_bulk = conn.is_bulk;
        result
    }

    /// Sends what the stream itself has to send.
    pub(crate) fn flush_stream(&mut self) -> io::Result<()> {
        self.stream.flush()
    }

    /// Half-closes a connection that was just closed, because what its peer sent makes no sense, and
    /// discards the rest of that: closing it at once would reset it, which may destroy the answer.
    /// The caller bounds the time until then.
    pub(crate) fn linger_after_failure(&mut self, reason: CloseReason) -> Next {
        if self.stream.shutdown_write().is_err() {
            return Next::Close(reason);
        }
        self.state = State::Lingering(reason);
        self.ready |= Readiness::READABLE;
        Next::Yield
    }

    /// Handles a failed call.
    #[cold]
    pub(super) fn fail(&mut self, error: &io::Error) -> Next {
        if errno::is_lack_of_memory(error) {
            Next::Retry
        } else if errno::is_disconnect(error) {
            self.finish(CloseReason::Reset)
        } else {
            self.finish(CloseReason::Error)
        }
    }

    #[cold]
    pub(super) fn finish(&mut self, reason: CloseReason) -> Next {
        self.close();
        Next::Close(reason)
    }

    /// Reads once, and records whether that drained the stream.
    #[inline]
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Input> {
        let taken = self.stream.read(buffer).map(|count| Taken {
            count,
            asked: buffer.len(),
        });
        self.note_read(taken)
    }

    /// As [`Conn::read`], for input that is discarded.
    pub(super) fn discard_input(&mut self, scratch: &mut [u8]) -> io::Result<Input> {
        let taken = self.stream.discard(scratch);
        self.note_read(taken)
    }

    /// Copies input without taking it.
    pub(super) fn peek(&mut self, buffer: &mut [u8]) -> io::Result<Input> {
        match self.stream.peek(buffer) {
            Ok(0) => {
                self.ready.remove(Readiness::READABLE);
                Ok(Input::End)
            }
            Ok(count) => Ok(Input::Bytes(count)),
            Err(error) => self.failed_read(error),
        }
    }

    /// Takes bytes out of the stream that were peeked and written; they overwrite their copy.
    ///
    /// # Errors
    /// The stream's own: without them it would echo these bytes again. They are there, so that a
    /// passing error is tried again at once.
    pub(super) fn take_written(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let mut taken = 0;
        for _ in 0..MAX_READS_OF_WRITTEN {
            match self.stream.read(&mut bytes[taken..]) {
                Ok(0) => break,
                Ok(count) => taken += count,
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
            if taken == bytes.len() {
                return Ok(());
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    #[inline]
    fn note_read(&mut self, taken: io::Result<Taken>) -> io::Result<Input> {
        match taken {
            Ok(Taken { count: 0, .. }) => {
                self.ready.remove(Readiness::READABLE);
                Ok(Input::End)
            }
            Ok(taken) => {
                self.note_taken(taken);
                Ok(Input::Bytes(taken.count))
            }
            Err(error) => self.failed_read(error),
        }
    }

    /// Records whether taking bytes drained the stream.
    #[inline]
    pub(super) fn note_taken(&mut self, Taken { count, asked }: Taken) {
        // Fewer bytes than asked for: the stream is drained, and the next arrival raises an edge
        // (epoll(7), question 9). This does not hold if an end or an error lies behind the bytes,
        // for which no further edge comes, nor at an urgent mark, where a read stops with more
        // behind it (tcp(7)).
        if count < asked
            && !self.ready.intersects(Readiness::HANGUP | Readiness::URGENT)
            && self.stream.drained_by_short_read()
        {
            self.ready.remove(Readiness::READABLE);
        }
    }

    #[cold]
    fn failed_read(&mut self, error: io::Error) -> io::Result<Input> {
        match error.kind() {
            io::ErrorKind::WouldBlock => {
                self.ready.remove(Readiness::READABLE | Readiness::URGENT);
                Ok(Input::Blocked)
            }
            io::ErrorKind::Interrupted => Ok(Input::Interrupted),
            _ => Err(error),
        }
    }

    /// Stores the part of `input` that a write with this outcome left.
    #[cold]
    pub(super) fn keep_rest(
        &mut self,
        input: &[u8],
        outcome: io::Result<usize>,
        memory: &mut BacklogMemory,
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
            // The input has been read from the socket and must not be lost.
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
        self.backlog = memory.keep(rest);
        lack_of_memory.map_or(Ok(()), Err)
    }

    /// Writes the backlog. Only the error means "would block", not a short write.
    #[cold]
    pub(super) fn flush(
        &mut self,
        memory: &mut BacklogMemory,
        metrics: &WorkerMetrics,
    ) -> io::Result<Flushed> {
        // Each round shortens the bounded backlog or leaves the loop.
        while !self.backlog.is_empty() {
            if !self.ready.is_writable() {
                return Ok(Flushed::Blocked);
            }
            match self.stream.write(self.backlog.bytes()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.backlog.consume(written, memory);
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
}

/// Whether the same call may succeed at once.
fn is_passing(error: &io::Error) -> bool {
    let passing = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted];
    passing.contains(&error.kind()) || errno::is_lack_of_memory(error)
}

/// The outcome of a read.
pub(super) enum Input {
    Bytes(usize),
    Blocked,
    Interrupted,
    End,
}

/// The outcome of writing the backlog.
pub(super) enum Flushed {
    All,
    Blocked,
    Interrupted,
}
