//! The one door to raw libc: every `unsafe` block of the workspace is in this folder.
//!
//! Each wrapper takes and returns safe types and turns a negative return into an [`io::Error`].

#![allow(unsafe_code)]

pub mod datagram;
mod socket;
mod tcp_info;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

#[cfg(test)]
pub(super) use socket::choose_only_port;
pub use socket::{
    incoming_queue, leave_port_to_connect, outgoing_queue, receive, send, socket_drops,
};
pub use tcp_info::{TcpInfo, tcp_info};

/// CLOCK_MONOTONIC in nanoseconds: the time line of every measurement and of [`Alarm`].
pub fn monotonic_ns() -> u64 {
    // clock_gettime(2) fails only for an unknown clock or a bad pointer.
    clock_ns(libc::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC exists on every Linux")
}

/// The time that all threads of this process have spent on a processor, ended ones included.
pub fn process_cpu_time() -> Duration {
    let ns = clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID);
    Duration::from_nanos(ns.expect("CLOCK_PROCESS_CPUTIME_ID exists since Linux 2.6.12"))
}

/// The time that one thread has spent on a processor, to be read by other threads without its
/// help, and also after its end. It never goes back.
#[derive(Debug, Default)]
pub struct ThreadClock {
    /// The CPU clock of the thread while it runs. They are negative, so that 0 is none.
    clock: AtomicI32,
    /// The highest time read so far.
    spent_ns: AtomicU64,
}

impl ThreadClock {
    /// Makes this the clock of the calling thread, until the guard is dropped on it.
    pub fn start(&self) -> io::Result<RunningClock<'_>> {
        let mut clock = MaybeUninit::<libc::clockid_t>::uninit();
        // SAFETY: pthread_self(3) always succeeds.
        let thread = unsafe { libc::pthread_self() };
        // SAFETY: pthread_getcpuclockid(3) writes a clockid_t to the pointer, which is valid for
        // writes; the thread runs, as it is the calling one.
        let result = unsafe { libc::pthread_getcpuclockid(thread, clock.as_mut_ptr()) };
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result));
        }
        // SAFETY: the call succeeded, so the clockid_t is written.
        let clock = unsafe { clock.assume_init() };
        self.clock.store(clock, Ordering::Relaxed);
        Ok(RunningClock(self))
    }

    /// The time spent so far: all of it once the thread has ended, none before it started.
    pub fn time(&self) -> Duration {
        let now_ns = match self.clock.load(Ordering::Relaxed) {
            0 => 0,
            // The thread may have ended since the load: then there is no such clock any more, or
            // that of a thread which was given the number anew and has spent less.
            clock => clock_ns(clock).unwrap_or(0),
        };
        let before_ns = self.spent_ns.fetch_max(now_ns, Ordering::Relaxed);
        Duration::from_nanos(before_ns.max(now_ns))
    }
}

/// Lets a [`ThreadClock`] run; dropping it on its thread keeps the last value.
#[derive(Debug)]
#[must_use = "the clock stops when this is dropped"]
pub struct RunningClock<'a>(&'a ThreadClock);

impl Drop for RunningClock<'_> {
    fn drop(&mut self) {
        self.0.time();
        self.0.clock.store(0, Ordering::Relaxed);
    }
}

