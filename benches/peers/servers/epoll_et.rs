//! The bare loop, edge-triggered: registered once and never again. A read that does not fill the
//! buffer has emptied the socket, so there is none that returns EAGAIN; but once the peer's end was
//! reported, no further edge announces it, and reads go on until they return it.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use echomark_peers::BUFFER_LEN;
use echomark_peers::bare::{self, Moved, Next};
use rustix::event::epoll::EventFlags;

/// What the socket did not take, how much of it was sent since, and what is needed to read on.
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
    let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
    let mut buffer = vec![0; BUFFER_LEN];
    let mut backlogs = HashMap::new();
    bare::serve(interest, |_, connection, events| {
        let mut end = End::Unknown;
        if !(EventFlags::IN | EventFlags::OUT).contains(events) {
            end = End::Reported;
        }
        // Bytes may have arrived while nothing was read, and their edge is gone: after a flush, read.
        Ok(match flush(connection, &mut end, &mut backlogs) {
            Moved::Bytes(_) => echo(connection, end, &mut buffer, &mut backlogs),
            Moved::Blocked => Next::Wait,
            Moved::Over => Next::Close,
        })
    })
}

/// Moves what can be moved, until a read was short or a write found the socket full.
fn echo(
    connection: &OwnedFd,
    end: End,
    buffer: &mut [u8],
    backlogs: &mut HashMap<RawFd, Backlog>,
) -> Next {
    loop {
        let len = match bare::receive(connection, buffer) {
            Moved::Bytes(len) => len,
            Moved::Blocked => return Next::Wait,
            Moved::Over => return Next::Close,
        };
        let mut sent = 0;
        while sent < len {
            match bare::send(connection, &buffer[sent..len]) {
                Moved::Bytes(more) => sent += more,
                Moved::Blocked => {
                    let bytes = buffer[sent..len].to_vec();
                    let backlog = Backlog {
                        bytes,
                        sent: 0,
                        end,
                    };
                    backlogs.insert(connection.as_raw_fd(), backlog);
                    return Next::Wait;
                }
                Moved::Over => return Next::Close,
            }
        }
        if len < buffer.len() && end == End::Unknown {
            return Next::Wait;
        }
    }
}

/// Sends the backlog, if there is one. `Bytes` says that none is left, and `end` whether the peer's end
/// was reported since.
fn flush(connection: &OwnedFd, end: &mut End, backlogs: &mut HashMap<RawFd, Backlog>) -> Moved {
    let number = connection.as_raw_fd();
    if backlogs.is_empty() {
        return Moved::Bytes(0);
    }
    let Some(backlog) = backlogs.get_mut(&number) else {
        return Moved::Bytes(0);
    };
    if *end == End::Reported {
        backlog.end = End::Reported;
    }
    *end = backlog.end;
    while backlog.sent < backlog.bytes.len() {
        match bare::send(connection, &backlog.bytes[backlog.sent..]) {
            Moved::Bytes(sent) => backlog.sent += sent,
            Moved::Blocked => return Moved::Blocked,
            Moved::Over => {
                backlogs.remove(&number);
                return Moved::Over;
            }
        }
    }
    backlogs.remove(&number);
    Moved::Bytes(0)
}
