//! The system calls of the bare loops and of the load, as thin functions over plain descriptors.
//!
//! Descriptors are numbers here, as in the C programs that these loops stand for. A wrong one is an
//! error of the call (EBADF), and no memory is reached through it.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::RawFd;
use std::ptr;
use std::time::Duration;

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

/// A non-blocking TCP listener on a free port of 127.0.0.1.
///
/// # Errors
/// errno of the call that failed.
pub fn listen() -> io::Result<RawFd> {
    let fd = socket(Transport::Tcp, Mode::NonBlocking)?;
    bind(fd, SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    // SAFETY: listen(2) touches no memory of ours.
    check(unsafe { libc::listen(fd, BACKLOG) } as isize)?;
    Ok(fd)
}

/// accept4(2), non-blocking, with TCP_NODELAY.
///
/// # Errors
/// errno; EAGAIN when nobody waits.
pub fn accept(listener: RawFd) -> io::Result<RawFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: accept4(2) writes no address where it is given null pointers.
    let fd = check(
        unsafe { libc::accept4(listener, ptr::null_mut(), ptr::null_mut(), flags) } as isize,
    )? as RawFd;
    set_nodelay(fd)?;
    Ok(fd)
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

/// The processors that this process may run on, in ascending order.
///
/// # Errors
/// errno.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: a cpu_set_t is an array of integers, for which zero is valid.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: sched_getaffinity(2) writes at most the given size to `set`.
    check(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) } as isize)?;
    Ok((0..libc::CPU_SETSIZE as usize)
        // SAFETY: CPU_ISSET reads the set, and the index is below CPU_SETSIZE.
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect())
}

/// Binds the calling thread, and what it starts from now on, to these processors. Makes one system
/// call and allocates nothing, so it may run between fork(2) and exec(2).
///
/// # Errors
/// errno; EINVAL where none of the processors exists.
pub fn pin(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: a cpu_set_t is an array of integers, for which zero is valid.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    for &cpu in cpus {
        if cpu < libc::CPU_SETSIZE as usize {
            // SAFETY: CPU_SET writes to the exclusively borrowed set; the index is below its size.
            unsafe { libc::CPU_SET(cpu, &mut set) };
        }
    }
    // SAFETY: sched_setaffinity(2) reads the given size from `set`.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) } as isize).map(drop)
}

/// Processor time of a process in nanoseconds, in user mode and in the kernel, over all its threads
/// and those that ended (clock_getcpuclockid(3)).
///
/// # Errors
/// ESRCH where there is no such process.
pub fn process_cpu_ns(pid: u32) -> io::Result<u64> {
    let mut clock = 0;
    // SAFETY: clock_getcpuclockid(3) writes one clock id.
    let error = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    clock_ns(clock)
}

/// Processor time of the calling thread in nanoseconds.
///
/// # Errors
/// errno.
pub fn thread_cpu_ns() -> io::Result<u64> {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock_ns(clock: libc::clockid_t) -> io::Result<u64> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: clock_gettime(2) writes one timespec.
    check(unsafe { libc::clock_gettime(clock, &mut time) } as isize)?;
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Sends `signal` to a process, or to a process group where `pid` is negative (kill(2)).
///
/// # Errors
/// errno.
pub fn signal(pid: i32, signal: c_int) -> io::Result<()> {
    // SAFETY: kill(2) touches no memory of ours.
    check(unsafe { libc::kill(pid, signal) } as isize).map(drop)
}

/// The signal ends the process after its child, so that no server survives a driver that was killed
/// (PR_SET_PDEATHSIG). May run between fork(2) and exec(2).
///
/// # Errors
/// errno.
pub fn die_with_parent() -> io::Result<()> {
    // SAFETY: this prctl(2) takes a number and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } as isize).map(drop)
}

/// Raises the soft limit of descriptors to the hard one and returns it.
///
/// # Errors
/// errno.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit(2) writes one rlimit.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } as isize)?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: setrlimit(2) reads one rlimit.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } as isize)?;
    Ok(limit.rlim_cur)
}

/// Waits for a child to end and returns the processor time of it, in nanoseconds, and whether it
/// exited with 0 (wait4(2)).
///
/// # Errors
/// errno; ECHILD where it was waited for already.
pub fn wait_with_cpu_ns(pid: u32) -> io::Result<(u64, ExitedWell)> {
    let mut status = 0;
    // SAFETY: an rusage is made of integers, for which zero is valid.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    loop {
        // SAFETY: wait4(2) writes one status and one rusage.
        let result = unsafe { libc::wait4(pid as libc::pid_t, &mut status, 0, &mut usage) };
        match check(result as isize) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
            Ok(_) => break,
        }
    }
    let well = match libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
        true => ExitedWell::Yes,
        false => ExitedWell::No,
    };
    Ok((micros(usage.ru_utime) + micros(usage.ru_stime), well))
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitedWell {
    /// With exit code 0.
    Yes,
    /// With another one, or by a signal.
    No,
}

fn micros(time: libc::timeval) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000
}

/// Clock ticks in a second, the unit of some times in /proc.
#[must_use]
pub fn ticks_per_second() -> u64 {
    // SAFETY: sysconf(3) touches no memory of ours.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).ok().filter(|t| *t > 0).unwrap_or(100)
}
