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

use echomark::internal::Takeover;
use echomark::{Balance, Config, Handle, Server, Service};

use crate::support::directory::Directory;
use crate::support::generation::{Generation, wait_until_it_serves};
use crate::support::pattern::Pattern;
use crate::support::{AtEnd, Client, DEADLINE, Running, churn, in_parallel, wait_until};

fn config(directory: &Directory, workers: usize, endpoints: &[(Service, &str)]) -> Config {
    Config {
        services: endpoints
            .iter()
            .map(|(service, endpoint)| (*service, endpoint.parse().expect("an endpoint")))
            .collect(),
        workers: NonZeroUsize::new(workers).expect("a number"),
        handover: Some(directory.join("handover")),
        drain_timeout: Duration::from_secs(600),
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
    let first = Generation::start(&config(&directory, 2, &[TCP]));
    let address = first.server.address();
    let present = Mutex::new(Some(first));
    let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    in_parallel(CHURNERS + 2, |index| match index {
        0 => {
            let _stop = AtEnd(&stop);
            for number in 0..REPLACEMENTS {
                let before = rounds.load(Ordering::Relaxed);
                let successor = Generation::start(&Config {
                    balance: BALANCES[number / 3 % BALANCES.len()],
                    ..config(&directory, 1 + number % 3, &[TCP])
                });
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
    let first = Generation::start(&config(&directory, 2, &[TCP, elsewhere]));
    let [kept, left] = first.server.addresses[..] else {
        panic!("two endpoints");
    };
    let mut client = Client::connect(left);
    client.echo(b"before");
    let second = Generation::start(&config(&directory, 2, &[discard, TCP]));
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
    let config = config(&directory, 2, &[TCP]);
    let server = Generation::start(&config);
    let mut before = server.server.connect();
    before.echo(b"before");
    for _ in 0..3 {
        let takeover = Takeover::ask(&directory.join("handover"), &config);
        drop(takeover.expect("an answer").expect("a server"));
    }
    // A client without the protocol.
    drop(UnixStream::connect(directory.join("handover")).expect("a connection"));
    before.echo(b"after");
    server.server.connect().echo(b"after");
    let successor = Generation::start(&config);
    drop(before);
    server.join();
    successor.server.connect().echo(b"replaced in the end");
}

#[test]
fn without_a_predecessor_there_is_nothing_to_take_over() {
    let directory = Directory::new();
    let config = config(&directory, 1, &[TCP]);
    let nobody = Takeover::ask(&directory.join("handover"), &config).expect("no error");
    assert!(nobody.is_none());
    // A killed server leaves its file.
    drop(UnixListener::bind(directory.join("handover")).expect("a socket"));
    let nobody = Takeover::ask(&directory.join("handover"), &config).expect("no error");
    assert!(nobody.is_none());
    let server = Generation::start(&config);
    server.server.connect().echo(b"started afresh");
}

/// A server that is told to end before the hand-over is settled leaves the sockets to the other.
#[test]
fn a_drain_in_the_middle_leaves_the_sockets_to_the_successor() {
    let directory = Directory::new();
    let path = directory.join("echo");
    let unix = format!("unix:{}", path.display());
    let config = config(&directory, 2, &[TCP, (Service::Echo, &unix)]);
    let first = Generation::start(&config);
    let address = first.server.address();
    let mut takeover = Takeover::ask(&directory.join("handover"), &config)
        .expect("an answer")
        .expect("a server");
    let inherited = std::mem::take(&mut takeover.endpoints);
    first.server.handle.drain();
    let second = Running::run(Server::bind_with(config, inherited).expect("sockets"));
    wait_until_it_serves(&second);
    takeover
        .confirm(&second.handle)
        .expect("nothing against it");
    first.join();
    Client::connect(address).echo(b"nobody filters");
    echo_over_unix(&path);
    second.handle.drain();
    second.join();
    assert!(!path.exists(), "the file was the successor's by then");
}

#[test]
fn a_successor_that_is_told_to_end_before_it_confirms_leaves_the_sockets_to_the_predecessor() {
    let directory = Directory::new();
    let path = directory.join("echo");
    let unix = format!("unix:{}", path.display());
    let config = config(&directory, 2, &[TCP, (Service::Echo, &unix)]);
    let first = Generation::start(&config);
    let address = first.server.address();
    for end in [Handle::drain, Handle::stop] {
        let mut takeover = Takeover::ask(&directory.join("handover"), &config)
            .expect("an answer")
            .expect("a server");
        let inherited = std::mem::take(&mut takeover.endpoints);
        let second = Running::run(Server::bind_with(config.clone(), inherited).expect("sockets"));
        wait_until_it_serves(&second);
        end(&second.handle);
        second.join();
        drop(takeover);
        for _ in 0..20 {
            Client::connect(address).echo(b"as if nothing had been");
            echo_over_unix(&path);
        }
    }
    let third = Generation::start(&config);
    first.join();
    third.server.connect().echo(b"replaced in the end");
}

/// A listener on the path that is not an echod.
#[test]
fn a_stranger_is_not_believed() {
    let directory = Directory::new();
    let listener = UnixListener::bind(directory.join("handover")).expect("a socket");
    let stranger = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        (&stream)
            .write_all(&[0, 0, 0, 2, b'{', b'}'])
            .expect("write");
    });
    let error = Takeover::ask(&directory.join("handover"), &config(&directory, 1, &[TCP]));
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
    let first = Generation::start(&config(&directory, 2, &endpoints));
    let address = first.server.addresses[0];
    let present = Mutex::new(Some(first));
    let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    in_parallel(3, |index| match index {
        0 => {
            let _stop = AtEnd(&stop);
            for _ in 0..REPLACEMENTS {
                let before = rounds.load(Ordering::Relaxed);
                let successor = Generation::start(&config(&directory, 2, &endpoints));
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
