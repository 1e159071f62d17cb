//! Two hundred faults of random kind, time and length between a client and a server in namespaces of their own,
//! under one watch over TCP and UDP: each is found, named and timed to one interval, and nothing else is.
//!
//! `CAMPAIGN_FAULTS` sets their number and `CAMPAIGN_SEED` the choices.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use loadgen::WatchResult;
use loadgen::result::watch::{Outage, OutageClass, ProbeKind, TargetResult};
use rustix::process::{Pid, Signal, kill_process};

use crate::network::{Network, Place, Process, SERVER, pass};
use crate::support::tools::{require, skip};
use crate::{Random, echod, number, say};

const INTERVAL_S: f64 = 0.02;
const TIMEOUT_S: f64 = 0.2;
const LATE_S: f64 = 0.015;
/// What a busy host adds to a time, beyond the absences that the client itself tells.
const SLACK_S: f64 = 0.06;
/// Between two faults, every probe is answered again.
const REST: Duration = Duration::from_millis(1200);
const MIN_LENGTH_S: f64 = 0.02;
const MAX_LENGTH_S: f64 = 5.0;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    LinkDown,
    Dropped,
    BlackholeRoute,
    UnreachableRoute,
    RejectedPort,
    RejectedHost,
    Reset,
    Killed,
    Stopped,
    Replaced,
    PortMoved,
}

impl Fault {
    const ALL: [Self; 11] = [
        Self::LinkDown,
        Self::Dropped,
        Self::BlackholeRoute,
        Self::UnreachableRoute,
        Self::RejectedPort,
        Self::RejectedHost,
        Self::Reset,
        Self::Killed,
        Self::Stopped,
        Self::Replaced,
        Self::PortMoved,
    ];
}

/// What a watch has to say of a fault.
#[derive(Debug)]
enum Expected {
    Nothing,
    /// An outage that began so.
    Outage(&'static [OutageClass]),
    /// The same, or late answers: as long as the timeout, or TCP brought them after all.
    OutageOrLate(&'static [OutageClass]),
    Late,
    /// Late answers, unless it lay between two probes.
    LateOrNothing,
}

/// A fault that happened: it began and ended between two moments each.
#[derive(Debug)]
struct Happened {
    fault: Fault,
    began: [SystemTime; 2],
    ended: [SystemTime; 2],
}

/// A running echod.
struct Server {
    process: Process,
    handover: String,
}

impl Server {
    fn start(network: &Network, port: u16, handover: &str) -> Self {
        let echod = echod();
        let [tcp, udp] = ["tcp", "udp"].map(|it| format!("{it}://{SERVER}:{port}"));
        let mut command = network.command(
            Place::Server,
            &[
                &echod.display().to_string(),
                "--echo",
                &tcp,
                "--echo",
                &udp,
                "--udp-rate-per-source",
                "off",
                "--workers",
                "1",
                "--handover",
                handover,
            ],
        );
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let is_ready = lines.any(|line| line.is_ok_and(|line| line == "ready"));
        assert!(is_ready, "echod ended");
        Self {
            process: Process(child),
            handover: handover.to_owned(),
        }
    }

    /// nsenter(1) and chrt(1) become the program that they start.
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process.0), signal).unwrap();
    }
}

fn now() -> SystemTime {
    SystemTime::now()
}

/// Runs an action, between two moments.
fn timed(action: impl FnOnce()) -> [SystemTime; 2] {
    let before = now();
    action();
    [before, now()]
}

