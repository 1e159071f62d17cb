//! Calls and options of sockets that std, rustix and socket2 lack.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::check;

/// Discards up to `max` bytes of a TCP socket's input without copying them, and returns how many:
/// recv(2) with MSG_TRUNC (tcp(7)). No other socket may be passed: on a Unix socket the call would
/// fail with EFAULT.
///
/// # Errors
/// What recv(2) reports.
pub(in crate::net) fn discard(socket: &mio::net::TcpStream, max: usize) -> io::Result<usize> {
    let nowhere = std::ptr::null_mut();
    // SAFETY: with MSG_TRUNC the kernel never writes to the buffer of a TCP socket (tcp(7)), and
    // the parameter's type says that it is one.
    let taken = unsafe { libc::recv(socket.as_raw_fd(), nowhere, max, libc::MSG_TRUNC) };
    usize::try_from(taken).map_err(|_| io::Error::last_os_error())
}

/// Sets a socket option whose value is an int.
///
/// # Errors
/// What setsockopt(2) reports.
pub(in crate::net) fn set_option(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    let length = size_of_val(&value) as libc::socklen_t;
    let value = (&raw const value).cast();
    // SAFETY: setsockopt(2) reads `length` bytes from `value`, which has as many and lives across
    // the call.
    check(unsafe { libc::setsockopt(fd, level, name, value, length) })?;
    Ok(())
}
