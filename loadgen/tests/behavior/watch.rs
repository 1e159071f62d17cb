//! A watch finds outages, says how they began and how long they were, and invents none: through real sockets,
//! with servers that end, refuse, stall, answer late or answer wrong.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use echomark::Service;
use echomark::net::endpoint::Endpoint;
use loadgen::observer::watch::{WatchEvent, WatchObserver, WatchStatus};
use loadgen::plan::watch::WatchPlan;
use loadgen::result::watch::{OutageClass, ProbeKind, TargetResult};
use loadgen::{Control, WatchResult, watch};
use rustix::process::Signal;
use serde_json::Value;
use socket2::SockRef;

use crate::program::kill;
use crate::schema;
use crate::support::{Directory, Gate, PlainServer, wait_until};
use crate::tls::identity::Authority;
use crate::tls::{Secured, trusting};

const INTERVAL: Duration = Duration::from_millis(20);
/// What a busy host adds to a time of the server's side, which no client can tell. The campaign of outages, whose
/// processes go before others, holds them to one interval.
const HOST_S: f64 = 0.15;

/// An echo server that can be ended and started again on its port.
struct Server {
    address: SocketAddr,
    running: Option<Running>,
}

struct Running {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicU64>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    acceptor: thread::JoinHandle<()>,
}

/// How the connections of a server end.
#[derive(Clone, Copy)]
enum Ending {
    Reset,
    Orderly,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Self {
            address,
            running: Some(Running::start(listener)),
        }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::Tcp(self.address.into())
    }

    /// Number of connections since it was started.
    fn accepted(&self) -> u64 {
        let running = self.running.as_ref().expect("it runs");
        running.accepted.load(Ordering::Relaxed)
    }

    /// Waits for further connections.
    #[track_caller]
    fn wait_for_connections(&self, count: u64) {
        let before = self.accepted();
        wait_until("it is connected", || self.accepted() >= before + count);
    }

    fn end(&mut self, ending: Ending) {
        let running = self.running.take().expect("it runs");
        running.stop.store(true, Ordering::Relaxed);
        // Wakes the acceptor, which closes the listener.
        drop(TcpStream::connect(self.address));
        running.acceptor.join().unwrap();
        for connection in running.connections.lock().unwrap().drain(..) {
            let how = match ending {
                // The thread that reads wakes up and closes it, which then resets it.
                Ending::Reset => {
                    let socket = SockRef::from(&connection);
                    socket.set_linger(Some(Duration::ZERO)).unwrap();
                    Shutdown::Read
                }
                Ending::Orderly => Shutdown::Both,
            };
            // The client may have closed it.
            let _ = connection.shutdown(how);
        }
    }

    fn start_again(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap();
        self.running = Some(Running::start(listener));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.end(Ending::Orderly);
        }
    }
}

impl Running {
    fn start(listener: TcpListener) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let accepted = Arc::new(AtomicU64::new(0));
        let connections: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (is_stopped, all) = (Arc::clone(&stop), Arc::clone(&connections));
        let count = Arc::clone(&accepted);
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if is_stopped.load(Ordering::Relaxed) {
                    return;
                }
                count.fetch_add(1, Ordering::Relaxed);
                let mut connections = all.lock().unwrap();
                connections.push(stream.try_clone().unwrap());
                thread::spawn(move || echo(&stream));
            }
        });
        Self {
            stop,
            accepted,
            connections,
            acceptor,
        }
    }
}

