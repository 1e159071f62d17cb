//! A socket of the client.

use std::os::fd::{AsFd, BorrowedFd};

use echomark::net::stream::{Socket, Stream};
use mio::net::UdpSocket;

/// A socket of the client.
#[derive(Debug)]
pub(super) enum Transport {
    Stream(Socket),
    Datagram(UdpSocket),
}

impl Transport {
    /// Whether a read that returned fewer bytes than asked for has drained the socket.
    pub(super) fn drained_by_short_read(&self) -> bool {
        match self {
            Self::Stream(socket) => socket.drained_by_short_read(),
            // A read takes one datagram.
            Self::Datagram(_) => false,
        }
    }
}

impl AsFd for Transport {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stream(socket) => socket.as_fd(),
            Self::Datagram(socket) => socket.as_fd(),
        }
    }
}
