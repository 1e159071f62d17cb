//! Unix stream sockets: the same services, and a file that exists as long as the server.

use std::fs;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use echomark::metrics::{CloseReason, RefuseReason};
use echomark::net::endpoint::Endpoint;
use echomark::{Config, Error, Limits, Server, Service};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::support::directory::Directory;
use crate::support::pattern::Pattern;
use crate::support::{DEADLINE, Running, config, in_parallel, wait_until};

impl Directory {
    fn socket(&self) -> PathBuf {
        self.join("socket")
    }

    fn serving(&self, service: Service, workers: usize) -> Config {
        Config {
            services: vec![(service, Endpoint::Unix(self.socket()))],
            workers: NonZeroUsize::new(workers).unwrap(),
            ..config()
        }
    }

    fn echoing(&self, workers: usize) -> Config {
        self.serving(Service::Echo, workers)
    }
}

/// A plain socket with a deadline for every call.
fn try_connect(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    Ok(stream)
}

#[track_caller]
fn connect(path: &Path) -> UnixStream {
    try_connect(path).unwrap_or_else(|error| panic!("cannot connect to {path:?}: {error}"))
}

#[track_caller]
fn send(mut client: &UnixStream, bytes: &[u8]) {
    client.write_all(bytes).expect("send");
}

#[track_caller]
fn receive(mut client: &UnixStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    client.read_exact(&mut bytes).expect("receive");
    bytes
}

#[track_caller]
fn echo(client: &UnixStream, bytes: &[u8]) {
    send(client, bytes);
    assert_eq!(receive(client, bytes.len()), bytes);
}

#[track_caller]
fn expect_end(mut client: &UnixStream) {
    let count = client.read(&mut [0; 64]).expect("the end of the stream");
    assert_eq!(count, 0, "bytes before the end of the stream");
}

/// Sends the first `count` bytes of `pattern` and half-closes.
#[track_caller]
fn send_stream(client: &UnixStream, pattern: Pattern, count: usize) {
    for chunk in pattern.bytes(count).chunks(100_000) {
        send(client, chunk);
    }
    client.shutdown(Shutdown::Write).expect("half-close");
}

#[track_caller]
fn bind_error(config: Config) -> io::Error {
    match Server::bind(config) {
        Err(Error::Bind { source, .. }) => source,
        other => panic!("expected an error of bind, got {other:?}"),
    }
}

#[test]
fn all_that_was_sent_before_the_half_close_comes_back() {
    const CLIENTS: usize = 16;
    const BYTES: usize = 3_000_000;
    let directory = Directory::new();
    let server = Running::start(directory.echoing(3));
    in_parallel(CLIENTS, |index| {
        let client = connect(&directory.socket());
        let pattern = Pattern(index as u64);
        thread::scope(|scope| {
            scope.spawn(|| send_stream(&client, pattern, BYTES));
            pattern.check(0, &receive(&client, BYTES));
        });
        expect_end(&client);
    });
    let metrics = server.wait_for_all_closed(CLIENTS as u64);
    assert_eq!(metrics.closed(CloseReason::Finished), CLIENTS as u64);
    assert_eq!(metrics.received_bytes, (CLIENTS * BYTES) as u64);
}

#[test]
fn discard_counts_and_never_answers() {
    const BYTES: usize = 20_000_000;
    let directory = Directory::new();
    let server = Running::start(directory.serving(Service::Discard, 2));
    let client = connect(&directory.socket());
    send_stream(&client, Pattern(1), BYTES);
    expect_end(&client);
    drop(client);
    let metrics = server.wait_for_all_closed(1);
    assert_eq!(metrics.received_bytes, BYTES as u64);
    assert_eq!(metrics.sent_bytes, 0);
    assert_eq!(metrics.closed(CloseReason::Finished), 1);
}

#[test]
fn chargen_goes_on_until_the_peer_closes() {
    let directory = Directory::new();
    let server = Running::start(directory.serving(Service::Chargen, 2));
    let client = connect(&directory.socket());
    client.shutdown(Shutdown::Write).expect("half-close");
    let bytes = receive(&client, 1_000_000);
    assert!(bytes.starts_with(b" !\"#$%&'()"));
    // After 95 lines of 74 bytes the pattern starts anew.
    assert!(bytes[95 * 74..] == bytes[..bytes.len() - 95 * 74]);
    drop(client);
    server.wait_for_all_closed(1);
}

