//! UDP: each datagram is answered whole, to its source and from its destination, and unanswered
//! datagrams are counted.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::time::Duration;

use echomark::metrics::{DropReason, Snapshot};
use echomark::{Config, Limits, Server, Service};
use socket2::SockRef;

use crate::support::echod::{Echod, Signal};
use crate::support::pattern::Pattern;
use crate::support::{
    Client, DEADLINE, Running, addresses, config_for, in_parallel, wait_for, wait_until,
};

const WORKERS: usize = 3;
/// The most that a UDP datagram over IPv4 carries: 65 535 bytes less the headers.
const MAX_PAYLOAD: usize = 65_507;

fn serving(service: Service, host: &str) -> Config {
    Config {
        workers: NonZeroUsize::new(WORKERS).unwrap(),
        udp_chargen: true,
        limits: without_rate(),
        ..config_for(service, &format!("udp://{host}:0"))
    }
}

/// No rate of a source: tests send more than the default from one address.
fn without_rate() -> Limits {
    Limits {
        udp_rate_per_source: None,
        ..Limits::default()
    }
}

fn with_limits(limits: Limits) -> Running {
    Running::start(Config {
        limits,
        ..serving(Service::Echo, "127.0.0.1")
    })
}

/// A socket on a free port of `address`, with a deadline for every call.
#[track_caller]
fn socket_on(address: &str) -> UdpSocket {
    let address: IpAddr = address.parse().expect("an address");
    let socket = UdpSocket::bind((address, 0)).expect("a free port");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    socket
}

#[track_caller]
fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) {
    let sent = socket.send_to(bytes, to).expect("send");
    assert_eq!(sent, bytes.len());
}

/// Receives one datagram and returns it with its source.
#[track_caller]
fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; MAX_PAYLOAD + 1];
    let (count, from) = socket.recv_from(&mut buffer).expect("a datagram");
    buffer.truncate(count);
    (buffer, from)
}

#[track_caller]
fn echo(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) {
    send(socket, bytes, to);
    let (back, from) = receive(socket);
    assert!(back == bytes, "{} bytes became {}", bytes.len(), back.len());
    assert_eq!(from, to);
}

/// Whether no datagram waits.
#[track_caller]
fn is_empty(socket: &UdpSocket) -> bool {
    socket.set_nonblocking(true).expect("O_NONBLOCK");
    let result = socket.recv_from(&mut [0; 1]);
    socket.set_nonblocking(false).expect("O_NONBLOCK");
    match result {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            true
        }
    }
}

fn dropped(metrics: &Snapshot) -> u64 {
    let reasons = DropReason::ALL.iter();
    reasons.map(|&reason| metrics.udp_dropped(reason)).sum()
}

/// Waits until `count` datagrams were received and each was answered or dropped.
#[track_caller]
fn wait_for_received(server: &Running, count: u64) -> Snapshot {
    server.wait_for_metrics("datagrams", |it| {
        it.udp_received_datagrams >= count && it.udp_sent_datagrams + dropped(it) >= count
    });
    let metrics = server.metrics();
    assert_eq!(metrics.udp_received_datagrams, count);
    assert_eq!(metrics.udp_sent_datagrams + dropped(&metrics), count);
    metrics
}

#[test]
fn datagrams_of_any_length_come_back_whole() {
    for host in ["127.0.0.1", "[::1]"] {
        let server = Running::start(serving(Service::Echo, host));
        let client = socket_on(host.trim_matches(['[', ']']));
        let lengths = [
            0,
            1,
            511,
            512,
            513,
            1472,
            1473,
            9000,
            MAX_PAYLOAD - 1,
            MAX_PAYLOAD,
            0,
        ];
        for (index, len) in lengths.into_iter().enumerate() {
            echo(&client, &Pattern(index as u64).bytes(len), server.address());
        }
        let metrics = wait_for_received(&server, lengths.len() as u64);
        assert_eq!(dropped(&metrics), 0);
        let bytes = lengths.into_iter().sum::<usize>() as u64;
        server.wait_for_metrics("all bytes", |it| {
            it.received_bytes == bytes && it.sent_bytes == bytes
        });
    }
}

