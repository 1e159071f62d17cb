//! Endpoints with faults: what their options promise, seen by clients that know nothing of them.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::num::NonZeroUsize;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use echomark::metrics::{CloseReason, Fault};
use echomark::{Config, Faults, Limits, Service};

use crate::support::directory::Directory;
use crate::support::echod::{Echod, PROGRAM, Signal};
use crate::support::pattern::Pattern;
use crate::support::{Client, DEADLINE, End, Running, config_for, wait_until};

mod datagrams;
mod exact;
mod replaced;

/// Messages over which shares are counted.
const MESSAGES: u64 = 100_000;

/// One worker with an echo and faults on an endpoint.
#[track_caller]
fn faulty(endpoint: &str, options: &str) -> Config {
    faulty_service(Service::Echo, endpoint, options)
}

#[track_caller]
fn faulty_service(service: Service, endpoint: &str, options: &str) -> Config {
    Config {
        faults: vec![options.parse::<Faults>().expect("options")],
        limits: Limits {
            udp_rate_per_source: None,
            ..Limits::default()
        },
        ..config_for(service, endpoint)
    }
}

#[track_caller]
fn start(options: &str) -> Running {
    Running::start(faulty("tcp://127.0.0.1:0", options))
}

/// Whether a count is within five standard deviations of a binomial.
#[track_caller]
fn assert_share(what: &str, count: u64, of: u64, share: f64) {
    let expected = of as f64 * share;
    let tolerance = 5.0 * (expected * (1.0 - share)).sqrt();
    let distance = (count as f64 - expected).abs();
    assert!(
        distance <= tolerance,
        "{what}: {count} of {of}, expected {expected} ± {tolerance}"
    );
}

#[test]
fn a_delay_counts_from_arrival_and_keeps_order() {
    const DELAY: Duration = Duration::from_millis(20);
    let server = start("delay=20ms");
    let mut client = server.connect();
    for message in [&b"one"[..], b"two", b"and a third"] {
        let sent = Instant::now();
        client.echo(message);
        assert!(sent.elapsed() >= DELAY);
    }
    // Messages that are delayed do not delay those of others, nor each other.
    let begin = Instant::now();
    let mut clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(b"at once");
    }
    for client in &mut clients {
        assert_eq!(client.receive(7), b"at once");
    }
    assert!(begin.elapsed() >= DELAY);
    let metrics = server.metrics();
    assert_eq!(metrics.faults(Fault::Delay), 23);
    assert_eq!(metrics.sent_bytes, metrics.received_bytes);
    drop(clients);
    drop(client);
    server.wait_for_all_closed(21);
}

/// Times that would overtake each other do not.
#[test]
fn a_stream_stays_in_order_whatever_the_delays() {
    let server = start("delay=uniform:0-3ms&seed=5");
    let mut client = server.connect();
    client.echo_stream(Pattern(3), 4 << 20);
    client.half_close();
    client.expect_end();
    let metrics = server.wait_for_all_closed(1);
    assert_eq!(metrics.closed(CloseReason::Finished), 1);
}

/// What was sent before the end comes back behind it.
#[test]
fn delayed_answers_come_before_the_end() {
    let server = start("delay=150ms");
    let mut client = server.connect();
    client.send(b"the last words");
    client.half_close();
    assert_eq!(client.receive(14), b"the last words");
    client.expect_end();
    let metrics = server.wait_for_all_closed(1);
    assert_eq!(metrics.closed(CloseReason::Finished), 1);
}

#[test]
fn work_uses_the_processor_of_the_worker() {
    const WORK: Duration = Duration::from_millis(5);
    let server = start("work=5ms");
    let mut client = server.connect();
    let before: Duration = server.handle.cpu_times().iter().sum();
    for _ in 0..20 {
        let sent = Instant::now();
        client.echo(b"hard work");
        assert!(sent.elapsed() >= WORK);
    }
    let used = server.handle.cpu_times().iter().sum::<Duration>() - before;
    assert!(used >= WORK * 20, "used {used:?}");
    assert_eq!(server.metrics().faults(Fault::Work), 20);
}