/// A turn of the loop reads a few times, and the remaining input raises no further event.
#[test]
fn input_that_one_turn_leaves_is_read_in_the_next() {
    for service in [Service::Discard, Service::Chargen] {
        let directory = Directory::new();
        let server = Running::start(Config {
            read_buffer: NonZeroUsize::MIN,
            ..directory.serving(service, 1)
        });
        let client = connect(&directory.socket());
        if service == Service::Chargen {
            server.wait_until_at_rest();
        }
        send(&client, &[7; 1000]);
        server.wait_for_metrics("all input", |it| it.received_bytes == 1000);
    }
}

/// All workers share one socket, so one worker hands out its connections.
#[test]
fn connections_are_spread_evenly_over_the_workers() {
    const WORKERS: usize = 3;
    const EACH: u64 = 20;
    let directory = Directory::new();
    let server = Running::start(directory.echoing(WORKERS));
    let clients: Vec<_> = (0..WORKERS as u64 * EACH)
        .map(|_| connect(&directory.socket()))
        .collect();
    clients.iter().for_each(|client| echo(client, b"hello"));
    let workers = server.handle.workers();
    let active: Vec<_> = workers.iter().map(|worker| worker.active).collect();
    assert_eq!(active, [EACH; WORKERS]);
}

#[test]
fn a_peer_that_reads_late_is_not_read_from_and_gets_everything() {
    const MAX_SENT: u64 = 8 << 20;
    let directory = Directory::new();
    let server = Running::start(directory.echoing(2));
    let client = connect(&directory.socket());
    let pattern = Pattern(1);
    let mut sent = 0;
    client.set_nonblocking(true).expect("O_NONBLOCK");
    let mut chunk = vec![0; 10_000];
    wait_until("back-pressure", || {
        loop {
            pattern.fill(sent, &mut chunk);
            // Checked before the write: a server that is stuck now is stuck afterwards.
            let stuck = server.metrics().backlog_bytes > 0;
            match (&client).write(&chunk) {
                Ok(count) => sent += count as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return stuck,
                Err(error) => panic!("send: {error}"),
            }
            assert!(sent < MAX_SENT, "a peer that never reads sent {sent} bytes");
        }
    });
    client.set_nonblocking(false).expect("O_NONBLOCK");
    connect_and_echo(&directory.socket());
    client.shutdown(Shutdown::Write).expect("half-close");
    pattern.check(0, &receive(&client, sent as usize));
    expect_end(&client);
    server.wait_for_all_closed(2);
}

#[track_caller]
fn connect_and_echo(path: &Path) {
    echo(&connect(path), b"Hello, World!");
}

#[test]
fn all_input_before_the_first_read_is_seen() {
    const CLIENTS: usize = 100;
    let directory = Directory::new();
    let server = Server::bind(directory.echoing(2)).expect("a free path");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|index| {
            let client = connect(&directory.socket());
            send(&client, &Pattern(1).bytes(index * 1000));
            client.shutdown(Shutdown::Write).expect("half-close");
            client
        })
        .collect();
    let server = Running::run(server);
    for (index, client) in clients.iter().enumerate() {
        Pattern(1).check(0, &receive(client, index * 1000));
        expect_end(client);
    }
    let metrics = server.wait_for_all_closed(CLIENTS as u64);
    assert_eq!(metrics.closed(CloseReason::Finished), CLIENTS as u64);
}

/// A read of the server stops behind bytes that carried a descriptor.
#[test]
fn a_peer_that_passes_descriptors_gets_every_byte_back() {
    const ROUNDS: u64 = 200;
    let directory = Directory::new();
    let server = Running::start(directory.echoing(2));
    for _ in 0..ROUNDS {
        let client = connect(&directory.socket());
        send(&client, b"aaaa");
        send_with_descriptor(&client, b"b");
        send(&client, b"cccc");
        send_with_descriptor(&client, b"dd");
        send(&client, b"dd");
        assert_eq!(receive(&client, 13), b"aaaabccccdddd");
        client.shutdown(Shutdown::Write).expect("half-close");
        assert_eq!(rest_of(&client), b"");
    }
    let metrics = server.wait_for_all_closed(ROUNDS);
    assert_eq!(metrics.received_bytes, ROUNDS * 13);
}