fn echo(mut stream: &TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// What an observer saw.
#[derive(Default)]
struct Seen {
    status: WatchStatus,
    events: Vec<WatchEvent>,
}

#[derive(Clone, Default)]
struct Eyes(Arc<Mutex<Seen>>);

impl WatchObserver for Eyes {
    fn event(&mut self, event: &WatchEvent) {
        self.0.lock().unwrap().events.push(event.clone());
    }

    fn status(&mut self, status: &WatchStatus) {
        self.0.lock().unwrap().status = status.clone();
    }
}

impl Eyes {
    fn answered(&self) -> u64 {
        let seen = self.0.lock().unwrap();
        seen.status.targets.iter().map(|it| it.answered).sum()
    }

    /// Waits until each kind of probes of each target is answered again.
    #[track_caller]
    fn wait_for_answers(&self) {
        let before = {
            let seen = self.0.lock().unwrap();
            seen.status
                .targets
                .iter()
                .map(|it| it.answered)
                .collect::<Vec<_>>()
        };
        wait_until("probes are answered", || {
            let seen = self.0.lock().unwrap();
            let targets = &seen.status.targets;
            let is_more = |(index, it): (usize, &loadgen::observer::watch::TargetStatus)| {
                it.answered > before.get(index).copied().unwrap_or(0) + 5
            };
            !targets.is_empty() && targets.iter().enumerate().all(is_more)
        });
    }

    #[track_caller]
    fn wait_for_outages(&self) {
        wait_until("every kind of probes fails", || {
            let seen = self.0.lock().unwrap();
            let targets = &seen.status.targets;
            !targets.is_empty() && targets.iter().all(|target| target.out.is_some())
        });
    }
}

fn plan(target: Endpoint) -> WatchPlan {
    WatchPlan {
        interval: INTERVAL,
        new_rate: 50.0,
        ..WatchPlan::new(vec![target])
    }
}

/// Watches while `act` changes things, and then until its end.
#[track_caller]
fn watch_while(plan: &WatchPlan, act: impl FnOnce(&Eyes)) -> (WatchResult, Vec<WatchEvent>) {
    let (control, eyes) = (Control::default(), Eyes::default());
    let result = thread::scope(|scope| {
        let (stop, mut observer) = (control.clone(), eyes.clone());
        let watch = scope.spawn(move || watch::run(plan, &stop, &mut observer));
        // A test that fails must not leave the watch behind, which the scope would wait for.
        let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(&eyes)));
        control.stop();
        let result = watch.join().unwrap();
        acted.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        result
    });
    let result = result.unwrap().expect("it has begun");
    check(&result);
    let events = std::mem::take(&mut eyes.0.lock().unwrap().events);
    (result, events)
}

/// What holds of every result.
#[track_caller]
fn check(result: &WatchResult) {
    let json = serde_json::to_value(result).unwrap();
    schema::check_watch(&json);
    let read: WatchResult = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), json);
    for target in &result.targets {
        let sum = target.answered + target.failed.total() + target.unfinished;
        assert_eq!(target.probes, sum, "{target:?}");
        let outages = target.outages.iter().filter(|outage| outage.is_outage());
        assert_eq!(target.outage_count, outages.count() as u64);
        let of_bins: u64 = target.timeline.bins.iter().map(|bin| bin.failed).sum();
        assert_eq!(of_bins, target.failed.total());
    }
}

fn of(result: &WatchResult, kind: ProbeKind) -> &TargetResult {
    let found = result.targets.iter().find(|target| target.kind == kind);
    found.expect("there are such probes")
}

/// The one outage of each kind of probes, whose time is that of the fault to one interval, as far as this host
/// ran the client and the server.
#[track_caller]
fn assert_one_outage(
    result: &WatchResult,
    fault: (Duration, Duration),
    of_persistent: &[OutageClass],
    of_new: &[OutageClass],
) {
    for (kind, classes) in [
        (ProbeKind::Persistent, of_persistent),
        (ProbeKind::New, of_new),
    ] {
        let target = of(result, kind);
        let outages: Vec<_> = target.outages.iter().filter(|it| it.is_outage()).collect();
        let [outage] = outages[..] else {
            panic!("{kind}: {:?}", target.outages);
        };
        assert!(classes.contains(&outage.class), "{kind}: {outage:?}");
        assert!(!outage.ongoing);
        // The fault was over at the earliest when it was ended, and lasted at least so long.
        let (least, most) = (fault.0.as_secs_f64(), fault.1.as_secs_f64());
        let slack = INTERVAL.as_secs_f64() + result.client.absent_s + HOST_S;
        assert!(
            outage.length_s() > least - slack,
            "{kind}: {outage:?} of {fault:?}"
        );
        assert!(
            outage.length_s() < most + slack,
            "{kind}: {outage:?} of {fault:?}"
        );
    }
}

