//! Hand-overs under load, in which one of the two servers is killed or told to end at a random
//! moment.
//!
//! `CAMPAIGN_HAND_OVERS` sets their number and `CAMPAIGN_SEED` the moments and choices.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::pattern::Choices;
use crate::{number, say};

/// The time after which a step counts as hanging.
const DEADLINE: Duration = Duration::from_secs(60);
/// A new server serves some milliseconds after it was started; later kills meet one that has taken
/// over.
const MAX_MOMENT_US: usize = 60_000;
/// Clients that connect for each echo, clients that stay for a while, and clients that scrape.
const CHURNERS: usize = 3;
const STAYERS: usize = 2;
const SCRAPERS: usize = 1;
/// An address of this machine that no test uses.
const HOST: &str = "127.0.0.31";

/// What happens in a hand-over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Calm,
    SuccessorKilled,
    SuccessorToldToEnd,
    PredecessorKilled,
    PredecessorToldToEnd,
}

/// What happened in a hand-over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    Calm,
    SuccessorKilledBeforeGrant,
    SuccessorKilledAfterGrant,
    SuccessorToldToEnd,
    PredecessorKilled,
    PredecessorToldToEnd,
}

impl Outcome {
    const ALL: [Self; 6] = [
        Self::Calm,
        Self::SuccessorKilledBeforeGrant,
        Self::SuccessorKilledAfterGrant,
        Self::SuccessorToldToEnd,
        Self::PredecessorKilled,
        Self::PredecessorToldToEnd,
    ];

    /// A server that may have served was killed: its connections are lost.
    fn may_lose(self) -> bool {
        matches!(
            self,
            Self::SuccessorKilledAfterGrant | Self::PredecessorKilled
        )
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Calm => "nobody killed",
            Self::SuccessorKilledBeforeGrant => "successor killed before the grant",
            Self::SuccessorKilledAfterGrant => "successor killed after the grant",
            Self::SuccessorToldToEnd => "successor told to end",
            Self::PredecessorKilled => "predecessor killed",
            Self::PredecessorToldToEnd => "predecessor told to end",
        })
    }
}

/// Counts of the clients, or differences of them.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    served: u64,
    lost: u64,
    refused: u64,
    scraped: u64,
    unanswered: u64,
}

/// Adds up what each outcome cost.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    rounds: u64,
    counts: Counts,
}

#[derive(Default)]
struct Clients {
    stop: AtomicBool,
    served: AtomicU64,
    refused: AtomicU64,
    scraped: AtomicU64,
    errors: Mutex<Vec<Lost>>,
}

/// A connection that was lost.
struct Lost {
    what: What,
    /// Before it connected.
    begin: Instant,
    error: io::Error,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum What {
    Echo,
    Scrape,
}

impl Clients {
    fn counts(&self) -> Counts {
        let value = |it: &AtomicU64| it.load(Ordering::Relaxed);
        Counts {
            served: value(&self.served),
            refused: value(&self.refused),
            scraped: value(&self.scraped),
            ..Counts::default()
        }
    }

    fn lost(&self) -> Vec<Lost> {
        std::mem::take(&mut self.errors.lock().expect("no panic"))
    }

