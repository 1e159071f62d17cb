//! A bare loop of rustls over mio, with the interface that rustls's documentation shows: sources are
//! registered once, mio asks epoll for edges, and reads stop at one that did not fill its buffer.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use echomark_peers::{BUFFER_LEN, MAX_EVENTS, announce, raise_descriptor_limit, tls};
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use rustls::{ServerConfig, ServerConnection};

struct Connection {
    stream: TcpStream,
    tls: ServerConnection,
    /// Was the peer's end reported? No further event announces it.
    ended: bool,
}

/// A socket, and whether its last read left nothing.
struct Noting<'a> {
    stream: &'a TcpStream,
    is_drained: bool,
}

impl Read for Noting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.stream.read(buffer)?;
        self.is_drained = len < buffer.len();
        Ok(len)
    }
}

/// Beyond every descriptor, which are the tokens of the connections.
const LISTENER: Token = Token(usize::MAX - 1);

fn main() -> io::Result<()> {
    raise_descriptor_limit()?;
    let config = tls::server_config()?;
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    announce("tls", listener.local_addr()?.port());
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
                accept_all(&listener, poll.registry(), &config, &mut connections)?;
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
    config: &Arc<ServerConfig>,
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
        let mut tls = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        // What one read brought is written, however much it is.
        tls.set_buffer_limit(None);
        connections[index] = Some(Connection {
            stream,
            tls,
            ended: false,
        });
    }
}

/// Moves what can be moved; an error says that the connection is over.
fn pump(connection: &mut Connection, event: &Event, buffer: &mut [u8]) -> io::Result<()> {
    connection.ended |= event.is_read_closed() || event.is_error();
    loop {
        flush(connection)?;
        if connection.tls.wants_write() {
            // While the peer does not read, nothing is read.
            return Ok(());
        }
        let mut stream = Noting {
            stream: &connection.stream,
            is_drained: false,
        };
        match connection.tls.read_tls(&mut stream) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
        let is_drained = stream.is_drained && !connection.ended;
        if let Err(e) = connection.tls.process_new_packets() {
            // The alert that says so.
            let _ = flush(connection);
            return Err(io::Error::other(e));
        }
        loop {
            match connection.tls.reader().read(buffer) {
                Ok(0) => {
                    connection.tls.send_close_notify();
                    let _ = flush(connection);
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(len) => connection.tls.writer().write_all(&buffer[..len])?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        if is_drained {
            return flush(connection);
        }
    }
}

fn flush(connection: &mut Connection) -> io::Result<()> {
    while connection.tls.wants_write() {
        match connection.tls.write_tls(&mut connection.stream) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
