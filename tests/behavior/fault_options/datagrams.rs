//! Over UDP: shares of a hundred thousand datagrams, alone and together.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use echomark::metrics::{Fault, Snapshot};
use echomark::{Config, Limits, Service};

use super::{MESSAGES, assert_share, faulty, faulty_service};
use crate::support::{DEADLINE, Running};

/// Datagrams on the way at a time: no buffer on the way drops any of so few.
const WINDOW: u64 = 32;

/// What came back of numbered datagrams, by their numbers.
struct Answers {
    /// How often each came, unchanged or not.
    times: Vec<u8>,
    corrupt: u64,
    /// Answers that came after one with a higher number.
    overtaken: u64,
    metrics: Snapshot,
}

impl Answers {
    fn with(&self, times: u8) -> u64 {
        self.times.iter().filter(|it| **it == times).count() as u64
    }
}

fn client(server: &Running) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    client.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    client.connect(server.address()).expect("an address");
    client
}

/// A number and its complement, so that one changed bit is found and mended.
fn message(number: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes[8..].copy_from_slice(&(!number).to_be_bytes());
    bytes
}

/// The number in an answer, and whether it is as it was sent.
fn number_of(bytes: &[u8], below: u64) -> (u64, bool) {
    let word = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let (one, other) = (word(0), !word(8));
    if one == other {
        return (one, true);
    }
    assert_eq!((one ^ other).count_ones(), 1, "one bit is changed");
    // Only the right one is among the few that may still come.
    (
        if one < below {
            one.max(other.min(below - 1))
        } else {
            other
        },
        false,
    )
}

/// Sends so many datagrams in windows. The server's counters say when all of a window were decided
/// about, so a dropped one costs no time.
fn exchange(server: &Running, messages: u64) -> Answers {
    let client = client(server);
    let mut times = vec![0; messages as usize];
    let (mut corrupt, mut overtaken, mut highest) = (0, 0, 0);
    let mut buffer = [0; 64];
    let mut received = 0;
    for begin in (0..messages).step_by(WINDOW as usize) {
        let end = (begin + WINDOW).min(messages);
        for number in begin..end {
            client.send(&message(number)).expect("sent");
        }
        let metrics = server.wait_for_metrics("a whole window", |it| {
            let pending = it.backlog_bytes;
            it.udp_received_datagrams == end && pending == 0
        });
        // All that were sent have been put into the client's socket.
        while received < metrics.udp_sent_datagrams {
            let count = client.recv(&mut buffer).expect("an answer");
            received += 1;
            assert_eq!(count, 16);
            let (number, is_whole) = number_of(&buffer[..16], end);
            corrupt += u64::from(!is_whole);
            if is_whole {
                overtaken += u64::from(number < highest);
                highest = highest.max(number);
                times[number as usize] += 1;
            }
        }
    }
    Answers {
        times,
        corrupt,
        overtaken,
        metrics: server.metrics(),
    }
}

fn start(options: &str) -> Running {
    Running::start(faulty("udp://127.0.0.1:0", options))
}

#[test]
fn each_share_alone_is_the_one_given() {
    let lost = exchange(&start("drop=1%&seed=1"), MESSAGES);
    assert_share("lost", lost.with(0), MESSAGES, 0.01);
    assert_eq!(lost.with(0) + lost.with(1), MESSAGES);
    assert_eq!(lost.metrics.faults(Fault::Drop), lost.with(0));

    let twice = exchange(&start("duplicate=1%&seed=2"), MESSAGES);
    assert_share("twice", twice.with(2), MESSAGES, 0.01);
    assert_eq!(twice.with(1) + twice.with(2), MESSAGES);
    assert_eq!(twice.metrics.faults(Fault::Duplicate), twice.with(2));

    let corrupt = exchange(&start("corrupt=1%&seed=3"), MESSAGES);
    assert_share("corrupt", corrupt.corrupt, MESSAGES, 0.01);
    assert_eq!(corrupt.with(0), corrupt.corrupt);
    assert_eq!(corrupt.metrics.faults(Fault::Corrupt), corrupt.corrupt);
}

#[test]
fn three_shares_at_once_are_those_given() {
    let all = exchange(&start("drop=2%&duplicate=1%&corrupt=3%&seed=4"), MESSAGES);
    let drops = all.metrics.faults(Fault::Drop);
    let answered = MESSAGES - drops;
    assert_share("lost", drops, MESSAGES, 0.02);
    assert_share(
        "twice",
        all.metrics.faults(Fault::Duplicate),
        answered,
        0.01,
    );
    assert_share(
        "corrupt",
        all.metrics.faults(Fault::Corrupt),
        answered,
        0.03,
    );
    // A corrupt answer that is sent twice comes twice.
    let sent = answered + all.metrics.faults(Fault::Duplicate);
    assert_eq!(all.metrics.udp_sent_datagrams, sent);
    assert!(all.with(0) >= drops && all.with(0) <= drops + all.corrupt);
    assert_eq!(all.overtaken, 0);
}

