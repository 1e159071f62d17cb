//! The system calls of the bare loops and of the load, as thin functions over plain descriptors.
//!
//! Descriptors are numbers here, as in the C programs that these loops stand for. A wrong one is an
//! error of the call (EBADF), and no memory is reached through it.

use std::ffi::c_int;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::RawFd;
use std::ptr;
use std::time::Duration;

mod process;

pub use process::{
    ExitedWell, allowed_cpus, die_with_parent, pin, process_cpu_ns, raise_descriptor_limit, signal,
    thread_cpu_ns, ticks_per_second, wait_with_cpu_ns,
};

pub use libc::{EPOLLET, EPOLLIN, EPOLLOUT, EPOLLRDHUP};

/// What every server reads into: 64 KiB.
pub const BUFFER_LEN: usize = 64 * 1024;

/// Events taken by one epoll_wait(2).
pub const EVENTS: usize = 1024;

/// Connections that the kernel completes before they are accepted; it lowers this to its own limit.
pub const BACKLOG: c_int = 4096;

/// An event of [`Epoll::wait`].
pub type Event = libc::epoll_event;

/// An event that is still to be filled in.
pub const NO_EVENT: Event = Event { events: 0, u64: 0 };

/// Turns the result of a system call into an error with errno where it is negative.
#[inline]
fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Does this error only say that nothing can be read or written now, or that a signal came?
#[inline]
pub fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// recv(2).
///
/// # Errors
/// errno.
#[inline]
pub fn recv(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: recv(2) writes at most `len` bytes to the exclusively borrowed buffer.
    check(unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) })
}

/// send(2) without SIGPIPE.
///
/// # Errors
/// errno.
#[inline]
pub fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: send(2) reads at most `len` bytes from the borrowed slice.
    check(unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) })
}

/// close(2). An error changes nothing: the descriptor is gone.
#[inline]
pub fn close(fd: RawFd) {
    // SAFETY: close(2) touches no memory of ours.
    unsafe { libc::close(fd) };
}

/// shutdown(2) of the writing side.
///
/// # Errors
/// errno.
pub fn shutdown_write(fd: RawFd) -> io::Result<()> {
    // SAFETY: shutdown(2) touches no memory of ours.
    check(unsafe { libc::shutdown(fd, libc::SHUT_WR) } as isize).map(drop)
}

/// Stream or datagrams, both over IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Does a call wait, or say EAGAIN?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It waits.
    Blocking,
    /// It says EAGAIN.
    NonBlocking,
}

/// socket(2), closed on exec.
///
/// # Errors
/// errno; EMFILE where the limit of descriptors is too low.
pub fn socket(transport: Transport, mode: Mode) -> io::Result<RawFd> {
    let kind = match transport {
        Transport::Tcp => libc::SOCK_STREAM,
        Transport::Udp => libc::SOCK_DGRAM,
    };
    let flags = match mode {
        Mode::Blocking => libc::SOCK_CLOEXEC,
        Mode::NonBlocking => libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
    };
    // SAFETY: socket(2) touches no memory of ours.
    let fd = check(unsafe { libc::socket(libc::AF_INET, kind | flags, 0) } as isize)?;
    Ok(fd as RawFd)
}

/// setsockopt(2) of an integer.
///
/// # Errors
/// errno.
pub fn set_option(fd: RawFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let len = size_of::<c_int>() as libc::socklen_t;
    let value = ptr::from_ref(&value).cast();
    // SAFETY: setsockopt(2) reads `len` bytes from `value`, which lives to the end of this block.
    check(unsafe { libc::setsockopt(fd, level, name, value, len) } as isize).map(drop)
}

/// From now on calls on `fd` say EAGAIN instead of waiting.
///
/// # Errors
/// errno.
pub fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    let on: c_int = 1;
    // SAFETY: ioctl(2) FIONBIO reads one int, which lives to the end of this block.
    check(unsafe { libc::ioctl(fd, libc::FIONBIO, &on) } as isize).map(drop)
}