#[test]
fn a_server_that_is_killed_and_comes_back_is_one_outage_of_each_kind() {
    use OutageClass::{Closed, Refused, Reset};
    // A probe that crosses the server's end is answered by a reset.
    for (ending, of_persistent) in [
        (Ending::Reset, &[Reset][..]),
        (Ending::Orderly, &[Closed, Reset]),
    ] {
        let mut server = Server::start();
        let mut fault = (Duration::ZERO, Duration::ZERO);
        let (result, events) = watch_while(&plan(server.endpoint()), |eyes| {
            eyes.wait_for_answers();
            let before = Instant::now();
            server.end(ending);
            let ended = Instant::now();
            eyes.wait_for_outages();
            let again = Instant::now();
            server.start_again();
            fault = (again - ended, before.elapsed());
            eyes.wait_for_answers();
        });
        // A connection that was not accepted yet is reset.
        assert_one_outage(&result, fault, of_persistent, &[Refused, Reset, Closed]);
        let persistent = of(&result, ProbeKind::Persistent);
        assert_eq!(persistent.reconnects, 1);
        let reconnect = persistent.reconnect.as_ref().unwrap();
        assert!(Duration::from_nanos(reconnect.max()) >= fault.0);
        let began = |event: &&WatchEvent| matches!(event, WatchEvent::OutageBegan { .. });
        let ended = |event: &&WatchEvent| matches!(event, WatchEvent::Ended { .. });
        assert_eq!(events.iter().filter(began).count(), 2, "{events:?}");
        assert_eq!(events.iter().filter(ended).count(), 2, "{events:?}");
    }
}

#[test]
fn a_server_that_stalls_is_out_beyond_the_timeout_and_late_before_it() {
    for (timeout, is_out) in [
        (Duration::from_millis(200), true),
        (Duration::from_secs(60), false),
    ] {
        let gate = Arc::new(Gate::default());
        let server = {
            let gate = Arc::clone(&gate);
            PlainServer::start(move |peer, bytes| {
                gate.pass();
                peer.send(bytes)
            })
        };
        let plan = WatchPlan {
            timeout,
            late: Duration::from_millis(100),
            ..plan(server.endpoint())
        };
        let mut stall = Duration::ZERO;
        let (result, _) = watch_while(&plan, |eyes| {
            eyes.wait_for_answers();
            stall = gate.close_for(Duration::from_secs(1));
            eyes.wait_for_answers();
        });
        if is_out {
            let classes = &[OutageClass::Timeout];
            assert_one_outage(&result, (stall, stall), classes, classes);
            continue;
        }
        for target in &result.targets {
            assert_eq!(target.outage_count, 0, "{target:?}");
            assert!(target.late > 0);
            assert_eq!(target.availability, Some(1.0));
            let late = target.longest_late_s;
            let slack = INTERVAL.as_secs_f64() + result.client.absent_s + HOST_S;
            assert!(
                (late - stall.as_secs_f64()).abs() < slack,
                "{late} of {stall:?}"
            );
        }
    }
}

/// One answer of a hundred takes 300 ms.
#[test]
fn a_slow_tail_is_no_outage() {
    let count = AtomicU64::new(0);
    let server = PlainServer::start(move |peer, bytes| {
        if count.fetch_add(1, Ordering::Relaxed) % 100 == 50 {
            let until = Instant::now() + Duration::from_millis(300);
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                thread::park_timeout(left);
            }
        }
        peer.send(bytes)
    });
    let plan = WatchPlan {
        connections: 3,
        late: Duration::from_millis(200),
        ..plan(server.endpoint())
    };
    let (result, _) = watch_while(&plan, |eyes| {
        wait_until("there was a tail", || eyes.answered() > 600);
    });
    assert!(result.targets.iter().any(|target| target.late > 0));
    for target in &result.targets {
        assert_eq!(target.outage_count, 0, "{target:?}");
        assert!(
            target
                .outages
                .iter()
                .all(|it| it.class == OutageClass::Late)
        );
    }
}

