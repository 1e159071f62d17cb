//! The interface for scripts: the lines on stdout, the exit codes, and one line on stderr that
//! names the mistake.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use echomark::net::endpoint::Endpoint;

use crate::support::Client;
use crate::support::directory::Directory;
use crate::support::echod::{Echod, Exit, PROGRAM, Signal};

#[test]
fn stdout_has_a_line_for_each_endpoint_and_then_ready() {
    let echod = Echod::start(&["--echo=tcp://127.0.0.1:0", "--echo=tcp://[::1]:0"]);
    echod.connect().echo(b"it listens where it says");
    echod.signal(Signal::TERM);
    let exit = echod.wait_for_exit();
    assert_eq!(exit.code, Some(0));
    let [first, second, ready] = &exit.stdout[..] else {
        panic!("not three lines: {exit:#?}");
    };
    assert_port(first.strip_prefix("listening echo tcp://127.0.0.1:"));
    assert_port(second.strip_prefix("listening echo tcp://[::1]:"));
    assert_eq!(ready, "ready");
}

/// Each printed endpoint can be given to a client as it stands.
#[test]
fn a_printed_endpoint_can_be_used() {
    let directory = Directory::new();
    let path = format!(
        "--echo=unix:{}",
        directory.join("with spaces, é and \"").display()
    );
    let args = [
        "--workers=1",
        "--echo=tcp://[::ffff:127.0.0.1]:0",
        "--echo=tcp://0.0.0.0:0",
        "--echo=tcp://localhost:0",
        &path,
    ];
    let echod = Echod::start(&args);
    let mut served = 0;
    for line in echod.listening() {
        let endpoint = line.strip_prefix("echo ").expect("a service");
        match endpoint.parse().expect("an endpoint") {
            Endpoint::Unix(path) => drop(UnixStream::connect(path).expect("a listener")),
            endpoint => {
                let address = endpoint.resolve().expect("an address")[0];
                Client::connect(address).echo(b"by what was printed");
            }
        }
        served += 1;
    }
    assert_eq!(served, 4);
}

#[test]
fn what_would_be_printed_as_another_line_is_refused() {
    let exit = run(&["--echo=unix:/tmp/echo\nready"]);
    assert_failure(2, &exit, "control character");
    let value = OsStr::from_bytes(b"unix:/tmp/\xff");
    let mut command = Command::new(PROGRAM);
    let exit = Echod::run_to_end(command.arg("--check-config").env("ECHOD_ECHO", value));
    assert_failure(2, &exit, "ECHOD_ECHO");
    assert!(exit.stderr[0].contains("not UTF-8"), "{exit:#?}");
}

#[track_caller]
fn assert_port(text: Option<&str>) {
    let port: Option<u16> = text.and_then(|text| text.parse().ok());
    assert!(port.is_some_and(|port| port != 0), "a bound port: {text:?}");
}

#[test]
fn logs_go_to_stderr_in_the_format_asked_for() {
    for (format, start) in [("text", "20"), ("json", "{\"timestamp\":\"20")] {
        let echod = Echod::start(&[
            "--echo=tcp://127.0.0.1:0",
            "--log-level=trace",
            &format!("--log-format={format}"),
        ]);
        echod.connect().echo(b"Hello, World!");
        echod.signal(Signal::TERM);
        let exit = echod.wait_for_exit();
        assert_eq!(exit.stdout.len(), 2, "{exit:#?}");
        assert!(!exit.stderr.is_empty());
        for line in &exit.stderr {
            assert!(line.starts_with(start), "{line}");
        }
    }
}

#[test]
fn a_backlog_that_the_kernel_cuts_is_reported() {
    let mut echod = Echod::start(&["--echo=tcp://127.0.0.1:0", "--backlog=2G"]);
    echod.wait_for_log("somaxconn");
}

