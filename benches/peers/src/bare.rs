//! What the bare loops share: a listener, connections by the number of their descriptor, and epoll.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

/// What became of a read or a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes, at least one, were moved.
    Bytes(usize),
    /// The socket is empty or full.
    Blocked,
    /// The peer has ended the stream, or the connection failed.
    Over,
}

/// What becomes of a connection after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It waits for its next event.
    Wait,
    /// It is closed.
    Close,
}

impl Moved {
    fn of(result: rustix::io::Result<usize>) -> Self {
        match result {
            Ok(len @ 1..) => Self::Bytes(len),
            Err(Errno::AGAIN | Errno::INTR) => Self::Blocked,
            Ok(0) | Err(_) => Self::Over,
        }
    }
}

/// One recv(2).
#[inline]
pub fn receive(connection: &OwnedFd, buffer: &mut [u8]) -> Moved {
    Moved::of(net::recv(connection, buffer, RecvFlags::empty()).map(|(len, _)| len))
}

/// One send(2).
#[inline]
pub fn send(connection: &OwnedFd, bytes: &[u8]) -> Moved {
    Moved::of(net::send(connection, bytes, SendFlags::NOSIGNAL))
}

/// What sockets did not take, by connection.
#[derive(Debug, Default)]
pub struct Backlogs(HashMap<RawFd, (Vec<u8>, usize)>);

impl Backlogs {
    /// Keeps what a socket did not take.
    pub fn keep(&mut self, connection: &OwnedFd, bytes: &[u8]) {
        self.0.insert(connection.as_raw_fd(), (bytes.to_vec(), 0));
    }

    /// Sends the backlog of a connection, if there is one: `Bytes` says that none is left.
    pub fn flush(&mut self, connection: &OwnedFd) -> Option<Moved> {
        if self.0.is_empty() {
            return None;
        }
        let number = connection.as_raw_fd();
        let (bytes, sent) = self.0.get_mut(&number)?;
        loop {
            match send(connection, &bytes[*sent..]) {
                Moved::Bytes(more) if *sent + more < bytes.len() => *sent += more,
                Moved::Blocked => return Some(Moved::Blocked),
                done => {
                    self.0.remove(&number);
                    return Some(done);
                }
            }
        }
    }
}

/// Changes the events that are waited for on a connection.
///
/// # Errors
/// That of epoll_ctl(2).
pub fn set_interest(epoll: &OwnedFd, connection: &OwnedFd, events: EventFlags) -> io::Result<()> {
    let data = EventData::new_u64(connection.as_raw_fd() as u64);
    Ok(epoll::modify(epoll, connection, data, events)?)
}

/// Listens on a free port of 127.0.0.1 and serves for ever: connections are registered for `interest`,
/// and `handle` is called for each of their events with the epoll instance and the connection.
///
/// # Errors
/// What keeps the server from listening, waiting or accepting.
pub fn serve(
    interest: EventFlags,
    mut handle: impl FnMut(&OwnedFd, &OwnedFd, EventFlags) -> io::Result<Next>,
) -> io::Result<()> {
    crate::raise_descriptor_limit()?;
    let listener = listen()?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let listener_data = EventData::new_u64(listener.as_raw_fd() as u64);
    epoll::add(&epoll, &listener, listener_data, EventFlags::IN)?;
    let none = Event {
        flags: EventFlags::empty(),
        data: EventData::new_u64(0),
    };
    let mut events = [none; crate::MAX_EVENTS];
    let mut connections: Vec<Option<OwnedFd>> = Vec::new();
    loop {
        let count = match epoll::wait(&epoll, &mut events[..], None) {
            Err(Errno::INTR) => continue,
            count => count?,
        };
        for event in &events[..count] {
            if { event.data }.u64() == listener_data.u64() {
                accept_all(&epoll, &listener, interest, &mut connections)?;
                continue;
            }
            let slot = &mut connections[{ event.data }.u64() as usize];
            let Some(connection) = slot else { continue };
            if handle(&epoll, connection, event.flags)? == Next::Close {
                *slot = None;
            }
        }
    }
}

/// A non-blocking listener whose connections inherit TCP_NODELAY from it.
fn listen() -> io::Result<TcpListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    net::listen(&socket, crate::BACKLOG)?;
    let listener = TcpListener::from(socket);
    crate::announce("tcp", listener.local_addr()?.port());
    Ok(listener)
}

/// Accepts until no connection waits, which costs one call more than one at a time and saves many turns
/// of the loop.
fn accept_all(
    epoll: &OwnedFd,
    listener: &TcpListener,
    interest: EventFlags,
    connections: &mut Vec<Option<OwnedFd>>,
) -> io::Result<()> {
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let connection = match net::accept_with(listener, flags) {
            Ok(connection) => connection,
            Err(Errno::CONNABORTED) => continue,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let number = connection.as_raw_fd() as usize;
        let data = EventData::new_u64(number as u64);
        epoll::add(epoll, &connection, data, interest)?;
        if number >= connections.len() {
            connections.resize_with(number + 1, || None);
        }
        connections[number] = Some(connection);
    }
}
