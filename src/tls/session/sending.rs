//! Writing: plaintext is encrypted once, and what the socket does not take of the records waits.

use std::io::{self, ErrorKind};

use super::{Buffers, Holding, MAX_WRITE, Output, Session};
use crate::net::errno;
use crate::net::readiness::Readiness;
use crate::net::stream::Stream;
use crate::tls::queue::Queue;
use crate::tls::side::Side;
use crate::tls::steps::{Step, Stepped};

/// The most bytes of records that wait for a write: two tickets with a client's certificate are fewer as a
/// rule.
const MAX_HELD: usize = 8 << 10;
impl<C: Side> Session<C> {
    /// Whether records wait although the socket is not known to be full: it had no memory for them.
    pub fn owes_output(&self) -> bool {
        !self.outgoing.is_empty() && self.ready.is_writable()
    }

    /// Encrypts and sends; the socket may take the records later. Returns how much was encrypted.
    ///
    /// # Errors
    /// `WouldBlock` while earlier records wait for the socket, or for the handshake; `BrokenPipe` after
    /// our close_notify; else as [`Session::read`].
    pub(in crate::tls) fn write(
        &mut self,
        socket: &mut impl Stream,
        buffers: &mut Buffers,
        bytes: &[u8],
    ) -> io::Result<usize> {
        if self.holding != Holding::Some {
            self.flush(socket)?;
        }
        if self.is_handshaking() {
            match self.receive(socket, buffers, &mut []) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if self.is_handshaking() || !self.outgoing.is_empty() {
                return Err(ErrorKind::WouldBlock.into());
            }
        }
        if self.output != Output::Open {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let bytes = &bytes[..bytes.len().min(MAX_WRITE)];
        let held = self.take_held_records(buffers);
        let mut incoming = std::mem::take(&mut self.incoming);
        let stepped = self.step_to_end(&mut incoming, buffers, held, bytes);
        self.incoming = incoming;
        let (step, _) = self.finish_steps(socket, buffers, stepped)?;
        match step {
            Step::Open => Ok(bytes.len()),
            Step::Over => Err(ErrorKind::BrokenPipe.into()),
            Step::More | Step::Blocked | Step::Failed(_) => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// Moves records that were held to the front of the lent ones, and returns their length.
    fn take_held_records(&mut self, buffers: &mut Buffers) -> usize {
        if self.holding != Holding::Some {
            return 0;
        }
        self.holding = Holding::Yes;
        let held = self.outgoing.rest();
        let len = held.len();
        buffers.outgoing[..len].copy_from_slice(held);
        self.outgoing = Queue::default();
        len
    }

    /// Sends records that wait.
    ///
    /// # Errors
    /// `WouldBlock` if some still wait; else the socket's own.
    pub(in crate::tls) fn flush(&mut self, socket: &mut impl Stream) -> io::Result<()> {
        if self.holding == Holding::Some {
            self.holding = Holding::Yes;
        }
        while !self.outgoing.is_empty() {
            if !self.ready.is_writable() {
                return Err(ErrorKind::WouldBlock.into());
            }
            match socket.write(self.outgoing.rest()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.outgoing.take(count),
                Err(error) => {
                    if error.kind() == ErrorKind::WouldBlock {
                        self.ready.remove(Readiness::WRITABLE);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// As [`Session::flush`]; what waits on is no error.
    pub(super) fn try_flush(&mut self, socket: &mut impl Stream) -> io::Result<()> {
        match self.flush(socket) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            flushed => flushed,
        }
    }

    /// Whether the records of these steps may wait for an answer.
    pub(super) fn may_hold(&self, stepped: &Stepped) -> bool {
        self.holding == Holding::Yes
            && self.outgoing.is_empty()
            && (1..=MAX_HELD).contains(&stepped.written)
            && stepped.count > 0
            && !matches!(stepped.last, Step::Failed(_))
    }

    /// Encrypts behind `held` bytes of records, and removes from `incoming` what had to be processed first.
    fn step_to_end(
        &mut self,
        incoming: &mut Vec<u8>,
        buffers: &mut Buffers,
        held: usize,
        bytes: &[u8],
    ) -> Stepped {
        let stepped = self.step(incoming, buffers, &mut [], held, Some(bytes));
        if stepped.discard == incoming.len() {
            *incoming = Vec::new();
        } else {
            incoming.drain(..stepped.discard);
        }
        stepped
    }

    /// Sends the first `len` bytes of the lent records, and keeps what the socket does not take.
    pub(super) fn send(
        &mut self,
        socket: &mut impl Stream,
        buffers: &Buffers,
        len: usize,
    ) -> io::Result<()> {
        let mut records = &buffers.outgoing[..len];
        while self.outgoing.is_empty() && !records.is_empty() && self.ready.is_writable() {
            match socket.write(records) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => records = &records[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.ready.remove(Readiness::WRITABLE);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // They are encrypted and can't be taken back.
                Err(error) if errno::is_lack_of_memory(&error) => break,
                Err(error) => return Err(error),
            }
        }
        self.outgoing.push(records);
        Ok(())
    }
}
