//! Sockets of the load: connected in batches and each proven with an echo, and closed in the end.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::RawFd;
use std::time::Instant;

use super::pattern::Pattern;
use super::{STALL, context};
use crate::sys::{self, Mode, Transport};

/// Connections that may wait to be accepted, fewer than any server's queue has room for.
const BATCH: usize = 128;

/// Bytes that prove a connection, few enough to fit into any socket's buffers.
const HELLO_LEN: usize = 1024;

/// A descriptor that is closed when it is dropped, with a reset if it is a connection: all that was
/// sent was received by then, and nothing is left behind in TIME_WAIT.
#[derive(Debug)]
pub(super) struct Socket(pub(super) RawFd);

impl Drop for Socket {
    fn drop(&mut self) {
        sys::close(self.0);
    }
}

/// Opens `count` connections, of which each has echoed once.
pub(super) fn connect_proven(
    target: SocketAddrV4,
    count: usize,
    size: usize,
) -> io::Result<Vec<Socket>> {
    let hello = Pattern::new(size.min(HELLO_LEN), 0);
    connect_with(target, count, &|batch| {
        for socket in batch {
            say_hello(socket.0, &hello)
                .map_err(|e| context("the first echo of a connection", &e))?;
        }
        Ok(())
    })
}

/// Opens `count` connections to a server that answers nothing.
pub(super) fn connect_unproven(target: SocketAddrV4, count: usize) -> io::Result<Vec<Socket>> {
    connect_with(target, count, &|_| Ok(()))
}

fn connect_with(
    target: SocketAddrV4,
    count: usize,
    prove: &dyn Fn(&[Socket]) -> io::Result<()>,
) -> io::Result<Vec<Socket>> {
    let mut sockets = Vec::with_capacity(count);
    while sockets.len() < count {
        let proven = sockets.len();
        while sockets.len() < count.min(proven + BATCH) {
            sockets.push(connect(target).map_err(|e| context("connecting", &e))?);
        }
        prove(&sockets[proven..])?;
    }
    for socket in &sockets {
        sys::set_nonblocking(socket.0)?;
    }
    Ok(sockets)
}

fn connect(target: SocketAddrV4) -> io::Result<Socket> {
    let socket = Socket(sys::socket(Transport::Tcp, Mode::Blocking)?);
    sys::set_timeout(socket.0, STALL)?;
    sys::set_reset_on_close(socket.0)?;
    sys::connect(socket.0, target)?;
    sys::set_nodelay(socket.0)?;
    Ok(socket)
}

fn say_hello(fd: RawFd, hello: &Pattern) -> io::Result<()> {
    let bytes = hello.at(0, usize::MAX);
    if sys::send(fd, bytes)? < bytes.len() {
        return Err(io::Error::other("the socket did not take it"));
    }
    let mut back = [0; HELLO_LEN];
    let mut received = 0;
    while received < bytes.len() {
        match sys::recv(fd, &mut back[received..bytes.len()])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => received += more,
        }
    }
    match bytes == &back[..received] {
        true => Ok(()),
        false => Err(io::Error::other("other bytes came back than were sent")),
    }
}

/// Ends a load for which nothing comes back any more.
#[derive(Debug)]
pub(super) struct Patience(Instant);

impl Patience {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    /// After a wait that brought `events`; `waiting` says how many connections hope for an answer.
    pub(super) fn after(
        &mut self,
        events: usize,
        waiting: impl FnOnce() -> usize,
    ) -> io::Result<()> {
        if events > 0 {
            self.0 = Instant::now();
        } else if self.0.elapsed() >= STALL {
            return Err(io::Error::other(format!(
                "nothing came back for {} s on {} connections",
                STALL.as_secs(),
                waiting()
            )));
        }
        Ok(())
    }
}

/// Source addresses in turn, 127.1.0.1 to 127.1.3.250: each has ports of its own, so that they do not
/// run out while closed connections wait in TIME_WAIT.
pub(super) fn source_address(turn: u64) -> SocketAddrV4 {
    let index = turn % 1000;
    let ip = Ipv4Addr::new(127, 1, (index / 250) as u8, (index % 250) as u8 + 1);
    SocketAddrV4::new(ip, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn source_addresses_are_a_thousand_and_on_loopback() {
        let all: HashSet<_> = (0..5000).map(source_address).collect();
        assert_eq!(all.len(), 1000);
        assert!(all.iter().all(|a| a.ip().is_loopback() && a.port() == 0));
        assert_eq!(source_address(0).ip(), &Ipv4Addr::new(127, 1, 0, 1));
        assert_eq!(source_address(999).ip(), &Ipv4Addr::new(127, 1, 3, 250));
    }
}
