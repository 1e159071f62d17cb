//! Replacement: a new server takes over the sockets of a running one, which drains, without an
//! effect on any client.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use echomark::internal::{Answer, Claim, Confirmed, Takeover};
use echomark::net::tuning::{Keepalive, Tuning};
use echomark::{Balance, Config, Handle, Limits, Service};
use socket2::SockRef;

use crate::support::directory::Directory;
use crate::support::generation::{
    Generation, ask, bind, claim, confirm, path_in, wait_until_it_serves,
};
use crate::support::pattern::Pattern;
use crate::support::{AtEnd, Client, DEADLINE, Running, churn, in_parallel, wait_until};

fn config(workers: usize, endpoints: &[(Service, &str)]) -> Config {
    Config {
        services: endpoints
            .iter()
            .map(|(service, endpoint)| (*service, endpoint.parse().expect("an endpoint")))
            .collect(),
        workers: NonZeroUsize::new(workers).expect("a number"),
        drain_timeout: Duration::from_secs(600),
        // A test sends all it has from one address.
        limits: Limits {
            udp_rate_per_source: None,
            ..Limits::default()
        },
        ..Config::default()
    }
}

const TCP: (Service, &str) = (Service::Echo, "tcp://127.0.0.1:0");

/// Echoes over a connection for a while, checks every byte, and reconnects.
#[track_caller]
fn stay(address: SocketAddr, stop: &AtomicBool) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let mut client = Client::connect(address);
        client.echo_stream(Pattern(number), 1 << 20);
        client.half_close();
        client.expect_end();
    }
}

/// No connect is refused or reset and no byte is lost, with any numbers of workers and any balance.
#[test]
fn fifty_replacements_in_a_row_under_a_storm_lose_nothing() {
    const REPLACEMENTS: usize = 50;
    const CHURNERS: usize = 4;
    const BALANCES: [Balance; 3] = [
        Balance::Kernel,
        Balance::LeastConnections,
        Balance::IncomingCpu,
    ];
    let directory = Directory::new();
    let first = Generation::start(&directory, &config(2, &[TCP]));
    let address = first.server.address();
    let present = Mutex::new(Some(first));
    let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    in_parallel(CHURNERS + 2, |index| match index {
        0 => {
            let _stop = AtEnd(&stop);
            for number in 0..REPLACEMENTS {
                let before = rounds.load(Ordering::Relaxed);
                let successor = Generation::start(
                    &directory,
                    &Config {
                        balance: BALANCES[number / 3 % BALANCES.len()],
                        ..config(1 + number % 3, &[TCP])
                    },
                );
                assert_eq!(successor.server.address(), address);
                let predecessor = lock(&present).replace(successor);
                predecessor.expect("a predecessor").join();
                // No other server is left to serve these.
                wait_until("rounds", || rounds.load(Ordering::Relaxed) > before + 20);
            }
        }
        1 => stay(address, &stop),
        _ => churn(address, &stop, &rounds),
    });
    let last = lock(&present).take().expect("a server");
    assert!(last.server.metrics().accepted > 0);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic under the lock")
}

/// Endpoints that the successor's configuration lacks are closed in good order, and new ones are
/// bound.
#[test]
fn endpoints_come_and_go_with_the_configuration() {
    let directory = Directory::new();
    let discard = (Service::Discard, "tcp://127.0.0.1:0");
    let elsewhere = (Service::Echo, "tcp://127.0.0.13:0");
    let first = Generation::start(&directory, &config(2, &[TCP, elsewhere]));
    let [kept, left] = first.server.addresses[..] else {
        panic!("two endpoints");
    };
    let mut client = Client::connect(left);
    client.echo(b"before");
    let second = Generation::start(&directory, &config(2, &[discard, TCP]));
    assert_eq!(second.server.addresses[1], kept);
    client.echo(b"during");
    wait_until("refused connects", || Client::try_connect(left).is_err());
    drop(client);
    first.join();
    Client::connect(kept).echo(b"after");
    let mut thrown_away = Client::connect(second.server.addresses[0]);
    thrown_away.send(b"into the dark");
    thrown_away.half_close();
    thrown_away.expect_end();
}

