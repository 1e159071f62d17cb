//! What confines the program: every service works inside it, and nothing else does.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, io};

use echomark::internal::{Files, SandboxMode, enter};
use socket2::{Domain, Socket, Type};

use crate::support::directory::Directory;
use crate::support::echod::{Echod, OF_ROOT, PROGRAM, Signal};
use crate::support::strace::with_faults;
use crate::support::tools::{require, skip};
use crate::support::{Client, DEADLINE};

/// The directory of the process that makes [`forbidden_attempts`].
const DIRECTORY: &str = "ECHOMARK_SANDBOX_DIRECTORY";

/// Whether this kernel has all that `--sandbox require` needs.
fn kernel_is_able() -> bool {
    const MIN_ABI: libc::c_long = 3;
    sys::landlock_abi() >= MIN_ABI
}

/// Calls by their numbers, with arguments of zero unless the call would then be an allowed one.
const FORBIDDEN: &[(&str, libc::c_long, [libc::c_long; 3])] = &[
    ("execveat", libc::SYS_execveat, [0; 3]),
    ("ptrace", libc::SYS_ptrace, [0; 3]),
    ("process_vm_readv", libc::SYS_process_vm_readv, [0; 3]),
    ("process_vm_writev", libc::SYS_process_vm_writev, [0; 3]),
    ("pidfd_open", libc::SYS_pidfd_open, [0; 3]),
    ("kill", libc::SYS_kill, [1, 0, 0]),
    ("tkill", libc::SYS_tkill, [1, 0, 0]),
    ("tgkill of another", libc::SYS_tgkill, [1, 1, 0]),
    (
        "clone of a process",
        libc::SYS_clone,
        [libc::SIGCHLD as libc::c_long, 0, 0],
    ),
    ("unshare", libc::SYS_unshare, [0; 3]),
    ("setns", libc::SYS_setns, [-1, 0, 0]),
    ("mount", libc::SYS_mount, [0; 3]),
    ("umount2", libc::SYS_umount2, [0; 3]),
    ("pivot_root", libc::SYS_pivot_root, [0; 3]),
    ("chroot", libc::SYS_chroot, [0; 3]),
    ("open_tree", libc::SYS_open_tree, [0; 3]),
    ("fsopen", libc::SYS_fsopen, [0; 3]),
    ("setuid", libc::SYS_setuid, [0; 3]),
    ("setresuid", libc::SYS_setresuid, [-1, -1, -1]),
    ("setgroups", libc::SYS_setgroups, [0; 3]),
    ("capset", libc::SYS_capset, [0; 3]),
    ("bpf", libc::SYS_bpf, [0; 3]),
    ("perf_event_open", libc::SYS_perf_event_open, [0; 3]),
    ("userfaultfd", libc::SYS_userfaultfd, [0; 3]),
    ("io_uring_setup", libc::SYS_io_uring_setup, [0; 3]),
    ("keyctl", libc::SYS_keyctl, [0; 3]),
    ("add_key", libc::SYS_add_key, [0; 3]),
    ("seccomp", libc::SYS_seccomp, [0; 3]),
    ("init_module", libc::SYS_init_module, [0; 3]),
    ("finit_module", libc::SYS_finit_module, [-1, 0, 0]),
    ("delete_module", libc::SYS_delete_module, [0; 3]),
    ("kexec_load", libc::SYS_kexec_load, [0; 3]),
    ("reboot", libc::SYS_reboot, [0; 3]),
    ("swapon", libc::SYS_swapon, [0; 3]),
    ("syslog", libc::SYS_syslog, [0; 3]),
    ("settimeofday", libc::SYS_settimeofday, [0; 3]),
    ("clock_settime", libc::SYS_clock_settime, [0; 3]),
    ("sethostname", libc::SYS_sethostname, [0; 3]),
    ("personality", libc::SYS_personality, [0; 3]),
    (
        "prctl of another kind",
        libc::SYS_prctl,
        [libc::PR_SET_DUMPABLE as libc::c_long, 1, 0],
    ),
    (
        "ioctl of another kind",
        libc::SYS_ioctl,
        [0, libc::TIOCSTI as libc::c_long, 0],
    ),
    (
        "mmap of code",
        libc::SYS_mmap,
        [0, 4096, libc::PROT_EXEC as libc::c_long],
    ),
    (
        "mprotect of code",
        libc::SYS_mprotect,
        [0, 0, libc::PROT_EXEC as libc::c_long],
    ),
    ("memfd_create", libc::SYS_memfd_create, [0; 3]),
    ("shmget", libc::SYS_shmget, [0; 3]),
    ("prlimit64 of a new limit", libc::SYS_prlimit64, [0, 0, 1]),
    (
        "sched_setaffinity of another",
        libc::SYS_sched_setaffinity,
        [1, 0, 0],
    ),
    ("setpriority", libc::SYS_setpriority, [0; 3]),
    ("mknodat", libc::SYS_mknodat, [-1, 0, 0]),
    ("mkdirat", libc::SYS_mkdirat, [-1, 0, 0]),
    ("symlinkat", libc::SYS_symlinkat, [0, -1, 0]),
    ("linkat", libc::SYS_linkat, [-1, 0, -1]),
    ("renameat2", libc::SYS_renameat2, [-1, 0, -1]),
    ("truncate", libc::SYS_truncate, [0; 3]),
    ("fchownat", libc::SYS_fchownat, [-1, 0, 0]),
    ("setxattr", libc::SYS_setxattr, [0; 3]),
    ("name_to_handle_at", libc::SYS_name_to_handle_at, [-1, 0, 0]),
    ("open_by_handle_at", libc::SYS_open_by_handle_at, [-1, 0, 0]),
];

