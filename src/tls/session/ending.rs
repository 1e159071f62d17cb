//! The ends of both directions: close_notify, and what counts as one that lacks it.

use std::io::{self, ErrorKind};

use rustls::ProtocolVersion;
use rustls::unbuffered::ConnectionState;

use super::{Buffers, Input, OnEnd, Output, Session};
use crate::net::errno;
use crate::net::readiness::Readiness;
use crate::net::stream::Stream;
use crate::tls::failure::Failure;
use crate::tls::queue::Queue;
use crate::tls::side::Side;

impl<C: Side> Session<C> {
    pub(super) fn note_end_of_socket(&mut self) {
        self.ready.remove(Readiness::READABLE);
        self.input = Input::Truncated;
        self.failure = Some(if !self.is_handshaking() {
            Failure::Truncated
        } else if self.has_received {
            Failure::Closed
        } else {
            Failure::NoData
        });
    }

    /// The end of the input, once all of our output is sent that comes before it.
    pub(super) fn report_end(
        &mut self,
        socket: &mut impl Stream,
        buffers: &mut Buffers,
    ) -> io::Result<usize> {
        self.flush(socket)?;
        if self.input == Input::Truncated {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let is_tls13 =
            self.connection.common().protocol_version() == Some(ProtocolVersion::TLSv1_3);
        if self.on_end == OnEnd::Answer || !is_tls13 {
            self.close_output(socket, buffers)?;
        }
        Ok(0)
    }

    /// Ends our output: close_notify, if the socket takes it, then a half-close of the socket, whose
    /// input is discarded from now on.
    ///
    /// # Errors
    /// What the socket reports.
    pub(in crate::tls) fn shutdown_write(
        &mut self,
        socket: &mut impl Stream,
        buffers: &mut Buffers,
    ) -> io::Result<()> {
        match self.close_output(socket, buffers) {
            Ok(()) => {}
            // The end without it says that something is missing, which is true.
            Err(error)
                if error.kind() == ErrorKind::WouldBlock || errno::is_lack_of_memory(&error) => {}
            Err(error) => return Err(error),
        }
        self.output = Output::Shut;
        self.input = Input::Closed;
        self.ready |= Readiness::READABLE;
        self.plaintext = Queue::default();
        self.outgoing = Queue::default();
        self.incoming = Vec::new();
        socket.shutdown_write()
    }

    /// Ends our output by close_notify and a half-close of the socket, and goes on reading: the answers
    /// still come. If the socket takes no close_notify now, the next read sends it, and there is no
    /// half-close, which adds nothing to it.
    ///
    /// # Errors
    /// What the socket reports.
    pub(in crate::tls) fn end_output(
        &mut self,
        socket: &mut impl Stream,
        buffers: &mut Buffers,
    ) -> io::Result<()> {
        match self.close_output(socket, buffers) {
            Ok(()) => socket.shutdown_write(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sends close_notify, once, behind all other records.
    ///
    /// # Errors
    /// What the socket reports; `WouldBlock` until it has taken all.
    pub(in crate::tls) fn close_output(
        &mut self,
        socket: &mut impl Stream,
        buffers: &mut Buffers,
    ) -> io::Result<()> {
        if self.output == Output::Open {
            self.output = Output::Closed;
            if self.failure.is_none() {
                let mut incoming = std::mem::take(&mut self.incoming);
                let written = self.queue_close_notify(&mut incoming, buffers);
                self.incoming = incoming;
                self.send(socket, buffers, written)?;
            }
        }
        self.flush(socket)
    }

    /// Encrypts a close_notify, and returns its length; 0 where the handshake does not allow it yet.
    fn queue_close_notify(&mut self, incoming: &mut [u8], buffers: &mut Buffers) -> usize {
        // It follows what waits to be encoded.
        match self.connection.process(incoming).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic
                .queue_close_notify(&mut buffers.outgoing)
                .unwrap_or(0),
            _ => 0,
        }
    }
}
