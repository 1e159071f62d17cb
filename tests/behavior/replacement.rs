//! Replacement of the real program by another process, without an effect on any client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::directory::Directory;
use crate::support::echod::{Echod, PROGRAM, Signal, page};
use crate::support::pattern::Pattern;
use crate::support::strace::with_faults;
use crate::support::tools::require;
use crate::support::{AtEnd, Client, in_parallel, wait_until};

const TCP: &str = "--echo=tcp://127.0.0.1:0";

/// The arguments of a server that waits for its successor at `path`.
fn args(path: &Path, args: &[&str]) -> Vec<String> {
    let handover = format!("--handover={}", path.display());
    let mut all = vec![handover, "--drain-timeout=10m".to_owned()];
    all.extend(args.iter().map(|&arg| arg.to_owned()));
    all
}

#[track_caller]
fn start(path: &Path, more: &[&str]) -> Echod {
    Echod::start_command(Command::new(PROGRAM).args(args(path, more)))
}

/// Waits until it has ended by itself after the take-over.
#[track_caller]
fn expect_replaced(echod: Echod) {
    let exit = echod.wait_for_exit();
    assert_eq!(exit.code, Some(0), "{exit:#?}");
    let said = |text: &str| exit.stderr.iter().any(|line| line.contains(text));
    assert!(said("a successor serves"), "{exit:#?}");
    assert_eq!(exit.complaints().next(), None, "{exit:#?}");
}

/// Clients that connect, echo and close, and some that stay longer, while `task` runs. Each must be
/// served; `task` gets the number of rounds so far.
#[track_caller]
fn under_a_storm(address: SocketAddr, task: impl Fn(&AtomicUsize) + Sync) {
    const CHURNERS: usize = 3;
    let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    in_parallel(CHURNERS + 2, |index| {
        if index == 0 {
            // Also if the task panics: otherwise the storm would not end.
            let _stop = AtEnd(&stop);
            wait_for_rounds(&rounds);
            task(&rounds);
        }
        while !stop.load(Ordering::Relaxed) {
            let mut client = Client::connect(address);
            if index == 1 {
                client.echo_stream(Pattern(1), 1 << 20);
            } else {
                client.echo(b"served by whom?");
                client.echo(&[9; 5000]);
            }
            client.half_close();
            client.expect_end();
            rounds.fetch_add(1, Ordering::Relaxed);
        }
    });
}

#[track_caller]
fn wait_for_rounds(rounds: &AtomicUsize) {
    let before = rounds.load(Ordering::Relaxed);
    wait_until("rounds", || rounds.load(Ordering::Relaxed) > before + 30);
}

#[test]
fn ten_replacements_under_a_storm_disturb_no_client() {
    const REPLACEMENTS: usize = 10;
    const BALANCES: [&str; 3] = [
        "--balance=kernel",
        "--balance=least-connections",
        "--balance=incoming-cpu",
    ];
    let directory = Directory::new();
    let path = directory.join("handover");
    let admin = "--admin=127.0.0.1:0";
    let first = start(&path, &[TCP, admin, "--workers=2"]);
    let (address, admin_address) = (first.address(), first.address_of("admin http://"));
    let present = Mutex::new(Some(first));
    under_a_storm(address, |rounds| {
        for number in 0..REPLACEMENTS {
            let workers = format!("--workers={}", 1 + number % 3);
            let balance = BALANCES[number / 3 % BALANCES.len()];
            let next = start(&path, &[TCP, admin, &workers, balance]);
            assert_eq!(next.address(), address);
            assert_eq!(next.address_of("admin http://"), admin_address);
            let before = present.lock().expect("no panic").replace(next);
            expect_replaced(before.expect("a predecessor"));
            // No other server is left to serve these clients and this scrape.
            wait_for_rounds(rounds);
            let present = present.lock().expect("no panic");
            let next = present.as_ref().expect("a server");
            assert!(next.metric("echod_connections_accepted_total") > 0);
        }
    });
    let last = present.into_inner().expect("no panic").expect("a server");
    assert!(path.exists());
    last.signal(Signal::TERM);
    assert_eq!(last.wait_for_exit().code, Some(0));
    assert!(!path.exists(), "the last one removes the file");
}

