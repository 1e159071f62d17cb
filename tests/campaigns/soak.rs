//! A soak: two servers under mixed clients for `CAMPAIGN_MINUTES` (60). The clients of one end every
//! connection in order, so each counter of that server is known exactly. The clients of the other
//! reset, never read, drip and send urgent data: its bytes have bounds, its connections are exact.
//! Memory and descriptors of both are printed every minute.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use crate::support::echod::{Echod, Signal};
use crate::support::pattern::{Choices, Pattern};
use crate::support::{Client, wait_until};
use crate::{number, say};

const ADMIN: &str = "--admin=127.0.0.1:0";
const TCP: &str = "--echo=tcp://127.0.0.1:0";
const MINUTE: Duration = Duration::from_secs(60);
/// A client rests for this long between two rounds, so that a soak does not only measure the host.
const REST: Duration = Duration::from_millis(10);
/// The most that private memory may grow from the first minute to the last: less than a page for each of
/// ten thousand connections, and more than an allocator moves by itself.
const MAX_GROWTH: u64 = 4 << 20;

/// What the clients of a server did.
#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    /// Sent by clients that ended in order: the server must have received and returned all of it.
    bytes: AtomicU64,
    /// Sent by clients that did not: the server received at most this.
    at_most: AtomicU64,
    datagrams: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn value(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// One kind of client, a round of which starts and ends a connection.
type Round = fn(SocketAddr, &Counts, &mut Choices) -> io::Result<()>;

const ORDERLY: &[(&str, usize, Round)] = &[
    ("echo of a few messages", 2, echo_messages),
    ("connection for each message", 2, one_message),
    ("stream of a mebibyte", 1, stream),
];
const DISORDERLY: &[(&str, usize, Round)] = &[
    ("reset", 2, reset),
    ("never reads", 2, never_read),
    ("urgent data", 1, urgent),
    ("one byte at a time", 2, drip),
];

#[test]
#[ignore = "a campaign: an hour by default"]
fn soak() {
    let time = MINUTE * u32::try_from(number("CAMPAIGN_MINUTES", 60)).expect("a number of minutes");
    let udp = "--echo=udp://127.0.0.1:0";
    let orderly = Echod::start(&[TCP, udp, ADMIN, "--udp-rate-per-source=off"]);
    let disorderly = Echod::start(&[TCP, ADMIN, "--stall-timeout=5s", "--idle-timeout=30s"]);
    let servers = [("orderly", &orderly), ("disorderly", &disorderly)];
    let counts = [Counts::default(), Counts::default()];
    let stop = AtomicBool::new(false);
    let first = thread::scope(|scope| {
        for (kinds, (_, echod), counts) in [
            (ORDERLY, servers[0], &counts[0]),
            (DISORDERLY, servers[1], &counts[1]),
        ] {
            start_clients(scope, kinds, echod.address(), counts, &stop);
        }
        let datagrams = orderly.address_of("echo udp://");
        scope.spawn({
            let (counts, stop) = (&counts[0], &stop);
            move || send_datagrams(datagrams, counts, stop)
        });
        let first = watch(&servers, &counts, time);
        stop.store(true, Ordering::Relaxed);
        first
    });
    for ((name, echod), (counts, first)) in servers.into_iter().zip(counts.iter().zip(first)) {
        check(name, echod, counts, first);
    }
    for echod in [orderly, disorderly] {
        echod.signal(Signal::TERM);
        assert_eq!(echod.wait_for_exit().code, Some(0));
    }
}

/// Memory and descriptors of a server.
#[derive(Clone, Copy, Debug)]
struct Usage {
    private_bytes: u64,
    descriptors: usize,
}

fn usage(echod: &Echod) -> Usage {
    Usage {
        private_bytes: echod.private_bytes(),
        descriptors: echod.descriptors(""),
    }
}

/// Prints the usage once a minute, and returns that of the first minute.
fn watch(servers: &[(&str, &Echod)], counts: &[Counts], time: Duration) -> Vec<Usage> {
    let end = Instant::now() + time;
    let mut first = None;
    let mut minute = 0;
    while Instant::now() < end {
        let next = end.min(Instant::now() + MINUTE);
        while Instant::now() < next {
            thread::park_timeout(next.saturating_duration_since(Instant::now()));
        }
        minute += 1;
        let now: Vec<_> = servers.iter().map(|(_, echod)| usage(echod)).collect();
        for (((name, _), usage), counts) in servers.iter().zip(&now).zip(counts) {
            say(&format!(
                "minute {minute}, {name}: {} KiB private, {} descriptors, {} connections so far",
                usage.private_bytes >> 10,
                usage.descriptors,
                value(&counts.connections),
            ));
        }
        first.get_or_insert(now);
    }
    first.expect("at least a minute")
}

/// The server's counters against the clients' own, and its memory against the first minute.
fn check(name: &str, echod: &Echod, counts: &Counts, first: Usage) {
    let connections = value(&counts.connections);
    wait_until("the end of all connections", || {
        echod.metric_sum("echod_connections_closed_total") == connections
    });
    let accepted = echod.metric("echod_connections_accepted_total");
    let received = echod.metric("echod_received_bytes_total");
    let sent = echod.metric("echod_sent_bytes_total");
    let (exact, rest) = (value(&counts.bytes), value(&counts.at_most));
    let now = usage(echod);
    say(&format!(
        "{name}: {accepted} connections accepted of {connections}, {received} bytes received of {exact} and at most \
         {rest} more, {sent} sent; private memory {} KiB after a minute, {} KiB now; {} descriptors",
        first.private_bytes >> 10,
        now.private_bytes >> 10,
        now.descriptors,
    ));
    assert_eq!(accepted, connections);
    assert!((exact..=exact + rest).contains(&received), "{received}");
    assert!(sent <= received && sent >= exact, "{sent}");
    if rest == 0 {
        assert_eq!((received, sent), (exact, exact));
    }
    assert_eq!(echod.metric("echod_backlog_bytes"), 0);
    let datagrams = value(&counts.datagrams);
    if datagrams > 0 {
        let received = echod.metric("echod_udp_received_datagrams_total");
        let returned = echod.metric("echod_udp_sent_datagrams_total");
        say(&format!(
            "{name}: {received} datagrams received of {datagrams}, {returned} sent"
        ));
        assert_eq!((received, returned), (datagrams, datagrams));
    }
    assert!(now.private_bytes <= first.private_bytes + MAX_GROWTH);
}

fn start_clients<'scope>(
    scope: &'scope Scope<'scope, '_>,
    kinds: &'static [(&str, usize, Round)],
    address: SocketAddr,
    counts: &'scope Counts,
    stop: &'scope AtomicBool,
) {
    let mut seed = 0;
    for (what, threads, round) in kinds {
        for _ in 0..*threads {
            seed += 1;
            let mut choices = Choices::new(seed << 32);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Err(error) = round(address, counts, &mut choices) {
                        panic!("{what}: {error}");
                    }
                    thread::park_timeout(REST);
                }
            });
        }
    }
}

