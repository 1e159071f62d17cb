//! The bare loop that others are compared to: one thread, level-triggered epoll, and for each event
//! one recv(2) and one send(2). Nothing is kept for a connection but what the socket did not take.

use std::collections::HashMap;
use std::io;
use std::os::fd::RawFd;

use echomark_peers::announce;
use echomark_peers::sys::{self, EPOLLIN, EPOLLOUT, Epoll};

/// What a connection is still to be sent, and how much of it was.
struct Backlog {
    bytes: Vec<u8>,
    sent: usize,
}

fn main() -> io::Result<()> {
    sys::raise_descriptor_limit()?;
    let listener = sys::listen()?;
    announce(sys::local_port(listener)?);
    let epoll = Epoll::new()?;
    epoll.add(listener, EPOLLIN, listener as u64)?;
    let mut events = [sys::NO_EVENT; sys::EVENTS];
    let mut buffer = vec![0; sys::BUFFER_LEN];
    let mut backlogs = HashMap::new();
    loop {
        let count = epoll.wait(&mut events, None)?;
        for event in &events[..count] {
            let fd = event.u64 as RawFd;
            if fd == listener {
                accept_all(&epoll, listener)?;
            } else if event.events & EPOLLIN as u32 != 0 {
                echo(&epoll, fd, &mut buffer, &mut backlogs)?;
            } else {
                flush(&epoll, fd, &mut backlogs)?;
            }
        }
    }
}

/// Takes all who wait, which costs one call more than one at a time and saves many turns of the loop.
fn accept_all(epoll: &Epoll, listener: RawFd) -> io::Result<()> {
    loop {
        match sys::accept(listener) {
            Ok(fd) => epoll.add(fd, EPOLLIN, fd as u64)?,
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) if sys::is_transient(&e) => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}

fn echo(
    epoll: &Epoll,
    fd: RawFd,
    buffer: &mut [u8],
    backlogs: &mut HashMap<RawFd, Backlog>,
) -> io::Result<()> {
    let len = match sys::recv(fd, buffer) {
        Ok(len @ 1..) => len,
        Err(e) if sys::is_transient(&e) => return Ok(()),
        Ok(0) | Err(_) => {
            sys::close(fd);
            return Ok(());
        }
    };
    let sent = match sys::send(fd, &buffer[..len]) {
        Ok(sent) => sent,
        Err(e) if sys::is_transient(&e) => 0,
        Err(_) => {
            sys::close(fd);
            return Ok(());
        }
    };
    if sent < len {
        let bytes = buffer[sent..len].to_vec();
        backlogs.insert(fd, Backlog { bytes, sent: 0 });
        // Nothing more is read until this is written.
        epoll.modify(fd, EPOLLOUT, fd as u64)?;
    }
    Ok(())
}

fn flush(epoll: &Epoll, fd: RawFd, backlogs: &mut HashMap<RawFd, Backlog>) -> io::Result<()> {
    let Some(backlog) = backlogs.get_mut(&fd) else {
        // Only an error or a hang-up is reported without having been asked for.
        sys::close(fd);
        return Ok(());
    };
    match sys::send(fd, &backlog.bytes[backlog.sent..]) {
        Ok(sent) => backlog.sent += sent,
        Err(e) if sys::is_transient(&e) => {}
        Err(_) => {
            backlogs.remove(&fd);
            sys::close(fd);
            return Ok(());
        }
    }
    if backlog.sent == backlog.bytes.len() {
        backlogs.remove(&fd);
        epoll.modify(fd, EPOLLIN, fd as u64)?;
    }
    Ok(())
}
