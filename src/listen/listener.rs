//! A listening stream socket of a worker, and the ways to close it.

use std::io;
use std::net::{IpAddr, Shutdown};

use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use crate::net::stream::Socket;
use crate::net::tcp::{self, Ignoring};
use crate::net::unix::SocketFile;

/// A listening socket, watched by mio.
#[derive(Debug)]
pub(crate) struct Listener {
    kind: Kind,
    owner: Owner,
    /// New connections are refused: once the queue is empty it stays empty.
    shut: bool,
    /// Accepted connections have an option that refuses new ones.
    passes_hops_on: bool,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The processes that hold the socket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Owner {
    /// Only this process, which may shut it down.
    Us,
    /// Only this process, which also removes the socket file.
    UsWithFile(SocketFile),
    /// Also another process, which passed it to us and keeps it after us.
    Another,
}

impl Listener {
    pub(crate) fn tcp(socket: std::net::TcpListener, owner: Owner) -> Self {
        Self {
            kind: Kind::Tcp(TcpListener::from_std(socket)),
            owner,
            shut: false,
            passes_hops_on: false,
        }
    }

    pub(crate) fn unix(socket: std::os::unix::net::UnixListener, owner: Owner) -> Self {
        Self {
            kind: Kind::Unix(UnixListener::from_std(socket)),
            owner,
            shut: false,
            passes_hops_on: false,
        }
    }

    /// Accepts a completed connection, with the peer's address if it has one.
    pub(crate) fn accept(&self) -> io::Result<(Socket, Option<IpAddr>)> {
        match &self.kind {
            Kind::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                if self.passes_hops_on {
                    // If it fails, the connection is gone.
                    let _ = tcp::take_all_hops(&stream);
                }
                Ok((Socket::Tcp(stream), Some(peer.ip())))
            }
            Kind::Unix(listener) => match listener.accept() {
                Ok((stream, _)) => {
                    // A Unix socket does not inherit options. Without this one an urgent byte would
                    // be lost; a kernel that doesn't know the option has no urgent bytes (unix(7),
                    // Linux 5.15).
                    let _ = SockRef::from(&stream).set_out_of_band_inline(true);
                    Ok((Socket::Unix(stream), None))
                }
                // A socket that was shut down reports an empty queue this way.
                Err(error) if self.shut && error.kind() == io::ErrorKind::InvalidInput => {
                    Err(io::ErrorKind::WouldBlock.into())
                }
                Err(error) => Err(error),
            },
        }
    }

    /// Lets handshakes complete and refuses new ones, unless another process keeps the socket.
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
            Kind::Tcp(listener) => {
                self.passes_hops_on = tcp::ignore_new_connections(listener)? == Ignoring::Hops;
                Ok(())
            }
            // Connects are refused from now on; queued connections can still be accepted
            // (unix_stream_connect and unix_accept in the kernel).
            Kind::Unix(listener) => SockRef::from(listener).shutdown(Shutdown::Read),
        }
    }

    /// Closes the socket and removes its file.
    pub(crate) fn close(self) {
        if let Owner::UsWithFile(file) = &self.owner {
            file.remove();
        }
    }

    /// Closes only our descriptor: a successor has the same socket and the same file.
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
