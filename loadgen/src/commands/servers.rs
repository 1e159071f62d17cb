//! Servers that are started for a measurement and always ended after it.
//!
//! Each is the leader of its own process group: a ctrl-C in the terminal does not reach it, and its
//! child processes end with it. A guard process in the group kills the whole group if this program
//! dies without cleaning up.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use echomark::net::endpoint::Endpoint;
use loadgen::Control;
use loadgen::admin::AdminUrl;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process_group, set_child_subreaper,
    test_kill_process_group, waitpgid,
};

/// The placeholder for a free port in a command line.
const PORT: &str = "{port}";
/// Maximum time until a server listens,
const START: Duration = Duration::from_secs(10);
/// and until it ends after SIGTERM. Then it is killed.
const END: Duration = Duration::from_secs(5);
/// Maximum time until a killed process is gone.
const DEATH: Duration = Duration::from_secs(1);
/// How often to check whether a server listens or has ended.
const PAUSE: Duration = Duration::from_millis(5);
/// Starts a server: a shell that leaves a guard process behind and then runs the server's shell.
///
/// The guard reads from a pipe whose only writer is this program, so end of file reports this
/// program's death, whatever the cause. The guard starts before the server and kills its own group;
/// the group's number can't be reused while the guard is in it. The kernel's signal at a parent's
/// death (prctl(2), PR_SET_PDEATHSIG) would reach only the shell, and would already come when the
/// thread that started it ends.
///
/// SIGTERM ends the guard too, otherwise the group would never be empty. If a member ignores
/// SIGTERM and this program is killed within [`END`], that member survives.
///
/// The pipe is not stdin, because a shell gives background processes an empty stdin. The guard
/// holds none of the server's output pipes, and is not a child of the server, which might wait for
/// it.
const START_GUARDED: &str = r#"exec 3<&0 </dev/null
({ read -r _ <&3; kill -KILL 0; } >/dev/null 2>&1 &)
exec sh -c "$1" 3<&-"#;
/// The end of a server's stderr, shown if the server does not start.
const STDERR_KEPT: usize = 1000;

/// The running groups, for a program that exits at once.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Kills every running server. For a program that exits without returning through its callers.
pub(crate) fn kill_all() {
    for group in RUNNING
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
    {
        // A group that has ended meanwhile can't be killed.
        let _ = kill_process_group(*group, Signal::KILL);
    }
}

/// A server that runs until this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    /// Its endpoint.
    pub(crate) endpoint: Endpoint,
    /// Its admin port, if it printed one.
    pub(crate) admin: Option<AdminUrl>,
    _process: Process,
}

impl Server {
    /// Starts `command` by `sh -c` and waits until it listens for `service`.
    ///
    /// # Errors
    /// One line for the user: it ended, or does not listen.
    pub(crate) fn start(command: &str, service: &str, control: &Control) -> Result<Self, String> {
        let problem = |what: String| format!("cannot start `{command}`: {what}");
        let port = command
            .contains(PORT)
            .then(free_port)
            .transpose()
            .map_err(|error| problem(format!("no free port: {error}")))?;
        let line = port.map_or_else(
            || command.to_owned(),
            |port| command.replace(PORT, &port.to_string()),
        );
        let (mut process, lines) =
            Process::spawn(&line).map_err(|error| problem(error.to_string()))?;
        let deadline = Instant::now() + START;
        let mut said = Said::default();
        loop {
            match lines.recv_timeout(PAUSE) {
                Ok(line) => said.note(&line, service),
                Err(RecvTimeoutError::Timeout) => {}
                // The server may continue without a stdout.
                Err(RecvTimeoutError::Disconnected) => thread::sleep(PAUSE),
            }
            if let Some(endpoint) = said.listening(port) {
                return Ok(Self {
                    endpoint,
                    admin: said.admin,
                    _process: process,
                });
            }
            if let Some(status) = process.ended() {
                return Err(problem(format!(
                    "it ended with {status}{}",
                    process.words()
                )));
            }
            if control.is_stopped() {
                return Err(problem("interrupted".to_owned()));
            }
            if Instant::now() >= deadline {
                let what = match port {
                    Some(port) => format!("nothing listens on port {port}"),
                    None => format!(
                        "it did not print `listening {service} ENDPOINT` and `ready`; write {PORT} \
                         where its port stands, if it prints nothing"
                    ),
                };
                return Err(problem(format!(
                    "{what} after {} s{}",
                    START.as_secs(),
                    process.words()
                )));
            }
        }
    }
}