/// Run by the test below in a process of its own, of which this thread is confined.
#[test]
#[ignore = "another test runs it"]
fn forbidden_attempts() {
    let Some(directory) = env::var_os(DIRECTORY) else {
        return;
    };
    let directory = Path::new(&directory);
    // What is open before stays open.
    let tcp = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let (to_bind, to_connect) = (tcp(), tcp());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let files = Files {
        read: vec![directory.join("conf/echod.toml")],
        sockets: vec![directory.join("run/socket")],
    };
    enter(SandboxMode::Require, &files).expect("a sandbox");

    for (name, number, arguments) in FORBIDDEN {
        tell(name, sys::call(*number, arguments));
    }
    let replaced = Command::new("/bin/true").exec();
    tell("exec", Err::<(), _>(replaced));
    tell("spawn", Command::new("/bin/true").spawn());
    let socket = |domain, r#type| Socket::new(domain, r#type, None);
    tell("TCP socket", socket(Domain::IPV4, Type::STREAM));
    tell("UDP socket", socket(Domain::IPV6, Type::DGRAM));
    tell("packet socket", socket(Domain::PACKET, Type::RAW));
    tell(
        "netlink socket",
        socket(Domain::from(libc::AF_NETLINK), Type::RAW),
    );
    tell("vsock socket", socket(Domain::VSOCK, Type::STREAM));
    tell("TCP bind", to_bind.bind(&any_port().into()));
    tell("TCP connect", to_connect.connect(&address.into()));
    tell("write a file", File::create(directory.join("conf/new")));
    let append = File::options()
        .append(true)
        .open(directory.join("conf/echod.toml"));
    tell("append to the configuration", append);
    tell("read another file", File::open(directory.join("other")));
    tell("read /etc", File::open("/etc/passwd"));
    tell("list a directory", fs::read_dir(directory));
    tell(
        "remove the configuration",
        fs::remove_file(directory.join("conf/echod.toml")),
    );
    let elsewhere = UnixDatagram::bind(directory.join("conf/socket"));
    tell("bind a path elsewhere", elsewhere);

    // What serving needs.
    tell("may read the configuration", File::open(&files.read[0]));
    tell("may read /proc", fs::read_to_string("/proc/self/status"));
    tell(
        "may read a system setting",
        fs::read_to_string("/proc/sys/net/core/somaxconn"),
    );
    let listening = echomark::net::unix::listen(&files.sockets[0], 16, Some(0o600));
    tell("may listen at its path", listening.as_ref());
    tell(
        "may connect to its path",
        UnixStream::connect(&files.sockets[0]),
    );
    let mode = fs::Permissions::from_mode(0o622);
    tell(
        "may permit its path",
        fs::set_permissions(&files.sockets[0], mode),
    );
    tell("may remove its path", fs::remove_file(&files.sockets[0]));
    let thread = std::thread::Builder::new().name("thread".to_owned());
    let inside = thread.spawn(|| File::open("/etc/passwd").map(drop));
    tell("may start a thread", inside.as_ref());
    if let Ok(thread) = inside {
        tell("a thread is inside", thread.join().expect("no panic"));
    }
}

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Prints the outcome of an attempt for the other process.
fn tell<T>(attempt: &str, outcome: Result<T, impl std::borrow::Borrow<io::Error>>) {
    let errno = match outcome {
        Ok(_) => 0,
        Err(error) => error.borrow().raw_os_error().unwrap_or(-1),
    };
    writeln!(io::stdout(), "attempt {attempt} = {errno}").expect("a reader");
}

