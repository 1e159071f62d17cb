//! A server under measurement: a process of its own, started for one turn and ended after it.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::{NamedTempFile, TempPath};

use crate::client::Service;
use crate::process;

/// The longest time that a server may take to listen. Under valgrind, that is seconds.
const MAX_START: Duration = Duration::from_secs(30);

/// The longest time that a server may take to end after SIGTERM.
const MAX_END: Duration = Duration::from_secs(60);

/// A server under callgrind that has not ended by then has not heard of it.
const MAX_HEARING: Duration = Duration::from_secs(5);

/// Between two looks at something that is waited for.
const STEP: Duration = Duration::from_millis(2);

/// How to start a server.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) command: Vec<String>,
    /// The port it was told. Without one, it says where it listens in a line on stdout that begins
    /// with `listening` and ends with the port.
    pub(crate) port: Option<u16>,
    pub(crate) service: Service,
}

/// A program that runs another one and counts, with the file that it writes at its end.
#[derive(Clone, Debug)]
pub(crate) enum Watcher {
    None,
    /// The watched program is a child of strace.
    Strace(PathBuf),
    /// The watched program becomes part of valgrind's process.
    Callgrind(PathBuf),
}

impl Watcher {
    pub(crate) fn words(&self) -> Vec<String> {
        let words = match self {
            Self::None => String::new(),
            Self::Strace(file) => format!("strace -f -c -o {}", file.display()),
            Self::Callgrind(file) => format!(
                "valgrind --tool=callgrind --combine-dumps=yes --callgrind-out-file={}",
                file.display()
            ),
        };
        words.split_whitespace().map(str::to_owned).collect()
    }
}

/// A server that runs. When this is dropped, it is killed with all that it started.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pid: u32,
    address: SocketAddr,
    watcher: Watcher,
    output: TempPath,
}

impl Server {
    /// Starts a server on these processors and waits until it listens. An error quotes what it wrote.
    pub(crate) fn start(launch: &Launch, watcher: Watcher, cpus: &[usize]) -> io::Result<Self> {
        let path = NamedTempFile::new()?.into_temp_path();
        // Both outputs append, so that neither overwrites the other.
        let output = File::options().append(true).open(&path)?;
        let words = [watcher.words(), launch.command.clone()].concat();
        let program = words
            .first()
            .ok_or_else(|| io::Error::other("the command is empty"))?;
        let mut command = Command::new(program);
        command
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        process::pin_command(&mut command, cpus);
        let child = command
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("cannot run {program}: {e}")))?;
        let mut server = Self {
            pid: child.id(),
            child,
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            watcher,
            output: path,
        };
        let port = server.await_port(launch)?;
        server.address.set_port(port);
        if let Watcher::Strace(_) = server.watcher {
            // strace itself is not what is measured or told to end.
            let family = process::family(server.pid);
            server.pid = family.get(1).map_or(server.pid, |child| child.pid as u32);
        }
        process::await_quiet(server.pid);
        Ok(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Tells it to end, so that its watcher writes down what it saw, and waits for both.
    pub(crate) fn end(mut self) -> io::Result<()> {
        // What it does for connections that were closed is part of every run, so it may finish.
        process::await_quiet(self.pid);
        if let Some(pid) = Pid::from_raw(self.pid as i32) {
            kill_process(pid, Signal::TERM)?;
        }
        let told = Instant::now();
        let mut dump: Option<Dump> = None;
        while self.child.try_wait()?.is_none() {
            // callgrind passes no signal on while the server waits in io_uring_enter(2).
            let is_deaf = told.elapsed() > MAX_HEARING;
            if is_deaf && dump.is_none() && matches!(self.watcher, Watcher::Callgrind(_)) {
                dump = Some(Dump::request(self.pid)?);
            }
            if let Some(dump) = &mut dump
                && dump.0.try_wait()?.is_some_and(|status| status.success())
            {
                return Ok(());
            }
            if told.elapsed() > MAX_END {
                return Err(io::Error::other("the server did not end after SIGTERM"));
            }
            thread::sleep(STEP);
        }
        Ok(())
    }

    fn await_port(&mut self, launch: &Launch) -> io::Result<u16> {
        let deadline = Instant::now() + MAX_START;
        let mut why = "it did not say where it listens".to_owned();
        while Instant::now() < deadline {
            let port = match launch.port {
                Some(port) => answers(port, launch.service).then_some(port),
                None => announced_port(&fs::read_to_string(&self.output)?),
            };
            if let Some(port) = port {
                return Ok(port);
            }
            if let Some(status) = self.child.try_wait()? {
                why = format!("it ended: {status}");
                break;
            }
            thread::sleep(STEP);
        }
        let words = fs::read_to_string(&self.output)?;
        Err(io::Error::other(format!("{why}\n{words}").trim()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It leads a process group, which holds what it started.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// callgrind_control(1), which waits for ever for a server that ends meanwhile; it is killed when this is
/// dropped.
struct Dump(Child);

impl Dump {
    /// Has callgrind write down what it counted so far.
    fn request(pid: u32) -> io::Result<Self> {
        let mut control = Command::new("callgrind_control");
        let control = control.args(["-d", &pid.to_string()]);
        Ok(Self(
            control.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?,
        ))
    }
}

impl Drop for Dump {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port of 127.0.0.1 that was free just now, for a server that can't choose one itself.
pub(crate) fn free_port(service: Service) -> io::Result<u16> {
    let any = (Ipv4Addr::LOCALHOST, 0);
    Ok(match service {
        Service::Echo | Service::Discard | Service::TlsEcho => {
            TcpListener::bind(any)?.local_addr()?.port()
        }
        Service::UdpEcho => UdpSocket::bind(any)?.local_addr()?.port(),
    })
}

fn answers(port: u16, service: Service) -> bool {
    let echoes_datagram = || -> io::Result<()> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        socket.connect((Ipv4Addr::LOCALHOST, port))?;
        socket.send(b"?")?;
        socket.recv(&mut [0; 8]).map(drop)
    };
    match service {
        Service::Echo | Service::Discard | Service::TlsEcho => {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        }
        Service::UdpEcho => echoes_datagram().is_ok(),
    }
}

/// The port of the first whole line such as `listening echo tcp://127.0.0.1:43211`.
fn announced_port(output: &str) -> Option<u16> {
    let (whole, _) = output.rsplit_once('\n')?;
    let mut lines = whole.lines();
    lines.find_map(|line| {
        line.strip_prefix("listening ")?
            .rsplit_once(':')?
            .1
            .parse()
            .ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_from_the_line_that_names_it() {
        let of = announced_port;
        assert_eq!(
            of("a log line\nlistening echo tcp://127.0.0.1:43211\nready\n"),
            Some(43211)
        );
        assert_eq!(of("listening udp://127.0.0.1:7\n"), Some(7));
        assert_eq!(
            of("listening udp://127.0.0.1:7"),
            None,
            "more digits may follow"
        );
        assert_eq!(of("listening unix:/run/echod/echo\n"), None);
    }

    #[test]
    fn a_server_that_fails_is_quoted() {
        let command = ["sh", "-c", "echo no such ring >&2; exit 3"].map(String::from);
        let launch = Launch {
            command: command.to_vec(),
            port: None,
            service: Service::Echo,
        };
        let cpus = process::allowed_cpus().unwrap();
        let error = Server::start(&launch, Watcher::None, &cpus).unwrap_err();
        assert!(error.to_string().contains("no such ring"), "{error}");
    }
}
