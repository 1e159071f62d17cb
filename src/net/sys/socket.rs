//! What the kernel keeps of one socket beyond what std and socket2 show.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::check;

/// Reads from a connected socket: recv(2).
///
/// std's read goes through the C library, in which a call of a threaded program is a cancellation point
/// (pthreads(7)): more than fifty instructions that nobody here wants, against some ten.
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

/// Writes to a connected socket: send(2), as [`receive`]. A peer that is gone is an error and no
/// signal (MSG_NOSIGNAL).
///
/// # Errors
/// What send(2) reports.
#[inline]
pub fn send(socket: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    rustix::net::send(socket, bytes, SendFlags::NOSIGNAL).map_err(error)
}

/// Apart from the calls, so that success takes no detour around it.
#[cold]
#[inline(never)]
fn error(errno: Errno) -> io::Error {
    errno.into()
}

/// What a socket has sent and its peer has not taken yet: SIOCOUTQ.
///
/// - TCP: bytes that the peer has not acknowledged, whether they were sent or not (tcp(7)). A FIN
///   counts as one.
/// - Unix: memory of what the peer has not read, the kernel's own overhead included.
/// - UDP: memory of what has not left the machine.
///
/// # Errors
/// What ioctl(2) reports; EINVAL for a TCP socket that listens.
pub fn outgoing_queue(socket: &impl AsFd) -> io::Result<u64> {
    let fd = socket.as_fd().as_raw_fd();
    let mut count: libc::c_int = 0;
    // The kernel's header linux/sockios.h defines SIOCOUTQ as this.
    let request = libc::TIOCOUTQ;
    // SAFETY: SIOCOUTQ writes an int to the pointer, which is valid for writes.
    check(unsafe { libc::ioctl(fd, request, &raw mut count) })?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// What a stream socket has received and its owner has not read yet: SIOCINQ (tcp(7), unix(7)).
///
/// # Errors
/// What ioctl(2) reports; EINVAL for a TCP socket that listens.
pub fn incoming_queue(socket: &impl AsFd) -> io::Result<u64> {
    Ok(rustix::io::ioctl_fionread(socket)?)
}

/// How many datagrams this socket has dropped since it was made, nearly always because its receive
/// buffer was full: SO_MEMINFO, SK_MEMINFO_DROPS. The kernel counts in 32 bits and starts over.
///
/// # Errors
/// What getsockopt(2) reports; ENOPROTOOPT before Linux 4.12.
pub fn socket_drops(socket: &impl AsFd) -> io::Result<u64> {
    /// From asm-generic/socket.h; the libc crate lacks it.
    const SO_MEMINFO: libc::c_int = 55;
    const DROPS: usize = libc::SK_MEMINFO_DROPS as usize;
    let mut memory = [0u32; DROPS + 1];
    // SAFETY: an array of integers may hold any bytes.
    let filled = unsafe { read_option(socket, libc::SOL_SOCKET, SO_MEMINFO, &mut memory) }?;
    if filled < size_of_val(&memory) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(u64::from(memory[DROPS]))
}

/// Lets bind(2) with port 0 fix the address only: connect(2) then chooses the port, by all of the
/// connection's addresses and ports, so that one port can serve connections to many destinations
/// (IP_BIND_ADDRESS_NO_PORT, ip(7)). IPv6 sockets take this option of IPv4 too, and have no other.
///
/// # Errors
/// What setsockopt(2) reports; ENOPROTOOPT before Linux 4.2.
pub fn leave_port_to_connect(socket: &impl AsFd) -> io::Result<()> {
    write_option(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// Lets the kernel choose one port only for this socket, so that a test can run out of them
/// (IP_LOCAL_PORT_RANGE, ip(7), Linux 6.3).
#[cfg(test)]
pub(in crate::net) fn choose_only_port(socket: &impl AsFd, port: u16) -> io::Result<()> {
    /// From linux/in.h; the libc crate lacks it.
    const IP_LOCAL_PORT_RANGE: libc::c_int = 51;
    let range = u32::from(port) << 16 | u32::from(port);
    write_option(
        socket,
        libc::IPPROTO_IP,
        IP_LOCAL_PORT_RANGE,
        range.cast_signed(),
    )
}

/// Reads a socket option and returns how many bytes of `value` the kernel filled.
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
    // and as long, and the caller vouches for what they make of it.
    let result = unsafe {
        let value = (&raw mut *value).cast();
        libc::getsockopt(fd, level, name, value, &raw mut length)
    };
    check(result)?;
    Ok((length as usize).min(size_of::<T>()))
}

fn write_option(
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
    fn the_outgoing_queue_of_a_unix_socket_is_what_the_peer_has_not_read() {
        let (mut sender, mut receiver) = UnixStream::pair().unwrap();
        assert_eq!(outgoing_queue(&sender).unwrap(), 0);
        sender.write_all(&[0; 100]).unwrap();
        assert!(outgoing_queue(&sender).unwrap() >= 100);
        receiver.read_exact(&mut [0; 100]).unwrap();
        assert_eq!(outgoing_queue(&sender).unwrap(), 0);
    }

    #[test]
    fn every_datagram_is_received_or_counted_as_dropped() {
        const SENT: u64 = 64;
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_nonblocking(true).unwrap();
        socket2::SockRef::from(&receiver)
            .set_recv_buffer_size(1)
            .unwrap();
        assert_eq!(socket_drops(&receiver).unwrap(), 0);

        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = receiver.local_addr().unwrap();
        for _ in 0..SENT {
            sender.send_to(&[0; 1000], address).unwrap();
        }
        // The kernel may still be delivering the last of them.
        let mut received = 0;
        wait("no datagram is missing", || {
            received += u64::from(receiver.recv(&mut [0; 1000]).is_ok());
            received + socket_drops(&receiver).unwrap() == SENT
        });
        assert!(received < SENT);
    }
}