fn connect(address: SocketAddr, counts: &Counts) -> io::Result<Client> {
    let client = Client::try_connect(address)?;
    add(&counts.connections, 1);
    Ok(client)
}

/// Ends a connection in order, and counts its bytes.
fn finish(mut client: Client, counts: &Counts, bytes: u64) {
    client.half_close();
    client.expect_end();
    add(&counts.bytes, bytes);
}

fn echo_messages(address: SocketAddr, counts: &Counts, choices: &mut Choices) -> io::Result<()> {
    const MAX_MESSAGE: usize = 20_000;
    let mut client = connect(address, counts)?;
    let mut bytes = 0;
    for _ in 0..=choices.below(50) {
        let len = 1 + choices.below(MAX_MESSAGE);
        client.echo(&Pattern(bytes).bytes(len));
        bytes += len as u64;
    }
    finish(client, counts, bytes);
    Ok(())
}

fn one_message(address: SocketAddr, counts: &Counts, choices: &mut Choices) -> io::Result<()> {
    let mut client = connect(address, counts)?;
    let len = 1 + choices.below(5000);
    client.echo(&Pattern(len as u64).bytes(len));
    finish(client, counts, len as u64);
    Ok(())
}

fn stream(address: SocketAddr, counts: &Counts, choices: &mut Choices) -> io::Result<()> {
    let mut client = connect(address, counts)?;
    let bytes = (1 << 20) + choices.below(1 << 20) as u64;
    client.echo_stream(Pattern(bytes), bytes);
    finish(client, counts, bytes);
    Ok(())
}

fn reset(address: SocketAddr, counts: &Counts, choices: &mut Choices) -> io::Result<()> {
    let mut client = connect(address, counts)?;
    let sent = 1 + choices.below(100_000);
    add(&counts.at_most, sent as u64);
    client.write_all(&vec![7; sent])?;
    client.read_exact(&mut vec![0; choices.below(sent)])?;
    client.reset();
    Ok(())
}

/// Sends until the server pushes back, waits for a while, and closes without having read.
fn never_read(address: SocketAddr, counts: &Counts, choices: &mut Choices) -> io::Result<()> {
    let client = connect(address, counts)?;
    let chunk = [3; 16 << 10];
    loop {
        let taken = client.send_in_a_moment(&chunk);
        if taken == 0 {
            break;
        }
        add(&counts.at_most, taken as u64);
    }
    thread::park_timeout(Duration::from_millis(choices.below(2000) as u64));
    Ok(())
}

fn urgent(address: SocketAddr, counts: &Counts, choices: &mut Choices) -> io::Result<()> {
    let mut client = connect(address, counts)?;
    let mut bytes = 0;
    for _ in 0..=choices.below(10) {
        let message = Pattern(bytes).bytes(1 + choices.below(500));
        client.send_urgent(&message);
        assert!(client.receive(message.len()) == message, "wrong bytes");
        bytes += message.len() as u64;
    }
    finish(client, counts, bytes);
    Ok(())
}

fn drip(address: SocketAddr, counts: &Counts, choices: &mut Choices) -> io::Result<()> {
    let mut client = connect(address, counts)?;
    let bytes = 1 + choices.below(100) as u64;
    for byte in 0..bytes {
        client.echo(&[byte as u8]);
        thread::park_timeout(Duration::from_millis(10));
    }
    finish(client, counts, bytes);
    Ok(())
}

/// One datagram at a time, so that none is lost in a queue.
fn send_datagrams(address: SocketAddr, counts: &Counts, stop: &AtomicBool) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.connect(address).expect("an address");
    let patience = Some(Duration::from_secs(60));
    socket.set_read_timeout(patience).expect("SO_RCVTIMEO");
    let mut choices = Choices::new(1);
    let mut back = [0; 2000];
    while !stop.load(Ordering::Relaxed) {
        let sent = Pattern(value(&counts.datagrams)).bytes(1 + choices.below(1400));
        socket.send(&sent).expect("send");
        let count = socket.recv(&mut back).expect("an answer");
        assert!(back[..count] == sent, "a wrong answer");
        add(&counts.datagrams, 1);
        add(&counts.bytes, count as u64);
        thread::park_timeout(REST);
    }
}