/// The endpoints that a server announced.
#[derive(Debug, Default)]
struct Said {
    endpoint: Option<Endpoint>,
    admin: Option<AdminUrl>,
    is_ready: bool,
}

impl Said {
    fn note(&mut self, line: &str, service: &str) {
        self.is_ready |= line.trim() == "ready";
        let Some((name, place)) = line
            .trim()
            .strip_prefix("listening ")
            .and_then(|rest| rest.split_once(' '))
        else {
            return;
        };
        if name == "admin" {
            self.admin = self.admin.take().or_else(|| place.parse().ok());
        } else if name == service {
            self.endpoint = self.endpoint.take().or_else(|| place.parse().ok());
        }
    }

    /// Its endpoint, once it listens: by its announcement, or if a connect to its port succeeds.
    fn listening(&self, port: Option<u16>) -> Option<Endpoint> {
        match port {
            None => self.endpoint.clone().filter(|_| self.is_ready),
            Some(port) => {
                let address = (Ipv4Addr::LOCALHOST, port).into();
                TcpStream::connect_timeout(&address, PAUSE).ok()?;
                Some(Endpoint::Tcp(address.into()))
            }
        }
    }
}

/// A port that is free at this moment.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// A process group. Dropping it ends the group.
#[derive(Debug)]
struct Process {
    child: Child,
    group: Pid,
    stderr: Arc<Mutex<Vec<u8>>>,
}

impl Process {
    fn spawn(line: &str) -> std::io::Result<(Self, Receiver<String>)> {
        // After the shell has ended, its orphans are reaped here.
        set_child_subreaper(Some(getpid()))?;
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = Command::new("sh")
            .args(["-c", START_GUARDED, "sh", line])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let group = Pid::from_child(&child);
        running.push(group);
        drop(running);
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let process = Self {
            child,
            group,
            stderr: Arc::default(),
        };
        let (said, lines) = mpsc::channel();
        // Both are read to the end: a server with a full pipe would block.
        if let Some(out) = out {
            in_background(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    // After the start, nothing receives the announcements.
                    let _ = said.send(line);
                }
            })?;
        }
        if let Some(err) = err {
            let kept = Arc::clone(&process.stderr);
            in_background(move || keep_the_end(err, &kept))?;
        }
        Ok((process, lines))
    }

    fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The last line of its stderr.
    fn words(&self) -> String {
        let stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&stderr);
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        last.map_or_else(String::new, |line| format!(": {}", line.trim()))
    }

    /// Whether the group is gone by `deadline`.
    fn is_gone_by(&self, deadline: Instant) -> bool {
        loop {
            // Ended processes stay in their group until they are reaped.
            while let Ok(Some(_)) = waitpgid(self.group, WaitOptions::NOHANG) {}
            if test_kill_process_group(self.group).is_err() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = kill_process_group(self.group, Signal::TERM);
        if !self.is_gone_by(Instant::now() + END) {
            let _ = kill_process_group(self.group, Signal::KILL);
            // Zombies may stay in the process table. They no longer run.
            self.is_gone_by(Instant::now() + DEATH);
        }
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|group| *group != self.group);
    }
}

fn in_background(work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new()
        .name("loadgen-server".to_owned())
        .spawn(work)
        .map(drop)
}

/// Reads to the end and keeps the last part.
fn keep_the_end(mut from: impl Read, kept: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&buffer[..count]);
        let surplus = kept.len().saturating_sub(STDERR_KEPT);
        kept.drain(..surplus);
    }
}