fn clock_ns(clock: libc::clockid_t) -> io::Result<u64> {
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: clock_gettime(2) writes a timespec to the pointer, which is valid for writes.
    check(unsafe { libc::clock_gettime(clock, now.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so the timespec is written.
    let now = unsafe { now.assume_init() };
    Ok(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}

/// How many clock ticks of /proc make a second (sysconf(3), `_SC_CLK_TCK`).
pub fn ticks_per_second() -> u64 {
    // SAFETY: sysconf(3) takes no pointers.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).unwrap_or(100).max(1)
}

/// A timerfd(2) on CLOCK_MONOTONIC: wakes a [`mio::Poll`] with nanosecond deadlines, where the
/// timeout of epoll_wait(2) counts whole milliseconds.
#[derive(Debug)]
pub struct Alarm {
    fd: OwnedFd,
}

impl Alarm {
    /// Makes an alarm that is not set.
    pub fn new() -> io::Result<Self> {
        let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
        // SAFETY: timerfd_create(2) takes no pointers.
        let fd = check(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
        // SAFETY: a successful timerfd_create(2) returns a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    /// Fires once at `deadline_ns` on the clock of [`monotonic_ns`], at once if that is past.
    ///
    /// Setting it again replaces the deadline. Registered with mio, which is edge-triggered, each
    /// expiry is an event of its own, and nothing has to be read.
    pub fn set(&self, deadline_ns: u64) -> io::Result<()> {
        // A deadline of zero would disarm the timer; the first nanosecond is as much in the past.
        let deadline_ns = deadline_ns.max(1);
        let spec = libc::itimerspec {
            it_interval: libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: libc::timespec {
                tv_sec: (deadline_ns / 1_000_000_000) as libc::time_t,
                tv_nsec: (deadline_ns % 1_000_000_000) as libc::c_long,
            },
        };
        let flags = libc::TFD_TIMER_ABSTIME;
        let old = std::ptr::null_mut();
        // SAFETY: timerfd_settime(2) reads `spec`, which lives across the call, and accepts a null
        // pointer for the old value.
        check(unsafe { libc::timerfd_settime(self.fd.as_raw_fd(), flags, &spec, old) })?;
        Ok(())
    }
}

impl Source for Alarm {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        SourceFd(&self.fd.as_raw_fd()).register(registry, token, interests)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        SourceFd(&self.fd.as_raw_fd()).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.fd.as_raw_fd()).deregister(registry)
    }
}

/// What the calling thread has used so far, after getrusage(2) with `RUSAGE_THREAD`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadUsage {
    /// Time on a processor in user mode.
    pub user: Duration,
    /// Time on a processor in the kernel.
    pub system: Duration,
    /// Times the thread gave the processor up, usually to wait.
    pub voluntary_switches: u64,
    /// Times the thread was taken off the processor.
    pub involuntary_switches: u64,
}

/// Reads what the calling thread has used so far.
pub fn thread_usage() -> ThreadUsage {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: getrusage(2) writes a rusage to the pointer, which is valid for writes.
    let result = unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
    // getrusage(2) fails only for an unknown `who` or a bad pointer.
    assert_eq!(result, 0, "RUSAGE_THREAD exists since Linux 2.6.26");
    // SAFETY: the call succeeded, so the rusage is written.
    let usage = unsafe { usage.assume_init() };
    let duration = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    ThreadUsage {
        user: duration(usage.ru_utime),
        system: duration(usage.ru_stime),
        voluntary_switches: usage.ru_nvcsw as u64,
        involuntary_switches: usage.ru_nivcsw as u64,
    }
}

/// The CPUs that the calling thread may run on, in ascending order.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: cpu_set_t is a plain bit mask, for which all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: sched_getaffinity(2) writes at most `size` bytes to `set`, which has as many.
    check(unsafe { libc::sched_getaffinity(0, size, &mut set) })?;
    Ok((0..libc::CPU_SETSIZE as usize)
        // SAFETY: CPU_ISSET(3) reads the bit of a CPU below CPU_SETSIZE.
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect())
}

/// Binds the calling thread to one CPU.
pub fn pin_thread(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: cpu_set_t is a plain bit mask, for which all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: CPU_SET(3) writes the bit of `cpu`, which was just checked to be within the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: sched_setaffinity(2) reads `size` bytes from `set`, which has as many.
    check(unsafe { libc::sched_setaffinity(0, size, &set) })?;
    Ok(())
}

/// The number by which the kernel knows the calling thread: gettid(2), the name of its directory in
/// `/proc/self/task`.
pub fn thread_id() -> i32 {
    // SAFETY: gettid(2) takes no pointers.
    unsafe { libc::gettid() }
}

/// Sets how much the calling thread gives way to others, from -20 for not at all to 19 for always.
///
/// POSIX makes this a property of the process; on Linux it is one of the thread, and setpriority(2)
/// with the number 0 means the calling one. Threads that it starts inherit it.
///
/// # Errors
/// What setpriority(2) reports: EACCES for a lower value than the present one without CAP_SYS_NICE.
pub fn set_thread_nice(nice: i32) -> io::Result<()> {
    // SAFETY: setpriority(2) takes no pointers.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) })?;
    Ok(())
}

/// The soft limit on open descriptors.
pub fn descriptor_limit() -> io::Result<u64> {
    Ok(descriptor_limits()?.rlim_cur)
}

/// Raises the soft limit on open descriptors to the hard one and returns it.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = descriptor_limits()?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: setrlimit(2) reads `limit`, which lives across the call.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    }
    Ok(limit.rlim_cur)
}

/// Takes ownership of descriptors that a service manager passed by their numbers (sd_listen_fds(3)),
/// once in the life of the process: a second call returns none.
pub fn take_passed_descriptors(numbers: impl Iterator<Item = RawFd>) -> Vec<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    numbers
        // SAFETY: sd_listen_fds(3) gives these descriptors to the process that LISTEN_PID names, and
        // the flag above sees to it that they are given to one owner only.
        .map(|number| unsafe { OwnedFd::from_raw_fd(number) })
        .collect()
}