#[test]
fn what_serving_does_not_need_is_denied() {
    if !kernel_is_able() {
        skip!("Landlock of Linux 6.2 or newer");
    }
    let directory = Directory::new();
    for name in ["conf", "run"] {
        fs::create_dir(directory.join(name)).expect("a directory");
    }
    directory.write("conf/echod.toml", "");
    directory.write("other", "");
    let output = Command::new(env::current_exe().expect("this program"))
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "sandbox::forbidden_attempts",
        ])
        .env(DIRECTORY, directory.join(""))
        .output()
        .expect("a process");
    let text = String::from_utf8_lossy(&output.stdout);
    let attempts: BTreeMap<_, _> = text
        .lines()
        .filter_map(|line| line.split_once("attempt ")?.1.split_once(" = "))
        .collect();
    assert!(attempts.contains_key("a thread is inside"), "{output:?}");
    let by_landlock = [
        "TCP bind",
        "TCP connect",
        "read another file",
        "read /etc",
        "list a directory",
        "remove the configuration",
        "bind a path elsewhere",
        "a thread is inside",
    ];
    for (attempt, errno) in attempts {
        let expected = if attempt.starts_with("may ") {
            0
        } else if by_landlock.contains(&attempt) {
            libc::EACCES
        } else {
            libc::EPERM
        };
        assert_eq!(errno, expected.to_string(), "{attempt}: {text}");
    }
}

#[test]
fn a_successor_that_can_t_be_confined_changes_nothing() {
    require!("strace");
    let directory = Directory::new();
    let handover = format!("--handover={}", directory.join("handover").display());
    let start = |command: &mut Command| {
        command.args(["--echo=tcp://127.0.0.1:0", "--sandbox=require"]);
        Echod::spawn_with(
            command
                .arg(&handover)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        )
    };
    if !kernel_is_able() {
        skip!("Landlock of Linux 6.2 or newer");
    }
    let mut first = start(&mut Command::new(PROGRAM)).wait_until_ready();
    let mut client = first.connect();
    client.echo(b"before");
    // It has been granted the sockets by then.
    let second = start(&mut with_faults(&["seccomp:error=EINVAL"], PROGRAM));
    let exit = second.wait_for_exit();
    assert_eq!(exit.code, Some(1), "{exit:#?}");
    first.wait_for_log("did not take over; still serving");
    client.echo(b"after");
    first.connect().echo(b"after");
}

/// The lines of these names in /proc/PID/status, once for each thread.
#[track_caller]
fn of_each_thread(echod: &Echod, names: &[&str]) -> Vec<String> {
    let tasks = format!("/proc/{}/task", echod.process_id());
    let tasks = fs::read_dir(tasks).expect("its threads");
    let status = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    status
        .map(|status| {
            let found = status
                .lines()
                .filter(|it| names.iter().any(|name| it.starts_with(name)));
            found.map(line).collect::<Vec<_>>().join(", ")
        })
        .collect()
}