/// Sends bytes, and a descriptor beside them.
#[track_caller]
fn send_with_descriptor(client: &UnixStream, bytes: &[u8]) {
    let stdin = io::stdin();
    let descriptors = [stdin.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let parts = [IoSlice::new(bytes)];
    let sent = sendmsg(client, &parts, &mut control, SendFlags::empty());
    assert_eq!(sent.expect("sendmsg"), bytes.len());
}

#[track_caller]
fn rest_of(mut client: &UnixStream) -> Vec<u8> {
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("the end");
    rest
}

/// The whole message waits before the server's first turn, so that no event comes for the rest.
#[test]
fn a_descriptor_among_bytes_that_wait_for_the_server_hides_none() {
    for service in [Service::Echo, Service::Discard] {
        let directory = Directory::new();
        let config = directory.serving(service, 1);
        let server = Server::bind(config).expect("a free path");
        let client = connect(&directory.socket());
        send(&client, b"aaaa");
        send_with_descriptor(&client, b"b");
        send(&client, b"cccc");
        let server = Running::run(server);
        server.wait_for_metrics("all bytes", |it| it.received_bytes == 9);
        if service == Service::Echo {
            assert_eq!(receive(&client, 9), b"aaaabcccc");
        }
        drop(client);
        server.wait_for_all_closed(1);
    }
}

#[test]
fn an_urgent_byte_comes_back_in_its_place() {
    const ROUNDS: usize = 200;
    let directory = Directory::new();
    let server = Running::start(directory.echoing(1));
    let client = connect(&directory.socket());
    let send_urgent = |byte| rustix::net::send(&client, &[byte], SendFlags::OOB);
    for _ in 0..ROUNDS {
        send(&client, b"abc");
        if send_urgent(b'X') == Err(Errno::OPNOTSUPP) {
            // Before Linux 5.15 the kernel has no urgent data on Unix sockets.
            return;
        }
        send(&client, b"def");
        assert_eq!(receive(&client, 7), b"abcXdef");
    }
    assert_eq!(send_urgent(b'Y'), Ok(1));
    client.shutdown(Shutdown::Write).expect("half-close");
    assert_eq!(rest_of(&client), b"Y");
    drop(client);
    server.wait_for_all_closed(1);
}

#[test]
fn a_stale_file_is_replaced_and_a_live_one_is_in_use() {
    let directory = Directory::new();
    let path = directory.socket();
    // Dropping the listener leaves the file.
    drop(UnixListener::bind(&path).expect("a free path"));
    let server = Running::start(directory.echoing(1));
    connect_and_echo(&path);
    let error = bind_error(directory.echoing(1));
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    // The attempt did no harm.
    connect_and_echo(&path);
    server.wait_for_metrics("end of all connections", |it| it.active == 0);
}

#[test]
fn a_file_that_is_not_a_socket_is_left_alone() {
    let directory = Directory::new();
    let path = directory.socket();
    fs::write(&path, "precious").expect("a new file");
    assert_eq!(
        bind_error(directory.echoing(1)).kind(),
        ErrorKind::AlreadyExists
    );
    assert_eq!(fs::read_to_string(&path).expect("the file"), "precious");
}

#[test]
fn the_file_has_the_permissions_asked_for() {
    let directory = Directory::new();
    for mode in [0o600, 0o660, 0o666, 0o622] {
        let _server = Running::start(Config {
            unix_mode: Some(mode),
            ..directory.echoing(2)
        });
        let found = fs::metadata(directory.socket()).expect("the file");
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o777, mode);
    }
}

#[test]
fn a_server_that_can_not_bind_all_leaves_no_file() {
    let directory = Directory::new();
    let mut config = directory.echoing(2);
    let elsewhere = directory.join("no such directory/socket");
    config
        .services
        .push((Service::Echo, Endpoint::Unix(elsewhere)));
    assert_eq!(bind_error(config).kind(), ErrorKind::NotFound);
    assert!(!directory.socket().exists());
}