/// A successor that fails before it serves has changed nothing.
#[test]
fn a_successor_that_gives_up_leaves_the_server_as_it_was() {
    let directory = Directory::new();
    let config = config(2, &[TCP]);
    let server = Generation::start(&directory, &config);
    let mut before = server.server.connect();
    before.echo(b"before");
    for _ in 0..3 {
        drop(ask(&directory, &config));
    }
    // One that was granted the sockets.
    for _ in 0..3 {
        let mut takeover = ask(&directory, &config);
        drop((claim(&mut takeover, &config), takeover));
    }
    // A client without the protocol.
    drop(UnixStream::connect(path_in(&directory)).expect("a connection"));
    before.echo(b"after");
    server.server.connect().echo(b"after");
    let successor = Generation::start(&directory, &config);
    drop(before);
    server.join();
    successor.server.connect().echo(b"replaced in the end");
}

#[test]
fn without_a_predecessor_there_is_nothing_to_take_over() {
    let directory = Directory::new();
    let config = config(1, &[TCP]);
    let ask = || Takeover::ask(&path_in(&directory), &config).expect("no error");
    assert!(matches!(ask(), Answer::Nobody));
    // A killed server leaves its file.
    drop(UnixListener::bind(path_in(&directory)).expect("a socket"));
    assert!(matches!(ask(), Answer::Nobody));
    let server = Generation::start(&directory, &config);
    server.server.connect().echo(b"started afresh");
}

/// A server that is told to end after it has granted its sockets serves until the other does, and
/// leaves them to it.
#[test]
fn a_drain_after_the_grant_leaves_the_sockets_to_the_successor() {
    let directory = Directory::new();
    let path = directory.join("echo");
    let unix = format!("unix:{}", path.display());
    let config = config(2, &[TCP, (Service::Echo, &unix)]);
    let first = Generation::start(&directory, &config);
    let address = first.server.address();
    let mut takeover = ask(&directory, &config);
    let second = claim(&mut takeover, &config);
    first.server.handle.drain();
    for _ in 0..20 {
        Client::connect(address).echo(b"the first still serves");
        echo_over_unix(&path);
    }
    let second = Running::run(second);
    wait_until_it_serves(&second);
    assert!(confirm(*takeover, &second.handle).is_some());
    first.join();
    Client::connect(address).echo(b"nobody filters");
    echo_over_unix(&path);
    second.handle.drain();
    second.join();
    assert!(!path.exists(), "the file was the successor's by then");
}

/// A server that is told to end before it has granted its sockets says so and empties them itself,
/// although the other still has their descriptors.
#[test]
fn a_drain_before_the_grant_loses_no_connection() {
    const WAITING: usize = 50;
    let directory = Directory::new();
    let path = directory.join("echo");
    let unix = format!("unix:{}", path.display());
    let config = config(2, &[TCP, (Service::Echo, &unix)]);
    let first = Generation::start(&directory, &config);
    let address = first.server.address();
    let mut takeover = ask(&directory, &config);
    let mut clients: Vec<_> = (0..WAITING).map(|_| Client::connect(address)).collect();
    first.server.handle.drain();
    clients.extend((0..WAITING).filter_map(|_| {
        // The closing listener ignores it, or it is the first's.
        Client::try_connect_for(Duration::from_millis(10), address).ok()
    }));
    for client in &mut clients {
        client.echo(b"the first serves");
    }
    drop(clients);
    let inherited = std::mem::take(&mut takeover.endpoints);
    let second = bind(&config, inherited);
    let claimed = takeover.claim(&second.handle()).expect("an answer");
    assert_eq!(claimed, Claim::Ending);
    drop((second, takeover));
    assert!(matches!(
        Takeover::ask(&path_in(&directory), &config).expect("an answer"),
        Answer::Ending(Some(_)) | Answer::Nobody
    ));
    first.join();
    assert!(!path.exists());
}