    /// Calls `round` again and again, and counts its outcomes.
    fn repeat(
        &self,
        what: What,
        served: &AtomicU64,
        mut round: impl FnMut(&AtomicU64) -> io::Result<()>,
    ) {
        while !self.stop.load(Ordering::Relaxed) {
            let begin = Instant::now();
            match round(served) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    let lost = Lost { what, begin, error };
                    self.errors.lock().expect("no panic").push(lost);
                }
            }
            // The servers need the processor too.
            thread::park_timeout(Duration::from_millis(1));
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn echo(stream: &mut TcpStream) -> io::Result<()> {
    let sent = [7; 200];
    stream.write_all(&sent)?;
    let mut back = [0; 200];
    stream.read_exact(&mut back)?;
    assert_eq!(sent, back);
    Ok(())
}

fn end(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest)?;
    assert!(rest.is_empty());
    Ok(())
}

fn churn(address: SocketAddr, served: &AtomicU64) -> io::Result<()> {
    let mut stream = connect(address)?;
    echo(&mut stream)?;
    end(stream)?;
    served.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn stay(address: SocketAddr, served: &AtomicU64) -> io::Result<()> {
    let mut stream = connect(address)?;
    for _ in 0..50 {
        echo(&mut stream)?;
        thread::park_timeout(Duration::from_millis(1));
    }
    end(stream)?;
    served.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn scrape(address: SocketAddr, served: &AtomicU64) -> io::Result<()> {
    let mut stream = connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.31\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    if !response.contains("echod_build_info") {
        return Err(io::Error::other(format!("a response of {response:?}")));
    }
    served.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// An `echod` with its log. Dropping it kills it.
struct Server {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    is_ready: Arc<AtomicBool>,
}

impl Server {
    fn spawn(plan: &Plan, random: &mut Choices) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_echod"))
            .arg(format!("--echo=tcp://{}", plan.address))
            .arg(format!("--admin={}", plan.admin))
            .arg(format!("--handover={}", plan.path.display()))
            .arg(format!("--workers={}", 1 + random.below(4)))
            .arg("--drain-timeout=10m")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("echod starts");
        let (log, is_ready) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let stdout = child.stdout.take().expect("a pipe");
        let ready = Arc::clone(&is_ready);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                ready.fetch_or(line == "ready", Ordering::Relaxed);
            }
        });
        let stderr = child.stderr.take().expect("a pipe");
        let lines: Arc<Mutex<Vec<String>>> = Arc::clone(&log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().expect("no panic").push(line);
            }
        });
        Self {
            child,
            log,
            is_ready,
        }
    }

    fn signal(&self, signal: Signal) {
        // It may have ended.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    fn has_said(&self, text: &str) -> bool {
        let log = self.log.lock().expect("no panic");
        log.iter().any(|line| line.contains(text))
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its child").is_some()
    }

    #[track_caller]
    fn wait_for(&mut self, what: &str, condition: impl Fn(&mut Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !condition(self) {
            assert!(
                Instant::now() < end,
                "not within {DEADLINE:?}: {what}: {:#?}",
                self.log.lock().expect("no panic")
            );
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    #[track_caller]
    fn wait_until_ready(&mut self) {
        self.wait_for("ready", |it| {
            it.is_ready.load(Ordering::Relaxed) || it.has_ended()
        });
        let log = self.log.lock().expect("no panic");
        assert!(self.is_ready.load(Ordering::Relaxed), "{log:#?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Plan {
    address: SocketAddr,
    admin: SocketAddr,
    path: PathBuf,
}

/// One hand-over. Returns the server that serves afterwards.
fn hand_over(mut old: Server, plan: &Plan, random: &mut Choices) -> (Server, Outcome) {
    let fate = match random.below(10) {
        0..=3 => Fate::Calm,
        4..=5 => Fate::SuccessorKilled,
        6 => Fate::SuccessorToldToEnd,
        7 => Fate::PredecessorKilled,
        _ => Fate::PredecessorToldToEnd,
    };
    let mut new = Server::spawn(plan, random);
    let moment = Duration::from_micros(random.below(MAX_MOMENT_US) as u64);
    thread::park_timeout(moment);
    match fate {
        Fate::Calm => {
            new.wait_until_ready();
            old.wait_for("its end", Server::has_ended);
            (new, Outcome::Calm)
        }
        Fate::PredecessorKilled | Fate::PredecessorToldToEnd => {
            let (signal, outcome) = match fate {
                Fate::PredecessorKilled => (Signal::KILL, Outcome::PredecessorKilled),
                _ => (Signal::TERM, Outcome::PredecessorToldToEnd),
            };
            old.signal(signal);
            new.wait_until_ready();
            old.wait_for("its end", Server::has_ended);
            (new, outcome)
        }
        Fate::SuccessorKilled | Fate::SuccessorToldToEnd => {
            let signal = match fate {
                Fate::SuccessorKilled => Signal::KILL,
                _ => Signal::TERM,
            };
            new.signal(signal);
            new.wait_for("its end", Server::has_ended);
            // A connection to the hand-over socket is answered after the end of the other one.
            old.wait_for("a decision", |old| {
                old.has_said("a successor serves")
                    || old.has_said("did not take over")
                    || answers(&plan.path)
            });
            let was_released = old.has_said("a successor serves");
            let was_granted = was_released || old.has_said("state=AwaitingServing");
            let outcome = match fate {
                Fate::SuccessorToldToEnd => Outcome::SuccessorToldToEnd,
                _ if was_granted => Outcome::SuccessorKilledAfterGrant,
                _ => Outcome::SuccessorKilledBeforeGrant,
            };
            if was_released {
                old.wait_for("its end", Server::has_ended);
                old = Server::spawn(plan, random);
                old.wait_until_ready();
            }
            old.log.lock().expect("no panic").clear();
            (old, outcome)
        }
    }
}

/// Whether the server at the path refuses a client that does not speak the protocol.
fn answers(path: &Path) -> bool {
    let Ok(mut stream) = std::os::unix::net::UnixStream::connect(path) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let mut answer = String::new();
    stream.write_all(b"?\n").is_ok() && stream.read_to_string(&mut answer).is_ok()
}

#[test]
#[ignore = "a campaign of minutes"]
fn hand_over_campaign() {
    let rounds = number("CAMPAIGN_HAND_OVERS", 1000);
    let seed = number("CAMPAIGN_SEED", 1);
    let mut random = Choices::new(seed);
    let directory = std::env::temp_dir().join(format!("echomark-campaign-{}", std::process::id()));
    std::fs::create_dir(&directory).expect("a directory");
    let free = || {
        let port = TcpListener::bind((HOST, 0)).expect("a port");
        port.local_addr().expect("an address")
    };
    let plan = Plan {
        address: free(),
        admin: free(),
        path: directory.join("handover"),
    };
    let mut server = Server::spawn(&plan, &mut random);
    server.wait_until_ready();
    let clients = Clients::default();
    let mut rows = [Row::default(); Outcome::ALL.len()];
    // When a server that may have served was last killed, or later.
    let mut last_kill: Option<(Instant, Outcome)> = None;
    let begin = Instant::now();
    let last = thread::scope(|scope| {
        let clients = &clients;
        let plan = &plan;
        for _ in 0..CHURNERS {
            scope.spawn(|| {
                clients.repeat(What::Echo, &clients.served, |it| churn(plan.address, it))
            });
        }
        for _ in 0..STAYERS {
            scope
                .spawn(|| clients.repeat(What::Echo, &clients.served, |it| stay(plan.address, it)));
        }
        for _ in 0..SCRAPERS {
            scope.spawn(|| {
                clients.repeat(What::Scrape, &clients.scraped, |it| scrape(plan.admin, it))
            });
        }
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..rounds {
                let before = clients.counts();
                let outcome;
                (server, outcome) = hand_over(server, plan, &mut random);
                if outcome.may_lose() {
                    last_kill = Some((Instant::now(), outcome));
                }
                // What the round has lost is seen in the next moments.
                wait_for_more(clients);
                let row = &mut rows[outcome as usize];
                row.rounds += 1;
                row.counts = row.counts.plus(clients.counts()).minus(before);
                for lost in clients.lost() {
                    // A connection that began before a server was killed may be seen as lost later.
                    let cause = match last_kill {
                        Some((at, killed)) if lost.begin <= at => killed,
                        _ => {
                            let Lost { what, error, .. } = &lost;
                            say(&format!("{outcome}: {what:?} lost: {error}"));
                            outcome
                        }
                    };
                    let counts = &mut rows[cause as usize].counts;
                    match lost.what {
                        What::Echo => counts.lost += 1,
                        What::Scrape => counts.unanswered += 1,
                    }
                }
            }
            server
        }));
        clients.stop.store(true, Ordering::Relaxed);
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    report(&rows, seed, begin.elapsed());
    drop(last);
    let _ = std::fs::remove_dir_all(&directory);
    for (outcome, row) in Outcome::ALL.iter().zip(rows) {
        let lost = row.counts.lost + row.counts.unanswered;
        assert!(outcome.may_lose() || lost == 0, "{outcome}: {lost} lost");
    }
    assert_eq!(rows[0].counts.refused, 0, "refused while nobody was killed");
}

/// Waits until every client has been served again.
fn wait_for_more(clients: &Clients) {
    let before = clients.counts();
    let end = Instant::now() + DEADLINE;
    loop {
        let now = clients.counts().minus(before);
        if now.served > 4 * (CHURNERS + STAYERS) as u64 && now.scraped > 2 * SCRAPERS as u64 {
            return;
        }
        assert!(Instant::now() < end, "nobody is served: {now:?}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

impl Counts {
    fn plus(self, other: Self) -> Self {
        self.with(other, |one, other| one + other)
    }

    fn minus(self, other: Self) -> Self {
        self.with(other, |one, other| one - other)
    }

    fn with(self, other: Self, add: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            served: add(self.served, other.served),
            lost: add(self.lost, other.lost),
            refused: add(self.refused, other.refused),
            scraped: add(self.scraped, other.scraped),
            unanswered: add(self.unanswered, other.unanswered),
        }
    }
}

fn report(rows: &[Row], seed: u64, took: Duration) {
    say(&format!("seed {seed}, {:.0} s", took.as_secs_f64()));
    say(&format!(
        "{:<36}{:>8}{:>12}{:>7}{:>9}{:>9}{:>12}",
        "what happened", "rounds", "connections", "lost", "refused", "scrapes", "unanswered"
    ));
    for (outcome, Row { rounds, counts }) in Outcome::ALL.iter().zip(rows) {
        say(&format!(
            "{outcome:<36}{rounds:>8}{:>12}{:>7}{:>9}{:>9}{:>12}",
            counts.served, counts.lost, counts.refused, counts.scraped, counts.unanswered
        ));
    }
}