/// Echoes over a Unix socket.
#[track_caller]
fn echo_over_unix(path: &Path) {
    let mut stream = UnixStream::connect(path).expect("a listener");
    stream.write_all(b"Hello, World!").expect("send");
    let mut answer = [0; 13];
    stream.read_exact(&mut answer).expect("receive");
    assert_eq!(&answer, b"Hello, World!");
}

#[track_caller]
fn echo_over_udp(address: SocketAddr) {
    let socket = UdpSocket::bind(any_port()).expect("a free port");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    socket.send_to(b"Hello, World!", address).expect("send");
    let mut answer = [0; 32];
    let (count, _) = socket.recv_from(&mut answer).expect("receive");
    assert_eq!(&answer[..count], b"Hello, World!");
}

/// Uses every service of an echod, with its admin port and its metrics.
#[track_caller]
fn use_all(echod: &Echod, unix: &Path) {
    echod.connect().echo(&[7; 1 << 20]);
    echo_over_udp(echod.address_of("echo udp://"));
    echo_over_unix(unix);
    let mut discard = Client::connect(echod.address_of("discard tcp://"));
    discard.send(&[7; 1 << 20]);
    discard.half_close();
    discard.expect_end();
    let mut chargen = Client::connect(echod.address_of("chargen tcp://"));
    chargen.read_exact(&mut [0; 1 << 20]).expect("characters");
    assert!(echod.metric("process_open_fds") > 0);
    assert!(echod.metric("process_resident_memory_bytes") > 0);
}

const ENDPOINTS: [&str; 6] = [
    "--echo=tcp://127.0.0.1:0",
    "--echo=udp://127.0.0.1:0",
    "--discard=tcp://127.0.0.1:0",
    "--chargen=tcp://127.0.0.1:0",
    "--admin=127.0.0.1:0",
    "--workers=2",
];

/// The life of a server that is confined: it serves, reloads, is replaced, drains and removes its files.
#[track_caller]
fn live_inside(options: &[&str]) {
    let directory = Directory::new();
    // Another user makes and removes sockets here.
    fs::set_permissions(directory.join(""), fs::Permissions::from_mode(0o777)).expect("chmod");
    let file = directory.write("echod.toml", "max-connections = 100\n");
    let (unix, handover) = (directory.join("echo"), directory.join("handover"));
    let start = || {
        let mut command = Command::new(PROGRAM);
        command
            .args(ENDPOINTS)
            .args(options)
            .arg(format!("--echo=unix:{}", unix.display()))
            .arg(format!("--config={}", file.display()))
            .arg(format!("--handover={}", handover.display()));
        Echod::start_command(&mut command)
    };
    let mut first = start();
    use_all(&first, &unix);
    // A replaced file is another file than the one that was there at the start.
    directory.write("echod.toml", "max-connections = 101\n");
    first.signal(Signal::HUP);
    first.wait_for_log("reloaded the limits");
    assert_eq!(first.info()["configuration"]["max-connections"], "101");
    let sandbox = &first.info()["sandbox"];
    assert_eq!(sandbox["seccomp"], "full", "{sandbox}");
    for thread in of_each_thread(&first, &["NoNewPrivs:", "Seccomp:"]) {
        assert_eq!(thread, "NoNewPrivs: 1, Seccomp: 2");
    }

    let second = start();
    assert_eq!(first.wait_for_exit().code, Some(0));
    use_all(&second, &unix);
    let mut open = second.connect();
    open.echo(b"Hello, World!");
    second.signal(Signal::TERM);
    open.half_close();
    open.expect_end();
    assert_eq!(second.wait_for_exit().code, Some(0));
    for path in [unix, handover] {
        assert!(!path.exists(), "{}", path.display());
    }
}