#[test]
fn what_is_not_there_is_refused_from_the_start() {
    let directory = Directory::new("watch");
    let path = directory.path("socket");
    let free = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    };
    // A Unix socket without its file, one without its listener, and ports on which nothing listens.
    let abandoned = directory.path("abandoned");
    drop(UnixListener::bind(&abandoned).unwrap());
    for target in [
        Endpoint::Unix(path),
        Endpoint::Unix(abandoned),
        Endpoint::Tcp(free.into()),
        Endpoint::Udp(free.into()),
    ] {
        let (result, _) = watch_while(&plan(target.clone()), Eyes::wait_for_outages);
        for found in &result.targets {
            assert_eq!(found.availability, Some(0.0), "{target}");
            let [outage] = &found.outages[..] else {
                panic!("{target}: {:?}", found.outages);
            };
            assert_eq!(outage.class, OutageClass::Refused, "{target}");
            assert!(
                outage.ongoing && outage.start_s < 0.1,
                "{target}: {outage:?}"
            );
            assert_eq!(outage.end_s, result.duration_s);
        }
    }
}

#[test]
fn datagrams_that_are_swallowed_time_out_and_the_outage_is_as_long_as_the_silence() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let (is_silent, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let plan = WatchPlan {
        timeout: Duration::from_millis(300),
        late: Duration::from_millis(300),
        ..plan(Endpoint::Udp(address.into()))
    };
    let mut fault = (Duration::ZERO, Duration::ZERO);
    let (result, _) = thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 64];
            while let Ok((count, peer)) = socket.recv_from(&mut buffer) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                if !is_silent.load(Ordering::Relaxed) {
                    let _ = socket.send_to(&buffer[..count], peer);
                }
            }
        });
        let found = watch_while(&plan, |eyes| {
            eyes.wait_for_answers();
            let begin = Instant::now();
            is_silent.store(true, Ordering::Relaxed);
            eyes.wait_for_outages();
            is_silent.store(false, Ordering::Relaxed);
            fault = (begin.elapsed(), begin.elapsed());
            eyes.wait_for_answers();
        });
        stop.store(true, Ordering::Relaxed);
        let waker = UdpSocket::bind("127.0.0.1:0").unwrap();
        waker.send_to(b"", address).unwrap();
        found
    });
    let classes = &[OutageClass::Timeout];
    assert_one_outage(&result, fault, classes, classes);
}

