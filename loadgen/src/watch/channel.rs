//! A socket of the client, with TLS or without.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use echomark::net::readiness::Readiness;
use echomark::net::socket;
use echomark::net::stream::Socket;
use echomark::tls::{Buffers, ClientSession, Connector, Failure, Refusal, TlsStream};
use mio::net::TcpStream;

/// What the connections of a thread with TLS use in turn.
pub(super) type SharedBuffers = Rc<RefCell<Buffers>>;

/// A socket, and beside it the session if it has TLS.
#[derive(Debug)]
pub(super) enum Channel {
    Plain(OwnedFd),
    Secured(Box<Secured>),
}

/// A connection with TLS. Its end is announced by close_notify.
#[derive(Debug)]
pub(super) struct Secured {
    socket: Socket,
    session: ClientSession,
    buffers: SharedBuffers,
}

impl Channel {
    /// A TCP socket, with TLS as `connector` says.
    ///
    /// # Errors
    /// There can be no session, which would be a defect.
    pub(super) fn secured(
        stream: std::net::TcpStream,
        connector: &Connector,
        buffers: &SharedBuffers,
    ) -> io::Result<Self> {
        Ok(Self::Secured(Box::new(Secured {
            socket: Socket::Tcp(TcpStream::from_std(stream)),
            session: connector.begin().map_err(io::Error::other)?,
            buffers: Rc::clone(buffers),
        })))
    }

    /// The kernel reported something.
    pub(super) fn note(&mut self) {
        if let Self::Secured(secured) = self {
            // Where there is nothing, a try costs a call.
            secured.session.note(Readiness::READABLE);
            secured.session.note(Readiness::WRITABLE);
        }
    }

    /// Goes on with the handshake, if there is one. Returns whether messages may be sent.
    ///
    /// # Errors
    /// The connection failed; `InvalidData` if TLS is the reason, `UnexpectedEof` if the server ended it.
    pub(super) fn shake_hands(&mut self) -> io::Result<bool> {
        let Self::Secured(secured) = self else {
            return Ok(true);
        };
        // Each round takes some of what the server sent, or leaves the loop.
        loop {
            match secured.call(Call::ShakeHands) {
                Ok(_) => return Ok(true),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(false),
                    ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
    }

    /// # Errors
    /// As of a socket, and as of [`Channel::shake_hands`].
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket::send(socket, bytes),
            Self::Secured(secured) => secured.call(Call::Write(bytes)),
        }
    }

    /// # Errors
    /// As of a socket, and as of [`Channel::shake_hands`].
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket::receive(socket, buffer),
            Self::Secured(secured) => secured.call(Call::Read(buffer)),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(socket) => socket.as_fd(),
            Self::Secured(secured) => secured.socket.as_fd(),
        }
    }
}

/// What is asked of a session.
enum Call<'a> {
    ShakeHands,
    Write(&'a [u8]),
    Read(&'a mut [u8]),
    End,
}

impl Secured {
    /// Returns the number of bytes that were written or read.
    fn call(&mut self, call: Call<'_>) -> io::Result<usize> {
        let mut buffers = self.buffers.borrow_mut();
        let mut stream = TlsStream {
            socket: &mut self.socket,
            session: &mut self.session,
            buffers: &mut buffers,
        };
        let called = match call {
            Call::ShakeHands => stream.handshake().map(|()| 0),
            Call::Write(bytes) => stream.write(bytes),
            Call::Read(buffer) => stream.read(buffer),
            Call::End => stream.end_output().map(|()| 0),
        };
        called.map_err(|error| match (error.kind(), self.session.failure()) {
            (ErrorKind::WouldBlock | ErrorKind::Interrupted, _) | (_, None) => error,
            (_, Some(Failure::Truncated)) => ErrorKind::UnexpectedEof.into(),
            (_, Some(failure)) => io::Error::new(ErrorKind::InvalidData, Refusal::from(failure)),
        })
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        // It fails only if the peer is gone.
        let _ = self.call(Call::End);
    }
}