/// Each client has several datagrams in flight and gets only its own answers, from any worker.
#[test]
fn many_clients_at_once_each_get_their_own_datagrams() {
    /// Three short datagrams of each client fit into the receive buffer of one worker, even if it
    /// gets all; otherwise the kernel might drop some.
    const THREADS: usize = 4;
    const SOCKETS: usize = 8;
    const ROUNDS: usize = 50;
    let server = Running::start(serving(Service::Echo, "127.0.0.1"));
    in_parallel(THREADS, |thread| {
        let sockets: Vec<_> = (0..SOCKETS).map(|_| socket_on("127.0.0.1")).collect();
        for round in 0..ROUNDS {
            let message = |index: usize, part: usize| {
                let seed = ((thread * SOCKETS + index) * ROUNDS + round) * 3 + part;
                Pattern(seed as u64).bytes(1 + seed % 500)
            };
            for (index, socket) in sockets.iter().enumerate() {
                (0..3).for_each(|part| send(socket, &message(index, part), server.address()));
            }
            for (index, socket) in sockets.iter().enumerate() {
                for part in 0..3 {
                    let (back, from) = receive(socket);
                    assert!(back == message(index, part), "not what was sent");
                    assert_eq!(from, server.address());
                }
            }
        }
    });
    wait_for_received(&server, (3 * THREADS * SOCKETS * ROUNDS) as u64);
    let busy = server.handle.workers().into_iter();
    let busy = busy.filter(|it| it.udp_received_datagrams > 0).count();
    assert_eq!(busy, WORKERS, "workers that received something");
}

#[test]
fn discard_counts_and_never_answers() {
    const COUNT: usize = 200;
    let mut config = serving(Service::Discard, "127.0.0.1");
    config
        .services
        .extend(serving(Service::Echo, "127.0.0.1").services);
    let server = Running::start(config);
    let client = socket_on("127.0.0.1");
    for len in 0..COUNT {
        send(&client, &Pattern(1).bytes(len), server.addresses[0]);
    }
    server.wait_for_metrics("datagrams", |it| it.udp_received_datagrams == COUNT as u64);
    // An answer of the discard service would come before this.
    echo(&client, b"are you there?", server.addresses[1]);
    let metrics = server.wait_for_metrics("all counted", |it| it.udp_sent_datagrams > 0);
    let received = (0..COUNT).sum::<usize>() as u64 + 14;
    assert_eq!(metrics.received_bytes, received);
    assert_eq!((metrics.udp_sent_datagrams, dropped(&metrics)), (1, 0));
}

/// RFC 864 allows up to 512 bytes; no answer may be longer than its request.
#[test]
fn chargen_answers_with_no_more_than_it_got() {
    let server = Running::start(serving(Service::Chargen, "127.0.0.1"));
    let client = socket_on("127.0.0.1");
    for len in [0, 1, 74, 511, 512, 513, 10_000, MAX_PAYLOAD] {
        send(&client, &vec![0; len], server.address());
        let (answer, from) = receive(&client);
        assert_eq!(answer.len(), len.min(512));
        assert_eq!(from, server.address());
        let is_pattern = |(column, &byte): (usize, &u8)| match column % 74 {
            72 => byte == b'\r',
            73 => byte == b'\n',
            _ => (b' '..=b'~').contains(&byte),
        };
        assert!(answer.iter().enumerate().all(is_pattern), "{answer:?}");
    }
}

#[test]
fn a_wildcard_socket_answers_from_the_address_that_was_asked() {
    for (host, asked, client) in [
        (
            "0.0.0.0",
            ["127.0.0.1", "127.0.0.2", "127.1.2.3"],
            "127.0.0.1",
        ),
        ("[::]", ["127.0.0.1", "127.0.0.2", "127.1.2.3"], "127.0.0.1"),
        ("[::]", ["::1", "::1", "::1"], "::1"),
    ] {
        let server = Running::start(serving(Service::Echo, host));
        let client = socket_on(client);
        for (round, asked) in asked.iter().cycle().take(30).enumerate() {
            let asked: IpAddr = asked.parse().expect("an address");
            let to = SocketAddr::new(asked, server.address().port());
            echo(&client, &[round as u8; 100], to);
        }
    }
}

#[test]
fn a_denied_source_is_not_answered_and_counted() {
    let server = with_limits(Limits {
        deny: vec!["127.0.0.2".parse().expect("a prefix")],
        ..Limits::default()
    });
    let denied = socket_on("127.0.0.2");
    for _ in 0..10 {
        send(&denied, b"let me in", server.address());
    }
    let metrics = wait_for_received(&server, 10);
    assert_eq!(metrics.udp_dropped(DropReason::Denied), 10);
    echo(&socket_on("127.0.0.1"), b"let me in", server.address());
    assert!(is_empty(&denied));
}