/// Messages of a size of their own, one at a time, so that each is one read.
fn numbered(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// Sends numbered messages behind each other and returns which of them come back, in order. Each is a
/// message of its own: the next one is sent when this one was taken.
fn exchange(server: &Running, messages: u64) -> Vec<u64> {
    let mut client = server.connect();
    for number in 0..messages {
        client.send(&numbered(number));
        wait_until("the message is read", || {
            server.metrics().received_bytes >= 8 * (number + 1)
        });
    }
    client.half_close();
    let mut rest = Vec::new();
    let mut socket = &*client;
    socket.read_to_end(&mut rest).expect("answers and an end");
    let numbers = rest.chunks_exact(8);
    numbers
        .map(|it| u64::from_be_bytes(it.try_into().expect("eight bytes")))
        .collect()
}

/// The answer to a message of this length; `None` if a reset came instead.
#[track_caller]
fn answer(client: &Client, len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut socket = &**client;
    match socket.read_exact(&mut bytes) {
        Ok(()) => Some(bytes),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
        Err(error) => panic!("neither an answer nor a reset: {error}"),
    }
}

#[test]
fn the_same_seed_decides_the_same_and_another_does_not() {
    let lost = |options: &str| {
        let back: BTreeSet<_> = exchange(&start(options), 300).into_iter().collect();
        (0..300).filter(|it| !back.contains(it)).collect::<Vec<_>>()
    };
    let first = lost("drop=20%&seed=42");
    assert!(first.len() > 20 && first.len() < 120, "{first:?}");
    assert_eq!(first, lost("drop=20%&seed=42"));
    // Other options don't matter.
    assert_eq!(
        first,
        lost("drop=20%&seed=42&delay=uniform:0-1ms&corrupt=0.0000001")
    );
    assert_ne!(first, lost("drop=20%&seed=43"));
    // Without a seed one is drawn, and told.
    let server = start("drop=20%");
    let faults = server.handle.faults()[0].clone().expect("faults in force");
    let back: BTreeSet<_> = exchange(&server, 300).into_iter().collect();
    let lost_then: Vec<_> = (0..300).filter(|it| !back.contains(it)).collect();
    assert_eq!(lost_then, lost(&faults.to_string()));
}

#[test]
fn a_reordered_message_changes_places_with_the_next() {
    let server = start("reorder=30%&seed=3&delay=5ms");
    let back = exchange(&server, 200);
    let sorted: BTreeSet<_> = back.iter().copied().collect();
    assert!(sorted.into_iter().eq(0..200), "each once");
    for (place, number) in (0..).zip(&back) {
        assert!(number.abs_diff(place) <= 1, "{number} at {place}");
    }
    let swapped = back.windows(2).filter(|it| it[0] > it[1]).count() as u64;
    assert!(swapped > 10);
    assert!(server.metrics().faults(Fault::Reorder) >= swapped);
}

/// Round trips on one connection at a time, as many as there are messages, and what came back of each.
#[test]
fn shares_of_a_stream_are_those_given() {
    let server = start("duplicate=1%&corrupt=2%&reset=0.5%&seed=1");
    let mut client = server.connect();
    let (mut duplicated, mut corrupt, mut resets) = (0, 0, 0);
    for number in 0..MESSAGES {
        let message = numbered(number | 1 << 63);
        client.send(&message);
        let Some(answer) = answer(&client, 8) else {
            resets += 1;
            client = server.connect();
            continue;
        };
        let flipped: u32 = answer
            .iter()
            .zip(message)
            .map(|(a, b)| (a ^ b).count_ones())
            .sum();
        assert!(flipped <= 1, "one bit at most");
        corrupt += u64::from(flipped);
        if server.metrics().faults(Fault::Duplicate) > duplicated {
            duplicated += 1;
            assert_eq!(client.receive(8), answer, "the same again");
        }
    }
    let answered = MESSAGES - resets;
    assert_share("resets", resets, MESSAGES, 0.005);
    assert_share("duplicates", duplicated, answered, 0.01);
    assert_share("corrupt ones", corrupt, answered, 0.02);
    let metrics = server.metrics();
    assert_eq!(metrics.faults(Fault::Reset), resets);
    assert_eq!(metrics.faults(Fault::Corrupt), corrupt);
    assert_eq!(metrics.closed(CloseReason::Fault), resets);
}

#[test]
fn a_connection_is_closed_after_its_last_message() {
    let server = start("close-after=3&delay=20ms");
    for _ in 0..3 {
        let mut client = server.connect();
        client.echo(b"one");
        client.echo(b"two");
        client.send(b"three");
        assert_eq!(client.receive(5), b"three");
        client.expect_end();
        // What is sent behind it makes no reset of the end.
        client.send_at_once(b"is anybody there?");
    }
    let metrics = server.wait_for_metrics("closed connections", |it| {
        it.closed(CloseReason::Fault) == 3
    });
    assert_eq!(metrics.faults(Fault::CloseAfter), 3);
    let server = Running::start(faulty_service(
        Service::Discard,
        "tcp://127.0.0.1:0",
        "close-after=1",
    ));
    let mut client = server.connect();
    client.send(b"nothing comes back");
    client.expect_end();
}

/// Answers come at any time, but not while the endpoint stands still.
#[test]
fn a_standstill_is_at_its_place_on_the_clock() {
    const PERIOD: Duration = Duration::from_millis(200);
    const LENGTH: Duration = Duration::from_millis(80);
    let server = start("stall=80ms/200ms");
    let mut client = server.connect();
    let real = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
    };
    let into = |at: Duration| Duration::from_nanos((at.as_nanos() % PERIOD.as_nanos()) as u64);
    let deadline = Instant::now() + DEADLINE;
    let mut waited = 0;
    while waited < 4 {
        assert!(Instant::now() < deadline, "{waited} waited");
        let sent = real();
        client.echo(b"now?");
        let back = real();
        if into(sent) < LENGTH {
            waited += 1;
            let end = sent - into(sent) + LENGTH;
            assert!(back >= end, "an answer before the end of the standstill");
        }
    }
    assert!(server.metrics().faults(Fault::Stall) >= waited);
}