#[test]
fn a_successor_that_is_told_to_end_before_it_confirms_leaves_the_sockets_to_the_predecessor() {
    let directory = Directory::new();
    let path = directory.join("echo");
    let unix = format!("unix:{}", path.display());
    let config = config(2, &[TCP, (Service::Echo, &unix)]);
    let first = Generation::start(&directory, &config);
    let address = first.server.address();
    for end in [Handle::drain, Handle::stop] {
        let mut takeover = ask(&directory, &config);
        let second = Running::run(claim(&mut takeover, &config));
        wait_until_it_serves(&second);
        end(&second.handle);
        let confirmed = takeover.confirm(&second.handle).expect("no failure");
        assert!(matches!(confirmed, Confirmed::Left));
        second.join();
        for _ in 0..20 {
            Client::connect(address).echo(b"as if nothing had been");
            echo_over_unix(&path);
        }
    }
    let third = Generation::start(&directory, &config);
    first.join();
    third.server.connect().echo(b"replaced in the end");
}

/// A successor serves nothing before it is granted the sockets, and until then its additional
/// sockets get no connection.
#[test]
fn a_successor_with_more_workers_gets_no_connection_before_it_serves() {
    const CLIENTS: usize = 50;
    let directory = Directory::new();
    let first = Generation::start(&directory, &config(1, &[TCP]));
    let more = config(8, &[TCP]);
    for _ in 0..3 {
        let mut takeover = ask(&directory, &more);
        let inherited = std::mem::take(&mut takeover.endpoints);
        let second = bind(&more, inherited);
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| first.server.connect()).collect();
        let claim = takeover.claim(&second.handle()).expect("an answer");
        assert_eq!(claim, Claim::Granted);
        clients.extend((0..CLIENTS).map(|_| first.server.connect()));
        // As if it was killed.
        drop((takeover, second));
        for mut client in clients {
            client.echo(b"the first serves");
        }
    }
    let second = Generation::start(&directory, &more);
    first.join();
    second.server.connect().echo(b"replaced in the end");
}

/// Of two successors at the same time one is told at once to ask again.
#[test]
fn two_successors_do_not_both_take_over() {
    let directory = Directory::new();
    let config = config(2, &[TCP]);
    let first = Generation::start(&directory, &config);
    let (mut one, mut other) = (ask(&directory, &config), ask(&directory, &config));
    let second = claim(&mut one, &config);
    let inherited = std::mem::take(&mut other.endpoints);
    let third = bind(&config, inherited);
    let answer = other.claim(&third.handle()).expect("an answer");
    assert_eq!(answer, Claim::Busy);
    drop(third);
    let path = path_in(&directory);
    let answer = Takeover::ask(&path, &config).expect("an answer");
    assert!(matches!(answer, Answer::Busy));
    let second = Running::run(second);
    wait_until_it_serves(&second);
    assert!(confirm(*one, &second.handle).is_some());
    first.join();
    second.connect().echo(b"the second serves");
}

/// Clients of the hand-over socket that say nothing hold neither a successor up nor a drain.
#[test]
fn silent_clients_of_the_hand_over_socket_hold_nobody_up() {
    const SILENT: usize = 24;
    let directory = Directory::new();
    let config = config(2, &[TCP]);
    let first = Generation::start(&directory, &config);
    let silent = || {
        let connect = |_| UnixStream::connect(path_in(&directory)).expect("a connection");
        (0..SILENT).map(connect).collect::<Vec<_>>()
    };
    let before = silent();
    let second = Generation::start(&directory, &config);
    first.join();
    let after = silent();
    let mut clients: Vec<_> = (0..SILENT).map(|_| second.server.connect()).collect();
    second.server.handle.drain();
    for client in &mut clients {
        client.echo(b"accepted before the drain");
    }
    drop(clients);
    second.join();
    drop((before, after));
}

/// A listener on the path that is not an echod.
#[test]
fn a_stranger_is_not_believed() {
    let directory = Directory::new();
    let listener = UnixListener::bind(path_in(&directory)).expect("a socket");
    let stranger = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        (&stream)
            .write_all(&[0, 0, 0, 2, b'{', b'}'])
            .expect("write");
    });
    let error = Takeover::ask(&path_in(&directory), &config(1, &[TCP]));
    assert!(error.is_err());
    stranger.join().expect("no panic");
}

