//! The buffer and the pipe that a worker lends to each of its connections in turn: all read into
//! the buffer, and bulk streams go through the pipe. Both are empty between two calls of
//! [`Conn::pump`](crate::conn::Conn::pump).

use std::io;
use std::sync::Arc;

use super::backlog::BacklogMemory;
use crate::memory::Budget;
use crate::net::errno;
use crate::net::pipe::Pipe;
use crate::net::stream::Stream;

/// A worker's buffer and pipe.
#[derive(Debug)]
pub struct Scratch<P> {
    buffer: Box<[u8]>,
    /// The most that the first read of a turn takes. A slow reader can force us to buffer only a
    /// small read, because a large one follows only a small one that was filled and fully written.
    first: usize,
    /// For bytes that a connection read and its socket did not take.
    pub(super) memory: BacklogMemory,
    pipe: Opened<P>,
    /// Whether the pipe has relayed anything yet.
    has_relayed: bool,
}

#[derive(Debug)]
enum Opened<P> {
    /// No connection has needed one yet.
    NotYet,
    Yes(P),
    /// The kernel has no pipe for us, or does not splice this kind of socket.
    No,
}

/// A buffer for one read, and the memory for what the socket does not take of it.
pub(super) struct Lent<'a> {
    pub(super) buffer: &'a mut [u8],
    pub(super) memory: &'a mut BacklogMemory,
}

/// The outcome of a relay from input to output.
#[derive(Debug)]
pub(crate) struct Relayed<'a> {
    /// Bytes taken out of the stream.
    pub(crate) taken: usize,
    /// The taken bytes that the stream's output did not accept.
    pub(crate) rest: &'a [u8],
    /// To keep them.
    pub(crate) memory: &'a mut BacklogMemory,
    /// The outcome of the last write, which says why.
    pub(crate) outcome: io::Result<usize>,
}

impl<P: Pipe> Scratch<P> {
    /// A buffer of `size` bytes, with as much memory for backlogs as there is. If `size` is more
    /// than [`Pipe::MIN_BULK`], a stream whose reads are filled is relayed through a pipe.
    pub fn new(size: usize) -> Self {
        Self::within(Arc::new(Budget::new(None)), size)
    }

    /// As [`Scratch::new`], with this budget for backlogs.
    pub(crate) fn within(budget: Arc<Budget>, size: usize) -> Self {
        Self::with_first_read(budget, size, P::MIN_BULK)
    }

    pub(crate) fn with_first_read(budget: Arc<Budget>, size: usize, first: usize) -> Self {
        Self {
            buffer: vec![0; size].into_boxed_slice(),
            first: size.min(first),
            memory: BacklogMemory::new(budget, size),
            pipe: if size > first {
                Opened::NotYet
            } else {
                Opened::No
            },
            has_relayed: false,
        }
    }

    /// The whole buffer.
    #[inline]
    pub(crate) fn whole(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// The part of the buffer for the first read of a turn.
    #[inline]
    pub(crate) fn first(&mut self) -> &mut [u8] {
        &mut self.buffer[..self.first]
    }

    /// As [`Scratch::first`], to read into; `None` if no backlog could be kept.
    #[inline(always)]
    pub(super) fn first_lent(&mut self) -> Option<Lent<'_>> {
        self.memory.can_keep().then_some(Lent {
            buffer: &mut self.buffer[..self.first],
            memory: &mut self.memory,
        })
    }

    /// The whole buffer to read into, after [`Scratch::can_keep`].
    pub(super) fn whole_lent(&mut self) -> Lent<'_> {
        Lent {
            buffer: &mut self.buffer,
            memory: &mut self.memory,
        }
    }

    /// The memory for backlogs.
    pub(crate) fn memory(&mut self) -> &mut BacklogMemory {
        &mut self.memory
    }

    #[cfg(test)]
    pub(crate) fn memory_held(&self) -> usize {
        self.memory.held()
    }

    /// Whether all bytes of a read could be kept; tries to get the memory for it.
    pub(super) fn can_keep(&mut self) -> bool {
        self.memory.can_keep() || self.memory.prepare()
    }

    /// Whether [`Scratch::relay`] may move anything.
    pub(crate) fn can_relay(&self) -> bool {
        !matches!(self.pipe, Opened::No)
    }

    /// Whether relaying this number of bytes at once costs less than copying them.
    pub(crate) fn is_bulk(&self, count: usize) -> bool {
        count >= self.first
    }

    /// Moves input of `stream` to its output through the pipe, at most a buffer's length, and
    /// copies bytes that the output does not accept into the buffer. `None` if nothing was moved:
    /// then only a read reveals why.
    ///
    /// # Errors
    /// The stream's own error, which the kernel reports once: a later read would find an end.
    pub(crate) fn relay(
        &mut self,
        stream: &mut impl Stream<Pipe = P>,
    ) -> Option<io::Result<Relayed<'_>>> {
        if matches!(self.pipe, Opened::NotYet) {
            self.pipe = match stream.open_pipe() {
                Ok(pipe) => Opened::Yes(pipe),
                // There may be descriptors later.
                Err(error) if errno::is_lack_of_descriptors(&error) => return None,
                Err(_) => Opened::No,
            };
        }
        let Opened::Yes(pipe) = &mut self.pipe else {
            return None;
        };
        let taken = match stream.fill(pipe, self.buffer.len()) {
            Ok(0) => return None,
            Ok(taken) => taken,
            // The first relay has input to move, so this is not an error of the stream.
            Err(error) if !self.has_relayed && is_refusal(&error) => {
                self.pipe = Opened::No;
                return None;
            }
            Err(error) if is_passing(&error) => return None,
            Err(error) => return Some(Err(error)),
        };
        self.has_relayed = true;
        let mut outcome = Ok(0);
        // Each round takes bytes out of the pipe or ends the loop.
        while pipe.held() > 0 {
            match stream.pour(pipe) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        let rest = pipe.held();
        if let Err(error) = pipe.read_exact(&mut self.buffer[..rest]) {
            // The content of a pipe can always be read, so this pipe is broken.
            self.pipe = Opened::No;
            return Some(Ok(Relayed {
                taken,
                rest: &self.buffer[..rest],
                memory: &mut self.memory,
                outcome: Err(io::Error::other(error)),
            }));
        }
        Some(Ok(Relayed {
            taken,
            rest: &self.buffer[..rest],
            memory: &mut self.memory,
            outcome,
        }))
    }
}

/// Whether a read may succeed where this relay failed.
fn is_passing(error: &io::Error) -> bool {
    let passing = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted];
    passing.contains(&error.kind()) || errno::is_lack_of_memory(error)
}

/// Whether splicing is not possible at all.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
    )
}
