//! Every system call of the loop fails with every error that its manual page names, one pair after the
//! other, by strace(1). The clients may lose their connections, and never see a wrong byte; the server
//! must not hang, spin or keep what it opened, and must serve again when the errors end.
//!
//! write(2) to a waker is left to the behaviour tests: here it would also keep `ready` from being printed.
//! EAGAIN and EWOULDBLOCK are left out: after them the kernel owes an event, which an injected one never
//! brings. EFAULT, and EBADF of a socket, can only come from a fault of the program itself; of them it is
//! asked that the program ends in one line or goes on.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::directory::Directory;
use crate::support::echod::{Echod, PROGRAM, Signal};
use crate::support::pattern::Pattern;
use crate::support::strace::with_recorded_faults;
use crate::support::tools::require;
use crate::support::{Client, wait_for, wait_until};
use crate::{say, support};

/// The calls of a worker, with the errors of their manual pages.
const CALLS: &[(&str, &str, &str)] = &[
    (
        "accept4",
        WHEN_SERVING,
        "EBADF ECONNABORTED EFAULT EINTR EINVAL EMFILE ENFILE ENOBUFS ENOMEM ENOTSOCK \
         EOPNOTSUPP EPERM EPROTO ENETDOWN ENOPROTOOPT EHOSTDOWN ENONET EHOSTUNREACH \
         ENETUNREACH ENOSR ESOCKTNOSUPPORT EPROTONOSUPPORT ETIMEDOUT",
    ),
    (
        "epoll_ctl",
        WHEN_SERVING,
        "EBADF EEXIST EINVAL ELOOP ENOENT ENOMEM ENOSPC EPERM",
    ),
    (
        "?epoll_wait,epoll_pwait",
        WHEN_SERVING,
        "EBADF EFAULT EINTR EINVAL",
    ),
    (
        "recvfrom",
        WHEN_SERVING,
        "EBADF ECONNREFUSED EFAULT EINTR EINVAL ENOMEM ENOTCONN ENOTSOCK ENOBUFS \
         ECONNRESET ETIMEDOUT EHOSTUNREACH EIO",
    ),
    (
        "sendto",
        WHEN_SERVING,
        "EACCES EALREADY EBADF ECONNRESET EDESTADDRREQ EFAULT EINTR EINVAL EISCONN \
         EMSGSIZE ENOBUFS ENOMEM ENOTCONN ENOTSOCK EOPNOTSUPP EPIPE ETIMEDOUT \
         EHOSTUNREACH",
    ),
    (
        "splice",
        WHEN_SERVING,
        "EBADF EINVAL ENOMEM ESPIPE EINTR ECONNRESET EPIPE",
    ),
    ("ioctl", WHEN_SERVING, "EBADF EFAULT EINVAL ENOTTY"),
    ("pipe2", AT_START, "EFAULT EINVAL EMFILE ENFILE ENOPKG"),
    ("shutdown", OF_REFUSALS, "EBADF EINVAL ENOTCONN ENOTSOCK"),
    ("close", WHEN_SERVING, "EBADF EINTR EIO ENOSPC EDQUOT"),
    (
        "setsockopt",
        AT_START,
        "EBADF EFAULT EINVAL ENOPROTOOPT ENOTSOCK EDOM ENOMEM",
    ),
    (
        "getsockname",
        AT_START,
        "EBADF EFAULT EINVAL ENOBUFS ENOTSOCK",
    ),
    (
        "recvmmsg",
        WHEN_SERVING,
        "EBADF ECONNREFUSED EFAULT EINTR EINVAL ENOMEM ENOTSOCK ENOBUFS",
    ),
    (
        "sendmmsg",
        WHEN_SERVING,
        "EACCES EBADF ECONNRESET EDESTADDRREQ EFAULT EINTR EINVAL EMSGSIZE ENOBUFS ENOMEM \
         ENOTSOCK EOPNOTSUPP EPERM ENETUNREACH EHOSTUNREACH",
    ),
    ("read", WHEN_SERVING, "EBADF EFAULT EINTR EINVAL EIO"),
];
/// Errors that only a fault of the program itself brings about.
const OF_THE_PROGRAM: &[&str] = &["EBADF", "EFAULT", "EINVAL", "ENOTSOCK"];
/// Every third of each thread's calls from the 12th to the 60th fails. Calls are counted per thread, so a
/// start is past its own.
const WHEN_SERVING: &str = "12..60+3";
/// For a call that only refusals make, of which there are fewer.
const OF_REFUSALS: &str = "2..20+2";
/// For a call that only a start makes: each fails.
const AT_START: &str = "1+";
/// A client that gets no answer for this long gives up: the error took its bytes or its event.
const PATIENCE: Duration = Duration::from_millis(300);

/// Traces the last call of a process as well, and does nothing to it.
const END: &str = "exit_group:delay_enter=0";

/// How the server came out of a pair of call and error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    /// It served all the time, or again when the errors ended.
    Serves,
    /// It did not start, and said why in one line.
    NotStarted,
    /// It ended with exit code 1 and said why.
    Ended,
}

#[test]
#[ignore = "a campaign: some minutes"]
fn system_calls() {
    require!("strace");
    let mut totals = [0; 3];
    for (call, when, errors) in CALLS {
        let mut line = String::new();
        for error in errors.split_whitespace() {
            let (outcome, injected) = inject(call, when, error);
            let may_end = OF_THE_PROGRAM.contains(&error) || outcome == Outcome::NotStarted;
            assert!(
                outcome == Outcome::Serves || may_end,
                "{call} with {error}: {outcome:?}"
            );
            assert!(injected > 0, "{call} was never made to fail with {error}");
            totals[outcome as usize] += 1;
            line.push_str(&format!(" {error}:{outcome:?}:{injected}"));
        }
        say(&format!("{call}:{line}"));
    }
    let [serves, not_started, ended] = totals;
    say(&format!(
        "{serves} pairs of call and error after which it serves, {not_started} in which it does not start, {ended} in \
         which it ends"
    ));
}