/// The rate is so low that it grants only its burst while the test runs.
const ONE_EVER: f64 = 1e-9;

#[test]
fn each_source_gets_no_more_than_its_rate() {
    const SOURCES: u8 = 5;
    const EACH: u64 = 40;
    let server = with_limits(Limits {
        udp_rate_per_source: Some(ONE_EVER),
        ..Limits::default()
    });
    in_parallel(SOURCES.into(), |index| {
        // All ports of one address are one source, on every worker.
        let address = format!("127.0.0.{}", index + 1);
        let sockets: Vec<_> = (0..4).map(|_| socket_on(&address)).collect();
        for round in 0..EACH as usize {
            send(&sockets[round % 4], b"again", server.address());
        }
    });
    let metrics = wait_for_received(&server, u64::from(SOURCES) * EACH);
    assert_eq!(metrics.udp_sent_datagrams, u64::from(SOURCES));
    assert_eq!(
        metrics.udp_dropped(DropReason::RatePerSource),
        u64::from(SOURCES) * (EACH - 1)
    );
}

#[test]
fn all_sources_together_get_no_more_than_the_rate() {
    const SOURCES: u64 = 5;
    const EACH: u64 = 40;
    let server = with_limits(Limits {
        udp_rate: Some(ONE_EVER),
        ..without_rate()
    });
    in_parallel(SOURCES as usize, |index| {
        let socket = socket_on(&format!("127.0.0.{}", index + 1));
        for _ in 0..EACH {
            send(&socket, b"again", server.address());
        }
    });
    let metrics = wait_for_received(&server, SOURCES * EACH);
    assert_eq!(metrics.udp_sent_datagrams, 1);
    assert_eq!(metrics.udp_dropped(DropReason::Rate), SOURCES * EACH - 1);
}

/// A burst of one second's worth, plus the tokens added meanwhile, but no more.
#[test]
fn a_burst_is_answered_up_to_the_rate() {
    const RATE: u64 = 20;
    let server = with_limits(Limits {
        udp_rate_per_source: Some(RATE as f64),
        ..Limits::default()
    });
    let client = socket_on("127.0.0.1");
    let began = std::time::Instant::now();
    for _ in 0..10 * RATE {
        send(&client, b"again", server.address());
    }
    let metrics = wait_for_received(&server, 10 * RATE);
    // The time is not limited: the longer it takes, the more answers are allowed.
    let most = RATE + 1 + (began.elapsed().as_secs_f64() * RATE as f64) as u64;
    let sent = metrics.udp_sent_datagrams;
    assert!((RATE..=most).contains(&sent), "{sent} of at most {most}");
    for _ in 0..sent {
        assert_eq!(receive(&client).0, b"again");
    }
    assert!(is_empty(&client));
}

/// An answer to a service would be answered in turn, for ever.
#[test]
fn a_datagram_from_a_service_port_is_not_answered() {
    let server = Running::start(serving(Service::Echo, "127.0.0.1"));
    // By default only root may bind it.
    let free = (1..1024).find_map(|port| UdpSocket::bind(("127.0.0.77", port)).ok());
    let Some(service) = free else {
        return;
    };
    send(&service, b"echo of an echo", server.address());
    let metrics = wait_for_received(&server, 1);
    assert_eq!(metrics.udp_dropped(DropReason::SourcePort), 1);
    assert!(is_empty(&service));
}

/// From any address: a server like this one may have the port there.
#[test]
fn a_datagram_from_one_of_our_ports_is_not_answered() {
    let mut config = serving(Service::Echo, "127.0.0.1");
    config
        .services
        .extend(serving(Service::Chargen, "127.0.0.1").services);
    let server = Running::start(config);
    let mut received = 0;
    for from in 0..2 {
        let port = server.addresses[from].port();
        let forger = UdpSocket::bind(("127.0.0.78", port)).expect("a port of 127.0.0.78");
        for to in 0..2 {
            send(&forger, b"echo of an echo", server.addresses[to]);
            received += 1;
            let metrics = wait_for_received(&server, received);
            assert_eq!(metrics.udp_dropped(DropReason::OwnPort), received);
        }
        assert!(is_empty(&forger));
    }
    echo(&socket_on("127.0.0.1"), b"hello", server.addresses[0]);
}