/// A peer whose answers are held back is stopped, within the budget for backlogs.
#[test]
fn what_is_held_back_is_bounded() {
    const MAX_HELD: u64 = (1 << 20) + (64 << 10);
    let server = start("delay=1h");
    let clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for client in &clients {
        let before = Cell::new(0);
        client.send_until_blocked(Pattern(1), || {
            let received = server.metrics().received_bytes;
            before.replace(received) == received && received > 0
        });
    }
    let held = server.metrics().backlog_bytes;
    assert!(held > 1 << 20 && held <= 3 * MAX_HELD, "{held} bytes held");
    drop(clients);
    // Their ends are not read while there is no room; the server ends by itself all the same.
    assert_eq!(server.metrics().sent_bytes, 0);
}

/// The budget of all connections together holds too.
#[test]
fn all_that_is_held_back_is_within_the_budget() {
    const BUDGET: u64 = 2 << 20;
    let server = Running::start(Config {
        backlog_memory: Some(BUDGET),
        ..faulty("tcp://127.0.0.1:0", "delay=1h")
    });
    let clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for client in &clients {
        client.send_at_once(&[7; 256 << 10]);
    }
    server.wait_for_metrics("as much as the budget has room for", |it| {
        it.backlog_bytes > BUDGET / 2
    });
    assert!(server.metrics().backlog_bytes <= BUDGET);
}

