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

/// A socket option, or a kind of control message, which has the same numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::net) struct SocketOption {
    pub(in crate::net) level: i32,
    pub(in crate::net) name: i32,
}

impl SocketOption {
    const fn new(level: libc::c_int, name: libc::c_int) -> Self {
        Self { level, name }
    }
}

/// ip(7).
pub(in crate::net) const IP_PKTINFO: SocketOption =
    SocketOption::new(libc::IPPROTO_IP, libc::IP_PKTINFO);
/// ipv6(7).
pub(in crate::net) const IPV6_PKTINFO: SocketOption =
    SocketOption::new(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO);
/// ipv6(7).
pub(in crate::net) const IPV6_RECVPKTINFO: SocketOption =
    SocketOption::new(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO);
/// udp(7).
pub(in crate::net) const UDP_SEGMENT: SocketOption =
    SocketOption::new(libc::SOL_UDP, libc::UDP_SEGMENT);
/// udp(7).
pub(in crate::net) const UDP_GRO: SocketOption = SocketOption::new(libc::SOL_UDP, libc::UDP_GRO);
/// tcp(7).
pub(in crate::net) const TCP_DEFER_ACCEPT: SocketOption =
    SocketOption::new(libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT);

/// ip(7).
pub(in crate::net) const IP_MINTTL: SocketOption =
    SocketOption::new(libc::IPPROTO_IP, libc::IP_MINTTL);
/// As IP_MINTTL, linux/in6.h.
pub(in crate::net) const IPV6_MINHOPCOUNT: SocketOption =
    SocketOption::new(libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT);
/// Which of a socket's buffer sizes are fixed: the bits below. Since Linux 5.14.
pub(in crate::net) const SO_BUF_LOCK: SocketOption =
    SocketOption::new(libc::SOL_SOCKET, libc::SO_BUF_LOCK);
/// A bit of SO_BUF_LOCK (linux/socket.h).
pub(in crate::net) const SEND_BUFFER_LOCK: u32 = 1;
/// A bit of SO_BUF_LOCK (linux/socket.h).
pub(in crate::net) const RECV_BUFFER_LOCK: u32 = 2;

/// The value of a socket option that is an int, as its bits.
///
/// # Errors
/// What getsockopt(2) reports.
pub(in crate::net) fn read_bits(socket: &impl AsFd, option: SocketOption) -> io::Result<u32> {
    let [bits] = read_option(socket, option.level, option.name)?;
    Ok(bits)
}

/// Sets a socket option whose value is an int.
///
/// # Errors
/// What setsockopt(2) reports.
pub(in crate::net) fn set_option(
    socket: &impl AsFd,
    option: SocketOption,
    value: i32,
) -> io::Result<()> {
    let SocketOption { level, name } = option;
    let fd = socket.as_fd().as_raw_fd();
    let length = size_of_val(&value) as libc::socklen_t;
    let value = (&raw const value).cast();
    // SAFETY: setsockopt(2) reads `length` bytes from `value`, which has as many and lives across
    // the call.
    check(unsafe { libc::setsockopt(fd, level, name, value, length) })?;
    Ok(())
}

/// Packets that the kernel dropped at a socket: SK_MEMINFO_DROPS of SO_MEMINFO (linux/sock_diag.h).
///
/// # Errors
/// What getsockopt(2) reports.
pub(in crate::net) fn dropped(socket: &impl AsFd) -> io::Result<u32> {
    const DROPS: usize = libc::SK_MEMINFO_DROPS as usize;
    let words: [u32; DROPS + 1] = read_option(socket, libc::SOL_SOCKET, libc::SO_MEMINFO)?;
    Ok(words[DROPS])
}

/// The length of a TCP listener's queue and its maximum: tcpi_unacked and tcpi_sacked of TCP_INFO, as
/// tcp_get_info in the kernel fills them for a listening socket.
///
/// # Errors
/// What getsockopt(2) reports.
pub(in crate::net) fn listen_queue(socket: &impl AsFd) -> io::Result<(u32, u32)> {
    /// Eight bytes and four integers come first in struct tcp_info.
    const UNACKED: usize = std::mem::offset_of!(libc::tcp_info, tcpi_unacked) / 4;
    const SACKED: usize = std::mem::offset_of!(libc::tcp_info, tcpi_sacked) / 4;
    let words: [u32; SACKED + 1] = read_option(socket, libc::IPPROTO_TCP, libc::TCP_INFO)?;
    Ok((words[UNACKED], words[SACKED]))
}

/// The first `N` words of a socket option.
fn read_option<const N: usize>(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
) -> io::Result<[u32; N]> {
    let fd = socket.as_fd().as_raw_fd();
    let mut words = [0_u32; N];
    let mut length = size_of_val(&words) as libc::socklen_t;
    let value = (&raw mut words).cast();
    // SAFETY: getsockopt(2) writes at most `length` bytes to `value`, which has as many and lives
    // across the call; every pattern of bits is a u32.
    check(unsafe { libc::getsockopt(fd, level, name, value, &raw mut length) })?;
    if (length as usize) < size_of_val(&words) {
        // An older kernel has fewer fields.
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(words)
}
