//! The bare loop that others are compared to: one thread, level-triggered epoll, and for each event
//! one recv(2) and one send(2). Nothing is kept for a connection except what the socket did not take.

use std::io;
use std::os::fd::OwnedFd;

use echomark_peers::BUFFER_LEN;
use echomark_peers::bare::{self, Backlogs, Moved, Next};
use rustix::event::epoll::EventFlags;

fn main() -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_LEN];
    let mut backlogs = Backlogs::default();
    bare::serve(EventFlags::IN, |epoll, connection, events| {
        if events.contains(EventFlags::IN) {
            return echo(epoll, connection, &mut buffer, &mut backlogs);
        }
        match backlogs.flush(connection) {
            Some(Moved::Bytes(_)) => bare::set_interest(epoll, connection, EventFlags::IN)?,
            Some(Moved::Blocked) => {}
            // Without a backlog, only an error or a hang-up is reported here.
            Some(Moved::Over) | None => return Ok(Next::Close),
        }
        Ok(Next::Wait)
    })
}

fn echo(
    epoll: &OwnedFd,
    connection: &OwnedFd,
    buffer: &mut [u8],
    backlogs: &mut Backlogs,
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
        backlogs.keep(connection, &buffer[sent..len]);
        // Nothing more is read until this is written.
        bare::set_interest(epoll, connection, EventFlags::OUT)?;
    }
    Ok(Next::Wait)
}
