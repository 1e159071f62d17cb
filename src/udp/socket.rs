//! The socket of [`Datagrams`](super::Datagrams): one trait, with an implementation on epoll and
//! one in the simulation that tests the reactor.

use std::io;
use std::sync::Arc;

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};

use crate::net::datagram::{self, Batch, Destination, Progress, SendCounts, UnsentAnswer};

/// A non-blocking UDP socket and its registration.
pub(crate) trait DatagramSocket {
    /// The one destination of all datagrams; `None` if each datagram reports its own.
    fn only_destination(&self) -> Option<Destination>;

    /// The port that it is bound to.
    fn local_port(&self) -> Option<u16> {
        None
    }

    /// As [`Batch::receive`].
    ///
    /// # Errors
    /// As [`Batch::receive`].
    fn receive(&self, batch: &mut Batch) -> io::Result<usize>;

    /// As [`Batch::send`].
    fn send(&self, batch: &mut Batch, counts: &mut SendCounts) -> Progress;

    /// As [`Batch::send_unsent`].
    fn send_unsent(
        &self,
        batch: &mut Batch,
        unsent: &mut Vec<UnsentAnswer>,
        counts: &mut SendCounts,
    ) -> Progress;

    /// Registers for these events. Existing readiness is reported at once.
    ///
    /// # Errors
    /// What epoll_ctl(2) reports.
    fn register(&mut self, interests: Interest) -> io::Result<()>;

    /// Stops events.
    fn deregister(&mut self);

    /// Whether the socket is registered.
    fn is_registered(&self) -> bool;
}

/// A UDP socket on epoll.
#[derive(Debug)]
pub(crate) struct EpollSocket {
    socket: UdpSocket,
    token: Token,
    registry: Arc<Registry>,
    is_registered: bool,
}

impl EpollSocket {
    /// Registers a `socket` of [`datagram_sockets`](datagram::datagram_sockets) for reading. Its
    /// events carry `token`.
    ///
    /// # Errors
    /// What epoll_ctl(2) reports.
    pub(crate) fn new(
        socket: std::net::UdpSocket,
        token: Token,
        registry: Arc<Registry>,
    ) -> io::Result<Self> {
        let mut socket = Self {
            socket: UdpSocket::from_std(socket),
            token,
            registry,
            is_registered: false,
        };
        socket.register(Interest::READABLE)?;
        Ok(socket)
    }

    #[cfg(test)]
    pub(crate) fn as_socket(&self) -> socket2::SockRef<'_> {
        socket2::SockRef::from(&self.socket)
    }
}

impl DatagramSocket for EpollSocket {
    fn local_port(&self) -> Option<u16> {
        self.socket.local_addr().ok().map(|it| it.port())
    }

    fn only_destination(&self) -> Option<Destination> {
        let address = self.socket.local_addr().ok();
        address.and_then(datagram::only_destination)
    }

    #[inline]
    fn receive(&self, batch: &mut Batch) -> io::Result<usize> {
        batch.receive(&self.socket)
    }

    #[inline]
    fn send(&self, batch: &mut Batch, counts: &mut SendCounts) -> Progress {
        batch.send(&self.socket, counts)
    }

    fn send_unsent(
        &self,
        batch: &mut Batch,
        unsent: &mut Vec<UnsentAnswer>,
        counts: &mut SendCounts,
    ) -> Progress {
        batch.send_unsent(unsent, &self.socket, counts)
    }

    fn register(&mut self, interests: Interest) -> io::Result<()> {
        let Self {
            socket,
            token,
            registry,
            ..
        } = self;
        if self.is_registered {
            return registry.reregister(socket, *token, interests);
        }
        registry.register(socket, *token, interests)?;
        self.is_registered = true;
        Ok(())
    }

    fn deregister(&mut self) {
        if self.is_registered && self.registry.deregister(&mut self.socket).is_ok() {
            self.is_registered = false;
        }
    }

    fn is_registered(&self) -> bool {
        self.is_registered
    }
}

/// Another process may hold the same socket, and then closing only our descriptor would leave it in
/// the epoll instance (epoll(7), question 6).
impl Drop for EpollSocket {
    fn drop(&mut self) {
        self.deregister();
    }
}