/// Every scrape is answered, by one server or the other.
#[test]
fn no_scrape_is_lost_over_replacements() {
    const REPLACEMENTS: usize = 15;
    const SCRAPERS: usize = 3;
    let directory = Directory::new();
    let path = directory.join("handover");
    let args = [TCP, "--admin=127.0.0.1:0", "--workers=1"];
    let first = start(&path, &args);
    let admin = first.address_of("admin http://");
    let (stop, scrapes) = (AtomicBool::new(false), AtomicUsize::new(0));
    let last = Mutex::new(None);
    in_parallel(SCRAPERS + 1, |index| {
        if index == 0 {
            let _stop = AtEnd(&stop);
            let mut present = start(&path, &args);
            for _ in 1..REPLACEMENTS {
                let next = start(&path, &args);
                expect_replaced(std::mem::replace(&mut present, next));
                wait_for_rounds(&scrapes);
            }
            // The last one serves until no scrape is under way.
            stop.store(true, Ordering::Relaxed);
            *last.lock().expect("no panic") = Some(present);
            return;
        }
        while !stop.load(Ordering::Relaxed) {
            let metrics = page(admin, "/metrics").expect("a whole response");
            assert!(metrics.contains("echod_build_info"));
            scrapes.fetch_add(1, Ordering::Relaxed);
        }
    });
    expect_replaced(first);
}

/// A request that has begun is answered by the server that has begun to read it.
#[test]
fn a_scrape_under_way_is_answered_after_the_replacement() {
    let directory = Directory::new();
    let path = directory.join("handover");
    let args = [TCP, "--admin=127.0.0.1:0", "--workers=1"];
    let mut first = start(&path, &args);
    let admin = first.address_of("admin http://");
    let mut scraper = Client::connect(admin);
    scraper.send(b"GET /metrics HTTP/1.1\r\n");
    // Accepted after it: so the first has accepted both.
    first.info();
    let second = start(&path, &args);
    first.wait_for_log("a successor serves");
    // The first has stopped accepting once the second answers always.
    let mut in_a_row = 0;
    wait_until("answers of the second", || {
        let is_second = second.info()["pid"] == second.process_id();
        in_a_row = if is_second { in_a_row + 1 } else { 0 };
        in_a_row == 20
    });
    scraper.send(b"Host: 127.0.0.1\r\n\r\n");
    let mut response = String::new();
    scraper.read_to_string(&mut response).expect("a response");
    assert!(response.contains("echod_build_info"), "{response}");
    assert_eq!(first.wait_for_exit().code, Some(0));
}

/// A client of the hand-over socket has descriptors of the listening sockets and says nothing more.
/// All the same the server that is told to end serves every connection that waits.
#[test]
fn with_a_silent_successor_a_drain_loses_no_waiting_connection() {
    const WAITING: usize = 600;
    let directory = Directory::new();
    let path = directory.join("handover");
    let server = start(&path, &[TCP, "--workers=2"]);
    let mut successor = UnixStream::connect(&path).expect("a connection");
    successor
        .write_all(b"{\"hello\":{\"version\":2}}\n")
        .expect("send");
    // The descriptors are under way.
    successor.read_exact(&mut [0]).expect("an offer");
    server.signal(Signal::STOP);
    let mut clients: Vec<_> = (0..WAITING).map(|_| server.connect()).collect();
    server.signal(Signal::TERM);
    server.signal(Signal::CONT);
    for client in &mut clients {
        client.echo(b"accepted before the end");
    }
    drop(clients);
    assert_eq!(server.wait_for_exit().code, Some(0));
}

/// It was told to end, and still has a connection: the next server waits until the old one has
/// emptied its queues, and binds all addresses anew.
#[test]
fn a_server_can_start_while_the_old_one_drains() {
    // Addresses that no other test uses, so that a port that was given up stays free.
    const HOST: &str = "127.0.0.23";
    let directory = Directory::new();
    let (path, unix) = (directory.join("handover"), directory.join("echo"));
    let unix = format!("--echo=unix:{}", unix.display());
    let tcp = format!("--echo=tcp://{HOST}:0");
    let udp = format!("--echo=udp://{HOST}:0");
    let admin = format!("--admin={HOST}:0");
    let mut old = start(&path, &[&tcp, &udp, &admin, &unix, "--drain-delay=10m"]);
    let mut client = old.connect();
    client.echo(b"before");
    old.signal(Signal::TERM);
    old.wait_for_log("a second signal stops");
    client.echo(b"after the signal");
    // The same addresses, by number.
    let tcp = format!("--echo=tcp://{}", old.address());
    let udp = format!("--echo=udp://{}", old.address_of("echo udp://"));
    let admin = format!("--admin={}", old.address_of("admin http://"));
    let all = [&*tcp, &udp, &admin, &unix];
    let new = start(&path, &all);
    new.connect().echo(b"the new one serves");
    client.echo(b"the old one serves");
    assert!(new.metric("echod_connections_accepted_total") > 0);
    drop(client);
    let exit = old.wait_for_exit();
    assert_eq!(exit.code, Some(0), "{exit:#?}");
    // The old one has left the new one's files alone.
    assert!(path.exists());
    let third = start(&path, &all);
    expect_replaced(new);
    third.connect().echo(b"replaced as ever");
    third.signal(Signal::TERM);
    assert_eq!(third.wait_for_exit().code, Some(0));
    assert!(!path.exists());
}

