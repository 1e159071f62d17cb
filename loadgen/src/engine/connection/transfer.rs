//! Reading from and writing to the open connection. What the kernel refuses for now, and what it
//! reports of earlier datagrams, ends no connection.

use std::io::{self, IoSlice};
use std::ops::ControlFlow;

use echomark::net::{errno, socket};

use super::transport::Kind;
use super::{Connection, Ended, State};

impl Connection {
    /// Reads into `buffer` if the socket may be readable. `None` if nothing is available now.
    ///
    /// # Errors
    /// Why the connection ended. A refused datagram does not end it.
    #[inline(always)]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Ended> {
        while self.readable {
            let State::Open { transport } = &self.state else {
                return self.read_secured(buffer);
            };
            match socket::receive(transport, buffer) {
                Ok(0) if transport.kind() != Kind::Udp => return Err(Ended::ByPeer),
                Ok(count) => {
                    self.has_heard = true;
                    if count < buffer.len() && self.drained_by_short_read {
                        self.readable = false;
                    }
                    return Ok(Some(count));
                }
                Err(error) => self.note_read_error(&error)?,
            }
        }
        Ok(None)
    }

    #[cold]
    fn note_read_error(&mut self, error: &io::Error) -> Result<(), Ended> {
        match error.kind() {
            io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(())
            }
            io::ErrorKind::Interrupted => Ok(()),
            _ => self.note_refused(error),
        }
    }

    /// Writes as many of `bytes` as the socket accepts. `None` if it accepts nothing now.
    ///
    /// # Errors
    /// Why the connection ended.
    #[inline(always)]
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<Option<usize>, Ended> {
        while self.writable {
            let State::Open { transport } = &self.state else {
                return self.write_secured(bytes);
            };
            match socket::send(transport, bytes) {
                Ok(count) => return Ok(Some(count)),
                Err(error) => {
                    if self.note_write_error(&error)?.is_break() {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(None)
    }

    /// Writes bytes in several pieces to a stream, like [`Self::write`].
    ///
    /// # Errors
    /// Why the connection ended.
    pub(crate) fn write_vectored(
        &mut self,
        pieces: &[IoSlice<'_>],
    ) -> Result<Option<usize>, Ended> {
        while self.writable {
            let State::Open { transport } = &self.state else {
                // A record has room for each piece alone.
                let first = pieces.iter().find(|piece| !piece.is_empty());
                return self.write_secured(first.map_or(&[], |piece| piece));
            };
            match transport.write_vectored(pieces) {
                Ok(count) => return Ok(Some(count)),
                Err(error) => {
                    if self.note_write_error(&error)?.is_break() {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(None)
    }

    /// Returns whether to try again.
    #[cold]
    fn note_write_error(&mut self, error: &io::Error) -> Result<ControlFlow<()>, Ended> {
        match error.kind() {
            io::ErrorKind::WouldBlock => {
                self.writable = false;
                Ok(ControlFlow::Break(()))
            }
            io::ErrorKind::Interrupted => Ok(ControlFlow::Continue(())),
            // A queue on the path is full, and no event reports when it has room again.
            _ if errno::is_lack_of_memory(error) => Ok(ControlFlow::Break(())),
            _ => {
                self.note_refused(error)?;
                Ok(ControlFlow::Continue(()))
            }
        }
    }

    /// An error of an earlier datagram (udp(7)). It does not end the connection.
    fn note_refused(&mut self, error: &io::Error) -> Result<(), Ended> {
        if self.is_datagram() && (errno::is_disconnect(error) || is_refused(error)) {
            self.barren = self.barren.saturating_add(1);
            self.refused += 1;
            Ok(())
        } else {
            Err(Ended::Broken)
        }
    }
}

fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}
