//! A socket of the client.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use echomark::net::stream::Socket;
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::net::{Shutdown, shutdown};

/// A connected socket. The calls for data are the same for every kind, so its descriptor is at hand
/// without asking for the kind.
#[derive(Debug)]
pub(super) struct Transport {
    socket: OwnedFd,
    kind: Kind,
}

/// The kinds of sockets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Tcp,
    Unix,
    Udp,
}

impl Transport {
    /// A socket of this kind.
    pub(super) fn new(kind: Kind, socket: impl Into<OwnedFd>) -> Self {
        Self {
            socket: socket.into(),
            kind,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether a read that returned fewer bytes than asked for has drained the socket. A read takes
    /// one datagram, and a read of a Unix socket stops behind bytes that carried a descriptor.
    pub(super) fn drained_by_short_read(&self) -> bool {
        self.kind == Kind::Tcp
    }

    pub(super) fn register(
        &self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        registry.register(&mut SourceFd(&self.socket.as_raw_fd()), token, interest)
    }

    /// Writes several slices with one call.
    pub(super) fn write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(&self.socket, slices)?)
    }

    /// Ends the output: shutdown(2) with `SHUT_WR`.
    pub(super) fn shutdown_write(&self) -> io::Result<()> {
        Ok(shutdown(&self.socket, Shutdown::Write)?)
    }
}

impl From<Transport> for Socket {
    /// A TCP socket as a stream of the kind that TLS runs over.
    fn from(transport: Transport) -> Self {
        let stream = std::net::TcpStream::from(transport.socket);
        Self::Tcp(TcpStream::from_std(stream))
    }
}

impl AsFd for Transport {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
