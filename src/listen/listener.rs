//! A listening stream socket of a worker, and the ways in which it can end.

use std::io;
use std::net::{IpAddr, Shutdown};

use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use crate::net::stream::Socket;
use crate::net::tcp;
use crate::net::unix::SocketFile;

/// A listening socket, watched by mio.
#[derive(Debug)]
pub(crate) struct Listener {
    kind: Kind,
    owner: Owner,
    /// No new connection can begin: once the queue is empty it stays so.
    shut: bool,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Who has the socket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Owner {
    /// We alone: it is ours to shut down.
    Us,
    /// We alone, and the file that leads to it is ours to remove.
    UsWithFile(SocketFile),
    /// Another process too, which passed it to us and goes on with it after us.
    Another,
}

impl Listener {
    pub(crate) fn tcp(socket: std::net::TcpListener, owner: Owner) -> Self {
        Self {
            kind: Kind::Tcp(TcpListener::from_std(socket)),
            owner,
            shut: false,
        }
    }

    pub(crate) fn unix(socket: std::os::unix::net::UnixListener, owner: Owner) -> Self {
        Self {
            kind: Kind::Unix(UnixListener::from_std(socket)),
            owner,
            shut: false,
        }
    }

    /// Takes a completed connection, with its peer's address if that has one.
    pub(crate) fn accept(&self) -> io::Result<(Socket, Option<IpAddr>)> {
        match &self.kind {
            Kind::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((Socket::Tcp(stream), Some(peer.ip())))
            }
            Kind::Unix(listener) => match listener.accept() {
                Ok((stream, _)) => {
                    // Here options are not inherited. Without it an urgent byte would be lost; if
                    // the kernel doesn't know it, there are no urgent bytes (unix(7), Linux 5.15).
                    let _ = SockRef::from(&stream).set_out_of_band_inline(true);
                    Ok((Socket::Unix(stream), None))
                }
                // How a socket that was shut down says that nothing is left.
                Err(error) if self.shut && error.kind() == io::ErrorKind::InvalidInput => {
                    Err(io::ErrorKind::WouldBlock.into())
                }
                Err(error) => Err(error),
            },
        }
    }

    /// Lets connections under way complete and no new ones begin, unless another process goes on
    /// with the socket.
    pub(crate) fn refuse_new(&mut self) -> io::Result<()> {
        let file = match &self.owner {
            Owner::Another => return Ok(()),
            Owner::Us => None,
            Owner::UsWithFile(file) => Some(file),
        };
        self.shut = true;
        if let Some(file) = file {
            file.remove();
        }
        match &self.kind {
            Kind::Tcp(listener) => tcp::ignore_new_connections(listener),
            // Connects are refused from now on; what was queued can still be accepted
            // (unix_stream_connect and unix_accept in the kernel).
            Kind::Unix(listener) => SockRef::from(listener).shutdown(Shutdown::Read),
        }
    }

    /// Closes it for good.
    pub(crate) fn close(self) {
        if let Owner::UsWithFile(file) = &self.owner {
            file.remove();
        }
    }

    /// Lets go of it: a successor has the same socket and the same file.
    pub(crate) fn release(self) {}
}

impl Source for Listener {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        match &mut self.kind {
            Kind::Tcp(listener) => listener.register(registry, token, interests),
            Kind::Unix(listener) => listener.register(registry, token, interests),
        }
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        match &mut self.kind {
            Kind::Tcp(listener) => listener.reregister(registry, token, interests),
            Kind::Unix(listener) => listener.reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match &mut self.kind {
            Kind::Tcp(listener) => listener.deregister(registry),
            Kind::Unix(listener) => listener.deregister(registry),
        }
    }
}