/// The message of one that is held back in the drain comes; a stop cuts it off, by a reset.
#[test]
fn a_drain_lets_delayed_answers_leave_and_a_stop_does_not() {
    let server = start("delay=300ms");
    let mut client = server.connect();
    client.send(b"before the drain");
    server.wait_for_metrics("the message", |it| it.received_bytes == 16);
    server.handle.drain();
    assert_eq!(client.receive(16), b"before the drain");
    client.half_close();
    client.expect_end();
    let metrics = server.join();
    assert_eq!(metrics.closed(CloseReason::Finished), 1);

    let server = start("delay=1h");
    let mut client = server.connect();
    client.send(b"never answered");
    server.wait_for_metrics("the message", |it| it.received_bytes == 14);
    server.handle.stop();
    let (received, end) = client.receive_all(Pattern(0));
    assert_eq!((received, end), (0, End::Reset));

    let server = Running::start(Config {
        drain_timeout: Duration::from_millis(100),
        ..faulty("tcp://127.0.0.1:0", "delay=1h")
    });
    let mut client = server.connect();
    client.send(b"not within the drain");
    server.wait_for_metrics("the message", |it| it.received_bytes == 20);
    server.handle.drain();
    let (received, end) = client.receive_all(Pattern(0));
    assert_eq!((received, end), (0, End::Reset));
    let metrics = server.join();
    assert_eq!(metrics.closed(CloseReason::DrainTimeout), 1);
    assert_eq!(metrics.backlog_bytes, 0);
}

/// An endpoint without faults beside one with faults has none.
#[test]
fn endpoints_have_faults_of_their_own() {
    let mut config = faulty("tcp://127.0.0.1:0", "drop=100%");
    config.services.push(config.services[0].clone());
    config.workers = NonZeroUsize::new(2).expect("not zero");
    let server = Running::start(config);
    let mut sound = Client::connect(server.addresses[1]);
    sound.echo(b"nothing is lost here");
    let mut faulty = Client::connect(server.addresses[0]);
    faulty.send(b"and all there");
    server.wait_for_metrics("the message", |it| it.faults(Fault::Drop) == 1);
    sound.echo(b"still nothing");
    faulty.half_close();
    faulty.expect_end();
}

#[test]
fn what_makes_no_sense_is_refused_with_a_line_each() {
    for (option, endpoint, said) in [
        (
            "--echo",
            "udp://127.0.0.1:0?reset=1%",
            "can't have reset: UDP has no connection",
        ),
        (
            "--echo",
            "udp://127.0.0.1:0?close-after=5",
            "can't have close-after: UDP has no",
        ),
        (
            "--echo",
            "unix:/tmp/echod-x?reset=1%",
            "can't have reset: a Unix socket has no reset",
        ),
        (
            "--discard",
            "tcp://127.0.0.1:0?delay=1ms",
            "can't have delay: discard sends no",
        ),
        (
            "--discard",
            "udp://127.0.0.1:0?drop=1%",
            "can't have drop: discard sends no",
        ),
        (
            "--chargen",
            "tcp://127.0.0.1:0?stall=1ms/1s",
            "can't have stall: chargen answers no",
        ),
        (
            "--whoami",
            "tcp://127.0.0.1:0?delay=1ms",
            "can't have delay: whoami has no faults",
        ),
        (
            "--echo",
            "tcp://127.0.0.1:0?delay=5ms&seed=1",
            "can't have seed: it decides nothing",
        ),
        (
            "--echo",
            "tcp://127.0.0.1:0?lag=5ms",
            "`lag=5ms` is not an option",
        ),
        (
            "--echo",
            "tcp://127.0.0.1:0?delay=5",
            "`delay=5` is not an option",
        ),
        ("--echo", "tcp://127.0.0.1:0?", "NAME=VALUE"),
    ] {
        let exit = Echod::run_to_end(Command::new(PROGRAM).args([option, endpoint]));
        assert_eq!(exit.code, Some(2), "{endpoint}");
        let all = exit.stderr.join("\n");
        assert!(all.contains(said), "{endpoint}: {all}");
        assert_eq!(exit.stderr.len(), 1, "one line: {all}");
    }
}

