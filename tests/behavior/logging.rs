//! A blocked log costs only its own lines: the server still starts, serves, reloads and ends, and
//! counts the lost lines. The same holds for every other file and socket that a signal or a start
//! could wait for.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::pipe::fcntl_getpipe_size;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::directory::Directory;
use crate::support::echod::{Echod, PROGRAM, Signal};
use crate::support::{wait_for, wait_until};

const TCP: &str = "--echo=tcp://127.0.0.1:0";
const ADMIN: &str = "--admin=127.0.0.1:0";
const DROPPED: &str = "echod_log_dropped_lines_total";
/// Fewer descriptors than the clients below need.
const DESCRIPTORS: u64 = 40;

/// A stderr that takes no line.
struct Unheard {
    name: &'static str,
    stderr: Stdio,
    /// Keeps open a pipe whose reader stands still.
    _reader: Option<PipeReader>,
}

impl Unheard {
    fn all() -> [Self; 4] {
        [
            Self::new("a full disk", full_disk()),
            Self::new("a closed pipe", closed_pipe()),
            Self::new("a vanished terminal", vanished_terminal()),
            Self::blocked_pipe(),
        ]
    }

    fn new(name: &'static str, stderr: impl Into<Stdio>) -> Self {
        Self {
            name,
            stderr: stderr.into(),
            _reader: None,
        }
    }

    fn blocked_pipe() -> Self {
        let (reader, writer) = full_pipe();
        Self {
            _reader: Some(reader),
            ..Self::new("a pipe whose reader stands still", writer)
        }
    }
}

#[track_caller]
fn full_disk() -> File {
    let file = OpenOptions::new().write(true).open("/dev/full");
    file.expect("Linux has /dev/full")
}

#[track_caller]
fn closed_pipe() -> PipeWriter {
    io::pipe().expect("a pipe").1
}

#[track_caller]
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().expect("a pipe");
    let size = fcntl_getpipe_size(&writer).expect("the size of a pipe");
    // Whole pages fill the pipe exactly, so this write does not block.
    writer.write_all(&vec![b'.'; size]).expect("room");
    (reader, writer)
}

#[track_caller]
fn vanished_terminal() -> File {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&controller).expect("a terminal");
    unlockpt(&controller).expect("a terminal");
    let path = ptsname(&controller, Vec::new()).expect("a terminal");
    let path = path.to_str().expect("a path");
    let file = OpenOptions::new().write(true).open(path);
    file.expect("the terminal's other end")
}

#[test]
fn a_log_without_a_reader_stops_nothing() {
    for unheard in Unheard::all() {
        let directory = Directory::new();
        let file = directory.write("echod.toml", "max-connections = 10\n");
        // With a warning at the start.
        let mut command = Command::new(PROGRAM);
        command
            .args([TCP, ADMIN, "--backlog=2G", "--config"])
            .arg(file)
            .env("ECHOD_NONSENSE", "1");
        let echod = Echod::start_logging_to(unheard.stderr, &mut command);
        echod.connect().echo(b"served all the same");
        directory.write("echod.toml", "nonsense\n");
        for _ in 0..3 {
            echod.signal(Signal::HUP);
        }
        if unheard._reader.is_none() {
            wait_until("dropped lines", || echod.metric(DROPPED) >= 3);
        }
        echod.signal(Signal::TERM);
        let exit = echod.wait_for_exit();
        assert_eq!(exit.code, Some(0), "{}: {exit:#?}", unheard.name);
    }
}

