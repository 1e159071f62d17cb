//! The program as a user starts it: its output, its exit code, its use of resources.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, kill_process, prlimit};

pub(crate) use rustix::process::Signal;

use super::{Client, DEADLINE, wait_for};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_echod");

/// A running `echod`. Dropping it kills it.
pub(crate) struct Echod {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

/// The exit of `echod`, with all of its output.
#[derive(Debug)]
pub(crate) struct Exit {
    /// `None` when a signal killed it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

/// Logged when root serves, as it may in a test.
pub(crate) const OF_ROOT: &str = "root serves; --user NAME";

impl Exit {
    /// Its warnings and errors, except that root serves.
    pub(crate) fn complaints(&self) -> impl Iterator<Item = &String> {
        let is_complaint = |line: &str| line.contains("WARN") || line.contains("ERROR");
        let lines = self.stderr.iter();
        lines.filter(move |line| is_complaint(line) && !line.contains(OF_ROOT))
    }
}

impl Echod {
    /// Starts `echod` with these arguments and returns when it prints `ready`.
    #[track_caller]
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_command(Command::new(PROGRAM).args(args))
    }

    /// As [`Echod::start`], for a command that becomes `echod`.
    #[track_caller]
    pub(crate) fn start_command(command: &mut Command) -> Self {
        Self::spawn(command).wait_until_ready()
    }

    /// As [`Echod::start_command`], with another stderr that is not read.
    #[track_caller]
    pub(crate) fn start_logging_to(stderr: impl Into<Stdio>, command: &mut Command) -> Self {
        Self::spawn_with(command.stdout(Stdio::piped()).stderr(stderr)).wait_until_ready()
    }

    /// As [`Echod::start_command`], for a start that may fail.
    #[track_caller]
    #[allow(dead_code, reason = "only one of the test programs has such starts")]
    pub(crate) fn try_start_command(command: &mut Command) -> Result<Self, Exit> {
        let mut echod = Self::spawn(command);
        match echod.stdout.next_line_with("ready") {
            Ok(()) => Ok(echod),
            Err(RecvTimeoutError::Disconnected) => Err(echod.wait_for_exit()),
            Err(RecvTimeoutError::Timeout) => panic!("echod neither got ready nor ended"),
        }
    }

    #[track_caller]
    pub(crate) fn wait_until_ready(self) -> Self {
        let mut echod = self;
        if let Err(error) = echod.stdout.next_line_with("ready") {
            let _ = echod.child.kill();
            let said = (echod.stdout.all(), echod.stderr.all());
            panic!("echod did not get ready: {error}; stdout and stderr: {said:#?}");
        }
        echod
    }

    /// Starts a command and does not wait for it.
    #[track_caller]
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self::spawn_with(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        )
    }

    /// Starts a command whose standard streams are set. Pipes among them are read to the end.
    #[track_caller]
    pub(crate) fn spawn_with(command: &mut Command) -> Self {
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdout = child.stdout.take().map_or_else(Lines::none, Lines::of);
        let stderr = child.stderr.take().map_or_else(Lines::none, Lines::of);
        Self {
            child,
            stdout,
            stderr,
        }
    }

    /// Runs a command that is expected to end by itself.
    #[track_caller]
    pub(crate) fn run_to_end(command: &mut Command) -> Exit {
        Self::spawn(command).wait_for_exit()
    }

    /// The first address in its `listening` lines.
    #[track_caller]
    pub(crate) fn address(&self) -> SocketAddr {
        let line = self.stdout.seen.first().expect("a first line");
        let address = line.strip_prefix("listening echo tcp://");
        address
            .and_then(|address| address.parse().ok())
            .unwrap_or_else(|| panic!("no address in `{line}`"))
    }

    /// Its `listening` lines in order, without that word.
    pub(crate) fn listening(&self) -> impl Iterator<Item = &str> {
        let lines = self.stdout.seen.iter();
        lines.filter_map(|line| line.strip_prefix("listening "))
    }

    /// The first address with this prefix in its `listening` lines, such as `echo udp://`.
    #[track_caller]
    pub(crate) fn address_of(&self, kind: &str) -> SocketAddr {
        self.listening()
            .find_map(|it| it.strip_prefix(kind)?.parse().ok())
            .unwrap_or_else(|| panic!("no {kind} in {:#?}", self.stdout.seen))
    }

    /// The value of a sample of its metrics, by name and labels. It needs an admin port.
    #[track_caller]
    pub(crate) fn metric(&self, sample: &str) -> u64 {
        metric(self.address_of("admin http://"), sample)
    }

    /// The sum of all samples of a metric, whatever their labels. It needs an admin port.
    #[track_caller]
    #[allow(dead_code, reason = "only one of the test programs adds up")]
    pub(crate) fn metric_sum(&self, name: &str) -> u64 {
        let admin = self.address_of("admin http://");
        let text = wait_for("/metrics", || page(admin, "/metrics"));
        let samples = text.lines().filter_map(|line| line.strip_prefix(name));
        samples
            .filter_map(|rest| {
                rest.strip_prefix('{')?
                    .rsplit_once(' ')?
                    .1
                    .parse::<u64>()
                    .ok()
            })
            .sum()
    }