#[test]
fn a_server_that_answers_something_else_is_wrong() {
    let server = PlainServer::start(|peer, _| peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    let (result, _) = watch_while(&plan(server.endpoint()), Eyes::wait_for_outages);
    for target in &result.targets {
        assert_eq!(target.answered, 0);
        assert_eq!(target.outages[0].class, OutageClass::Wrong, "{target:?}");
    }
}

#[test]
fn a_server_that_closes_at_once_is_asked_no_more_often_than_planned() {
    let server = PlainServer::start_if(|_| false, |_, _| true);
    let (result, _) = watch_while(&plan(server.endpoint()), |eyes| {
        eyes.wait_for_outages();
        wait_until("probes fail", || {
            let seen = eyes.0.lock().unwrap();
            seen.status.targets.iter().all(|target| target.failed > 20)
        });
    });
    let probes: u64 = result.targets.iter().map(|target| target.probes).sum();
    assert!(
        server.connections() <= probes,
        "{} of {probes}",
        server.connections()
    );
    for target in &result.targets {
        let class = target.outages[0].class;
        assert!(
            [OutageClass::Closed, OutageClass::Reset].contains(&class),
            "{target:?}"
        );
    }
}

#[test]
fn several_targets_have_their_own_outages() {
    let healthy = Server::start();
    let mut faulty = Server::start();
    let plan = WatchPlan {
        targets: vec![healthy.endpoint(), faulty.endpoint()],
        connections: 3,
        ..plan(healthy.endpoint())
    };
    let (result, _) = watch_while(&plan, |eyes| {
        eyes.wait_for_answers();
        faulty.end(Ending::Reset);
        wait_until("the second target fails", || {
            let seen = eyes.0.lock().unwrap();
            let mut targets = seen.status.targets.iter();
            targets.all(|it| it.out.is_some() == (it.target == 1))
        });
        faulty.start_again();
        eyes.wait_for_answers();
    });
    let outages: Vec<u64> = result.targets.iter().map(|it| it.outage_count).collect();
    assert_eq!(outages, [0, 0, 1, 1], "{:?}", result.targets);
    // Three connections that fail together are one outage.
    assert_eq!(result.targets[2].outages[0].connections, 3);
    assert_eq!(result.targets[2].reconnects, 3);
}

#[test]
fn a_target_with_tls_is_watched_and_one_that_is_not_believed_is_wrong() {
    let authority = Authority::new();
    let server = Secured::start(Service::Echo, authority.identity("server").server(None));
    let trusted = WatchPlan {
        tls: trusting(&authority),
        ..plan(server.endpoint.parse().unwrap())
    };
    let (result, _) = watch_while(&trusted, Eyes::wait_for_answers);
    for target in &result.targets {
        assert_eq!(target.outage_count, 0, "{target:?}");
    }
    let stranger = Authority::new();
    let other = WatchPlan {
        tls: trusting(&stranger),
        ..trusted
    };
    let (result, _) = watch_while(&other, Eyes::wait_for_outages);
    for target in &result.targets {
        let outage = &target.outages[0];
        assert_eq!(outage.class, OutageClass::Wrong, "{outage:?}");
        let error = outage.error.as_deref().unwrap();
        assert!(error.contains("certificate"), "{error}");
    }
}

fn loadgen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(arguments).stdin(Stdio::null());
    command
}

#[track_caller]
fn json(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"))
}

/// Waits until the lines have one of this kind.
#[track_caller]
fn wait_for_line(lines: &mut impl BufRead, kind: &str) -> Value {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "no {kind}");
        let value: Value = serde_json::from_str(&line).unwrap();
        if value["kind"] == kind {
            return value;
        }
    }
}

fn watch_with_lines(arguments: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = loadgen(&[&["watch", "--ndjson", "-"], arguments].concat())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (child, lines)
}

#[test]
fn events_come_as_they_happen_and_an_outage_that_is_too_long_has_its_exit_code() {
    let mut server = Server::start();
    let target = server.endpoint().to_string();
    let limit = ["--interval", "20ms", "--max-outage", "1ms", &target];
    let (mut child, mut lines) = watch_with_lines(&limit);
    let start = wait_for_line(&mut lines, "start");
    assert_eq!(start["targets"], Value::from(vec![target.clone()]));
    // It is asked before it is ended.
    server.wait_for_connections(3);
    server.end(Ending::Reset);
    let began = wait_for_line(&mut lines, "outage_began");
    assert_eq!(began["target"], target);
    server.start_again();
    let ended = wait_for_line(&mut lines, "outage_ended");
    assert!(ended["length_s"].as_f64().unwrap() > 0.0, "{ended}");
    kill(&child, Signal::INT);
    let summary = wait_for_line(&mut lines, "summary");
    assert_eq!(summary["interrupted"], false, "nothing else ends it");
    assert_eq!(summary["targets"].as_array().unwrap().len(), 2);
    assert_eq!(child.wait().unwrap().code(), Some(99));
}