/// Two servers, each of which could take the other for a client: only the port tells.
#[test]
fn two_servers_on_one_port_do_not_answer_each_other() {
    let one = Running::start(serving(Service::Echo, "127.0.0.79"));
    let endpoint = format!("udp://127.0.0.80:{}", one.address().port());
    // No other test binds that address.
    let other = Running::start(Config {
        workers: NonZeroUsize::new(WORKERS).unwrap(),
        ..config_for(Service::Echo, &endpoint)
    });
    let forger = UdpSocket::bind(("127.0.0.81", one.address().port())).expect("a free port");
    send(&forger, b"from your peer", other.address());
    let metrics = wait_for_received(&other, 1);
    assert_eq!(metrics.udp_dropped(DropReason::OwnPort), 1);
    assert!(is_empty(&forger));
    echo(&socket_on("127.0.0.1"), b"hello", other.address());
    assert_eq!(one.metrics().udp_received_datagrams, 0);
}

/// Two servers on different ports take each other for clients: only the default rate of a source
/// ends their exchange.
#[test]
fn a_forged_datagram_does_not_circle_between_two_servers() {
    const FORGED: usize = 32;
    /// Far beyond what the rate allows in the time that this many answers take.
    const MANY: u64 = 100_000;
    let rate = Limits::default().udp_rate_per_source.expect("a default");
    // The datagrams wait for the first server until the second has the port that they came from. No
    // other test binds its address.
    let first = Server::bind(config_for(Service::Echo, "udp://127.0.0.91:0"));
    let first = first.expect("a free port");
    let forger = UdpSocket::bind(("127.0.0.92", 0)).expect("a free port");
    let port = forger.local_addr().expect("an address").port();
    for _ in 0..FORGED {
        send(&forger, b"echo of an echo", addresses(&first)[0]);
    }
    drop(forger);
    let second = config_for(Service::Echo, &format!("udp://127.0.0.92:{port}"));
    let second = Server::bind(second).expect("the forger's port");
    let began = std::time::Instant::now();
    let servers = [Running::run(first), Running::run(second)];
    let over = |server: &Running| {
        let metrics = server.metrics();
        let dropped = metrics.udp_dropped(DropReason::RatePerSource);
        assert!(metrics.udp_sent_datagrams < MANY, "they go on: {metrics:?}");
        dropped
    };
    wait_until("dropped datagrams", || {
        servers.iter().map(over).sum::<u64>() > 0
    });
    for server in &servers {
        let sent = server.metrics().udp_sent_datagrams;
        // The time is not limited: the longer it takes, the more answers are allowed.
        let most = rate + 1.0 + began.elapsed().as_secs_f64() * rate;
        assert!(sent as f64 <= most, "{sent} of at most {most}");
    }
}

/// While the server stands still, the kernel drops what the receive buffer does not hold.
#[test]
fn each_sent_datagram_is_received_or_dropped_by_the_kernel() {
    const COUNT: u64 = 1000;
    let mut args = vec!["--echo=udp://127.0.0.1:0", "--admin=127.0.0.1:0"];
    args.extend([
        "--workers=2",
        "--recv-buffer=8KiB",
        "--udp-rate-per-source=off",
    ]);
    let echod = Echod::start(&args);
    let to = echod.address_of("echo udp://");
    let of_kernel = format!("echod_udp_kernel_dropped_datagrams_total{{endpoint=\"udp://{to}\"}}");
    assert_eq!(echod.metric(&of_kernel), 0);
    echod.signal(Signal::STOP);
    let clients: Vec<_> = (0..10).map(|_| socket_on("127.0.0.1")).collect();
    for _ in 0..COUNT / 10 {
        clients.iter().for_each(|it| send(it, &[7; 100], to));
    }
    echod.signal(Signal::CONT);
    let mut counts = (0, 0);
    wait_until("an account of every datagram", || {
        let received = echod.metric("echod_udp_received_datagrams_total");
        counts = (received, echod.metric(&of_kernel));
        counts.0 + counts.1 >= COUNT
    });
    let (received, dropped) = counts;
    assert_eq!(received + dropped, COUNT);
    assert!(received > 0 && dropped > 0, "{counts:?}");
}

