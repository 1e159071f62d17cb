//! The state of one connection, and the stream operations that all services share.

use std::io;

use super::backlog::Backlog;
use crate::metrics::{CloseReason, WorkerMetrics};
use crate::net::errno;
use crate::net::readiness::Readiness;
use crate::net::stream::{Stream, Taken};
use crate::service::Service;

/// Reads of discarded input in one call of [`Conn::pump`]. It bounds how long one peer at full
/// speed can occupy a worker.
pub(super) const MAX_READS_PER_PUMP: usize = 4;

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
    Discard,
    Chargen(Chargen),
    /// We half-closed the connection for this reason and wait for the peer's end. Input is
    /// discarded: closing a socket with unread input resets the connection, and a reset may destroy
    /// what the peer has not read yet (RFC 9293 section 3.10.4; RFC 1122 section 4.2.2.13).
    Lingering(CloseReason),
    Closed,
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
            state: match service {
                Service::Echo => State::Echo,
                Service::Discard => State::Discard,
                Service::Chargen => State::Chargen(Chargen::default()),
            },
            ready: Readiness::WRITABLE,
            is_queued: false,
            is_bulk: false,
        }
    }

    /// Adds readiness that the kernel reported.
    #[inline]
    pub fn note(&mut self, readiness: Readiness) {
        self.ready |= readiness;
    }

    /// Marks the connection as closed: it does nothing more until it is removed.
    pub fn close(&mut self, metrics: &WorkerMetrics) {
        self.drop_backlog(metrics);
        self.state = State::Closed;
    }

    /// Marks the connection as queued to run and returns whether the mark is new.
    pub fn enqueue(&mut self) -> bool {
        !std::mem::replace(&mut self.is_queued, true)
    }

    /// Removes the mark of [`Conn::enqueue`] and returns whether it was set.
    pub fn dequeue(&mut self) -> bool {
        std::mem::replace(&mut self.is_queued, false)
    }

    /// The reason why the connection lingers, if it does.
    pub fn lingering(&self) -> Option<CloseReason> {
        match self.state {
            State::Lingering(reason) => Some(reason),
            State::Echo | State::Discard | State::Chargen(_) | State::Closed => None,
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

    pub(super) fn drop_backlog(&mut self, metrics: &WorkerMetrics) {
        metrics.backlog_bytes.sub(self.backlog.clear() as u64);
    }

    /// Handles a failed call.
    #[cold]
    pub(super) fn fail(&mut self, error: &io::Error, metrics: &WorkerMetrics) -> Next {
        if errno::is_lack_of_memory(error) {
            Next::Retry
        } else if errno::is_disconnect(error) {
            self.finish(CloseReason::Reset, metrics)
        } else {
            self.finish(CloseReason::Error, metrics)
        }
    }

    #[cold]
    pub(super) fn finish(&mut self, reason: CloseReason, metrics: &WorkerMetrics) -> Next {
        self.close(metrics);
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

    #[inline]
    fn note_read(&mut self, taken: io::Result<Taken>) -> io::Result<Input> {
        match taken {
            Ok(Taken { count: 0, .. }) => {
                self.ready.remove(Readiness::READABLE);
                Ok(Input::End)
            }
            Ok(Taken { count, asked }) => {
                // Fewer bytes than asked for: the stream is drained, and the next arrival raises an
                // edge (epoll(7), question 9). This does not hold if an end or an error lies behind
                // the bytes, for which no further edge comes, nor at an urgent mark, where a read
                // stops with more behind it (tcp(7)).
                if count < asked
                    && !self.ready.intersects(Readiness::HANGUP | Readiness::URGENT)
                    && self.stream.drained_by_short_read()
                {
                    self.ready.remove(Readiness::READABLE);
                }
                Ok(Input::Bytes(count))
            }
            Err(error) => self.failed_read(error),
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
        self.backlog.store(rest);
        lack_of_memory.map_or(Ok(()), Err)
    }

    /// Writes the backlog. Only the error means "would block", not a short write.
    #[cold]
    pub(super) fn flush(&mut self, metrics: &WorkerMetrics) -> io::Result<Flushed> {
        // Each round shortens the bounded backlog or leaves the loop.
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
