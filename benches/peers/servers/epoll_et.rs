//! The bare loop, edge-triggered: registered once and never again. A read that does not fill the
//! buffer has emptied the socket, so there is none that returns EAGAIN; but once the peer's end was
//! reported, no further edge announces it, and reads go on until they return it.

use std::io;
use std::os::fd::OwnedFd;

use echomark_peers::BUFFER_LEN;
use echomark_peers::bare::{self, Backlogs, Moved, Next};
use rustix::event::epoll::EventFlags;

/// When is a connection read no further?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    ShortRead,
    Blocked,
}

fn main() -> io::Result<()> {
    let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
    let mut buffer = vec![0; BUFFER_LEN];
    let mut backlogs = Backlogs::default();
    bare::serve(interest, |_, connection, events| {
        let mut until = match events
            .difference(EventFlags::IN | EventFlags::OUT)
            .is_empty()
        {
            true => Until::ShortRead,
            false => Until::Blocked,
        };
        match backlogs.flush(connection) {
            None => {}
            // The edges of what arrived while nothing was read, among them the end, are gone.
            Some(Moved::Bytes(_)) => until = Until::Blocked,
            Some(Moved::Blocked) => return Ok(Next::Wait),
            Some(Moved::Over) => return Ok(Next::Close),
        }
        Ok(echo(connection, until, &mut buffer, &mut backlogs))
    })
}

fn echo(connection: &OwnedFd, until: Until, buffer: &mut [u8], backlogs: &mut Backlogs) -> Next {
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
                    backlogs.keep(connection, &buffer[sent..len]);
                    return Next::Wait;
                }
                Moved::Over => return Next::Close,
            }
        }
        if len < buffer.len() && until == Until::ShortRead {
            return Next::Wait;
        }
    }
}