/// How long recv(2) and send(2) on a blocking socket wait before they fail with EAGAIN.
///
/// # Errors
/// errno.
pub fn set_timeout(fd: RawFd, timeout: Duration) -> io::Result<()> {
    let value = libc::timeval {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_usec: timeout.subsec_micros() as libc::suseconds_t,
    };
    let len = size_of::<libc::timeval>() as libc::socklen_t;
    for name in [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO] {
        let value = ptr::from_ref(&value).cast();
        // SAFETY: setsockopt(2) reads `len` bytes from `value`, which lives to the end of this block.
        check(unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, name, value, len) } as isize)?;
    }
    Ok(())
}

/// Can an io_uring be made by this process? The kernel may lack it or forbid it.
///
/// # Errors
/// errno: ENOSYS or EPERM as a rule.
pub fn io_uring_available() -> io::Result<()> {
    let nothing: *mut libc::c_void = ptr::null_mut();
    // SAFETY: io_uring_setup(2) copies its parameters from user memory after it has checked whether
    // it is allowed, and fails with EFAULT on a null pointer.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, nothing) };
    match check(result as isize) {
        Err(e) if e.raw_os_error() == Some(libc::EFAULT) => Ok(()),
        other => other.map(drop),
    }
}

/// Answers go out at once (TCP_NODELAY).
///
/// # Errors
/// errno.
#[inline]
pub fn set_nodelay(fd: RawFd) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)
}

/// close(2) will reset the connection and leave nothing in TIME_WAIT (SO_LINGER of 0 s).
///
/// # Errors
/// errno.
pub fn set_reset_on_close(fd: RawFd) -> io::Result<()> {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let len = size_of::<libc::linger>() as libc::socklen_t;
    let value = ptr::from_ref(&linger).cast();
    // SAFETY: setsockopt(2) reads `len` bytes from `value`, which lives to the end of this block.
    check(unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, value, len) } as isize)
        .map(drop)
}

const ADDRESS_LEN: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

fn raw_address(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(*address.ip()).to_be(),
        },
        sin_zero: [0; 8],
    }
}

/// bind(2) to an address whose port is chosen at connect(2), where it need only differ from others to
/// the same destination (IP_BIND_ADDRESS_NO_PORT).
///
/// # Errors
/// errno.
pub fn bind_address(fd: RawFd, address: SocketAddrV4) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    bind(fd, address)
}

/// What is sent at once leaves as datagrams of `size` bytes, and what came joined is received joined
/// (UDP_SEGMENT, UDP_GRO).
///
/// # Errors
/// errno.
pub fn set_datagram_bursts(fd: RawFd, size: usize) -> io::Result<()> {
    set_option(fd, libc::SOL_UDP, libc::UDP_SEGMENT, size as c_int)?;
    set_option(fd, libc::SOL_UDP, libc::UDP_GRO, 1)
}

/// Does this error of connect(2) say that it goes on by itself?
#[must_use]
pub fn is_in_progress(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINPROGRESS)
}

/// bind(2).
///
/// # Errors
/// errno.
pub fn bind(fd: RawFd, address: SocketAddrV4) -> io::Result<()> {
    let raw = raw_address(address);
    // SAFETY: bind(2) reads ADDRESS_LEN bytes from `raw`, which has that size.
    check(unsafe { libc::bind(fd, ptr::from_ref(&raw).cast(), ADDRESS_LEN) } as isize).map(drop)
}

/// connect(2).
///
/// # Errors
/// errno; EINPROGRESS for a non-blocking TCP socket.
pub fn connect(fd: RawFd, address: SocketAddrV4) -> io::Result<()> {
    let raw = raw_address(address);
    // SAFETY: connect(2) reads ADDRESS_LEN bytes from `raw`, which has that size.
    check(unsafe { libc::connect(fd, ptr::from_ref(&raw).cast(), ADDRESS_LEN) } as isize).map(drop)
}

