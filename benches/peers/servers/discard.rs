//! The bare loop as a discard server: level-triggered epoll and one recv(2) of 64 KiB for each event.

use std::io;

use echomark_peers::BUFFER_LEN;
use echomark_peers::bare::{self, Moved, Next};
use rustix::event::epoll::EventFlags;

fn main() -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_LEN];
    bare::serve(EventFlags::IN, |_, connection, _| {
        Ok(match bare::receive(connection, &mut buffer) {
            Moved::Bytes(_) | Moved::Blocked => Next::Wait,
            Moved::Over => Next::Close,
        })
    })
}