/// Whenever the old one is told to end or killed, the new one starts.
#[test]
fn a_server_can_start_at_any_moment_of_the_old_ones_end() {
    const ROUNDS: usize = 12;
    let directory = Directory::new();
    let path = directory.join("handover");
    // An address that no other test uses, so that the port stays free.
    let port = TcpListener::bind("127.0.0.24:0").expect("a port");
    let echo = format!("--echo=tcp://{}", port.local_addr().expect("an address"));
    drop(port);
    let mut old = start(&path, &[&echo]);
    for round in 0..ROUNDS {
        let mut client = old.connect();
        client.echo(b"before");
        let new = Echod::spawn(Command::new(PROGRAM).args(args(&path, &[&echo])));
        // From the start of the program to its service takes some milliseconds.
        thread::park_timeout(Duration::from_millis(3 * round as u64));
        let signal = [Signal::TERM, Signal::KILL][round % 2];
        old.signal(signal);
        let new = new.wait_until_ready();
        new.connect().echo(b"started");
        drop(client);
        let exit = std::mem::replace(&mut old, new).wait_for_exit();
        let expected = (signal == Signal::TERM).then_some(0);
        // One that was replaced may have ended before it was killed.
        assert!([expected, Some(0)].contains(&exit.code), "{exit:#?}");
        assert!(path.exists());
    }
}

/// A predecessor that dies before it sends anything is none.
#[test]
fn a_predecessor_that_says_nothing_is_none() {
    let directory = Directory::new();
    let path = directory.join("handover");
    let predecessor = UnixListener::bind(&path).expect("a socket");
    let dies = thread::spawn(move || drop(predecessor.accept().expect("a connection")));
    let server = start(&path, &[TCP]);
    dies.join().expect("no panic");
    let successor = start(&path, &[TCP]);
    assert_eq!(successor.address(), server.address());
    expect_replaced(server);
}

/// A replacement without any common endpoint.
#[test]
fn a_successor_may_serve_elsewhere() {
    let directory = Directory::new();
    let path = directory.join("handover");
    // Addresses of this machine that no other test uses, so that a port that was given up is free.
    let first = start(&path, &["--echo=tcp://127.0.0.21:0", "--drain-delay=10m"]);
    let address = first.address();
    let mut client = first.connect();
    client.echo(b"before");
    let second = start(&path, &["--echo=tcp://127.0.0.22:0"]);
    wait_until("refused connects", || Client::try_connect(address).is_err());
    client.echo(b"during");
    drop(client);
    expect_replaced(first);
    second.connect().echo(b"elsewhere");
    // The second server's path exists, although the first has removed its own files.
    assert!(path.exists());
    let third = start(&path, &["--echo=tcp://127.0.0.22:0"]);
    assert_eq!(third.address(), second.address());
    expect_replaced(second);
    third.connect().echo(b"the third");
}

#[test]
fn a_successor_that_cannot_start_changes_nothing() {
    let directory = Directory::new();
    let path = directory.join("handover");
    let other = Echod::start(&[TCP]);
    let taken = format!("--echo=tcp://{}", other.address());
    let taken_admin = format!("--admin={}", other.address());
    let server = start(&path, &[TCP, "--workers=1"]);
    under_a_storm(server.address(), |rounds| {
        for more in [
            // More workers need more sockets.
            [TCP, &taken, "--workers=4"],
            [&taken, TCP, "--workers=4"],
            [TCP, &taken_admin, "--workers=4"],
        ] {
            for _ in 0..3 {
                let mut command = Command::new(PROGRAM);
                let exit = Echod::run_to_end(command.args(args(&path, &more)));
                assert_eq!(exit.code, Some(1), "{exit:#?}");
                wait_for_rounds(rounds);
            }
        }
    });
    server.connect().echo(b"as ever");
    let successor = start(&path, &[TCP]);
    assert_eq!(successor.address(), server.address());
    expect_replaced_after_failures(server);
}

