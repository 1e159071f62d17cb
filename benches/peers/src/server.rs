//! A server under measurement: a process of its own, started for one turn and ended after it.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::load::{Gauge, Service};
use crate::procfs::{self, Memory, Usage};
use crate::scratch::Scratch;
use crate::sys;

/// How long a server may take to listen. Under valgrind, that is seconds.
const START: Duration = Duration::from_secs(30);

/// How long a server may take to end once it is told to.
const END: Duration = Duration::from_secs(20);

/// After how long a server that callgrind runs has not heard that it is to end.
const HEARD: Duration = Duration::from_secs(2);

/// Between two looks at something that is waited for.
const STEP: Duration = Duration::from_millis(2);

/// What a failing server may say for itself, in bytes.
const LAST_WORDS: u64 = 4096;

/// How a server tells where it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// It says so in a line on stdout that begins with `listening` and ends with the port.
    Announced,
    /// It was told the port, and is ready when that answers.
    AtPort(u16),
}

/// How to start a server.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Program and arguments.
    pub command: Vec<String>,
    /// How it tells that it listens.
    pub ready: Ready,
    /// What it is asked for.
    pub service: Service,
    /// A file that it reads when it starts.
    pub file: Option<Arc<Scratch>>,
}

/// A program that runs the server and watches it.
#[derive(Clone, Debug, Default)]
pub enum Watcher {
    /// None.
    #[default]
    None,
    /// The server is a child of it, as with strace.
    Parent(Vec<String>),
    /// The server becomes part of it, as with valgrind.
    Host(Vec<String>),
}

/// A server that runs. When this is dropped, it is killed with all that it started.
pub struct Server {
    child: Child,
    pid: u32,
    address: SocketAddrV4,
    last_words: Receiver<String>,
    watched: Watched,
}

/// Is a watcher's process the server's own?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    FromInside,
    Otherwise,
}

impl Server {
    /// Starts a server on these processors and waits until it listens.
    ///
    /// # Errors
    /// What failed, with what the server wrote to stderr.
    pub fn start(launch: &Launch, watcher: &Watcher, cpus: &[usize]) -> io::Result<Self> {
        let mut words: Vec<&String> = match watcher {
            Watcher::None => Vec::new(),
            Watcher::Parent(words) | Watcher::Host(words) => words.iter().collect(),
        };
        words.extend(&launch.command);
        let (program, arguments) = words
            .split_first()
            .ok_or_else(|| io::Error::other("the command is empty"))?;
        let cpus = cpus.to_vec();
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        // SAFETY: both make one system call each and allocate nothing.
        unsafe {
            command.pre_exec(move || {
                sys::die_with_parent()?;
                sys::pin(&cpus)
            })
        };
        let mut child = command
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("cannot run {program}: {e}")))?;
        let announced = watch_stdout(&mut child);
        let mut server = Self {
            pid: child.id(),
            last_words: watch_stderr(&mut child),
            watched: match watcher {
                Watcher::Host(_) => Watched::FromInside,
                Watcher::None | Watcher::Parent(_) => Watched::Otherwise,
            },
            child,
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0),
        };
        let port = match launch.ready {
            Ready::Announced => announced.recv_timeout(START).ok(),
            Ready::AtPort(port) => server.answers(port, launch.service).then_some(port),
        };
        let port = port.ok_or_else(|| server.did_not_start())?;
        server.address.set_port(port);
        if let Watcher::Parent(_) = watcher {
            // The watcher itself is not what is measured or told to end.
            server.pid = procfs::tree(server.pid)
                .get(1)
                .copied()
                .unwrap_or(server.pid);
        }
        procfs::await_quiet(server.pid);
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Tells it to end, and its watcher to write down what it saw, and waits for both.
    ///
    /// # Errors
    /// Where it does not end in time.
    pub fn end(mut self) -> io::Result<()> {
        // What it does for connections that were closed is part of every run, so it may finish.
        procfs::await_quiet(self.pid);
        sys::signal(self.pid as i32, libc::SIGTERM)?;
        let told = Instant::now();
        while self.child.try_wait()?.is_none() {
            if told.elapsed() > END {
                return Err(io::Error::other("it did not end within 20 s of SIGTERM"));
            }
            if self.watched == Watched::FromInside && told.elapsed() > HEARD {
                return self.end_by_control();
            }
            thread::sleep(STEP);
        }
        Ok(())
    }

    /// Has callgrind write down its counts and kills it: it passes no signal on while the server waits
    /// in io_uring_enter(2).
    fn end_by_control(&mut self) -> io::Result<()> {
        let pid = self.pid.to_string();
        let control = Command::new("callgrind_control")
            .args(["-d", &pid])
            .output();
        self.kill();
        match control {
            Ok(output) if output.status.success() => Ok(()),
            _ => Err(io::Error::other(
                "it did not hear SIGTERM, and callgrind_control failed",
            )),
        }
    }

    fn answers(&mut self, port: u16, service: Service) -> bool {
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if let Ok(Some(_)) = self.child.try_wait() {
                return false;
            }
            let answers = match service {
                Service::Echo | Service::Discard => TcpStream::connect(("127.0.0.1", port)).is_ok(),
                Service::UdpEcho => echoes_datagram(port).is_ok(),
            };
            if answers {
                return true;
            }
            thread::sleep(STEP);
        }
        false
    }

    fn did_not_start(&mut self) -> io::Error {
        let how = match self.child.try_wait() {
            Ok(None) => "it did not say where it listens".to_owned(),
            Ok(Some(status)) => format!("it ended: {status}"),
            Err(e) => e.to_string(),
        };
        self.kill();
        let words = self.last_words.recv_timeout(START).unwrap_or_default();
        match words.trim() {
            "" => io::Error::other(how),
            words => io::Error::other(format!("{how}: {words}")),
        }
    }

    fn kill(&mut self) {
        // It leads a process group, which holds what it started.
        let _ = sys::signal(-(self.child.id() as i32), libc::SIGKILL);
        let _ = self.child.wait();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({} at {})", self.pid, self.address)
    }
}