#[test]
fn at_the_descriptor_limit_workers_do_not_depend_on_the_log() {
    for unheard in Unheard::all() {
        let mut command = Command::new(PROGRAM);
        let echod = Echod::start_logging_to(unheard.stderr, command.args([TCP, "--workers=1"]));
        echod.limit_descriptors(DESCRIPTORS);
        let mut first = echod.connect();
        first.echo(b"first");
        let mut clients: Vec<_> = (0..2 * DESCRIPTORS).map(|_| echod.connect()).collect();
        first.echo(b"while others wait");
        // Each client that leaves makes room for another, and each change may be logged.
        for mut client in clients.drain(..) {
            client.echo(b"next, please");
            first.echo(b"and I");
        }
        drop(first);
        echod.signal(Signal::TERM);
        let exit = echod.wait_for_exit();
        assert_eq!(exit.code, Some(0), "{}: {exit:#?}", unheard.name);
    }
}

#[test]
fn a_hand_over_does_not_depend_on_the_log() {
    for unheard in Unheard::all() {
        let directory = Directory::new();
        let path = directory.join("handover");
        let args = [TCP.to_owned(), format!("--handover={}", path.display())];
        let mut command = Command::new(PROGRAM);
        let first = Echod::start_logging_to(unheard.stderr, command.args(&args));
        let second = Echod::start_command(Command::new(PROGRAM).args(&args));
        assert_eq!(first.wait_for_exit().code, Some(0), "{}", unheard.name);
        second.connect().echo(b"served by the second");
    }
}

/// A burst that is longer than the queue is dropped and counted, not kept.
#[test]
fn lines_that_a_blocked_reader_does_not_take_are_counted() {
    let unheard = Unheard::blocked_pipe();
    let mut command = Command::new(PROGRAM);
    command.args([TCP, ADMIN, "--workers=1", "--log-level=debug"]);
    let echod = Echod::start_logging_to(unheard.stderr, &mut command);
    wait_until("dropped lines", || {
        echod
            .connect()
            .echo(b"opened and closed, and each could be told");
        echod.metric(DROPPED) > 0
    });
    echod.signal(Signal::TERM);
    assert_eq!(echod.wait_for_exit().code, Some(0));
}

/// Clients that come and go at the descriptor limit do not fill the disk.
#[test]
fn repeated_warnings_are_limited() {
    const MAX_TOLD: usize = 30;
    let mut echod = Echod::start(&[TCP, "--workers=1"]);
    echod.limit_descriptors(DESCRIPTORS);
    let mut clients: VecDeque<_> = (0..2 * DESCRIPTORS).map(|_| echod.connect()).collect();
    wait_until("lines left out", || {
        let mut first = clients.pop_front().expect("a client");
        first.echo(b"next, please");
        clients.push_back(echod.connect());
        echod.watch_log_for(Duration::from_millis(1));
        echod.logged("left out") == 2
    });
    drop(clients);
    echod.signal(Signal::TERM);
    let exit = echod.wait_for_exit();
    let told = |text: &str| exit.stderr.iter().filter(|it| it.contains(text)).count();
    assert!((1..MAX_TOLD).contains(&told("cannot accept")), "{exit:#?}");
    assert!(
        (1..MAX_TOLD).contains(&told("accepting again")),
        "{exit:#?}"
    );
    assert_eq!(told("left out"), 2, "{exit:#?}");
}

#[test]
fn at_level_debug_each_connection_is_told_when_it_opens_and_closes() {
    for (level, lines) in [("debug", 1), ("trace", 1), ("info", 0)] {
        let mut command = Command::new(PROGRAM);
        command
            .args([TCP, "--max-connections=1"])
            .arg(format!("--log-level={level}"));
        let echod = Echod::start_command(&mut command);
        let mut client = echod.connect();
        client.echo(b"the only one");
        echod.connect().expect_end();
        let port = client.local_addr().expect("an address").ip();
        client.half_close();
        client.expect_end();
        echod.signal(Signal::TERM);
        let exit = echod.wait_for_exit();
        let told = |texts: [&str; 2]| {
            let has_all = |line: &&String| texts.iter().all(|text| line.contains(text));
            exit.stderr.iter().filter(has_all).count()
        };
        assert_eq!(
            told(["connection opened", &port.to_string()]),
            lines,
            "{exit:#?}"
        );
        assert_eq!(told(["connection closed", "finished"]), lines, "{exit:#?}");
        assert_eq!(
            told(["connection refused", "max_connections"]),
            1,
            "{exit:#?}"
        );
    }
}