#[test]
fn the_file_is_gone_after_a_drain_and_after_a_stop() {
    let directory = Directory::new();
    let path = directory.socket();
    let server = Running::start(directory.echoing(2));
    let client = connect(&path);
    echo(&client, b"before");
    server.handle.drain();
    // Before the last connection closes: no further client can connect.
    wait_until("the file to be gone", || !path.exists());
    echo(&client, b"during");
    drop(client);
    server.join();
    let server = Running::start(directory.echoing(2));
    let client = connect(&path);
    echo(&client, b"before");
    server.handle.stop();
    let metrics = server.join();
    assert_eq!(metrics.closed(CloseReason::Stopped), 1);
    assert!(!path.exists());
}

/// Another program took the path meanwhile: its file stays.
#[test]
fn the_file_of_a_successor_stays() {
    let directory = Directory::new();
    let path = directory.socket();
    let server = Running::start(directory.echoing(1));
    fs::remove_file(&path).expect("our file");
    // A new file may get the old one's inode number, so another file takes that number meanwhile.
    fs::write(directory.join("placeholder"), "").expect("a new file");
    let successor = Running::start(directory.echoing(1));
    server.handle.stop();
    server.join();
    connect_and_echo(&path);
    successor.wait_for_all_closed(1);
}

/// Connections that were queued before the first turn of the loop, and a drain that was requested
/// before it too.
#[test]
fn a_drain_serves_all_that_waits_to_be_accepted() {
    const CLIENTS: usize = 500;
    for drain_timeout in [Duration::from_secs(600), Duration::ZERO] {
        let directory = Directory::new();
        let server = Server::bind(Config {
            drain_timeout,
            ..directory.echoing(3)
        })
        .expect("a free path");
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let client = connect(&directory.socket());
                send(&client, b"I was here before");
                client.shutdown(Shutdown::Write).expect("half-close");
                client
            })
            .collect();
        server.handle().drain();
        let server = Running::run(server);
        for client in &clients {
            assert_eq!(receive(client, 17), b"I was here before");
            expect_end(client);
        }
        drop(clients);
        let metrics = server.join();
        assert_eq!(metrics.accepted, CLIENTS as u64);
        assert_eq!(metrics.closed(CloseReason::Finished), CLIENTS as u64);
    }
}

/// Clients connect all the time while the listener closes, by another name after its file is
/// removed. Each successful connect is served.
#[test]
fn no_connect_that_succeeds_is_lost_when_the_listener_closes() {
    const ROUNDS: usize = 10;
    const THREADS: usize = 4;
    for _ in 0..ROUNDS {
        let directory = Directory::new();
        let server = Running::start(Config {
            drain_timeout: Duration::from_secs(600),
            // So small that some connects wait for room when the drain begins.
            backlog: 2,
            ..directory.echoing(3)
        });
        let link = directory.join("link");
        fs::hard_link(directory.socket(), &link).expect("another name");
        let served = AtomicUsize::new(0);
        in_parallel(THREADS + 1, |index| {
            if index == THREADS {
                wait_until("connects", || served.load(Ordering::Relaxed) > 100);
                server.handle.drain();
            } else {
                connect_until_refused(&link, &served);
            }
        });
        let metrics = server.join();
        assert_eq!(metrics.accepted as usize, served.into_inner());
        assert_eq!(metrics.closed(CloseReason::DrainTimeout), 0);
    }
}

#[track_caller]
fn connect_until_refused(path: &Path, served: &AtomicUsize) {
    let end = Instant::now() + DEADLINE;
    // Without a pause, so that some connect falls into every moment of the drain.
    while Instant::now() < end {
        match try_connect(path) {
            Ok(client) => {
                echo(&client, b"am I served?");
                served.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                return;
            }
        }
    }
    panic!("the listener was not closed");
}

/// A peer without an address is subject to the total, and refused like any other.
#[test]
fn a_refused_client_reads_an_end() {
    let directory = Directory::new();
    let server = Running::start(Config {
        limits: Limits {
            max_connections: NonZeroUsize::new(3),
            max_connections_per_ip: NonZeroUsize::new(1),
            deny: vec!["0.0.0.0/0".parse().expect("a prefix")],
            ..Limits::default()
        },
        ..directory.echoing(2)
    });
    let clients: Vec<_> = (0..3).map(|_| connect(&directory.socket())).collect();
    clients.iter().for_each(|client| echo(client, b"hello"));
    let refused = connect(&directory.socket());
    send(&refused, b"hello?");
    expect_end(&refused);
    let metrics = server.metrics();
    assert_eq!(metrics.refused(RefuseReason::MaxConnections), 1);
}
