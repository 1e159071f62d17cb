//! The bare loop as a discard server: level-triggered epoll and one recv(2) of 64 KiB per event.

use std::io;
use std::os::fd::RawFd;

use echomark_peers::announce;
use echomark_peers::sys::{self, EPOLLIN, Epoll};

fn main() -> io::Result<()> {
    sys::raise_descriptor_limit()?;
    let listener = sys::listen()?;
    announce(sys::local_port(listener)?);
    let epoll = Epoll::new()?;
    epoll.add(listener, EPOLLIN, listener as u64)?;
    let mut events = [sys::NO_EVENT; sys::EVENTS];
    let mut buffer = vec![0; sys::BUFFER_LEN];
    loop {
        let count = epoll.wait(&mut events, None)?;
        for event in &events[..count] {
            let fd = event.u64 as RawFd;
            if fd == listener {
                match sys::accept(listener) {
                    Ok(fd) => epoll.add(fd, EPOLLIN, fd as u64)?,
                    Err(e) if sys::is_transient(&e) => {}
                    Err(e) => return Err(e),
                }
                continue;
            }
            match sys::recv(fd, &mut buffer) {
                Ok(1..) => {}
                Err(e) if sys::is_transient(&e) => {}
                Ok(0) | Err(_) => sys::close(fd),
            }
        }
    }
}