#[test]
fn a_manager_that_does_not_read_delays_nothing() {
    let directory = Directory::new();
    let path = directory.join("notify");
    let _manager = UnixDatagram::bind(&path).expect("a socket");
    let sender = UnixDatagram::unbound().expect("a socket");
    sender.set_nonblocking(true).expect("O_NONBLOCK");
    while sender.send_to(b"X=1", &path).is_ok() {}
    let file = directory.write("echod.toml", "max-connections = 10\n");
    let mut command = Command::new(PROGRAM);
    command
        .args([TCP, "--config"])
        .arg(file)
        .env("NOTIFY_SOCKET", &path);
    let mut echod = Echod::start_command(&mut command);
    let mut client = echod.connect();
    client.echo(b"served all the same");
    echod.signal(Signal::HUP);
    echod.wait_for_log("reloaded");
    echod.signal(Signal::TERM);
    echod.wait_for_log("draining");
    drop(client);
    assert_eq!(echod.wait_for_exit().code, Some(0));
}

/// Opening a FIFO without a writer blocks for ever (fifo(7)).
#[test]
fn a_configuration_that_became_a_fifo_is_refused() {
    let directory = Directory::new();
    let file = directory.write("echod.toml", "max-connections = 1\n");
    let mut command = Command::new(PROGRAM);
    let mut echod = Echod::start_command(command.args([TCP, "--config"]).arg(&file));
    fs::remove_file(&file).expect("the file is there");
    make_fifo(&file);
    echod.signal(Signal::HUP);
    echod.wait_for_log("did not reload");
    let mut client = echod.connect();
    client.echo(b"the only one");
    echod.connect().expect_end();
    echod.signal(Signal::TERM);
    echod.wait_for_log("draining");
    drop(client);
    assert_eq!(echod.wait_for_exit().code, Some(0));
}

#[test]
fn at_the_start_a_configuration_may_come_through_a_pipe() {
    let (reader, mut writer) = io::pipe().expect("a pipe");
    writer.write_all(b"max-connections = 1\n").expect("room");
    drop(writer);
    let mut command = Command::new(PROGRAM);
    command
        .args([TCP, "--config=/dev/stdin"])
        .stdin(reader)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut echod = Echod::spawn_with(&mut command).wait_until_ready();
    let mut client = echod.connect();
    client.echo(b"the only one");
    echod.connect().expect_end();
    echod.signal(Signal::HUP);
    echod.wait_for_log("did not reload");
    echod.connect().expect_end();
}

#[track_caller]
fn make_fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
}

#[test]
fn a_stdout_that_takes_no_line_is_an_error() {
    let mut command = Command::new(PROGRAM);
    command.arg(TCP).stdout(full_disk()).stderr(Stdio::piped());
    let exit = Echod::spawn_with(&mut command).wait_for_exit();
    assert_eq!(exit.code, Some(1), "{exit:#?}");
    let said = exit.stderr.last().expect("a reason");
    assert!(said.contains("cannot write to stdout"), "{exit:#?}");
    for question in ["--help", "--version", "--print-config", "--check-config"] {
        let mut command = Command::new(PROGRAM);
        command
            .arg(question)
            .stdout(full_disk())
            .stderr(Stdio::piped());
        let exit = Echod::spawn_with(&mut command).wait_for_exit();
        assert_eq!(exit.code, Some(1), "{question}: {exit:#?}");
    }
}