#[test]
fn a_watch_ends_in_its_time_or_is_interrupted_and_delivers_all() {
    let server = Server::start();
    let target = server.endpoint().to_string();
    let directory = Directory::new("watch-outputs");
    let page = directory.path("page.html");
    let file = directory.path("result.json");
    let outputs = [
        "--html",
        page.to_str().unwrap(),
        "--json",
        file.to_str().unwrap(),
    ];
    let timed = ["watch", &target, "-d", "300ms"];
    let output = loadgen(&[&timed[..], &outputs].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    for words in ["NO OUTAGE", "persistent", "new", "100 %", "response"] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    let result: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    schema::check_watch(&result);
    assert_eq!(result["interrupted"], false);
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.contains("<svg class=\"plot\"") && html.contains("longest response time"));
    // What was stored is what was shown.
    for stored in [&file, &page] {
        let report = loadgen(&["report", stored.to_str().unwrap()])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(report.stdout).unwrap(), text);
    }
    let child = loadgen(&["watch", &target, "-d", "1h", "--json", "-"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    server.wait_for_connections(3);
    kill(&child, Signal::TERM);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(json(&output)["interrupted"], true);
}

/// The client is stopped for a second: the server is not to blame, and it is told.
#[test]
fn a_client_that_was_stopped_says_so_and_invents_no_outage() {
    let server = Server::start();
    let target = server.endpoint().to_string();
    let short = ["--timeout", "300ms", "--late", "150ms", "-c", "4", &target];
    let (mut child, mut lines) = watch_with_lines(&short);
    server.wait_for_connections(3);
    kill(&child, Signal::STOP);
    let until = Instant::now() + Duration::from_secs(1);
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
    kill(&child, Signal::CONT);
    let absent = loop {
        let absent = wait_for_line(&mut lines, "client_absent");
        if absent["end_s"].as_f64().unwrap() - absent["start_s"].as_f64().unwrap() > 0.9 {
            break absent;
        }
    };
    assert_eq!(absent["cause"], "stopped", "{absent}");
    kill(&child, Signal::INT);
    let summary = wait_for_line(&mut lines, "summary");
    child.wait().unwrap();
    assert!(summary["absent_s"].as_f64().unwrap() > 0.9, "{summary}");
    for target in summary["targets"].as_array().unwrap() {
        assert_eq!(target["outage_count"], 0, "{summary}");
        assert_eq!(target["late"], 0, "{summary}");
    }
}

#[test]
fn a_gate_does_not_pass_what_the_client_could_not_see() {
    let server = Server::start();
    let target = server.endpoint().to_string();
    let limit = ["--max-outage", "300ms", &target];
    for (more, code) in [(&[][..], 97), (&["--allow-invalid"], 0)] {
        let (mut child, mut lines) = watch_with_lines(&[&limit[..], more].concat());
        wait_for_line(&mut lines, "start");
        server.wait_for_connections(3);
        kill(&child, Signal::STOP);
        let until = Instant::now() + Duration::from_millis(600);
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            thread::park_timeout(left);
        }
        kill(&child, Signal::CONT);
        wait_for_line(&mut lines, "client_absent");
        kill(&child, Signal::INT);
        wait_for_line(&mut lines, "summary");
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
}

#[test]
fn what_does_not_go_together_is_one_line_and_exit_code_2() {
    for (arguments, words) in [
        (&["watch"][..], "TARGET"),
        (
            &["watch", "tcp://localhost:1", "--tls-insecure"],
            "--tls-insecure is for TLS",
        ),
        (
            &["watch", "tcp://localhost:1", "-c", "0", "--new-rate", "0"],
            "-c 0",
        ),
        (&["watch", "tcp://localhost:1", "--late", "10s"], "--late"),
        (
            &["watch", "tcp://localhost:1", "--new-rate", "-1"],
            "negative",
        ),
        (
            &["watch", "tcp://localhost:1", "--new-rate", "1M"],
            "--new-rate",
        ),
        (
            &["watch", "tcp://localhost:1", "--json", "a", "--html", "a"],
            "--html",
        ),
        (&["watch", "localhost:1"], "tcp://localhost:1"),
        (&["watch", "tcp://localhost:1", "--tui"], "--tui"),
    ] {
        let output = loadgen(arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
}