/// Its log reports the failed successors.
#[track_caller]
fn expect_replaced_after_failures(echod: Echod) {
    let exit = echod.wait_for_exit();
    assert_eq!(exit.code, Some(0), "{exit:#?}");
    let said = |text: &str| exit.stderr.iter().any(|line| line.contains(text));
    assert!(said("did not take over; still serving"), "{exit:#?}");
    assert!(said("a successor serves"), "{exit:#?}");
}

/// It ends after it received all descriptors and before it confirms. Its predecessor only sees the
/// kernel close the connection.
#[test]
fn a_successor_that_ends_before_it_confirms_changes_nothing() {
    require!("strace");
    let directory = Directory::new();
    let path = directory.join("handover");
    let server = start(&path, &[TCP, "--workers=2"]);
    under_a_storm(server.address(), |rounds| {
        for _ in 0..3 {
            // The last thread that it makes before its workers is the one that tells its predecessor;
            // the others write the log, reload, obey signals and announce.
            let mut command = with_faults(&["?clone,clone3:error=EAGAIN:when=5"], PROGRAM);
            let exit = Echod::run_to_end(command.args(args(&path, &[TCP, "--workers=2"])));
            assert_eq!(exit.code, Some(1), "{exit:#?}");
            let said = exit.stderr.last().expect("a reason");
            assert!(said.contains("cannot start a thread"), "{exit:#?}");
            wait_for_rounds(rounds);
        }
    });
    let successor = start(&path, &[TCP]);
    assert_eq!(successor.address(), server.address());
    expect_replaced_after_failures(server);
    successor.connect().echo(b"in the end");
}

/// It sends its last line before it releases the sockets, because it may end right afterwards.
#[test]
fn a_server_that_has_nothing_left_to_do_lets_go_in_good_order() {
    require!("strace");
    let directory = Directory::new();
    let path = directory.join("handover");
    let mut command = with_faults(&["write,sendto:delay_enter=100ms"], PROGRAM);
    let first = Echod::start_command(command.args(args(&path, &[TCP])));
    let second = start(&path, &[TCP]);
    expect_replaced(first);
    let third = start(&path, &[TCP]);
    assert_eq!(third.address(), second.address());
    expect_replaced(second);
    third.connect().echo(b"the third");
}

/// A server that was replaced drains already; the first signal is still the first.
#[test]
fn the_first_signal_after_a_replacement_stops_nothing() {
    let directory = Directory::new();
    let path = directory.join("handover");
    let mut first = start(&path, &[TCP]);
    let mut client = first.connect();
    client.echo(b"before");
    let _second = start(&path, &[TCP]);
    first.wait_for_log("a successor serves");
    first.signal(Signal::TERM);
    first.wait_for_log("a second signal stops");
    client.echo(b"after the first");
    first.signal(Signal::TERM);
    assert_eq!(first.wait_for_exit().code, Some(0));
}

/// The signal comes while the new server still looks at what it has taken over.
#[test]
fn a_signal_right_after_a_replacement_leaves_no_file() {
    require!("strace");
    let directory = Directory::new();
    let path = directory.join("handover");
    let first = start(&path, &[TCP]);
    let mut command = with_faults(&["?statx,?newfstatat:delay_exit=100ms"], PROGRAM);
    let second = Echod::start_command(command.args(args(&path, &[TCP])));
    expect_replaced(first);
    second.signal(Signal::TERM);
    assert_eq!(second.wait_for_exit().code, Some(0));
    assert!(!path.exists());
}

#[test]
fn the_file_of_a_killed_server_is_replaced() {
    let directory = Directory::new();
    let path = directory.join("handover");
    let first = start(&path, &[TCP]);
    first.signal(Signal::KILL);
    assert_eq!(first.wait_for_exit().code, None);
    assert!(path.exists());
    let second = start(&path, &[TCP]);
    second.connect().echo(b"started afresh");
    let third = start(&path, &[TCP]);
    assert_eq!(third.address(), second.address());
    expect_replaced(second);
    third.signal(Signal::TERM);
    assert_eq!(third.wait_for_exit().code, Some(0));
    assert!(!path.exists());
}