/// Unix sockets keep their file, UDP sockets their queue.
#[test]
fn unix_and_udp_sockets_are_taken_over_too() {
    const REPLACEMENTS: usize = 10;
    let directory = Directory::new();
    let path = directory.join("echo");
    let unix = format!("unix:{}", path.display());
    let endpoints = [
        (Service::Echo, unix.as_str()),
        (Service::Echo, "udp://127.0.0.1:0"),
    ];
    let first = Generation::start(&directory, &config(2, &endpoints));
    let address = first.server.addresses[0];
    let present = Mutex::new(Some(first));
    let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    in_parallel(3, |index| match index {
        0 => {
            let _stop = AtEnd(&stop);
            for _ in 0..REPLACEMENTS {
                let before = rounds.load(Ordering::Relaxed);
                let successor = Generation::start(&directory, &config(2, &endpoints));
                let predecessor = lock(&present).replace(successor);
                predecessor.expect("a predecessor").join();
                wait_until("rounds", || rounds.load(Ordering::Relaxed) > before + 20);
            }
        }
        1 => {
            while !stop.load(Ordering::Relaxed) {
                echo_over_unix(&path);
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        }
        _ => {
            while !stop.load(Ordering::Relaxed) {
                echo_over_udp(address);
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    drop(present);
    assert!(!path.exists(), "the last one removes the file");
}

#[track_caller]
fn echo_over_unix(path: &Path) {
    let mut stream = UnixStream::connect(path).expect("a server accepts");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    stream.write_all(b"by path").expect("send");
    stream.shutdown(Shutdown::Write).expect("half-close");
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("receive");
    assert_eq!(back, b"by path");
}

#[track_caller]
fn echo_over_udp(address: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    socket.send_to(b"by chance", address).expect("send");
    let mut back = [0; 64];
    let (count, _) = socket.recv_from(&mut back).expect("an answer");
    assert_eq!(&back[..count], b"by chance");
}

/// What a connection would inherit.
#[derive(Debug, PartialEq)]
struct Options {
    nodelay: bool,
    user_timeout: Option<Duration>,
    keepalive: Option<Duration>,
    keepalive_interval: Duration,
    congestion: Vec<u8>,
    recv_buffer: usize,
}

/// The options of a server's sockets, as a successor would get them.
fn options(handle: &Handle) -> Vec<Options> {
    let passed = handle.sockets_to_pass().expect("descriptors");
    let sockets = passed.iter().flat_map(|it| &it.sockets);
    sockets
        .map(|socket| {
            let socket = SockRef::from(socket);
            let is_on = socket.keepalive().expect("an option");
            Options {
                nodelay: socket.tcp_nodelay().expect("an option"),
                user_timeout: socket.tcp_user_timeout().expect("an option"),
                keepalive: is_on.then(|| socket.tcp_keepalive_time().expect("an option")),
                keepalive_interval: socket.tcp_keepalive_interval().expect("an option"),
                congestion: socket.tcp_congestion().expect("an option"),
                recv_buffer: socket.recv_buffer_size().expect("an option"),
            }
        })
        .collect()
}

#[test]
fn a_successor_sets_its_options_once_it_may_serve_and_leaves_none_of_its_predecessor_s() {
    let directory = Directory::new();
    let plain = config(2, &[TCP]);
    let tuned = Config {
        tuning: Tuning {
            nodelay: false,
            user_timeout: Some(Duration::from_secs(7)),
            keepalive: Some(Keepalive {
                idle: Duration::from_secs(50),
                interval: Some(Duration::from_secs(9)),
                count: Some(4),
            }),
            congestion: Some("reno".to_owned()),
            recv_buffer: Some(12_345),
            ..Tuning::default()
        },
        ..plain.clone()
    };
    let fresh = bind(&plain, Vec::new());
    let defaults = options(&fresh.handle());
    drop(fresh);

    let first = Generation::start(&directory, &tuned);
    let of_first = options(&first.server.handle);
    assert_ne!(of_first, defaults);
    assert_eq!(of_first[0].congestion[..4], *b"reno");

    let mut takeover = ask(&directory, &plain);
    let inherited = std::mem::take(&mut takeover.endpoints);
    let second = bind(&plain, inherited);
    assert_eq!(
        options(&first.server.handle),
        of_first,
        "nothing is set yet"
    );
    let claim = takeover.claim(&second.handle()).expect("an answer");
    assert_eq!(claim, Claim::Granted);
    assert_eq!(options(&second.handle()), defaults);

    let second = Running::run(second);
    wait_until_it_serves(&second);
    let offer = confirm(*takeover, &second.handle);
    drop(offer);
    first.join();
    second.connect().echo(b"with the kernel's defaults");
}