/// Throws away up to `most` bytes of a TCP socket's input without copying them, and returns how many:
/// recv(2) with MSG_TRUNC, which on TCP discards (tcp(7)). Nothing else may be passed: on a Unix
/// socket the call would fail with EFAULT.
///
/// # Errors
/// What recv(2) reports.
pub fn discard(socket: &mio::net::TcpStream, most: usize) -> io::Result<usize> {
    let nowhere = std::ptr::null_mut();
    // SAFETY: with MSG_TRUNC the kernel never writes to the buffer of a TCP socket (tcp(7)), and
    // the parameter's type says that it is one.
    let taken = unsafe { libc::recv(socket.as_raw_fd(), nowhere, most, libc::MSG_TRUNC) };
    usize::try_from(taken).map_err(|_| io::Error::last_os_error())
}

/// Whether a call failed because the kernel had no memory for it just then: it may succeed later, and
/// nothing was lost.
pub fn is_lack_of_memory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}

/// Whether a call failed because there are as many open files as there may be.
pub fn is_lack_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

fn descriptor_limits() -> io::Result<libc::rlimit> {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: getrlimit(2) writes a rlimit to the pointer, which is valid for writes.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so the rlimit is written.
    Ok(unsafe { limit.assume_init() })
}

/// Whether the peer or the network ended the connection, rather than anything on this side.
pub fn is_disconnect(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNRESET
                | libc::ECONNABORTED
                | libc::EPIPE
                | libc::ETIMEDOUT
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::ENETDOWN
                | libc::EHOSTDOWN
        )
    )
}

/// Why accept(2) failed, as far as its manual page tells the errors apart.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum AcceptError {
    /// A connection was reset before it was taken.
    Econnaborted,
    /// Protocol error.
    Eproto,
    /// Firewall rules forbid the connection.
    Eperm,
    /// A pending error of the network, passed on for the new connection.
    Enetdown,
    /// As [`AcceptError::Enetdown`].
    Enoprotoopt,
    /// As [`AcceptError::Enetdown`].
    Ehostdown,
    /// As [`AcceptError::Enetdown`].
    Enonet,
    /// As [`AcceptError::Enetdown`].
    Ehostunreach,
    /// As [`AcceptError::Enetdown`].
    Eopnotsupp,
    /// As [`AcceptError::Enetdown`].
    Enetunreach,
    /// The process has as many descriptors as it may have.
    Emfile,
    /// The system has as many open files as it may have.
    Enfile,
    /// No memory for the socket.
    Enobufs,
    /// No memory.
    Enomem,
    /// Any other errno.
    Other,
}

impl AcceptError {
    /// Every error, in the order of their declaration.
    pub const ALL: [Self; 15] = [
        Self::Econnaborted,
        Self::Eproto,
        Self::Eperm,
        Self::Enetdown,
        Self::Enoprotoopt,
        Self::Ehostdown,
        Self::Enonet,
        Self::Ehostunreach,
        Self::Eopnotsupp,
        Self::Enetunreach,
        Self::Emfile,
        Self::Enfile,
        Self::Enobufs,
        Self::Enomem,
        Self::Other,
    ];

    /// The name of the errno as in errno(3), `other` for all that have no name here.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Econnaborted => "ECONNABORTED",
            Self::Eproto => "EPROTO",
            Self::Eperm => "EPERM",
            Self::Enetdown => "ENETDOWN",
            Self::Enoprotoopt => "ENOPROTOOPT",
            Self::Ehostdown => "EHOSTDOWN",
            Self::Enonet => "ENONET",
            Self::Ehostunreach => "EHOSTUNREACH",
            Self::Eopnotsupp => "EOPNOTSUPP",
            Self::Enetunreach => "ENETUNREACH",
            Self::Emfile => "EMFILE",
            Self::Enfile => "ENFILE",
            Self::Enobufs => "ENOBUFS",
            Self::Enomem => "ENOMEM",
            Self::Other => "other",
        }
    }

    /// Whether accept(2) failed because of the one connection it was about to return, so that the
    /// next call may succeed: its manual page lists these under "Error handling", besides
    /// ECONNABORTED. All else, a lack of descriptors or memory first of all, would fail again at
    /// once.
    pub const fn is_of_one_connection(self) -> bool {
        match self {
            Self::Econnaborted
            | Self::Eproto
            | Self::Eperm
            | Self::Enetdown
            | Self::Enoprotoopt
            | Self::Ehostdown
            | Self::Enonet
            | Self::Ehostunreach
            | Self::Eopnotsupp
            | Self::Enetunreach => true,
            Self::Emfile | Self::Enfile | Self::Enobufs | Self::Enomem | Self::Other => false,
        }
    }
}