/// Makes a fault for `length`.
fn make(network: &Network, server: &mut Server, fault: Fault, length: Duration) -> Happened {
    let router = |command: &[&str]| network.must(Place::Router, command);
    let rule = |verdict: &str| router(&["nft", &format!("add rule inet faults forward {verdict}")]);
    let flush = || router(&["nft", "flush chain inet faults forward"]);
    let route = |what: &str, kind: &str| router(&["ip", "route", what, kind, SERVER]);
    let handover = server.handover.clone();
    let (began, ended) = match fault {
        Fault::LinkDown => {
            let began = timed(|| router(&["ip", "link", "set", "r2", "down"]));
            pass(length);
            (began, timed(|| router(&["ip", "link", "set", "r2", "up"])))
        }
        Fault::BlackholeRoute | Fault::UnreachableRoute => {
            let kind = if fault == Fault::BlackholeRoute {
                "blackhole"
            } else {
                "unreachable"
            };
            let began = timed(|| route("add", kind));
            pass(length);
            (began, timed(|| route("delete", kind)))
        }
        Fault::Dropped | Fault::RejectedPort | Fault::RejectedHost | Fault::Reset => {
            let began = timed(|| {
                rule(match fault {
                    Fault::Dropped => "drop",
                    Fault::RejectedPort => "reject with icmp type port-unreachable",
                    Fault::RejectedHost => "reject with icmp type host-unreachable",
                    _ => "meta l4proto tcp reject with tcp reset",
                });
            });
            pass(length);
            (began, timed(flush))
        }
        Fault::Killed | Fault::PortMoved => {
            let began = timed(|| {
                server.signal(Signal::KILL);
                server.process.0.wait().unwrap();
            });
            if fault == Fault::PortMoved {
                let moved = Server::start(network, 7778, &handover);
                pass(length);
                drop(moved);
            } else {
                pass(length);
            }
            (
                began,
                timed(|| *server = Server::start(network, 7777, &handover)),
            )
        }
        Fault::Stopped => {
            let began = timed(|| server.signal(Signal::STOP));
            pass(length);
            (began, timed(|| server.signal(Signal::CONT)))
        }
        Fault::Replaced => {
            let began = timed(|| {
                let successor = Server::start(network, 7777, &handover);
                let mut old = std::mem::replace(server, successor);
                // It drains, and its clients leave it when it ends.
                old.process.0.wait().unwrap();
            });
            (began, began)
        }
    };
    Happened {
        fault,
        began,
        ended,
    }
}

/// What a fault is to probes of one kind.
fn expected(happened: &Happened, is_udp: bool, kind: ProbeKind) -> Expected {
    use OutageClass::{Closed, Refused, Reset, Timeout, Unreachable};
    let length = seconds_between(happened.began[1], happened.ended[0]);
    // An established TCP connection does not believe what ICMP says of it.
    let is_deaf = !is_udp && kind == ProbeKind::Persistent;
    let silent = if is_deaf && length < TIMEOUT_S + SLACK_S {
        Expected::OutageOrLate(&[Timeout])
    } else {
        Expected::Outage(&[Timeout])
    };
    match happened.fault {
        Fault::Dropped | Fault::BlackholeRoute => silent,
        Fault::LinkDown | Fault::UnreachableRoute | Fault::RejectedHost if is_deaf => {
            match silent {
                Expected::OutageOrLate(_) => Expected::OutageOrLate(&[Timeout, Unreachable]),
                _ => silent,
            }
        }
        Fault::RejectedPort if is_deaf => silent,
        // Of a lack of a route the router tells about once a second and source (`error_cost` in the kernel's
        // net/ipv4/route.c, which namespaces share).
        Fault::LinkDown | Fault::UnreachableRoute => Expected::Outage(&[Unreachable, Timeout]),
        Fault::RejectedHost => Expected::Outage(&[Unreachable]),
        Fault::RejectedPort => Expected::Outage(&[Refused]),
        Fault::Reset if is_udp => Expected::Nothing,
        Fault::Reset if kind == ProbeKind::New => Expected::Outage(&[Refused, Reset]),
        Fault::Reset => Expected::Outage(&[Reset]),
        Fault::Killed | Fault::PortMoved if is_udp => Expected::Outage(&[Refused, Timeout]),
        Fault::Killed | Fault::PortMoved if kind == ProbeKind::New => {
            Expected::Outage(&[Refused, Reset, Closed])
        }
        Fault::Killed | Fault::PortMoved => Expected::Outage(&[Closed, Reset]),
        Fault::Stopped if length < INTERVAL_S + LATE_S + SLACK_S => Expected::LateOrNothing,
        Fault::Stopped if length < TIMEOUT_S - SLACK_S => Expected::Late,
        Fault::Stopped if length < TIMEOUT_S + SLACK_S => Expected::OutageOrLate(&[Timeout]),
        Fault::Stopped => Expected::Outage(&[Timeout]),
        Fault::Replaced => Expected::Nothing,
    }
}

