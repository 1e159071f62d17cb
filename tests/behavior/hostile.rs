//! Hostile clients of every kind at once, and one well-behaved client that must be served as usual.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use crate::support::echod::{Echod, Signal, metric};
use crate::support::pattern::{Choices, Pattern};
use crate::support::{AtEnd, Client, DEADLINE, in_parallel, wait_until};

const MAX_CONNECTIONS: usize = 60;
const MAX_PER_IP: usize = 12;
const READ_BUFFER: u64 = 64 << 10;
/// The reasons for refused connections.
const REASONS: [&str; 4] = [
    "denied",
    "accept_rate",
    "max_connections",
    "max_connections_per_ip",
];

/// Connects from another address of this machine, which has its own limits per address.
#[track_caller]
fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 31, last)), 0);
    socket.bind(&from.into()).expect("bind");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    socket.set_write_timeout(Some(DEADLINE)).expect("a timeout");
    socket.connect(&to.into()).expect("connect");
    socket.into()
}

/// Whether the connection is still open.
fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("O_NONBLOCK");
    let result = (&*stream).read(&mut [0]);
    result.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Ignores the outcome, which may be an end or an error.
fn ignore<T, E>(_: Result<T, E>) {}

/// Sends until the socket takes no more, and never reads.
fn never_reads(to: SocketAddr) -> TcpStream {
    let stream = connect_from(1, to);
    stream.set_nonblocking(true).expect("O_NONBLOCK");
    let piece = [7; 64 << 10];
    // A stuck server takes a bounded amount: its buffers and ours.
    while (&stream).write(&piece).is_ok() {}
    stream
}

/// Urgent bytes, garbage, a reset in the middle.
fn misbehaves(to: SocketAddr, choices: &mut Choices) {
    let stream = connect_from(2, to);
    let socket = SockRef::from(&stream);
    ignore(socket.send_out_of_band(b"!"));
    ignore((&stream).write(&Pattern(choices.below(1000) as u64).bytes(choices.below(5000))));
    ignore(socket.send_out_of_band(b"!"));
    ignore((&stream).read(&mut [0; 100]));
    match choices.below(3) {
        0 => ignore(socket.set_linger(Some(Duration::ZERO))),
        1 => ignore(stream.shutdown(std::net::Shutdown::Both)),
        _ => {}
    }
}

#[test]
fn hostile_clients_do_not_disturb_one_that_behaves() {
    const ECHOES: usize = 300;
    /// Enough bytes per round trip that even a slow machine causes no stall.
    const ENOUGH: [u8; 4096] = [5; 4096];
    let echod = Echod::start(&[
        "--echo=tcp://127.0.0.1:0",
        "--admin=127.0.0.1:0",
        "--read-buffer=64KiB",
        "--workers=2",
        &format!("--max-connections={MAX_CONNECTIONS}"),
        &format!("--max-connections-per-ip={MAX_PER_IP}"),
        "--accept-rate=200",
        "--deny=127.0.31.9/32",
        // Against clients that neither read nor write, and against slow ones.
        "--idle-timeout=2s",
        "--stall-timeout=2s",
    ]);
    let to = echod.address();
    let mut behaved = Client::connect(to);
    behaved.echo(b"before");
    let memory_before = echod.resident_bytes();
    let admin = echod.address_of("admin http://");
    let refused = |reason: &str| {
        metric(
            admin,
            &format!("echod_connections_refused_total{{reason=\"{reason}\"}}"),
        )
    };
    let behaved = Mutex::new(behaved);
    let (stop, misdeeds) = (AtomicBool::new(false), AtomicUsize::new(0));
    in_parallel(5, |index| {
        let mut choices = Choices::new(index as u64);
        match index {
            0 => {
                let _stop = AtEnd(&stop);
                let mut behaved = behaved.lock().expect("no panic");
                for number in 0..ECHOES {
                    let size = 1 + choices.below(20_000);
                    behaved.echo(&Pattern(number as u64).bytes(size));
                }
                // The hostile clients were all at work.
                wait_until("misdeeds of every kind", || {
                    behaved.echo(&ENOUGH);
                    misdeeds.load(Ordering::Relaxed) >= 1000
                        && REASONS.iter().all(|reason| refused(reason) > 0)
                });
            }
            1 => {
                let mut stuck = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    stuck.push(never_reads(to));
                    // Never written to at all.
                    stuck.push(connect_from(3, to));
                    misdeeds.fetch_add(1, Ordering::Relaxed);
                    if stuck.len() > 3 * MAX_PER_IP {
                        stuck.clear();
                    }
                }
            }
            2 => {
                // One byte at a time, and the next only after its echo.
                while !stop.load(Ordering::Relaxed) {
                    let mut stream = connect_from(4, to);
                    for byte in 0..100 {
                        if stream.write_all(&[byte]).is_err()
                            || stream.read_exact(&mut [0]).is_err()
                        {
                            break;
                        }
                    }
                    misdeeds.fetch_add(1, Ordering::Relaxed);
                }
            }
            3 => {
                while !stop.load(Ordering::Relaxed) {
                    misbehaves(to, &mut choices);
                    misdeeds.fetch_add(1, Ordering::Relaxed);
                }
            }
            _ => {
                // From the denied address, from one address, from many: more connections than any
                // limit.
                let mut many = Vec::new();
                let (mut number, mut full) = (0, 0);
                while !stop.load(Ordering::Relaxed) {
                    number = (number + 1) % 200;
                    drop(connect_from(9, to));
                    many.push(connect_from(5, to));
                    many.push(connect_from(20 + number, to));
                    misdeeds.fetch_add(1, Ordering::Relaxed);
                    if many.len() > 2 * MAX_CONNECTIONS {
                        // Served connections are kept until there is no room for another.
                        many.retain(is_open);
                        full += 1;
                        if full % 20 == 0 {
                            many.clear();
                        }
                    }
                }
            }
        }
    });

    let active =
        |worker: usize| echod.metric(&format!("echod_connections_active{{worker=\"{worker}\"}}"));
    let mut behaved = behaved.into_inner().expect("no panic");
    wait_until("the end of all but one", || {
        behaved.echo(&ENOUGH);
        active(0) + active(1) == 1
    });
    assert_eq!(echod.metric("echod_backlog_bytes"), 0);
    let most = memory_before + 2 * MAX_CONNECTIONS as u64 * READ_BUFFER;
    let memory = echod.resident_bytes();
    assert!(memory <= most, "{memory} bytes, and {memory_before} before");

    // Nothing keeps the server busy now.
    let turns = || -> u64 {
        let turns = |worker: usize| {
            echod.metric(&format!(
                "echod_loop_iterations_total{{worker=\"{worker}\"}}"
            ))
        };
        turns(0) + turns(1)
    };
    let (start, before, used) = (Instant::now(), turns(), echod.cpu_time());
    for _ in 0..5 {
        behaved.echo(&ENOUGH);
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let (elapsed, used) = (start.elapsed(), echod.cpu_time() - used);
    assert!(turns() - before < 100, "it spins");
    assert!(used < elapsed / 2, "used {used:?} of {elapsed:?}");
    echod.signal(Signal::TERM);
    drop(behaved);
    assert_eq!(echod.wait_for_exit().code, Some(0));
}
