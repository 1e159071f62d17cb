//! The interface to a service manager, tested with a stand-in: notifications, the watchdog, passed
//! sockets.

use std::ffi::OsStr;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{self, UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Child, Command};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use std::{env, fs};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::directory::Directory;
use crate::support::echod::{Echod, PROGRAM, Signal};
use crate::support::strace::tracer;
use crate::support::tools::require;
use crate::support::{AtEnd, Client, DEADLINE, in_parallel, wait_until};

const TCP: &str = "--echo=tcp://127.0.0.1:0";

/// The manager's end of `NOTIFY_SOCKET`.
struct Notifications(UnixDatagram);

impl Notifications {
    #[track_caller]
    fn at(path: &Path) -> Self {
        Self::of(UnixDatagram::bind(path).expect("a socket"))
    }

    /// With an abstract name (unix(7)).
    #[track_caller]
    fn abstract_at(name: &str) -> Self {
        let address = net::SocketAddr::from_abstract_name(name).expect("a name");
        Self::of(UnixDatagram::bind_addr(&address).expect("a socket"))
    }

    #[track_caller]
    fn of(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        Self(socket)
    }

    #[track_caller]
    fn next(&self) -> String {
        self.receive().expect("a notification")
    }

    #[track_caller]
    fn receive(&self) -> Option<String> {
        let mut text = [0; 1024];
        let count = self.0.recv(&mut text).ok()?;
        let text = String::from_utf8_lossy(&text[..count]);
        Some(text.trim_end().to_owned())
    }
}

#[test]
fn the_manager_is_told_of_every_change() {
    let directory = Directory::new();
    let file = directory.write("echod.toml", "max-connections = 10\n");
    let path = directory.join("notify");
    let abstract_name = format!("echomark-notify-{}", process::id());
    for (notifications, name) in [
        (Notifications::at(&path), path.display().to_string()),
        (
            Notifications::abstract_at(&abstract_name),
            format!("@{abstract_name}"),
        ),
    ] {
        let mut command = Command::new(PROGRAM);
        let echod = Echod::start_command(
            command
                .args([TCP, "--workers=2", "--config"])
                .arg(&file)
                .env("NOTIFY_SOCKET", name),
        );
        assert_eq!(notifications.next(), "READY=1");
        let mut client = echod.connect();
        client.echo(b"served");
        // Also for a refused file: the service is still ready.
        for text in ["max-connections = 20\n", "nonsense\n"] {
            directory.write("echod.toml", text);
            echod.signal(Signal::HUP);
            let reloading = notifications.next();
            let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
            let time = time.and_then(|time| time.parse::<u64>().ok());
            assert!(time.is_some_and(|time| time > 0), "{reloading}");
            assert_eq!(notifications.next(), "READY=1");
        }
        echod.signal(Signal::TERM);
        assert_eq!(notifications.next(), "STOPPING=1");
        client.echo(b"still served");
        drop(client);
        assert_eq!(echod.wait_for_exit().code, Some(0));
        directory.write("echod.toml", "max-connections = 10\n");
    }
}

/// A thread of another process that a tracer stops at its next system call.
struct Frozen(Child);

impl Frozen {
    #[track_caller]
    fn new(thread_id: u32) -> Self {
        let call = "?epoll_wait,epoll_pwait";
        let mut command = tracer();
        command
            .arg(format!("--trace={call}"))
            .arg(format!("--inject={call}:delay_enter=3600s"))
            .arg(format!("--attach={thread_id}"));
        Self(command.spawn().expect("a tracer"))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // The kernel resumes the threads of a tracer that ends (ptrace(2)).
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn thread_of(echod: &Echod, name: &str) -> u32 {
    let tasks = fs::read_dir(format!("/proc/{}/task", echod.process_id())).expect("threads");
    let mut tasks = tasks.map(|task| task.expect("a thread"));
    let found = tasks.find(|task| {
        let found = fs::read_to_string(task.path().join("comm"));
        found.is_ok_and(|found| found.trim_end() == name)
    });
    let number = found.expect("the thread").file_name();
    number.to_string_lossy().parse().expect("a number")
}

#[test]
fn the_watchdog_is_fed_while_every_worker_turns_and_no_longer() {
    require!("strace");
    let directory = Directory::new();
    let path = directory.join("notify");
    let notifications = Notifications::at(&path);
    let mut command = Command::new(PROGRAM);
    let echod = Echod::start_command(
        command
            .args([TCP, "--workers=2"])
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "80000"),
    );
    // The workers sleep meanwhile, without clients.
    for _ in 0..10 {
        wait_until("WATCHDOG=1", || notifications.next() == "WATCHDOG=1");
    }
    let frozen = Frozen::new(thread_of(&echod, "echod-1"));
    // It is fed every 20 ms otherwise.
    let silence = Some(Duration::from_millis(500));
    notifications
        .0
        .set_read_timeout(silence)
        .expect("a timeout");
    wait_until("silence", || notifications.receive().is_none());
    drop(frozen);
    notifications
        .0
        .set_read_timeout(Some(DEADLINE))
        .expect("a timeout");
    assert_eq!(notifications.next(), "WATCHDOG=1");
}

#[test]
fn a_watchdog_for_another_process_is_left_alone() {
    let directory = Directory::new();
    let path = directory.join("notify");
    let notifications = Notifications::at(&path);
    let mut command = Command::new(PROGRAM);
    let echod = Echod::start_command(
        command
            .arg(TCP)
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "1000")
            .env("WATCHDOG_PID", "1"),
    );
    assert_eq!(notifications.next(), "READY=1");
    echod.connect().echo(b"some time passes");
    echod.signal(Signal::TERM);
    assert_eq!(notifications.next(), "STOPPING=1");
    assert_eq!(echod.wait_for_exit().code, Some(0));
}