/// The limit bites by default: the log and the metric say so, and the log says it once. One word
/// switches it off.
#[test]
fn the_default_rate_of_a_source_is_reported_and_can_be_switched_off() {
    const COUNT: usize = 3000;
    const DROPPED: &str = "echod_udp_dropped_datagrams_total{reason=\"rate_per_source\"}";
    const RECEIVED: &str = "echod_udp_received_datagrams_total";
    for off in [&[][..], &["--udp-rate-per-source=off"]] {
        let mut args = vec!["--echo=udp://127.0.0.1:0", "--admin=127.0.0.1:0"];
        args.extend(["--workers=1", "--recv-buffer=1MiB"]);
        args.extend(off);
        let mut echod = Echod::start(&args);
        let to = echod.address_of("echo udp://");
        let client = socket_on("127.0.0.1");
        let began = std::time::Instant::now();
        // The kernel may drop some.
        while echod.metric(RECEIVED) < COUNT as u64 {
            (0..50).for_each(|_| send(&client, b"again", to));
        }
        if off.is_empty() {
            // The burst and what was granted since.
            let granted = 1000.0 * (2.0 + began.elapsed().as_secs_f64());
            assert!(echod.metric(DROPPED) as f64 >= COUNT as f64 - granted);
            echod.wait_for_log("--udp-rate-per-source");
        } else {
            assert_eq!(echod.metric(DROPPED), 0);
        }
        echod.signal(Signal::TERM);
        let exit = echod.wait_for_exit();
        let lines = exit.stderr.iter().filter(|it| it.contains("beyond"));
        assert_eq!(lines.count(), usize::from(off.is_empty()), "{exit:#?}");
    }
}

/// A drain was requested before the first turn of the loop, with and without a connection that
/// delays the end.
#[test]
fn a_drain_answers_waiting_datagrams() {
    const CLIENTS: usize = 50;
    for with_connection in [true, false] {
        let mut config = serving(Service::Echo, "127.0.0.1");
        let tcp = config_for(Service::Echo, "tcp://127.0.0.1:0");
        config.services.extend(tcp.services);
        config.drain_timeout = Duration::from_secs(600);
        let server = Server::bind(config).expect("free ports");
        let [to, tcp_address] = addresses(&server)[..] else {
            panic!("two addresses");
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| socket_on("127.0.0.1")).collect();
        for (index, client) in clients.iter().enumerate() {
            send(client, &Pattern(index as u64).bytes(100), to);
        }
        let connection = with_connection.then(|| Client::connect(tcp_address));
        server.handle().drain();
        let server = Running::run(server);
        for (index, client) in clients.iter().enumerate() {
            let (back, _) = receive(client);
            assert!(back == Pattern(index as u64).bytes(100));
        }
        if let Some(mut connection) = connection {
            connection.echo(b"still there");
            // One of the workers serves it, and with it the clients that hash to it.
            wait_for("an answer during the drain", || {
                let client = socket_on("127.0.0.1");
                send(&client, b"still there?", to);
                let moment = Duration::from_millis(20);
                client.set_read_timeout(Some(moment)).expect("a timeout");
                client.recv_from(&mut [0; 20]).ok()
            });
        }
        let metrics = server.join();
        assert!(metrics.udp_sent_datagrams >= CLIENTS as u64);
    }
}

/// Without any connection the server ends at once, but first answers all waiting datagrams, even
/// more than one turn of the loop answers.
#[test]
fn a_drain_of_udp_alone_answers_waiting_datagrams() {
    const COUNT: u16 = 350;
    /// Enough for all of them, and within every system's limit.
    const RECEIVE_BUFFER: usize = 200_000;
    let mut config = serving(Service::Echo, "127.0.0.1");
    config.workers = NonZeroUsize::MIN;
    config.tuning.recv_buffer = Some(RECEIVE_BUFFER);
    let server = Server::bind(config).expect("a free port");
    let to = addresses(&server)[0];
    let client = socket_on("127.0.0.1");
    SockRef::from(&client)
        .set_recv_buffer_size(RECEIVE_BUFFER)
        .expect("SO_RCVBUF");
    for number in 0..COUNT {
        send(&client, &number.to_be_bytes(), to);
    }
    server.handle().drain();
    let metrics = Running::run(server).join();
    assert_eq!(metrics.udp_sent_datagrams, u64::from(COUNT));
    for number in 0..COUNT {
        assert_eq!(receive(&client).0, number.to_be_bytes());
    }
}