impl Gauge for Server {
    fn usage(&self) -> io::Result<Usage> {
        procfs::usage(self.pid)
    }

    fn memory(&self) -> io::Result<Memory> {
        procfs::memory(self.pid)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port of 127.0.0.1 that was free just now, for a server that can't choose one itself.
///
/// # Errors
/// errno of bind(2).
pub fn free_port(service: Service) -> io::Result<u16> {
    let any = (Ipv4Addr::LOCALHOST, 0);
    match service {
        Service::Echo | Service::Discard => Ok(TcpListener::bind(any)?.local_addr()?.port()),
        Service::UdpEcho => Ok(UdpSocket::bind(any)?.local_addr()?.port()),
    }
}

fn echoes_datagram(port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    socket.connect((Ipv4Addr::LOCALHOST, port))?;
    socket.send(b"?")?;
    socket.recv(&mut [0; 8]).map(drop)
}

/// Reads stdout to its end, so that the server never waits for it, and gives the first port on.
fn watch_stdout(child: &mut Child) -> Receiver<u16> {
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(port) = parse_announcement(&line) {
                    let _ = sender.send(port);
                }
            }
        });
    }
    receiver
}

/// Reads stderr to its end and gives its beginning on.
fn watch_stderr(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    if let Some(mut stderr) = child.stderr.take() {
        thread::spawn(move || {
            let mut words = Vec::new();
            let _ = stderr.by_ref().take(LAST_WORDS).read_to_end(&mut words);
            let _ = sender.send(String::from_utf8_lossy(&words).into_owned());
            let _ = io::copy(&mut stderr, &mut io::sink());
        });
    }
    receiver
}

/// The port of a line such as `listening echo tcp://127.0.0.1:43211`.
fn parse_announcement(line: &str) -> Option<u16> {
    let address = line.strip_prefix("listening ")?;
    address.rsplit_once(':')?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_from_the_line_that_names_it() {
        assert_eq!(
            parse_announcement("listening echo tcp://127.0.0.1:43211"),
            Some(43211)
        );
        assert_eq!(parse_announcement("listening udp://127.0.0.1:7"), Some(7));
        assert_eq!(parse_announcement("ready"), None);
        assert_eq!(parse_announcement("listening unix:/run/echod/echo"), None);
    }

    #[test]
    fn a_server_that_fails_is_quoted() {
        let launch = Launch {
            command: ["sh", "-c", "echo no such ring >&2; exit 3"]
                .map(String::from)
                .to_vec(),
            ready: Ready::Announced,
            service: Service::Echo,
            file: None,
        };
        let cpus = sys::allowed_cpus().unwrap();
        let error = Server::start(&launch, &Watcher::None, &cpus)
            .unwrap_err()
            .to_string();
        assert!(error.contains("no such ring"), "{error}");
    }
}
