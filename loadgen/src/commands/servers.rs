//! Servers that are started for a measurement and ended after it, whatever comes between.
//!
//! Each is the leader of a process group of its own: a ctrl-C in the terminal does not reach it, and
//! what it starts itself ends with it. In the group is also a watchman, who kills all of it when this
//! program ends in a way that leaves it no last word.

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

/// What stands for a free port in a command line.
const PORT: &str = "{port}";
/// How long a server may take until it listens,
const START: Duration = Duration::from_secs(10);
/// and to end when it is asked to; then it is killed.
const END: Duration = Duration::from_secs(5);
/// How long what was killed may take to be gone.
const DEATH: Duration = Duration::from_secs(1);
/// How often is looked whether it listens, or has ended.
const PAUSE: Duration = Duration::from_millis(5);
/// What starts a server: a shell that leaves a watchman behind and then becomes the server's own.
///
/// The watchman reads from a pipe whose other end is this program's alone, so the end of file tells of
/// its death, whatever it died of. He is there before the server is, and what he kills is his own
/// group, whose number can't be another's while he is in it. The kernel's signal at a parent's death
/// (prctl(2), PR_SET_PDEATHSIG) would reach the shell alone, and would come as soon as the thread that
/// started it ends.
///
/// SIGTERM ends him as it ends the others, or the group would never be empty: of what does not obey
/// it, a program that is killed within [`END`] is survived.
///
/// His descriptor is not stdin, because a shell gives what runs in the background an empty one. He
/// holds no pipe that tells of the server, and is no child of it, which it might wait for.
const START_GUARDED: &str = r#"exec 3<&0 </dev/null
({ read -r _ <&3; kill -KILL 0; } >/dev/null 2>&1 &)
exec sh -c "$1" 3<&-"#;
/// The end of what a server wrote to stderr, which is shown if it does not start.
const STDERR_KEPT: usize = 1000;

/// Groups that run, for a program that ends at once.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Kills every server that runs. For a program that ends without coming back to whoever started them.
pub(crate) fn kill_all() {
    for group in RUNNING
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
    {
        // One that has ended meanwhile is none to kill.
        let _ = kill_process_group(*group, Signal::KILL);
    }
}

/// A server that runs until this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where it listens.
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
                // It may go on without a stdout.
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

/// What a server has said of itself.
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

    /// Where it listens, once it does: by its own word, or as a connect to its port shows.
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

/// A process group, which is ended with this.
#[derive(Debug)]
struct Process {
    child: Child,
    group: Pid,
    stderr: Arc<Mutex<Vec<u8>>>,
}

impl Process {
    fn spawn(line: &str) -> std::io::Result<(Self, Receiver<String>)> {
        // What a shell started is waited for here when the shell has ended.
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
        // Both are read to their end: a server whose pipe is full would stand still.
        if let Some(out) = out {
            in_background(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    // After the start nobody listens any more.
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

    /// The last line that it wrote to stderr.
    fn words(&self) -> String {
        let stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&stderr);
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        last.map_or_else(String::new, |line| format!(": {}", line.trim()))
    }

    /// Whether the group is gone by `deadline`.
    fn is_gone_by(&self, deadline: Instant) -> bool {
        loop {
            // Those that have ended stay in their group until they are waited for.
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
            // What nobody waits for may stay in the table of processes; it runs no more.
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

/// Reads to the end and keeps the last of it.
fn keep_the_end(mut from: impl Read, kept: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&buffer[..count]);
        let surplus = kept.len().saturating_sub(STDERR_KEPT);
        kept.drain(..surplus);
    }
}