/// The outcome, and the number of calls that failed on demand.
fn inject(call: &str, when: &str, error: &str) -> (Outcome, usize) {
    let directory = Directory::new();
    let trace = directory.join("trace");
    let outcome = outcome(call, when, error, &trace);
    let trace = wait_for("the end of the trace", || {
        let text = fs::read_to_string(&trace).ok()?;
        text.contains("exit_group(").then_some(text)
    });
    (outcome, trace.matches("(INJECTED)").count())
}

fn outcome(call: &str, when: &str, error: &str, trace: &Path) -> Outcome {
    let fault = format!("{call}:error={error}:when={when}");
    // The end of the trace is known by the last call.
    let mut command = with_recorded_faults(&[&fault, END], PROGRAM, trace);
    command.args([
        "--echo=tcp://127.0.0.1:0",
        "--echo=udp://127.0.0.1:0",
        "--discard=tcp://127.0.0.1:0",
        "--chargen=tcp://127.0.0.1:0",
        "--workers=1",
        "--idle-timeout=2s",
        "--udp-rate-per-source=off",
        "--deny=127.0.0.2/32",
        "--log-level=error",
    ]);
    let mut echod = match Echod::try_start_command(&mut command) {
        Ok(echod) => echod,
        Err(exit) => {
            assert_eq!(exit.code, Some(1), "{call} with {error}: {exit:#?}");
            assert!(!exit.stderr.is_empty(), "{call} with {error}: no reason");
            return Outcome::NotStarted;
        }
    };
    let what = format!("{call} with {error}");
    let (start, before) = (Instant::now(), echod.cpu_time());
    let echo = echod.address_of("echo tcp://");
    let sockets_at_rest = echod.descriptors("socket:");
    for seed in 0..25 {
        // An error is the client's loss; a wrong byte panics.
        let _ = use_stream(echo, seed);
        let _ = be_refused(echo);
        let _ = use_service(echod.address_of("discard tcp://"), &[1; 5000]);
        let _ = use_service(echod.address_of("chargen tcp://"), &[]);
        let _ = use_datagrams(echod.address_of("echo udp://"), seed);
        if !echod.is_running() {
            return ended(echod, &what);
        }
    }
    let (elapsed, used) = (start.elapsed(), echod.cpu_time() - before);
    assert!(
        used < elapsed.mul_f64(0.9) || elapsed < Duration::from_secs(1),
        "{what} spins: {used:?} of {elapsed:?}"
    );
    let end = Instant::now() + support::DEADLINE;
    while use_stream(echo, 99).is_err() {
        if !echod.is_running() {
            return ended(echod, &what);
        }
        assert!(Instant::now() < end, "{what}: it does not serve again");
    }
    // What an injected close(2) did not close can't be told from a leak.
    if *call != *"close" {
        wait_until("the end of all connections", || {
            echod.descriptors("socket:") <= sockets_at_rest
        });
    }
    echod.signal(Signal::TERM);
    let exit = echod.wait_for_exit();
    assert_eq!(exit.code, Some(0), "{what}: {exit:#?}");
    Outcome::Serves
}

fn ended(echod: Echod, what: &str) -> Outcome {
    let exit = echod.wait_for_exit();
    assert_eq!(exit.code, Some(1), "{what}: {exit:#?}");
    assert!(!exit.stderr.is_empty(), "{what}: no reason");
    Outcome::Ended
}

fn connect(address: SocketAddr) -> io::Result<Client> {
    let client = Client::try_connect(address)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    Ok(client)
}

/// A few small echoes, and one stretch that is large enough to be relayed without a copy.
fn use_stream(address: SocketAddr, seed: u64) -> io::Result<()> {
    let mut client = connect(address)?;
    let pattern = Pattern(seed);
    let mut offset = 0;
    for len in [1, 100, 5000, 200_000] {
        let mut sent = vec![0; len];
        pattern.fill(offset, &mut sent);
        client.write_all(&sent)?;
        let mut received = 0;
        while received < len {
            let mut buffer = vec![0; len - received];
            let count = client.read(&mut buffer)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            pattern.check(offset + received as u64, &buffer[..count]);
            received += count;
        }
        offset += len as u64;
    }
    client.shutdown(Shutdown::Write)?;
    match client.read(&mut [0])? {
        0 => Ok(()),
        _ => panic!("a byte that was never sent"),
    }
}

/// A refusal is a half-close by the server, which the client follows.
fn be_refused(address: SocketAddr) -> io::Result<()> {
    let client = Client::try_connect_from(Ipv4Addr::new(127, 0, 0, 2).into(), address)?;
    client.set_read_timeout(Some(PATIENCE))?;
    (&*client).read(&mut [0]).map(drop)
}

fn use_service(address: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let mut client = connect(address)?;
    client.write_all(bytes)?;
    client.shutdown(Shutdown::Write)?;
    client.read(&mut [0; 1000]).map(drop)
}

fn use_datagrams(address: SocketAddr, seed: u64) -> io::Result<()> {
    /// An answer to a datagram may be lost.
    const PATIENCE: Duration = Duration::from_millis(20);
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let sent = Pattern(seed).bytes(500);
    socket.send(&sent)?;
    let mut back = [0; 1000];
    let count = socket.recv(&mut back)?;
    assert!(back[..count] == sent, "a wrong answer");
    Ok(())
}