/// Other hosts could hold any number of connections for any time.
#[test]
fn missing_limits_are_reported_if_other_hosts_can_connect() {
    const TEXT: &str = "is open to other hosts; set ";
    let off = ["--max-connections=off", "--idle-timeout=off"];
    for (endpoint, limits, missing) in [
        (
            "tcp://0.0.0.0:0",
            &[][..],
            "--max-connections and --idle-timeout",
        ),
        ("tcp://[::]:0", &["--idle-timeout=1m"], "--max-connections"),
        ("tcp://0.0.0.0:0", &off[..1], "--idle-timeout"),
        ("tcp://0.0.0.0:0", &off, ""),
        ("tcp://127.0.0.1:0", &[], ""),
        ("tcp://localhost:0", &[], ""),
        ("udp://0.0.0.0:0", &[], ""),
    ] {
        let mut args = vec!["--workers=1", "--echo", endpoint];
        args.extend(limits);
        let echod = Echod::start(&args);
        echod.signal(Signal::TERM);
        let exit = echod.wait_for_exit();
        let lines: Vec<_> = exit.stderr.iter().filter(|it| it.contains(TEXT)).collect();
        assert_eq!(lines.len(), usize::from(!missing.is_empty()), "{exit:#?}");
        let expected = format!("{TEXT}{missing}, or to off");
        assert!(lines.iter().all(|it| it.contains(&expected)), "{exit:#?}");
    }
}

#[test]
fn help_and_version_are_for_stdout() {
    for flag in ["--help", "--version"] {
        let exit = run(&[flag]);
        assert_eq!(exit.code, Some(0));
        assert!(exit.stdout.join(" ").contains("echo"), "{exit:#?}");
        assert!(exit.stderr.is_empty(), "{exit:#?}");
    }
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let exit = run(&[&format!("--echo=tcp://{address}")]);
    assert_failure(1, &exit, &address);
    assert!(exit.stderr[0].contains("--echo"), "a way out: {exit:#?}");
}

/// docs/echod.md shows what echod prints, with some port in the place of 0.
#[test]
fn the_document_shows_what_is_printed() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/echod.md");
    let document = fs::read_to_string(document).expect("docs/echod.md");
    let (_, block) = document.split_once("```text\n").expect("a block of text");
    let (shown, rest) = block.split_once("```").expect("its end");
    assert!(!rest.contains("```text"), "the one block of text");
    let echod = Echod::start(&["--echo=tcp://127.0.0.1:0", "--workers=1"]);
    echod.signal(Signal::TERM);
    let printed = echod.wait_for_exit().stdout;
    let without_port = |line: &str| {
        line.trim_end_matches(|c: char| c.is_ascii_digit())
            .to_owned()
    };
    assert_eq!(
        shown.lines().map(without_port).collect::<Vec<_>>(),
        printed
            .iter()
            .map(|line| without_port(line))
            .collect::<Vec<_>>()
    );
}

#[test]
fn the_address_of_another_echod_is_in_use() {
    let other = Echod::start(&["--echo=tcp://127.0.0.1:0", "--workers=2"]);
    let address = other.address().to_string();
    assert_failure(1, &run(&[&format!("--echo=tcp://{address}")]), &address);
    other.connect().echo(b"not disturbed");
}

#[test]
fn an_unknown_host_is_named() {
    // RFC 6761 reserves .invalid: no resolver may answer it.
    let host = "no-such-host.invalid";
    assert_failure(1, &run(&[&format!("--echo=tcp://{host}:7777")]), host);
}

#[test]
fn an_address_of_another_machine_is_named() {
    // TEST-NET-1 of RFC 5737: no host has this address. Binding sends nothing.
    assert_failure(1, &run(&["--echo=tcp://192.0.2.1:7777"]), "192.0.2.1:7777");
}

#[test]
fn an_unknown_congestion_algorithm_is_named() {
    let exit = run(&["--echo=tcp://127.0.0.1:0", "--congestion=nosuch"]);
    assert_failure(1, &exit, "nosuch");
}

#[test]
fn a_privileged_port_is_named() {
    let first_unprivileged = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .expect("the first unprivileged port");
    let first_unprivileged: u16 = first_unprivileged.trim().parse().expect("a number");
    let program = ProgramForAll::copy();
    let mut command = program.command_as_nobody();
    command.arg("--echo=tcp://127.0.0.12:7");
    if first_unprivileged <= 7 {
        // Containers often permit every port to every user.
        let echod = Echod::start_command(&mut command);
        Client::connect(echod.address()).echo(b"port 7");
    } else {
        assert_failure(1, &Echod::run_to_end(&mut command), "127.0.0.12:7");
    }
}