fn seconds_between(from: SystemTime, to: SystemTime) -> f64 {
    match to.duration_since(from) {
        Ok(time) => time.as_secs_f64(),
        Err(error) => -error.duration().as_secs_f64(),
    }
}

/// The judge of one watch.
struct Judge<'a> {
    result: &'a WatchResult,
    started: SystemTime,
    mistakes: Vec<String>,
    /// By how much the ends of stretches lie beyond the moments of the faults, in seconds.
    deviations: Vec<f64>,
    found: usize,
    /// Faults in which the client did not run.
    unseen: usize,
}

impl Judge<'_> {
    fn since_start(&self, time: SystemTime) -> f64 {
        seconds_between(self.started, time)
    }

    /// Time in which the client did not run, around a moment.
    fn absent(&self, at: f64) -> f64 {
        let absences = self.result.client.absences.iter();
        absences
            .filter(|it| it.start_s < at + 0.2 && it.end_s > at - 0.2)
            .map(|it| it.end_s - it.start_s)
            .sum()
    }

    /// Whether the client, as it tells itself, ran for no more than a timeout of this time.
    fn is_unseen(&self, from: f64, to: f64) -> bool {
        let absences = self.result.client.absences.iter();
        let absent: f64 = absences
            .map(|it| (it.end_s.min(to) - it.start_s.max(from)).max(0.0))
            .sum();
        absent > 0.0 && to - from - absent < TIMEOUT_S
    }

    /// How far a moment is from a window. A mistake if it is farther than an interval.
    fn time(&mut self, what: &str, at: f64, window: [f64; 2], whose: &str) {
        let beyond = (window[0] - at).max(at - window[1]).max(0.0);
        self.deviations.push(beyond);
        let allowed = INTERVAL_S + SLACK_S + self.absent(window[0]) + self.absent(window[1]);
        if beyond > allowed {
            self.mistakes.push(format!(
                "{whose}: {what} at {at:.3}, and it was in {window:.3?}"
            ));
        }
    }

    /// Judges the probes of one kind to one target. Returns the stretches that no fault explains.
    fn judge(&mut self, target: &TargetResult, faults: &[Happened]) -> Vec<Outage> {
        let is_udp = target.target.starts_with("udp");
        let mut unexplained: Vec<Outage> = target.outages.clone();
        for happened in faults {
            let began = happened.began.map(|it| self.since_start(it));
            let ended = happened.ended.map(|it| self.since_start(it));
            let whose = format!(
                "{} {} {:?} {:.3} s",
                target.target,
                target.kind,
                happened.fault,
                ended[0] - began[1]
            );
            let tolerance = INTERVAL_S + SLACK_S;
            let (near, far): (Vec<_>, Vec<_>) = unexplained.into_iter().partition(|it| {
                it.end_s > began[0] - tolerance && it.start_s < ended[1] + tolerance
            });
            unexplained = far;
            let outages: Vec<&Outage> = near.iter().filter(|it| it.is_outage()).collect();
            let late: Vec<&Outage> = near.iter().filter(|it| !it.is_outage()).collect();
            let expected = expected(happened, is_udp, target.kind);
            match (&expected, &outages[..]) {
                (Expected::Nothing, []) => {}
                (Expected::LateOrNothing, []) if late.is_empty() => {}
                (Expected::Outage(classes) | Expected::OutageOrLate(classes), [outage])
                    if classes.contains(&outage.class) =>
                {
                    self.found += 1;
                    self.time("began", outage.start_s, began, &whose);
                    self.time("ended", outage.end_s, ended, &whose);
                }
                (Expected::OutageOrLate(_) | Expected::Late | Expected::LateOrNothing, [])
                    if !late.is_empty() =>
                {
                    self.found += 1;
                    let start = late.iter().map(|it| it.start_s).fold(f64::MAX, f64::min);
                    let end = late.iter().map(|it| it.end_s).fold(0.0, f64::max);
                    self.time("began (late)", start, began, &whose);
                    self.time("ended (late)", end, ended, &whose);
                }
                _ if self.is_unseen(began[1], ended[0]) => self.unseen += 1,
                (expected, _) => {
                    self.mistakes
                        .push(format!("{whose}: {expected:?}, and found {near:?}"));
                }
            }
        }
        unexplained
    }
}

