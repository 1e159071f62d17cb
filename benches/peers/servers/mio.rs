//! A bare mio loop: sources are registered once, and mio asks epoll for edges. Reads stop at one that
//! did not fill the buffer, as tokio's do.

use std::io::{self, Read, Write};

use echomark_peers::{BUFFER_LEN, MAX_EVENTS, announce, raise_descriptor_limit};
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use std::os::fd::AsRawFd;

struct Connection {
    stream: TcpStream,
    /// What the socket did not take; nothing is read while there is something in it.
    backlog: Vec<u8>,
    /// Was the peer's end reported? No further event announces it.
    ended: bool,
}

/// Beyond every descriptor, which are the tokens of the connections.
const LISTENER: Token = Token(usize::MAX - 1);

fn main() -> io::Result<()> {
    raise_descriptor_limit()?;
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    announce("tcp", listener.local_addr()?.port());
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(MAX_EVENTS);
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut buffer = vec![0; BUFFER_LEN];
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    loop {
        match poll.poll(&mut events, None) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept_all(&listener, poll.registry(), &mut connections)?;
                continue;
            }
            let slot = &mut connections[event.token().0];
            if let Some(connection) = slot
                && pump(connection, event, &mut buffer).is_err()
            {
                *slot = None;
            }
        }
    }
}

fn accept_all(
    listener: &TcpListener,
    registry: &Registry,
    connections: &mut Vec<Option<Connection>>,
) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        };
        stream.set_nodelay(true)?;
        let index = stream.as_raw_fd() as usize;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, Token(index), interest)?;
        if index >= connections.len() {
            connections.resize_with(index + 1, || None);
        }
        connections[index] = Some(Connection {
            stream,
            backlog: Vec::new(),
            ended: false,
        });
    }
}

/// Moves what can be moved; an error says that the connection is over.
fn pump(connection: &mut Connection, event: &Event, buffer: &mut [u8]) -> io::Result<()> {
    connection.ended |= event.is_read_closed() || event.is_error();
    while !connection.backlog.is_empty() {
        match connection.stream.write(&connection.backlog) {
            Ok(sent) => drop(connection.backlog.drain(..sent)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    loop {
        let len = match connection.stream.read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => len,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        };
        let mut sent = 0;
        while sent < len {
            match connection.stream.write(&buffer[sent..len]) {
                Ok(more) => sent += more,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    connection.backlog = buffer[sent..len].to_vec();
                    return Ok(());
                }
                Err(e) => return Err(e),
            }
        }
        if len < buffer.len() && !connection.ended {
            return Ok(());
        }
    }
}
