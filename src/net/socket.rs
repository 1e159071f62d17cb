//! Reading from and writing to connected sockets without the C library.
//!
//! std's read goes through the C library, in which a call of a threaded program is a cancellation
//! point (pthreads(7)): more than fifty unneeded instructions instead of some ten.

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

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

/// Writes to a connected socket: send(2). A closed peer is an error and not a signal
/// (MSG_NOSIGNAL).
///
/// # Errors
/// What send(2) reports.
#[inline]
pub fn send(socket: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    rustix::net::send(socket, bytes, SendFlags::NOSIGNAL).map_err(error)
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