/// The variable with the socket of the stand-in for a service manager.
const MANAGER_SOCKET: &str = "ECHOMARK_TEST_MANAGER_SOCKET";

/// Not a test: a process of its own that receives sockets, which become its first descriptors behind
/// stderr as sd_listen_fds(3) says, and then becomes the program. Their names are the first line of what
/// it receives, and the program's arguments the others.
#[test]
#[ignore = "other tests start it"]
fn become_an_activated_echod() {
    let Some(path) = env::var_os(MANAGER_SOCKET) else {
        return;
    };
    let stream = {
        let stream = UnixStream::connect(path).expect("the test listens");
        // Above the numbers of the passed descriptors.
        fcntl_dupfd_cloexec(&stream, 100).expect("a descriptor")
    };
    let mut text = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(
        &stream,
        &mut [IoSliceMut::new(&mut text)],
        &mut control,
        RecvFlags::empty(),
    );
    let count = message.expect("a message").bytes;
    let text = str::from_utf8(&text[..count]).expect("text");
    let (names, args) = text.split_once('\n').expect("a line of names");
    let sockets: Vec<_> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
            _ => None,
        })
        .flatten()
        .collect();
    let numbers: Vec<_> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
    assert!(
        numbers.iter().copied().eq((3..).take(numbers.len())),
        "{numbers:?}"
    );
    let error = Command::new(PROGRAM)
        .args(args.lines())
        .env("LISTEN_FDS", sockets.len().to_string())
        .env("LISTEN_PID", process::id().to_string())
        .env("LISTEN_FDNAMES", names)
        .exec();
    panic!("cannot become {PROGRAM}: {error}");
}