/// A copy of the program that unprivileged users can run.
struct ProgramForAll {
    directory: PathBuf,
}

impl ProgramForAll {
    fn copy() -> Self {
        let name = format!("echod-behavior-{}", process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).expect("a directory for temporary files");
        let all_may_read = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&directory, all_may_read).expect("permissions");
        fs::copy(PROGRAM, directory.join("echod")).expect("a copy of echod");
        Self { directory }
    }

    /// A command of the unprivileged user `nobody` if the tests run as root, and of the current
    /// user otherwise.
    fn command_as_nobody(&self) -> Command {
        const NOBODY: u32 = 65534;
        let mut command = Command::new(self.directory.join("echod"));
        if runs_as_root() {
            // Another user has no capabilities, and std drops root's groups.
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

impl Drop for ProgramForAll {
    fn drop(&mut self) {
        // A leftover in the directory for temporary files is harmless.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn runs_as_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn mistakes_on_the_command_line_are_named() {
    for (argument, named) in [
        ("--echo=127.0.0.1:7777", "127.0.0.1:7777"),
        ("--echo=quic://127.0.0.1:7777", "quic://127.0.0.1:7777"),
        ("--echo=tcp://127.0.0.1", "tcp://127.0.0.1"),
        ("--echo=tcp://127.0.0.1:65536", "tcp://127.0.0.1:65536"),
        ("--read-buffer=12parsecs", "--read-buffer"),
        ("--read-buffer=0", "--read-buffer"),
        ("--idle-timeout=12parsecs", "--idle-timeout"),
        ("--idle-timeout=0", "--idle-timeout"),
        ("--drain-timeout=-1s", "--drain-timeout"),
        ("--spin=sometimes", "--spin"),
        ("--workers=0", "--workers: must be at least 1, or auto"),
        ("--workers=many", "--workers"),
        ("--backlog=0", "--backlog"),
        ("--max-connections=0", "--max-connections"),
        ("--log-level=loud", "--log-level"),
        ("--pin=maybe", "--pin"),
        ("--accept-rate=0", "--accept-rate"),
        ("--deny=10.0.0.1/8", "10.0.0.0/8"),
        ("--balance=round-robin", "--balance"),
        ("--unix-mode=888", "--unix-mode"),
        ("--admin=9777", "--admin"),
        ("--max-conections=3", "--max-connections"),
        ("--config=/no/such/file.toml", "/no/such/file.toml"),
        ("--no-such-option", "--no-such-option"),
        ("an-argument", "an-argument"),
    ] {
        assert_failure(2, &run(&[argument]), named);
    }
}

#[test]
fn settings_that_contradict_each_other_are_named() {
    let same = ["--echo=tcp://[::1]:7777", "--discard=tcp://[::1]:7777"];
    for (args, named) in [
        (&["--chargen=udp://127.0.0.1:19"][..], "udp-chargen"),
        (&["--chargen=unix:/run/chargen"], "unix:/run/chargen"),
        (
            &same,
            "--discard: tcp://[::1]:7777 is given to echo already",
        ),
        (&["--check-config", "--print-config"], "--check-config"),
        (&["--log-level=warn", "--log-level=info"], "--log-level"),
    ] {
        assert_failure(2, &run(args), named);
    }
}

fn run(args: &[&str]) -> Exit {
    Echod::run_to_end(Command::new(PROGRAM).args(args))
}

/// Checks for this exit code and one line that names the cause.
#[track_caller]
fn assert_failure(code: i32, exit: &Exit, named: &str) {
    assert_eq!(exit.code, Some(code), "{exit:#?}");
    assert!(exit.stdout.is_empty(), "{exit:#?}");
    assert_eq!(exit.stderr.len(), 1, "one line: {exit:#?}");
    assert!(exit.stderr[0].starts_with("echod: "), "{exit:#?}");
    assert!(exit.stderr[0].contains(named), "{exit:#?}");
}