fn watch(network: &Network, json: &str) -> Process {
    let interval = format!("{INTERVAL_S}s");
    let [timeout, late] = [TIMEOUT_S, LATE_S].map(|time| format!("{time}s"));
    let [tcp, udp] = ["tcp", "udp"].map(|it| format!("{it}://{SERVER}:7777"));
    let mut command = network.command(
        Place::Client,
        &[
            env!("CARGO_BIN_EXE_loadgen"),
            "watch",
            &tcp,
            &udp,
            "-c",
            "2",
            "--interval",
            &interval,
            "--new-rate",
            "50",
            "--timeout",
            &timeout,
            "--late",
            &late,
            "--quiet",
            "--json",
            json,
        ],
    );
    Process(command.spawn().unwrap())
}

#[test]
#[ignore = "a campaign of minutes"]
fn outages() {
    require!("ip", "nft", "chrt", "nsenter", "sysctl");
    let Some(network) = Network::new() else {
        skip!("network namespaces (root)");
    };
    let count = number("CAMPAIGN_FAULTS", 200);
    let seed = number("CAMPAIGN_SEED", 1);
    let mut random = Random(seed);
    let directory = std::env::temp_dir().join(format!("echomark-outages-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let [json, handover] = ["watch.json", "handover"].map(|it| directory.join(it));
    let mut server = Server::start(&network, 7777, handover.to_str().unwrap());
    let mut watch = watch(&network, json.to_str().unwrap());
    pass(REST);
    let mut faults = Vec::new();
    for index in 0..count {
        let fault = Fault::ALL[(random.next() % Fault::ALL.len() as u64) as usize];
        let length = MIN_LENGTH_S * (MAX_LENGTH_S / MIN_LENGTH_S).powf(random.unit());
        faults.push(make(
            &network,
            &mut server,
            fault,
            Duration::from_secs_f64(length),
        ));
        pass(REST + Duration::from_secs_f64(random.unit() * INTERVAL_S));
        if (index + 1) % 20 == 0 {
            say(&format!("{} of {count} faults", index + 1));
        }
    }
    kill_process(Pid::from_child(&watch.0), Signal::INT).unwrap();
    watch.0.wait().unwrap();
    let result: WatchResult = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    report(&result, &faults, seed);
    std::fs::remove_dir_all(directory).unwrap();
}

fn report(result: &WatchResult, faults: &[Happened], seed: u64) {
    let started = humantime::parse_rfc3339(&result.started_at).unwrap();
    let mut judge = Judge {
        result,
        started,
        mistakes: Vec::new(),
        deviations: Vec::new(),
        found: 0,
        unseen: 0,
    };
    let mut invented = Vec::new();
    let mut late = 0;
    for target in &result.targets {
        let unexplained = judge.judge(target, faults);
        late += unexplained.iter().filter(|it| !it.is_outage()).count();
        invented.extend(unexplained.into_iter().filter(Outage::is_outage));
    }
    let mut deviations = judge.deviations;
    deviations.sort_by(f64::total_cmp);
    let quantile = |quantile: f64| {
        let index = (deviations.len() as f64 * quantile) as usize;
        deviations
            .get(index.min(deviations.len() - 1))
            .copied()
            .unwrap_or(0.0)
            * 1000.0
    };
    say(&format!(
        "seed {seed}: {} faults, {} stretches found for them, {} missed by a client that did not run; beyond the moments of the faults by {:.1} ms at p50, \
         {:.1} at p90, {:.1} at p99, {:.1} at most; {} invented outages, {late} stretches of late answers without \
         a fault; the client was absent {} times, {:.3} s together",
        faults.len(),
        judge.found,
        judge.unseen,
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        quantile(1.0),
        invented.len(),
        result.client.absences.len(),
        result.client.absent_s
    ));
    for mistake in &judge.mistakes {
        say(mistake);
    }
    assert!(invented.is_empty(), "{invented:#?}");
    assert!(
        judge.mistakes.is_empty(),
        "{} mistakes",
        judge.mistakes.len()
    );
}