/// Starts `echod` with these sockets, each by its name, as a service manager does.
#[track_caller]
pub(crate) fn activate(sockets: &[(&str, BorrowedFd<'_>)], args: &[&str]) -> Echod {
    activate_with(sockets, args, |command| Echod::start_command(command))
}

/// As [`activate`], and `run` starts the command.
#[track_caller]
fn activate_with<T>(
    sockets: &[(&str, BorrowedFd<'_>)],
    args: &[&str],
    run: impl FnOnce(&mut Command) -> T,
) -> T {
    /// A script that becomes its arguments, without descriptors inherited from the test's
    /// environment.
    const WITHOUT_DESCRIPTORS: &str = r#"exec "$0" "$@" 3<&- 4<&- 5<&- 6<&- 7<&- 8<&- 9<&-"#;
    let directory = Directory::new();
    let path = directory.join("sockets");
    let listener = UnixListener::bind(&path).expect("a socket");
    let names: Vec<_> = sockets.iter().map(|(name, _)| *name).collect();
    let descriptors: Vec<_> = sockets.iter().map(|(_, socket)| *socket).collect();
    let text = format!("{}\n{}", names.join(":"), args.join("\n"));
    thread::scope(|scope| {
        scope.spawn(move || {
            let (stream, _) = listener.accept().expect("a connection");
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
            let text = [IoSlice::new(text.as_bytes())];
            sendmsg(&stream, &text, &mut control, SendFlags::empty()).expect("sendmsg");
        });
        run(Command::new("sh")
            .args(["-c", WITHOUT_DESCRIPTORS])
            .arg(env::current_exe().expect("a path"))
            .args(["systemd::become_an_activated_echod", "--exact", "--ignored"])
            .args(["--nocapture", "--test-threads=2"])
            .env(MANAGER_SOCKET, &path))
    })
}

/// The sockets of every kind that a socket unit may have.
struct Sockets {
    directory: Directory,
    tcp: TcpListener,
    udp: UdpSocket,
    unix: UnixListener,
}

impl Sockets {
    #[track_caller]
    fn bind() -> Self {
        let directory = Directory::new();
        Self {
            tcp: TcpListener::bind("127.0.0.1:0").expect("a free port"),
            udp: UdpSocket::bind("127.0.0.1:0").expect("a free port"),
            unix: UnixListener::bind(directory.join("echo")).expect("a socket"),
            directory,
        }
    }

    fn address(&self) -> SocketAddr {
        self.tcp.local_addr().expect("an address")
    }

    #[track_caller]
    fn activate(&self, names: [&str; 3], args: &[&str]) -> Echod {
        let sockets = [self.tcp.as_fd(), self.udp.as_fd(), self.unix.as_fd()];
        let sockets: Vec<_> = names.into_iter().zip(sockets).collect();
        activate(&sockets, args)
    }

    #[track_caller]
    fn expect_echo_over_unix(&self) {
        let mut stream = self.connect_over_unix(b"by path");
        let mut back = Vec::new();
        stream.read_to_end(&mut back).expect("receive");
        assert_eq!(back, b"by path");
    }

    #[track_caller]
    fn connect_over_unix(&self, bytes: &[u8]) -> UnixStream {
        let stream = UnixStream::connect(self.directory.join("echo")).expect("a place to wait");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        (&stream).write_all(bytes).expect("send");
        stream.shutdown(Shutdown::Write).expect("half-close");
        stream
    }

    #[track_caller]
    fn expect_echo_over_udp(&self) {
        let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
        client.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let address = self.udp.local_addr().expect("an address");
        client.send_to(b"by chance", address).expect("send");
        let mut back = [0; 64];
        let (count, from) = client.recv_from(&mut back).expect("an answer");
        assert_eq!((&back[..count], from), (&b"by chance"[..], address));
    }
}

/// The only endpoints are those of the sockets; the default endpoint is not added.
#[test]
fn passed_sockets_are_served_as_their_names_say() {
    require!("sh");
    let sockets = Sockets::bind();
    for workers in ["--workers=1", "--workers=3"] {
        let mut echod = sockets.activate(["discard", "echo", "whatever"], &[workers]);
        let said: Vec<_> = echod.listening().map(str::to_owned).collect();
        assert_eq!(
            said,
            [
                format!("discard tcp://{}", sockets.address()),
                format!(
                    "echo udp://{}",
                    sockets.udp.local_addr().expect("an address")
                ),
                format!("echo unix:{}", sockets.directory.join("echo").display()),
            ]
        );
        let mut client = Client::connect(sockets.address());
        client.send(b"into the dark");
        client.half_close();
        client.expect_end();
        sockets.expect_echo_over_udp();
        sockets.expect_echo_over_unix();
        // Passed endpoints never need a restart.
        echod.signal(Signal::HUP);
        echod.wait_for_log("reloaded");
        assert_eq!(echod.logged("restart"), 0);
        echod.signal(Signal::TERM);
        assert_eq!(echod.wait_for_exit().code, Some(0));
    }
}

#[test]
fn a_passed_socket_with_the_address_of_an_endpoint_is_that_endpoint() {
    require!("sh");
    let sockets = Sockets::bind();
    let args = [
        format!("--discard=tcp://{}", sockets.address()),
        TCP.to_owned(),
        format!("--echo=unix:{}", sockets.directory.join("echo").display()),
    ];
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let echod = sockets.activate(["echo", "echo", "discard"], &args);
    let mut client = Client::connect(sockets.address());
    client.send(b"into the dark");
    client.half_close();
    client.expect_end();
    // Bound in addition.
    Client::connect(echod.address_of("echo tcp://")).echo(b"here too");
    sockets.expect_echo_over_udp();
    sockets.expect_echo_over_unix();
    assert_eq!(echod.listening().count(), 4);
}

/// A mistake in a socket unit: the error says which descriptor, what it is and what is needed.
#[test]
fn a_passed_socket_that_can_t_be_served_is_described() {
    require!("sh");
    let directory = Directory::new();
    let unix = |kind, address: &SockAddr| {
        let socket = Socket::new(Domain::UNIX, kind, None).expect("a socket");
        socket.bind(address).expect("a free path");
        socket
    };
    let at = |name: &[u8]| {
        let path = directory.join("").into_os_string().into_encoded_bytes();
        let path = [&path[..], name].concat();
        SockAddr::unix(OsStr::from_bytes(&path)).expect("a path")
    };
    let listening = |socket: Socket| {
        socket.listen(1).expect("listen(2)");
        socket
    };
    let abstract_name = format!("\0echomark-passed-{}", process::id());
    let abstract_name = SockAddr::unix(&abstract_name).expect("a name");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = tcp.local_addr().expect("an address");
    let client = TcpStream::connect(address).expect("a connection");
    let idle = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let unbound = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    let sockets: [(OwnedFd, &str); 9] = [
        (idle.into(), "a TCP socket that does not listen"),
        (client.into(), "Accept=no"),
        (unbound.into(), "a socket without an address"),
        (
            unix(Type::DGRAM, &at(b"datagrams")).into(),
            "a Unix datagram socket",
        ),
        (
            unix(Type::STREAM, &at(b"idle")).into(),
            "a Unix socket that does not listen",
        ),
        (
            listening(unix(Type::STREAM, &abstract_name)).into(),
            "the abstract address @echomark-passed",
        ),
        (
            listening(unix(Type::STREAM, &at(b"\xff"))).into(),
            "\\xff, which is not printable text",
        ),
        (
            listening(unix(Type::STREAM, &at(b"echo\nready"))).into(),
            "echo\\nready, which is not printable text",
        ),
        (
            fs::File::open("/dev/null").expect("a file").into(),
            "not a socket",
        ),
    ];
    for (socket, what) in &sockets {
        let exit = activate_with(&[("my.socket", socket.as_fd())], &[], Echod::run_to_end);
        assert_eq!(exit.code, Some(1), "{exit:#?}");
        let line = exit.stderr.last().expect("a line");
        for part in ["descriptor 3, named `my.socket`, is", what, "Accept="] {
            assert!(line.contains(part), "no `{part}` in {line}");
        }
        assert!(!exit.stdout.iter().any(|line| line == "ready"), "{exit:#?}");
    }
}

/// The name of a socket can't ask for more than the configuration allows.
#[test]
fn a_passed_socket_does_not_get_a_service_that_an_endpoint_could_not_have() {
    require!("sh");
    let sockets = Sockets::bind();
    for (socket, problem) in [
        (sockets.udp.as_fd(), "set udp-chargen"),
        (sockets.unix.as_fd(), "Unix sockets have echo and discard"),
    ] {
        let exit = activate_with(&[("chargen", socket)], &[], Echod::run_to_end);
        assert_eq!(exit.code, Some(1), "{exit:#?}");
        let line = exit.stderr.last().expect("a line");
        assert!(
            line.contains("chargen on ") && line.contains(problem),
            "{line}"
        );
    }
    let echod = activate(&[("chargen", sockets.udp.as_fd())], &["--udp-chargen"]);
    assert!(
        echod
            .listening()
            .next()
            .is_some_and(|it| it.starts_with("chargen udp://"))
    );
}

/// The manager keeps the sockets and their queues.
#[test]
fn between_two_runs_connections_wait() {
    require!("sh");
    const WAITING: usize = 50;
    let sockets = Sockets::bind();
    let names = ["echo", "echo", "echo"];
    let mut over_tcp = Vec::new();
    let mut over_unix = Vec::new();
    for run in 0..3 {
        let echod = sockets.activate(names, &["--workers=2"]);
        for client in &mut over_tcp {
            let client: &mut Client = client;
            assert_eq!(client.receive(7), b"waiting");
        }
        for stream in &mut over_unix {
            let stream: &mut UnixStream = stream;
            let mut back = Vec::new();
            stream.read_to_end(&mut back).expect("receive");
            assert_eq!(back, b"waiting too");
        }
        over_tcp.clear();
        over_unix.clear();
        sockets.expect_echo_over_udp();
        echod.signal(Signal::TERM);
        assert_eq!(echod.wait_for_exit().code, Some(0), "run {run}");
        for _ in 0..WAITING {
            let mut client = Client::connect(sockets.address());
            client.send(b"waiting");
            over_tcp.push(client);
            over_unix.push(sockets.connect_over_unix(b"waiting too"));
        }
    }
}

#[test]
fn restarts_refuse_and_reset_no_connection() {
    require!("sh");
    const RESTARTS: usize = 4;
    let sockets = Sockets::bind();
    let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let last = Mutex::new(None);
    in_parallel(4, |index| match index {
        0 => {
            let _stop = AtEnd(&stop);
            for _ in 0..RESTARTS {
                let echod = sockets.activate(["echo", "echo", "echo"], &["--workers=2"]);
                let before = rounds.load(Ordering::Relaxed);
                wait_until("rounds", || rounds.load(Ordering::Relaxed) > before + 50);
                echod.signal(Signal::TERM);
                assert_eq!(echod.wait_for_exit().code, Some(0));
            }
            // This server serves the waiting connections.
            let next = sockets.activate(["echo", "echo", "echo"], &[]);
            *last.lock().expect("no panic") = Some(next);
        }
        1 => {
            while !stop.load(Ordering::Relaxed) {
                sockets.expect_echo_over_unix();
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        }
        _ => {
            while !stop.load(Ordering::Relaxed) {
                let mut client = Client::connect(sockets.address());
                client.echo(b"served by whom?");
                client.echo(&[9; 5000]);
                client.half_close();
                client.expect_end();
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
}