/// A reader that closed the pipe wants no more output, and a reader that stands still delays no
/// signal.
#[test]
fn a_stdout_without_a_reader_stops_nothing() {
    let (reader, blocked) = full_pipe();
    for stdout in [Stdio::from(closed_pipe()), Stdio::from(blocked)] {
        let directory = Directory::new();
        // No line reports the port, so it listens on a path.
        let path = directory.join("echo");
        let mut command = Command::new(PROGRAM);
        command
            .arg(format!("--echo=unix:{}", path.display()))
            .stdout(stdout)
            .stderr(Stdio::piped());
        let echod = Echod::spawn_with(&mut command);
        let mut client = wait_for("a server", || UnixStream::connect(&path).ok());
        client.write_all(b"served all the same").expect("send");
        let mut back = [0; 19];
        client.read_exact(&mut back).expect("receive");
        assert_eq!(&back, b"served all the same");
        drop(client);
        echod.signal(Signal::TERM);
        let exit = echod.wait_for_exit();
        assert_eq!(exit.code, Some(0), "{exit:#?}");
    }
    drop(reader);
}

#[test]
fn a_line_tells_every_endpoint_and_stdout_can_be_left_empty() {
    let mut command = Command::new(PROGRAM);
    command.args([TCP, ADMIN, "--discard=udp://127.0.0.1:0", "--workers=2"]);
    let mut echod = Echod::start_command(&mut command);
    let address = echod.address();
    echod.wait_for_log("started");
    let udp = echod.address_of("discard udp://");
    let admin = echod.address_of("admin http://");
    for part in [
        format!("echo tcp://{address}, discard udp://{udp}"),
        format!("http://{admin}"),
        "workers=2".to_owned(),
        format!("pid={}", echod.process_id()),
    ] {
        assert_eq!(echod.logged(&part), 1, "{part}");
    }

    let mut command = Command::new(PROGRAM);
    command.args([TCP, "--announce=off", "--log-format=json"]);
    let mut echod = Echod::spawn(&mut command);
    echod.wait_for_log("\"started\"");
    echod.signal(Signal::TERM);
    let exit = echod.wait_for_exit();
    assert_eq!(exit.code, Some(0), "{exit:#?}");
    assert!(exit.stdout.is_empty(), "{exit:#?}");
}

#[test]
fn fields_of_a_json_line_stand_beside_its_message() {
    let mut command = Command::new(PROGRAM);
    command.args([TCP, "--log-format=json", "--max-connections=1"]);
    let echod = Echod::start_command(&mut command);
    let mut client = echod.connect();
    client.echo(b"the only one");
    echod.connect().expect_end();
    echod.signal(Signal::INT);
    echod.signal(Signal::INT);
    let exit = echod.wait_for_exit();
    let lines: Vec<serde_json::Value> = exit
        .stderr
        .iter()
        .map(|line| serde_json::from_str(line).expect("an object in each line"))
        .collect();
    let refused = lines
        .iter()
        .find(|it| it["message"] == "connection refused");
    let refused = refused.expect("the refusal");
    assert_eq!(refused["reason"], "max_connections");
    assert_eq!(refused["peer"], "127.0.0.1");
    assert_eq!(refused["level"], "WARN");
    assert!(
        lines.iter().all(|it| it.get("fields").is_none()),
        "{lines:?}"
    );
}

#[test]
fn a_flood_of_refusals_is_one_line() {
    const REFUSED: usize = 50;
    let mut command = Command::new(PROGRAM);
    command.args([TCP, ADMIN, "--deny=127.0.0.0/8", "--workers=1"]);
    let echod = Echod::start_command(&mut command);
    for _ in 0..REFUSED {
        echod.connect().expect_end();
    }
    let refused = "echod_connections_refused_total{reason=\"denied\"}";
    assert_eq!(echod.metric(refused), REFUSED as u64);
    echod.signal(Signal::TERM);
    let exit = echod.wait_for_exit();
    let told = exit
        .stderr
        .iter()
        .filter(|it| it.contains("connection refused"));
    assert_eq!(told.count(), 1, "{exit:#?}");
}
