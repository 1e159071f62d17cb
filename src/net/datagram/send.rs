//! Sending a list of answers: counts of sent and failed ones, and the position to resume at.
//!
//! Every answer is sent, counted as failed, or kept when the socket takes no more.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::encoding::{Control, Destination, RawAddress};
use crate::net::sys::messages::{self, MAX_MESSAGES, SendBuffers};

/// Counts of sent and failed answers. An aggregate counts as the datagrams in it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct SendCounts {
    /// Datagrams that the socket took.
    pub(crate) sent_datagrams: u64,
    /// Bytes of payload in them.
    pub(crate) sent_bytes: u64,
    /// Datagrams that the kernel refused. They are lost.
    pub(crate) failed_datagrams: u64,
}

/// The outcome of sending.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Progress {
    /// Every answer was sent or refused.
    Done,
    /// The socket takes no more until it is writable again.
    Blocked,
}

/// One message to send: a datagram, or an aggregate that the kernel divides into datagrams.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) to: &'a RawAddress,
    pub(super) from: Option<Destination>,
    pub(super) payload: &'a [u8],
    pub(super) segment_len: usize,
}

impl<'a> Message<'a> {
    pub(super) fn is_aggregate(&self) -> bool {
        self.payload.len() > self.segment_len
    }

    /// How many datagrams this is.
    pub(super) fn count(&self) -> u64 {
        segment_count(self.payload.len(), self.segment_len)
    }

    pub(super) fn without(mut self, sent: usize) -> Self {
        self.payload = &self.payload[sent..];
        self
    }

    /// Each datagram of an aggregate as a message of its own.
    fn split(self) -> impl Iterator<Item = Self> + use<'a> {
        self.payload
            .chunks(self.segment_len.max(1))
            .map(move |payload| Self { payload, ..self })
    }

    fn buffers(self, control: &'a mut Control) -> SendBuffers<'a> {
        let segment_len = u16::try_from(self.segment_len).ok();
        SendBuffers {
            name: self.to.bytes(),
            payload: self.payload,
            control: control.encode(self.from, segment_len.filter(|_| self.is_aggregate())),
        }
    }
}

/// The number of datagrams that carry `len` bytes; no bytes are one empty datagram.
pub(super) fn segment_count(len: usize, segment_len: usize) -> u64 {
    len.div_ceil(segment_len.max(1)).max(1) as u64
}

/// One send call, of the kernel or of a test.
pub(super) trait Transmit {
    /// Sends messages from the first on and returns how many were taken, at least one. An error is
    /// that of the first message.
    fn transmit<'a>(&mut self, messages: impl Iterator<Item = Message<'a>>) -> io::Result<usize>;
}

/// Sends through a socket. The control buffers are only used during a call.
pub(super) struct SocketTransmit<'a> {
    pub(super) socket: BorrowedFd<'a>,
    pub(super) controls: &'a mut [Control; MAX_MESSAGES],
}

impl Transmit for SocketTransmit<'_> {
    fn transmit<'a>(&mut self, messages: impl Iterator<Item = Message<'a>>) -> io::Result<usize> {
        let buffers = messages
            .zip(self.controls.iter_mut())
            .map(|(message, control)| message.buffers(control));
        messages::send(self.socket, buffers)
    }
}

/// The position in a list of answers that are being sent.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// The first answer that is not done.
    pub(super) next: usize,
    /// Bytes of that answer that are done: whole datagrams of an aggregate.
    pub(super) skip: usize,
}

impl Cursor {
    /// Sends the answers from the cursor to `count`.
    pub(super) fn send<'a>(
        &mut self,
        count: usize,
        message: impl Fn(usize) -> Message<'a>,
        transmit: &mut impl Transmit,
        counts: &mut SendCounts,
    ) -> Progress {
        // Whether the kernel refused the aggregate at the cursor, so that its parts are sent alone.
        let mut split = false;
        // Each round advances the cursor, splits an aggregate once, or was interrupted by a signal.
        while self.next < count {
            let first = message(self.next).without(self.skip);
            let result = if split {
                transmit.transmit(first.split())
            } else {
                let others = (self.next + 1..count).map(&message);
                transmit.transmit(std::iter::once(first).chain(others))
            };
            match result {
                Ok(taken @ 1..) if split => {
                    let bytes = (taken * first.segment_len).min(first.payload.len());
                    counts.sent_datagrams += taken as u64;
                    counts.sent_bytes += bytes as u64;
                    split = self.skip_in(&first, bytes);
                }
                Ok(taken @ 1..) => {
                    let others = (self.next + 1..self.next + taken).map(&message);
                    for sent in std::iter::once(first).chain(others) {
                        counts.sent_datagrams += sent.count();
                        counts.sent_bytes += sent.payload.len() as u64;
                    }
                    self.next += taken;
                    self.skip = 0;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Progress::Blocked;
                }
                Err(error) if !split && first.is_aggregate() && is_refused_aggregate(&error) => {
                    split = true;
                }
                Ok(_) | Err(_) if split => {
                    counts.failed_datagrams += 1;
                    let bytes = first.segment_len.min(first.payload.len());
                    split = self.skip_in(&first, bytes);
                }
                Ok(_) | Err(_) => {
                    counts.failed_datagrams += first.count();
                    self.next += 1;
                    self.skip = 0;
                }
            }
        }
        Progress::Done
    }

    /// Records `bytes` more of the answer at the cursor as done and returns whether some are left.
    fn skip_in(&mut self, answer: &Message<'_>, bytes: usize) -> bool {
        if bytes < answer.payload.len() {
            self.skip += bytes;
            true
        } else {
            self.next += 1;
            self.skip = 0;
            false
        }
    }
}

/// Whether the kernel or the device can't divide this aggregate, while its parts may pass alone:
/// too many or too long parts for the path (EINVAL, EMSGSIZE), or no checksum offload (EIO).
pub(super) fn is_refused_aggregate(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::INVAL | Errno::MSGSIZE | Errno::IO)
    )
}

#[cfg(test)]
mod tests;
