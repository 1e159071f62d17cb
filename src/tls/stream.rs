//! A socket and its session as one stream.

use std::io::{self, Read, Write};

use super::session::{Buffers, Session};
use super::side::Side;
use crate::net::stream::{Stream, Taken};

/// A stream of plaintext over a socket.
///
/// A read or a write also drives the handshake, and sends or takes what TLS needs in the other
/// direction. So after any event of the socket, both directions deserve a try.
pub struct TlsStream<'a, S, C> {
    /// The socket.
    pub socket: &'a mut S,
    /// Its session.
    pub session: &'a mut Session<C>,
    /// The thread's.
    pub buffers: &'a mut Buffers,
}

impl<S: Stream, C: Side> TlsStream<'_, S, C> {
    /// Completes the handshake. What came behind it waits to be read.
    ///
    /// # Errors
    /// As those of a read until it is complete.
    pub fn handshake(&mut self) -> io::Result<()> {
        self.session.handshake(self.socket, self.buffers)
    }

    /// Ends our output by close_notify and a half-close, and goes on reading what the peer still sends:
    /// a [`shutdown_write`](Stream::shutdown_write) would discard it.
    ///
    /// # Errors
    /// What the socket reports.
    pub fn end_output(&mut self) -> io::Result<()> {
        self.session.end_output(self.socket, self.buffers)
    }
}

impl<S: Stream, C: Side> Read for TlsStream<'_, S, C> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.session.read(self.socket, self.buffers, out)
    }
}

impl<S: Stream, C: Side> Write for TlsStream<'_, S, C> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.session.write(self.socket, self.buffers, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.session.flush(self.socket)
    }
}

impl<S: Stream, C: Side> Stream for TlsStream<'_, S, C> {
    type Pipe = S::Pipe;

    /// Sends close_notify first.
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.session.shutdown_write(self.socket, self.buffers)
    }

    fn tell_end(&mut self) -> io::Result<()> {
        self.session.close_output(self.socket, self.buffers)
    }

    fn reset_on_close(&mut self) -> io::Result<()> {
        self.socket.reset_on_close()
    }

    fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.session.peek(self.socket, self.buffers, buffer)
    }

    /// A record may be longer than a read, and behind the last one there may be a close_notify.
    fn drained_by_short_read(&self) -> bool {
        self.session.has_read_all()
    }

    fn is_drained(&mut self) -> bool {
        self.session.is_drained(self.socket)
    }

    fn open_pipe(&self) -> io::Result<S::Pipe> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn fill(&mut self, _: &mut S::Pipe, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn pour(&mut self, _: &mut S::Pipe) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn discard(&mut self, scratch: &mut [u8]) -> io::Result<Taken> {
        if self.session.is_shut() {
            return self.socket.discard(scratch);
        }
        let asked = scratch.len();
        let count = self.read(scratch)?;
        Ok(Taken { count, asked })
    }
}