/// The port that a socket is bound to.
///
/// # Errors
/// errno.
pub fn local_port(fd: RawFd) -> io::Result<u16> {
    let mut raw = raw_address(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
    let mut len = ADDRESS_LEN;
    // SAFETY: getsockname(2) writes at most `len` bytes to `raw`, which has that size, and to `len`.
    check(unsafe { libc::getsockname(fd, ptr::from_mut(&mut raw).cast(), &mut len) } as isize)?;
    Ok(u16::from_be(raw.sin_port))
}

/// A non-blocking TCP listener on a free port of 127.0.0.1, whose connections inherit TCP_NODELAY from it.
///
/// # Errors
/// errno of the call that failed.
pub fn listen() -> io::Result<RawFd> {
    let fd = socket(Transport::Tcp, Mode::NonBlocking)?;
    set_nodelay(fd)?;
    bind(fd, SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    // SAFETY: listen(2) touches no memory of ours.
    check(unsafe { libc::listen(fd, BACKLOG) } as isize)?;
    Ok(fd)
}

/// accept4(2), non-blocking.
///
/// # Errors
/// errno; EAGAIN when nobody waits.
pub fn accept(listener: RawFd) -> io::Result<RawFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let nowhere = ptr::null_mut();
    // SAFETY: accept4(2) writes no address where it is given null pointers.
    let fd = check(unsafe { libc::accept4(listener, nowhere, ptr::null_mut(), flags) } as isize)?;
    Ok(fd as RawFd)
}

/// A source address of UDP datagrams, as the kernel wrote it.
#[derive(Clone, Copy)]
pub struct Source(libc::sockaddr_in);

/// recvfrom(2).
///
/// # Errors
/// errno.
#[inline]
pub fn recv_from(fd: RawFd, buffer: &mut [u8]) -> io::Result<(usize, Source)> {
    let mut raw = raw_address(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
    let mut len = ADDRESS_LEN;
    let address = ptr::from_mut(&mut raw).cast();
    // SAFETY: recvfrom(2) writes at most `buffer.len()` bytes to the exclusively borrowed buffer and
    // at most `len` bytes to `raw`, which has that size.
    let result = unsafe {
        libc::recvfrom(
            fd,
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
            address,
            &mut len,
        )
    };
    Ok((check(result)?, Source(raw)))
}

/// sendto(2).
///
/// # Errors
/// errno.
#[inline]
pub fn send_to(fd: RawFd, bytes: &[u8], to: &Source) -> io::Result<usize> {
    let address = ptr::from_ref(&to.0).cast();
    // SAFETY: sendto(2) reads `bytes.len()` bytes from the borrowed slice and ADDRESS_LEN bytes from
    // the address, which has that size.
    check(unsafe {
        libc::sendto(
            fd,
            bytes.as_ptr().cast(),
            bytes.len(),
            0,
            address,
            ADDRESS_LEN,
        )
    })
}

/// An epoll instance, closed when it is dropped.
#[derive(Debug)]
pub struct Epoll(RawFd);

impl Epoll {
    /// epoll_create1(2).
    ///
    /// # Errors
    /// errno.
    pub fn new() -> io::Result<Self> {
        // SAFETY: epoll_create1(2) touches no memory of ours.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } as isize)?;
        Ok(Self(fd as RawFd))
    }

    /// Registers `fd` for `events`, to be reported with `token`.
    ///
    /// # Errors
    /// errno.
    pub fn add(&self, fd: RawFd, events: c_int, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, events, token)
    }

    /// Registers `fd` for other events.
    ///
    /// # Errors
    /// errno.
    pub fn modify(&self, fd: RawFd, events: c_int, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, events, token)
    }

    fn control(&self, what: c_int, fd: RawFd, events: c_int, token: u64) -> io::Result<()> {
        let mut event = Event {
            events: events as u32,
            u64: token,
        };
        // SAFETY: epoll_ctl(2) reads one event, which lives to the end of this block.
        check(unsafe { libc::epoll_ctl(self.0, what, fd, &mut event) } as isize).map(drop)
    }

    /// epoll_wait(2): how many of `events` were filled in; 0 after a signal or a timeout. Waits
    /// forever without a timeout.
    ///
    /// # Errors
    /// errno, but not EINTR.
    #[inline]
    pub fn wait(&self, events: &mut [Event], timeout: Option<Duration>) -> io::Result<usize> {
        let millis = timeout.map_or(-1, |t| c_int::try_from(t.as_millis()).unwrap_or(c_int::MAX));
        let room = events.len() as c_int;
        // SAFETY: epoll_wait(2) writes at most `room` events to the exclusively borrowed slice.
        match check(unsafe { libc::epoll_wait(self.0, events.as_mut_ptr(), room, millis) } as isize)
        {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(0),
            result => result,
        }
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        close(self.0);
    }
}