#[test]
fn answers_overtake_each_other_on_order() {
    let reordered = exchange(&start("reorder=10%&seed=5"), 10_000);
    let counted = reordered.metrics.faults(Fault::Reorder);
    assert_eq!(reordered.with(1), 10_000, "each once");
    // The last of a window waits for the next one in vain.
    assert!(reordered.overtaken > counted * 9 / 10 && reordered.overtaken <= counted);
    // One that overtakes is not overtaken itself.
    assert_share("overtaken", counted, 10_000, 0.1 / 1.1);
}

#[test]
fn datagrams_are_decided_about_by_their_number() {
    let lost = |options: &str| {
        let times = exchange(&start(options), 2000).times;
        (0..2000).filter(|it| times[*it] == 0).collect::<Vec<_>>()
    };
    let first = lost("drop=10%&seed=8");
    assert!(first.len() > 100 && first.len() < 300);
    assert_eq!(first, lost("drop=10%&seed=8&duplicate=50%"));
    assert_ne!(first, lost("drop=10%&seed=9"));
}

/// Each leaves at its time: a short delay does not wait for a long one before it.
#[test]
fn delayed_datagrams_leave_at_their_times() {
    let server = start("delay=mix:1ms=50,200ms=50&seed=6");
    let client = client(&server);
    let begin = Instant::now();
    for number in 0..20 {
        client.send(&message(number)).expect("sent");
    }
    let mut buffer = [0; 16];
    let mut at = Vec::new();
    for _ in 0..20 {
        client.recv(&mut buffer).expect("an answer");
        at.push(begin.elapsed());
    }
    let short = at
        .iter()
        .filter(|it| **it < Duration::from_millis(200))
        .count();
    assert!((2..=18).contains(&short), "{at:?}");
    assert_eq!(server.metrics().faults(Fault::Delay), 20);
}

#[test]
fn what_is_held_back_leaves_before_the_end_of_a_drain() {
    let server = start("delay=300ms");
    let client = client(&server);
    client.send(b"before the drain").expect("sent");
    server.wait_for_metrics("the datagram", |it| it.udp_received_datagrams == 1);
    server.handle.drain();
    let mut buffer = [0; 64];
    let count = client.recv(&mut buffer).expect("an answer");
    assert_eq!(&buffer[..count], b"before the drain");
    let metrics = server.join();
    assert_eq!((metrics.udp_sent_datagrams, metrics.backlog_bytes), (1, 0));

    // But not longer than the drain may take.
    let server = Running::start(Config {
        drain_timeout: Duration::from_millis(50),
        ..faulty("udp://127.0.0.1:0", "delay=1h")
    });
    let client = super::datagrams::client(&server);
    client.send(b"not within the drain").expect("sent");
    server.wait_for_metrics("the datagram", |it| it.udp_received_datagrams == 1);
    server.handle.drain();
    let metrics = server.join();
    assert_eq!((metrics.udp_sent_datagrams, metrics.backlog_bytes), (0, 0));
}

/// A discard computes and stands still, and answers nothing.
#[test]
fn a_discard_has_work_and_limits_hold() {
    let server = Running::start(faulty_service(
        Service::Discard,
        "udp://127.0.0.1:0",
        "work=100us",
    ));
    let client = client(&server);
    for number in 0..10 {
        client.send(&message(number)).expect("sent");
    }
    server.wait_for_metrics("work", |it| it.faults(Fault::Work) == 10);
    assert_eq!(server.metrics().udp_sent_datagrams, 0);

    // A source beyond its rate gets nothing, with faults or without.
    let server = Running::start(Config {
        limits: Limits {
            udp_rate_per_source: Some(5.0),
            ..Limits::default()
        },
        ..faulty("udp://127.0.0.1:0", "duplicate=100%")
    });
    let client = super::datagrams::client(&server);
    for number in 0..50 {
        client.send(&message(number)).expect("sent");
    }
    let metrics = server.wait_for_metrics("all", |it| it.udp_received_datagrams == 50);
    assert!(metrics.faults(Fault::Duplicate) < 30);
}

/// A socket that had no faults gets them by a reload, and loses them by another.
#[test]
fn a_reload_reaches_sockets_that_had_no_faults() {
    let server = Running::start(Config {
        faults: Vec::new(),
        ..faulty("udp://127.0.0.1:0", "drop=1%")
    });
    let client = client(&server);
    let mut buffer = [0; 16];
    let mut asks = |number: u64| {
        client.send(&message(number)).expect("sent");
        client.recv(&mut buffer).expect("an answer")
    };
    assert_eq!(asks(1), 16);
    server
        .handle
        .set_faults(&["duplicate=100%".parse().expect("options")]);
    // Each worker applies them in its next turn.
    let mut number = 2;
    crate::support::wait_until("a duplicate", || {
        asks(number);
        number += 1;
        server.metrics().faults(Fault::Duplicate) > 0
    });
    server.handle.set_faults(&[]);
    assert_eq!(server.handle.faults(), [None]);
    crate::support::wait_until("no duplicate", || {
        let before = server.metrics();
        client.send(&message(number)).expect("sent");
        number += 1;
        // An answer and its duplicate are sent, and counted, together.
        let after = server.wait_for_metrics("an answer", |it| {
            it.udp_sent_datagrams > before.udp_sent_datagrams && it.backlog_bytes == 0
        });
        after.udp_sent_datagrams == before.udp_sent_datagrams + 1
    });
}