    /// Its `/info`. It needs an admin port.
    #[track_caller]
    pub(crate) fn info(&self) -> serde_json::Value {
        let admin = self.address_of("admin http://");
        wait_for("/info", || {
            serde_json::from_str(&page(admin, "/info")?).ok()
        })
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Sets its limit of descriptors.
    #[track_caller]
    pub(crate) fn limit_descriptors(&self, count: u64) {
        self.limit(Resource::Nofile, count);
    }

    /// Limits its address space to this much more than it has now.
    #[track_caller]
    pub(crate) fn limit_memory(&self, headroom: u64) {
        self.limit(Resource::As, self.status_bytes("VmSize:") + headroom);
    }

    #[track_caller]
    fn limit(&self, resource: Resource, value: u64) {
        let limit = Rlimit {
            current: Some(value),
            maximum: Some(value),
        };
        let process = Pid::from_child(&self.child);
        prlimit(Some(process), resource, limit).expect("prlimit(2)");
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal can be sent");
    }

    /// The number of log lines with `text` among the lines already waited for.
    pub(crate) fn logged(&self, text: &str) -> usize {
        let lines = self.stderr.seen.iter();
        lines.filter(|line| line.contains(text)).count()
    }

    /// Waits until a line of the log contains `text`.
    #[track_caller]
    pub(crate) fn wait_for_log(&mut self, text: &str) {
        if let Err(error) = self.stderr.next_line_with(text) {
            panic!("no `{text}` in the log: {error}: {:#?}", self.stderr.seen);
        }
    }

    /// Waits for its next log line, or until the time has passed.
    pub(crate) fn watch_log_for(&mut self, time: Duration) {
        if let Ok(line) = self.stderr.receiver.recv_timeout(time) {
            self.stderr.seen.push(line);
        }
    }

    #[track_caller]
    pub(crate) fn wait_for_exit(mut self) -> Exit {
        let child = &mut self.child;
        let status = wait_for("end of echod", || child.try_wait().expect("wait for echod"));
        let exit = Exit {
            code: status.code(),
            stdout: self.stdout.all(),
            stderr: self.stderr.all(),
        };
        let panicked = exit.stderr.iter().any(|line| line.contains("panicked"));
        assert!(!panicked, "{exit:#?}");
        exit
    }

    /// Its resident memory.
    #[track_caller]
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// Its private memory: heap and stacks.
    #[track_caller]
    pub(crate) fn private_bytes(&self) -> u64 {
        self.status_bytes("RssAnon:")
    }

    /// Its open descriptors of a kind, as /proc/PID/fd names them, such as `socket:`.
    #[allow(dead_code, reason = "only one of the test programs counts them")]
    pub(crate) fn descriptors(&self, kind: &str) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        let Ok(entries) = fs::read_dir(folder) else {
            return 0;
        };
        entries
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .filter(|target| target.to_string_lossy().starts_with(kind))
            .count()
    }

    /// Whether it has not ended.
    #[allow(dead_code, reason = "only one of the test programs asks")]
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    #[track_caller]
    fn status_bytes(&self, name: &str) -> u64 {
        let status = self.proc_file("status");
        let kilobytes = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_suffix("kB"))
            .unwrap_or_else(|| panic!("no {name} in /proc/PID/status"));
        kilobytes.trim().parse::<u64>().expect("a number") * 1024
    }

    /// Its processor time so far, in steps of 10 ms.
    #[track_caller]
    pub(crate) fn cpu_time(&self) -> Duration {
        /// The unit of times in /proc is 1/100 s on every Linux, independent of the kernel's tick
        /// (USER_HZ, proc(5)).
        const TICK_MS: u64 = 10;
        let stat = self.proc_file("stat");
        // The name in parentheses may hold spaces. utime and stime are the 14th and 15th field, and
        // the 3rd comes first behind the name.
        let (_, fields) = stat.rsplit_once(')').expect("a name in /proc/PID/stat");
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().expect("a number"))
            .sum();
        Duration::from_millis(ticks * TICK_MS)
    }

    #[track_caller]
    fn proc_file(&self, name: &str) -> String {
        let path = format!("/proc/{}/{name}", self.child.id());
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
    }
}

/// The value of a sample of the metrics behind an admin port, by its name with its labels.
#[track_caller]
pub(crate) fn metric(admin: SocketAddr, sample: &str) -> u64 {
    wait_for(sample, || {
        page(admin, "/metrics")?
            .lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
    })
}

/// The admin port's response for a page; `None` if it is incomplete.
#[track_caller]
pub(crate) fn page(admin: SocketAddr, path: &str) -> Option<String> {
    let mut client = Client::connect(admin);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    let mut text = String::new();
    client.read_to_string(&mut text).ok()?;
    let (_, body) = text.split_once("\r\n\r\n")?;
    Some(body.to_owned())
}

impl Drop for Echod {
    fn drop(&mut self) {
        // Both fail only if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            return;
        }
        let panicked = self.stderr.all();
        let panicked = panicked.iter().any(|line| line.contains("panicked"));
        assert!(!panicked, "echod panicked");
    }
}

/// The lines of a pipe, read by a thread of its own so that the program never blocks on writing.
struct Lines {
    receiver: Receiver<String>,
    seen: Vec<String>,
}

impl Lines {
    fn none() -> Self {
        Self::of(io::empty())
    }

    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            receiver,
            seen: Vec::new(),
        }
    }

    /// Waits for a line that contains `text`.
    fn next_line_with(&mut self, text: &str) -> Result<(), RecvTimeoutError> {
        loop {
            let line = self.receiver.recv_timeout(DEADLINE)?;
            let found = line.contains(text);
            self.seen.push(line);
            if found {
                return Ok(());
            }
        }
    }

    /// All lines up to the end of the pipe.
    fn all(&mut self) -> Vec<String> {
        loop {
            match self.receiver.recv_timeout(DEADLINE) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return self.seen.clone(),
                Err(RecvTimeoutError::Timeout) => panic!("the pipe was not closed"),
            }
        }
    }
}
