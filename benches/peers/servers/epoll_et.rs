//! The bare loop, edge-triggered: registered once and never again. A read that does not fill the
//! buffer has emptied the socket, so there is none that returns EAGAIN; but once the peer's end was
//! reported, no further edge announces it, and reads go on until they return it.

use std::collections::HashMap;
use std::io;
use std::os::fd::RawFd;

use echomark_peers::announce;
use echomark_peers::sys::{self, EPOLLET, EPOLLIN, EPOLLOUT, EPOLLRDHUP, Epoll};

/// What a connection is still to be sent, how much of it was, and what is to be known to read on.
struct Backlog {
    bytes: Vec<u8>,
    sent: usize,
    end: End,
}

/// Has the peer's end of the stream been reported?
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Unknown,
    Reported,
}

fn main() -> io::Result<()> {
    sys::raise_descriptor_limit()?;
    let listener = sys::listen()?;
    announce(sys::local_port(listener)?);
    let epoll = Epoll::new()?;
    epoll.add(listener, EPOLLIN | EPOLLET, listener as u64)?;
    let mut events = [sys::NO_EVENT; sys::EVENTS];
    let mut buffer = vec![0; sys::BUFFER_LEN];
    let mut backlogs = HashMap::new();
    loop {
        let count = epoll.wait(&mut events, None)?;
        for event in &events[..count] {
            let fd = event.u64 as RawFd;
            if fd == listener {
                accept_all(&epoll, listener)?;
                continue;
            }
            let end = match event.events & !(EPOLLIN | EPOLLOUT) as u32 {
                0 => End::Unknown,
                _ => End::Reported,
            };
            pump(fd, end, &mut buffer, &mut backlogs);
        }
    }
}

fn accept_all(epoll: &Epoll, listener: RawFd) -> io::Result<()> {
    let events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    loop {
        match sys::accept(listener) {
            Ok(fd) => epoll.add(fd, events, fd as u64)?,
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) if sys::is_transient(&e) => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}

/// Moves what can be moved, until a read was short or a write found the socket full.
fn pump(fd: RawFd, mut end: End, buffer: &mut [u8], backlogs: &mut HashMap<RawFd, Backlog>) {
    if !backlogs.is_empty() {
        match flush(fd, end, backlogs) {
            Flushed::All(reported) => end = reported,
            Flushed::Blocked => return,
            Flushed::Failed => return sys::close(fd),
            Flushed::Nothing => {}
        }
    }
    loop {
        let len = match sys::recv(fd, buffer) {
            Ok(len @ 1..) => len,
            Err(e) if sys::is_transient(&e) => return,
            Ok(0) | Err(_) => return sys::close(fd),
        };
        let mut sent = 0;
        while sent < len {
            match sys::send(fd, &buffer[sent..len]) {
                Ok(more) => sent += more,
                Err(e) if sys::is_transient(&e) => {
                    let bytes = buffer[sent..len].to_vec();
                    backlogs.insert(
                        fd,
                        Backlog {
                            bytes,
                            sent: 0,
                            end,
                        },
                    );
                    return;
                }
                Err(_) => return sys::close(fd),
            }
        }
        if len < buffer.len() && end == End::Unknown {
            return;
        }
    }
}

enum Flushed {
    Nothing,
    All(End),
    Blocked,
    Failed,
}

fn flush(fd: RawFd, end: End, backlogs: &mut HashMap<RawFd, Backlog>) -> Flushed {
    let Some(backlog) = backlogs.get_mut(&fd) else {
        return Flushed::Nothing;
    };
    if end == End::Reported {
        backlog.end = end;
    }
    while backlog.sent < backlog.bytes.len() {
        match sys::send(fd, &backlog.bytes[backlog.sent..]) {
            Ok(sent) => backlog.sent += sent,
            Err(e) if sys::is_transient(&e) => return Flushed::Blocked,
            Err(_) => {
                backlogs.remove(&fd);
                return Flushed::Failed;
            }
        }
    }
    let end = backlog.end;
    backlogs.remove(&fd);
    // Bytes may have arrived while nothing was read, and their edge is gone.
    Flushed::All(end)
}
