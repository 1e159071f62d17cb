//! The stream types of a connection.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use crate::net::pipe::{Pipe, SplicePipe};
use crate::net::{socket, sys};

/// The most bytes that one call discards of a TCP stream. Nothing is copied, so it may exceed a
/// buffer, but a call must end even while more input arrives.
const MAX_DISCARD: usize = 1 << 20;

/// A non-blocking byte stream in both directions: a socket, or a script in tests.
pub trait Stream: Read + Write {
    /// The pipe for relaying input.
    type Pipe: Pipe;

    /// Ends our output, while the peer's can still be read: shutdown(2) with `SHUT_WR`.
    ///
    /// # Errors
    /// What shutdown(2) reports; ENOTCONN when the peer is gone already.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Tells the peer that our output has ended, where a protocol says so before the stream ends: TLS by a
    /// close_notify. Nothing is written afterwards.
    ///
    /// # Errors
    /// As a write; after `WouldBlock` it is called again.
    fn tell_end(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Makes dropping the stream reset the connection and discard what was not sent yet: SO_LINGER
    /// with a time of zero (socket(7)). A Unix socket ignores it.
    ///
    /// # Errors
    /// What setsockopt(2) reports.
    fn reset_on_close(&mut self) -> io::Result<()>;

    /// Copies input and leaves it in the stream: recv(2) with `MSG_PEEK`.
    ///
    /// # Errors
    /// As a read.
    fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// The addresses of the peer and of our end, as far as they have some.
    fn addresses(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        (None, None)
    }

    /// Whether a read that returned fewer bytes than asked for has drained the stream, unless a
    /// hang-up or urgent data was reported.
    fn drained_by_short_read(&self) -> bool;

    /// Whether its input can be relayed to its output through a pipe.
    fn is_spliceable(&self) -> bool {
        false
    }

    /// Whether no input waits now, found without reading; `false` if that is unknown. An end and an
    /// error are not input.
    fn is_drained(&mut self) -> bool {
        false
    }

    /// A pipe for [`fill`](Stream::fill) and [`pour`](Stream::pour).
    ///
    /// # Errors
    /// As [`SplicePipe::new`].
    fn open_pipe(&self) -> io::Result<Self::Pipe>;

    /// Moves up to `max` bytes of input into a pipe.
    ///
    /// # Errors
    /// As [`SplicePipe::fill`].
    fn fill(&mut self, pipe: &mut Self::Pipe, max: usize) -> io::Result<usize>;

    /// Moves the content of a pipe to the output, as much as it takes at once.
    ///
    /// # Errors
    /// As [`SplicePipe::pour`].
    fn pour(&mut self, pipe: &mut Self::Pipe) -> io::Result<usize>;

    /// Takes input out of the stream without keeping it; `scratch` may be overwritten.
    ///
    /// # Errors
    /// As a read.
    fn discard(&mut self, scratch: &mut [u8]) -> io::Result<Taken> {
        let asked = scratch.len();
        let count = self.read(scratch)?;
        Ok(Taken { count, asked })
    }
}

/// The amount that a call took out of a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Taken {
    /// Bytes taken; 0 at the end of the stream.
    pub count: usize,
    /// The most that the call would have taken.
    pub asked: usize,
}

/// A connected socket. A closed set, so an enum: no allocation and no virtual call.
#[derive(Debug)]
pub enum Socket {
    /// A TCP connection.
    Tcp(TcpStream),
    /// A Unix stream connection.
    Unix(UnixStream),
}

impl Read for Socket {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        socket::receive(self, buffer)
    }
}

impl Write for Socket {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        socket::send(self, bytes)
    }

    /// One system call for all slices; the default would write the first one only.
    #[inline]
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(slices),
            Self::Unix(stream) => stream.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Socket {
    type Pipe = SplicePipe;

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    fn reset_on_close(&mut self) -> io::Result<()> {
        SockRef::from(&*self).set_linger(Some(Duration::ZERO))
    }

    fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        socket::peek(self, buffer)
    }

    fn addresses(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        match self {
            Self::Tcp(stream) => (stream.peer_addr().ok(), stream.local_addr().ok()),
            Self::Unix(_) => (None, None),
        }
    }

    /// A read of a Unix socket also stops behind bytes that carried a descriptor (SCM_RIGHTS,
    /// `unix_stream_read_generic` in the kernel), with more input behind them and no further edge.
    #[inline]
    fn drained_by_short_read(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// Descriptors received over a Unix socket would be lost in a pipe.
    #[inline]
    fn is_spliceable(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    fn is_drained(&mut self) -> bool {
        socket::incoming_queue(self).is_ok_and(|count| count == 0)
    }

    fn open_pipe(&self) -> io::Result<SplicePipe> {
        SplicePipe::new()
    }

    fn fill(&mut self, pipe: &mut SplicePipe, max: usize) -> io::Result<usize> {
        pipe.fill(self, max)
    }

    fn pour(&mut self, pipe: &mut SplicePipe) -> io::Result<usize> {
        pipe.pour(self)
    }

    /// TCP discards data in the kernel (MSG_TRUNC, tcp(7)); a Unix socket has to be read.
    fn discard(&mut self, scratch: &mut [u8]) -> io::Result<Taken> {
        match self {
            Self::Tcp(stream) => Ok(Taken {
                count: sys::discard(stream, MAX_DISCARD)?,
                asked: MAX_DISCARD,
            }),
            Self::Unix(stream) => Ok(Taken {
                count: socket::receive(stream, scratch)?,
                asked: scratch.len(),
            }),
        }
    }
}

impl AsFd for Socket {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Source for Socket {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.register(registry, token, interests),
            Self::Unix(stream) => stream.register(registry, token, interests),
        }
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.reregister(registry, token, interests),
            Self::Unix(stream) => stream.reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.deregister(registry),
            Self::Unix(stream) => stream.deregister(registry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes two slices at once and expects both at the other end.
    #[track_caller]
    fn writes_all_slices(mut socket: Socket, mut peer: impl Read) {
        let slices = [b"head ", b"tail!"].map(|bytes| IoSlice::new(bytes));
        assert_eq!(socket.write_vectored(&slices).unwrap(), 10);
        let mut read = [0; 10];
        peer.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"head tail!");
    }

    #[test]
    fn slices_are_written_together() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        let (peer, _) = listener.accept().unwrap();
        writes_all_slices(Socket::Tcp(TcpStream::from_std(client)), peer);

        let (client, peer) = std::os::unix::net::UnixStream::pair().unwrap();
        client.set_nonblocking(true).unwrap();
        writes_all_slices(Socket::Unix(UnixStream::from_std(client)), peer);
    }
}
