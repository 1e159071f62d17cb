//! Socket options and queue lengths that std, rustix and socket2 lack.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};

use rustix::net::{RecvAncillaryBuffer, RecvFlags, recvmsg};

use super::check;

/// The amount that a socket has sent and its peer has not taken yet: SIOCOUTQ.
///
/// - TCP: bytes not acknowledged by the peer, sent or not (tcp(7)). A FIN counts as one byte.
/// - Unix: memory of the data that the peer has not read, including the kernel's overhead.
/// - UDP: memory of the data that has not left the machine.
///
/// # Errors
/// The error of ioctl(2); EINVAL for a listening TCP socket.
pub(crate) fn outgoing_queue(socket: &impl AsFd) -> io::Result<u64> {
    let fd = socket.as_fd().as_raw_fd();
    let mut count: libc::c_int = 0;
    // linux/sockios.h defines SIOCOUTQ as this.
    let request = libc::TIOCOUTQ;
    // SAFETY: SIOCOUTQ writes an int to the pointer, which is valid for writes.
    check(unsafe { libc::ioctl(fd, request, &raw mut count) })?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// With this option, bind(2) with port 0 fixes only the address. connect(2) then chooses the port
/// by all addresses and ports of the connection, so one port can serve connections to many
/// destinations (IP_BIND_ADDRESS_NO_PORT, ip(7)). IPv6 sockets use the same option; there is no
/// other.
///
/// # Errors
/// The error of setsockopt(2); ENOPROTOOPT before Linux 4.2.
pub(super) fn leave_port_to_connect(socket: &impl AsFd) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// With this option, the network's answer to a datagram is an error of the socket whatever it says, and waits in a
/// queue, which [`take_refused_datagram`] empties. Without it, only a refusal of the port is (IP_RECVERR, ip(7);
/// IPV6_RECVERR, ipv6(7)).
///
/// # Errors
/// The error of setsockopt(2).
pub(crate) fn queue_errors(socket: &impl AsFd, is_v4: bool) -> io::Result<()> {
    if is_v4 {
        set_option(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1)
    } else {
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1)
    }
}

/// Takes a datagram to which the network had an answer out of the queue, as far as it fits into `buffer`, and returns
/// its length (recvmsg(2), MSG_ERRQUEUE).
///
/// # Errors
/// The error of recvmsg(2); `WouldBlock` if there is none.
pub(crate) fn take_refused_datagram(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let mut control = RecvAncillaryBuffer::default();
    let mut parts = [IoSliceMut::new(buffer)];
    let taken = recvmsg(socket, &mut parts, &mut control, RecvFlags::ERRQUEUE)?;
    Ok(taken.bytes)
}

/// Restricts this socket to one port, so that a test can run out of ports (IP_LOCAL_PORT_RANGE,
/// ip(7), Linux 6.3).
#[cfg(test)]
pub(super) fn choose_only_port(socket: &impl AsFd, port: u16) -> io::Result<()> {
    /// From linux/in.h; missing in the libc crate.
    const IP_LOCAL_PORT_RANGE: libc::c_int = 51;
    let range = u32::from(port) << 16 | u32::from(port);
    set_option(
        socket,
        libc::IPPROTO_IP,
        IP_LOCAL_PORT_RANGE,
        range.cast_signed(),
    )
}

/// Reads a socket option and returns the number of bytes of `value` that the kernel filled.
///
/// # Safety
/// Any bytes are a valid `T`.
pub(super) unsafe fn read_option<T>(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &mut T,
) -> io::Result<usize> {
    let fd = socket.as_fd().as_raw_fd();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: getsockopt(2) writes at most `length` bytes to `value`, which is exclusively borrowed
    // and that long. By this function's contract, any bytes are a valid `T`.
    let result = unsafe {
        let value = (&raw mut *value).cast();
        libc::getsockopt(fd, level, name, value, &raw mut length)
    };
    check(result)?;
    Ok((length as usize).min(size_of::<T>()))
}

/// Sets a socket option whose value is an int.
///
/// # Errors
/// What setsockopt(2) reports.
fn set_option(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    let length = size_of_val(&value) as libc::socklen_t;
    let value = (&raw const value).cast();
    // SAFETY: setsockopt(2) reads `length` bytes from `value`, which is that long and lives across
    // the call.
    check(unsafe { libc::setsockopt(fd, level, name, value, length) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    /// Runs `step` until it is true.
    #[track_caller]
    fn wait(what: &str, mut step: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !step() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_outgoing_queue_of_tcp_is_what_the_peer_has_not_acknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        assert_eq!(outgoing_queue(&sender).unwrap(), 0);

        sender.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(count) = sender.write(&[0; 1 << 16]) {
            sent += count;
        }
        let queued = outgoing_queue(&sender).unwrap();
        assert!(queued > 0 && queued < sent as u64, "{queued} of {sent}");

        std::thread::scope(|scope| {
            scope.spawn(|| receiver.read_exact(&mut vec![0; sent]).unwrap());
        });
        wait("all is acknowledged", || {
            outgoing_queue(&sender).unwrap() == 0
        });
        assert!(outgoing_queue(&listener).is_err());
    }

    #[test]
    fn a_refused_datagram_waits_in_the_queue_of_errors() {
        for (any, is_v4) in [("127.0.0.1:0", true), ("[::1]:0", false)] {
            let closed = UdpSocket::bind(any).unwrap().local_addr().unwrap();
            let socket = UdpSocket::bind(any).unwrap();
            socket.connect(closed).unwrap();
            queue_errors(&socket, is_v4).unwrap();
            let mut buffer = [0; 8];
            socket.send(b"probe").unwrap();
            wait("the refusal is there", || {
                take_refused_datagram(&socket, &mut buffer).is_ok_and(|count| count == 5)
            });
            assert_eq!(&buffer[..5], b"probe");
            let none = take_refused_datagram(&socket, &mut buffer).unwrap_err();
            assert_eq!(none.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn the_outgoing_queue_of_a_unix_socket_is_what_the_peer_has_not_read() {
        let (mut sender, mut receiver) = UnixStream::pair().unwrap();
        assert_eq!(outgoing_queue(&sender).unwrap(), 0);
        sender.write_all(&[0; 100]).unwrap();
        assert!(outgoing_queue(&sender).unwrap() >= 100);
        receiver.read_exact(&mut [0; 100]).unwrap();
        assert_eq!(outgoing_queue(&sender).unwrap(), 0);
    }
}