/// A change of the file changes the faults of open and new connections, and nothing else.
#[test]
fn a_reload_changes_the_faults() {
    let directory = Directory::new();
    let write = |options: &str| {
        let text = format!(
            "echo = ['tcp://127.0.0.1:0{options}', 'tcp://127.0.0.1:0']\n\
             admin = '127.0.0.1:0'\nworkers = 1\n"
        );
        directory.write("echod.toml", &text)
    };
    let path = write("?delay=1ms&drop=0.5&seed=9");
    let mut echod = Echod::start_command(Command::new(PROGRAM).arg("--config").arg(path));
    let in_force = |echod: &Echod| echod.info()["endpoints"][0]["faults"].clone();
    assert_eq!(in_force(&echod), "delay=1ms&drop=0.5&seed=9");
    assert!(echod.info()["endpoints"][1]["faults"].is_null());
    let mut client = echod.connect();
    write("?delay=100ms");
    echod.signal(Signal::HUP);
    echod.wait_for_log("reloaded the limits");
    let told = in_force(&echod);
    let told = told.as_str().expect("options");
    assert!(told.starts_with("delay=100ms&seed="), "{told}");
    wait_until("the new delay holds", || {
        let sent = Instant::now();
        client.echo(b"how long?");
        sent.elapsed() >= Duration::from_millis(100)
    });
    let counted = echod.metric("echod_faults_total{fault=\"delay\"}");
    assert!(counted >= 1);
    // Without faults, such a connection serves on.
    write("");
    echod.signal(Signal::HUP);
    echod.wait_for_log("reloaded the limits");
    assert!(in_force(&echod).is_null());
    client.echo(b"and now?");
    drop(client);
    let mut client = echod.connect();
    // A bad file changes nothing.
    write("?delay=fast");
    echod.signal(Signal::HUP);
    echod.wait_for_log("did not reload");
    client.echo(b"as before");
    write("?delay=1ms");
    echod.signal(Signal::HUP);
    echod.wait_for_log("reloaded the limits");
    echod.connect().echo(b"a new connection");
    echod.signal(Signal::TERM);
    let exit = echod.wait_for_exit();
    let restart = exit
        .stderr
        .iter()
        .find(|line| line.contains("need a restart"));
    assert_eq!(restart, None);
}

/// The program in its sandbox, with everything at once, over a Unix socket too.
#[test]
fn faults_work_in_the_sandbox_and_over_a_unix_socket() {
    let directory = Directory::new();
    let unix = directory.join("echo");
    let echo = format!("--echo=unix:{}?delay=5ms&close-after=2", unix.display());
    let tcp = "--echo=tcp://127.0.0.1:0?delay=mix:1ms=90,20ms=10&work=10us&stall=5ms/1s";
    let echod = Echod::start(&[&echo, tcp, "--sandbox=require", "--admin=127.0.0.1:0"]);
    let mut client = Client::connect(echod.address_of("echo tcp://"));
    for _ in 0..20 {
        client.echo(b"confined");
    }
    let mut local = std::os::unix::net::UnixStream::connect(&unix).expect("a connection");
    let mut answer = Vec::new();
    local.write_all(b"one").expect("sent");
    let mut first = [0; 3];
    local.read_exact(&mut first).expect("an answer");
    local.write_all(b"two").expect("sent");
    local
        .read_to_end(&mut answer)
        .expect("an answer and an end");
    assert_eq!((&first[..], &answer[..]), (&b"one"[..], &b"two"[..]));
    assert!(echod.metric("echod_faults_total{fault=\"delay\"}") >= 22);
    drop(client);
    echod.signal(Signal::TERM);
    assert_eq!(echod.wait_for_exit().code, Some(0));
}
