//! Reading from and writing to connected sockets without the C library, and what the kernel counts at
//! a socket.
//!
//! std's read goes through the C library, in which a call of a threaded program is a cancellation
//! point (pthreads(7)): more than fifty unneeded instructions instead of some ten.

use std::io;
use std::ops::AddAssign;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::sys;

/// Reads from a connected socket: recv(2).
///
/// # Errors
/// What recv(2) reports.
#[inline]
pub fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    match rustix::net::recv(socket, buffer, RecvFlags::empty()) {
        Ok((count, _)) => Ok(count),
        Err(errno) => Err(error(errno)),
    }
}

/// Copies input of a connected socket and leaves it there: recv(2) with MSG_PEEK.
///
/// # Errors
/// What recv(2) reports.
pub fn peek(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    match rustix::net::recv(socket, buffer, RecvFlags::PEEK) {
        Ok((count, _)) => Ok(count),
        Err(errno) => Err(error(errno)),
    }
}

/// Writes to a connected socket: send(2). A closed peer is an error and not a signal
/// (MSG_NOSIGNAL).
///
/// # Errors
/// What send(2) reports.
#[inline]
pub fn send(socket: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    rustix::net::send(socket, bytes, SendFlags::NOSIGNAL).map_err(error)
}

/// As [`send`], before more bytes that follow at once: the kernel sends all of them in the same segments
/// (MSG_MORE).
///
/// # Errors
/// What send(2) reports.
pub fn send_before_more(socket: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = SendFlags::NOSIGNAL | SendFlags::MORE;
    rustix::net::send(socket, bytes, flags).map_err(error)
}

/// Outlined, so that the success path stays straight.
#[cold]
#[inline(never)]
fn error(errno: Errno) -> io::Error {
    errno.into()
}

/// The length of a stream socket's unread input: SIOCINQ (tcp(7), unix(7)).
///
/// # Errors
/// What ioctl(2) reports; EINVAL for a listening TCP socket.
pub fn incoming_queue(socket: &impl AsFd) -> io::Result<u64> {
    Ok(rustix::io::ioctl_fionread(socket)?)
}

/// The queue of a listening socket.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct ListenQueue {
    /// Completed connections that were not accepted yet.
    pub(crate) len: u64,
    /// The effective backlog: the kernel lets one more wait.
    pub(crate) max: u64,
}

impl AddAssign for ListenQueue {
    fn add_assign(&mut self, other: Self) {
        self.len += other.len;
        self.max += other.max;
    }
}

/// The queue of a listening TCP socket.
///
/// # Errors
/// What getsockopt(2) reports for TCP_INFO.
pub(crate) fn listen_queue(socket: &impl AsFd) -> io::Result<ListenQueue> {
    let (len, max) = sys::listen_queue(socket)?;
    Ok(ListenQueue {
        len: len.into(),
        max: max.into(),
    })
}

/// Packets that the kernel dropped at a socket: datagrams because its receive buffer was full, segments
/// of connects because the queue of a listener was full. The counter wraps.
///
/// # Errors
/// What getsockopt(2) reports; ENOPROTOOPT before Linux 4.12.
pub(crate) fn dropped(socket: &impl AsFd) -> io::Result<u32> {
    sys::dropped(socket)
}