#[test]
fn a_server_lives_inside() {
    if !kernel_is_able() {
        skip!("Landlock of Linux 6.2 or newer");
    }
    live_inside(&["--sandbox=require"]);
    live_inside(&["--sandbox=require", "--pin", "--balance=least-connections"]);
}

#[test]
fn root_becomes_another_user() {
    if !rustix::process::geteuid().is_root() {
        skip!("root");
    }
    if !kernel_is_able() {
        skip!("Landlock of Linux 6.2 or newer");
    }
    live_inside(&["--sandbox=require", "--user=65533:65532"]);
    let mut command = Command::new(PROGRAM);
    let options = ["--user=65533:65532", "--sandbox=off"];
    let echod = Echod::start_command(command.args(ENDPOINTS).args(options));
    echod.connect().echo(b"Hello, World!");
    for thread in of_each_thread(
        &echod,
        &["Uid:", "Gid:", "Groups:", "CapPrm:", "NoNewPrivs:"],
    ) {
        assert_eq!(
            thread,
            "Uid: 65533 65533 65533 65533, Gid: 65532 65532 65532 65532, Groups: 65532, \
             CapPrm: 0000000000000000, NoNewPrivs: 1"
        );
    }
    assert_eq!(echod.info()["sandbox"]["user"], "65533");
    assert_eq!(echod.info()["sandbox"]["seccomp"], "none");
}

#[test]
fn root_is_warned_and_wrong_users_are_refused() {
    for (user, problem) in [
        ("no-such-user", "there is no such user"),
        ("root", "without privileges"),
        ("65533", "write UID:GID"),
    ] {
        let mut command = Command::new(PROGRAM);
        let exit = Echod::run_to_end(command.args(ENDPOINTS).args(["--user", user]));
        assert_eq!(exit.code, Some(1));
        let told = exit.stderr.iter().any(|line| line.contains(problem));
        assert!(told, "{exit:#?}");
    }
    let mut echod = Echod::start(&ENDPOINTS);
    if rustix::process::geteuid().is_root() {
        echod.wait_for_log(OF_ROOT);
    }
}

#[test]
fn without_the_kernel_s_help_auto_serves_and_require_does_not_start() {
    require!("strace");
    for fault in [
        "landlock_create_ruleset:error=ENOSYS",
        "seccomp:error=EINVAL",
    ] {
        let command = |mode: &str| {
            let mut command = with_faults(&[fault], PROGRAM);
            command.args(ENDPOINTS).arg(mode);
            command
        };
        let mut echod = Echod::start_command(&mut command("--sandbox=auto"));
        echod.wait_for_log("cannot enter the sandbox");
        echod.connect().echo(b"Hello, World!");
        let info = echod.info();
        let parts = ["landlock", "seccomp"].map(|part| info["sandbox"][part].clone());
        assert!(parts.contains(&"none".into()), "{parts:?}");
        let exit = Echod::run_to_end(&mut command("--sandbox=require"));
        assert_eq!(exit.code, Some(1));
        assert!(exit.stdout.is_empty(), "{exit:#?}");
        let told = exit
            .stderr
            .iter()
            .any(|line| line.contains("cannot enter the sandbox"));
        assert!(told, "{exit:#?}");
    }
}

mod sys {
    #![allow(unsafe_code)]

    use std::io;

    /// Makes a system call by its number. The kernel refuses it, or does nothing for it.
    pub(super) fn call(number: libc::c_long, arguments: &[libc::c_long; 3]) -> io::Result<()> {
        let [a, b, c] = *arguments;
        // SAFETY: no argument points to memory of this process that the call could write to: they are
        // zeros, numbers and invalid descriptors, and the filter refuses the call before it looks.
        let result = unsafe { libc::syscall(number, a, b, c, 0, 0, 0) };
        if result == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// The version of Landlock in the kernel, or a negative number.
    pub(super) fn landlock_abi() -> libc::c_long {
        const VERSION: libc::c_long = 1;
        // SAFETY: without attributes this flag only asks for the version (landlock_create_ruleset(2)).
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, VERSION) }
    }
}