impl From<&io::Error> for AcceptError {
    fn from(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNABORTED) => Self::Econnaborted,
            Some(libc::EPROTO) => Self::Eproto,
            Some(libc::EPERM) => Self::Eperm,
            Some(libc::ENETDOWN) => Self::Enetdown,
            Some(libc::ENOPROTOOPT) => Self::Enoprotoopt,
            Some(libc::EHOSTDOWN) => Self::Ehostdown,
            Some(libc::ENONET) => Self::Enonet,
            Some(libc::EHOSTUNREACH) => Self::Ehostunreach,
            Some(libc::EOPNOTSUPP) => Self::Eopnotsupp,
            Some(libc::ENETUNREACH) => Self::Enetunreach,
            Some(libc::EMFILE) => Self::Emfile,
            Some(libc::ENFILE) => Self::Enfile,
            Some(libc::ENOBUFS) => Self::Enobufs,
            Some(libc::ENOMEM) => Self::Enomem,
            _ => Self::Other,
        }
    }
}

/// Whether the error says that a non-blocking connect is under way (connect(2), EINPROGRESS).
pub fn is_connecting(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINPROGRESS)
}

/// Turns the -1 of a system call into the errno that it left.
fn check(result: RawFd) -> io::Result<RawFd> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll};

    #[test]
    fn an_alarm_wakes_the_poll_at_its_deadline_each_time() {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(4);
        let mut alarm = Alarm::new().unwrap();
        alarm
            .register(poll.registry(), Token(7), Interest::READABLE)
            .unwrap();
        for _ in 0..3 {
            let deadline = monotonic_ns() + 200_000;
            alarm.set(deadline).unwrap();
            poll.poll(&mut events, Some(Duration::from_secs(10)))
                .unwrap();
            assert_eq!(
                events.iter().map(|e| e.token()).collect::<Vec<_>>(),
                [Token(7)]
            );
            assert!(monotonic_ns() >= deadline);
        }
    }

    #[test]
    fn a_pinned_thread_may_run_on_one_cpu() {
        std::thread::spawn(|| {
            let cpus = allowed_cpus().unwrap();
            let last = *cpus.last().unwrap();
            pin_thread(last).unwrap();
            assert_eq!(allowed_cpus().unwrap(), [last]);
            assert!(pin_thread(usize::MAX).is_err());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_gives_way_for_itself_alone() {
        fn nice() -> String {
            let path = format!("/proc/self/task/{}/stat", thread_id());
            let stat = std::fs::read_to_string(path).unwrap();
            // proc_pid_stat(5): the 19th field. The second is a name in parentheses.
            let (_, behind_name) = stat.rsplit_once(')').unwrap();
            behind_name.split_whitespace().nth(16).unwrap().to_owned()
        }
        let before = nice();
        std::thread::spawn(|| {
            set_thread_nice(19).unwrap();
            assert_eq!(nice(), "19");
        })
        .join()
        .unwrap();
        assert_eq!(nice(), before);
    }

    #[test]
    fn a_busy_thread_uses_processor_time() {
        let before = thread_usage();
        let deadline = monotonic_ns() + 10_000_000_000;
        let used = loop {
            let now = thread_usage();
            if now.user + now.system > before.user + before.system || monotonic_ns() > deadline {
                break now;
            }
        };
        assert!(used.user + used.system > before.user + before.system);
    }

    #[test]
    fn the_cpu_time_of_a_thread_is_read_by_others_and_survives_it() {
        let clock = ThreadClock::default();
        assert_eq!(clock.time(), Duration::ZERO);
        let own = std::thread::scope(|scope| {
            let busy = scope.spawn(|| {
                let _running = clock.start().unwrap();
                let deadline = monotonic_ns() + 60_000_000_000;
                // Read by the thread itself: others see the same clock.
                while clock.time().is_zero() && monotonic_ns() < deadline {}
                clock.time()
            });
            busy.join().unwrap()
        });
        let last = clock.time();
        assert!(own > Duration::ZERO && last >= own);
        assert_eq!(clock.time(), last);
        assert!(process_cpu_time() >= last);
    }

    #[test]
    fn errors_are_told_apart() {
        let error = io::Error::from_raw_os_error;
        let aborted = AcceptError::from(&error(libc::ECONNABORTED));
        assert_eq!(aborted, AcceptError::Econnaborted);
        assert!(aborted.is_of_one_connection());
        assert!(!AcceptError::from(&error(libc::EMFILE)).is_of_one_connection());
        assert_eq!(AcceptError::from(&error(libc::EBADF)), AcceptError::Other);
        assert!(is_disconnect(&error(libc::ECONNRESET)));
        assert!(!is_disconnect(&error(libc::EBADF)));
    }
}
