//! The bare loop that others are compared to: one thread, level-triggered epoll, and for each event
//! one recv(2) and one send(2). Nothing is kept for a connection except what the socket did not take.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use echomark_peers::BUFFER_LEN;
use echomark_peers::bare::{self, Moved, Next};
use rustix::event::epoll::EventFlags;

/// What the socket did not take, and how much of it was sent since.
struct Backlog {
    bytes: Vec<u8>,
    sent: usize,
}

fn main() -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_LEN];
    let mut backlogs = HashMap::new();
    bare::serve(EventFlags::IN, |epoll, connection, events| {
        if events.contains(EventFlags::IN) {
            echo(epoll, connection, &mut buffer, &mut backlogs)
        } else {
            flush(epoll, connection, &mut backlogs)
        }
    })
}

fn echo(
    epoll: &OwnedFd,
    connection: &OwnedFd,
    buffer: &mut [u8],
    backlogs: &mut HashMap<RawFd, Backlog>,
) -> io::Result<Next> {
    let len = match bare::receive(connection, buffer) {
        Moved::Bytes(len) => len,
        Moved::Blocked => return Ok(Next::Wait),
        Moved::Over => return Ok(Next::Close),
    };
    let sent = match bare::send(connection, &buffer[..len]) {
        Moved::Bytes(sent) => sent,
        Moved::Blocked => 0,
        Moved::Over => return Ok(Next::Close),
    };
    if sent < len {
        let bytes = buffer[sent..len].to_vec();
        backlogs.insert(connection.as_raw_fd(), Backlog { bytes, sent: 0 });
        // Nothing more is read until this is written.
        bare::set_interest(epoll, connection, EventFlags::OUT)?;
    }
    Ok(Next::Wait)
}

fn flush(
    epoll: &OwnedFd,
    connection: &OwnedFd,
    backlogs: &mut HashMap<RawFd, Backlog>,
) -> io::Result<Next> {
    let number = connection.as_raw_fd();
    let Some(backlog) = backlogs.get_mut(&number) else {
        // Only an error or a hang-up is reported without having been asked for.
        return Ok(Next::Close);
    };
    match bare::send(connection, &backlog.bytes[backlog.sent..]) {
        Moved::Bytes(sent) => backlog.sent += sent,
        Moved::Blocked => {}
        Moved::Over => {
            backlogs.remove(&number);
            return Ok(Next::Close);
        }
    }
    if backlog.sent == backlog.bytes.len() {
        backlogs.remove(&number);
        bare::set_interest(epoll, connection, EventFlags::IN)?;
    }
    Ok(Next::Wait)
}
