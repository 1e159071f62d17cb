//! An orderly end: on a signal the program accepts connections that the kernel had completed,
//! refuses later ones, lets open connections finish within a bound, and ends with exit code 0.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use echomark::metrics::CloseReason;
use echomark::{Config, Server};

use crate::support::directory::Directory;
use crate::support::echod::{Echod, Exit, PROGRAM, Signal};
use crate::support::pattern::Pattern;
use crate::support::strace::with_faults;
use crate::support::tools::require;
use crate::support::{
    Client, DEADLINE, Running, addresses, config, config_on, connect_until_refused, in_parallel,
    wait_until,
};

/// An address of this machine that no other test uses, so that no other test can get a port that
/// this one closed.
const OWN_ADDRESS: &str = "127.0.0.11";
const OWN_ENDPOINT: &str = "--echo=tcp://127.0.0.11:0";

#[track_caller]
fn wait_until_refused(address: SocketAddr) {
    wait_until("refused connects", || match Client::try_connect(address) {
        // Its handshake was complete before the listener closed.
        Ok(mut client) => {
            client.echo(b"in time");
            false
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            true
        }
    });
}

#[track_caller]
fn assert_orderly(exit: &Exit) {
    assert_eq!(exit.code, Some(0), "{exit:#?}");
    assert_eq!(exit.stdout.len(), 2, "{exit:#?}");
}

#[test]
fn a_signal_lets_open_connections_finish() {
    for signal in [Signal::TERM, Signal::INT] {
        let echod = Echod::start(&[OWN_ENDPOINT, "--workers=2", "--drain-timeout=10m"]);
        let address = echod.address();
        let mut client = echod.connect();
        client.echo(b"before");
        echod.signal(signal);
        wait_until_refused(address);
        client.echo(b"during");
        client.echo(&[7; 100_000]);
        client.half_close();
        client.expect_end();
        assert_orderly(&echod.wait_for_exit());
    }
}

/// The signal handler is installed before `ready` is printed, even if that takes long.
#[test]
fn a_signal_right_after_ready_drains() {
    require!("strace");
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut command = with_faults(&["rt_sigaction:delay_enter=50ms"], PROGRAM);
        let echod = Echod::start_command(command.arg("--echo=tcp://127.0.0.1:0"));
        echod.signal(signal);
        if signal == Signal::HUP {
            echod.connect().echo(b"still there");
            echod.signal(Signal::TERM);
        }
        assert_orderly(&echod.wait_for_exit());
    }
}

#[test]
fn without_connections_a_signal_ends_it() {
    for signal in [Signal::TERM, Signal::INT] {
        let echod = Echod::start(&["--echo=tcp://127.0.0.1:0", "--drain-timeout=10m"]);
        echod.signal(signal);
        assert_orderly(&echod.wait_for_exit());
    }
}

#[test]
fn the_drain_timeout_ends_the_remaining_connections() {
    let echod = Echod::start(&["--echo=tcp://127.0.0.1:0", "--drain-timeout=100ms"]);
    let mut client = echod.connect();
    client.echo(b"here to stay");
    echod.signal(Signal::TERM);
    client.expect_end();
    // It does not wait for this client to close, which it never does.
    assert_orderly(&echod.wait_for_exit());
}

#[test]
fn a_second_signal_ends_everything_at_once() {
    for signals in [
        [Signal::TERM, Signal::TERM],
        [Signal::INT, Signal::INT],
        [Signal::TERM, Signal::INT],
    ] {
        let mut echod = Echod::start(&["--echo=tcp://127.0.0.1:0", "--drain-timeout=10m"]);
        let mut client = echod.connect();
        client.echo(b"here to stay");
        echod.signal(signals[0]);
        echod.wait_for_log("a second signal stops");
        client.echo(b"still here");
        echod.signal(signals[1]);
        assert_orderly(&echod.wait_for_exit());
        // In good order or by a reset, but not open.
        let _ = client.read(&mut [0]).inspect(|&count| assert_eq!(count, 0));
    }
}

#[test]
fn connections_are_accepted_during_the_drain_delay() {
    let mut echod = Echod::start(&["--echo=tcp://127.0.0.1:0", "--drain-delay=10m"]);
    echod.signal(Signal::TERM);
    echod.wait_for_log("a second signal stops");
    echod.connect().echo(b"not too late");
    echod.signal(Signal::TERM);
    assert_orderly(&echod.wait_for_exit());
}

/// Without any connection, load balancers still need the delay.
#[test]
fn datagrams_are_answered_during_the_drain_delay() {
    let mut echod = Echod::start(&[
        "--echo=udp://127.0.0.1:0",
        "--drain-delay=10m",
        "--workers=2",
    ]);
    let address = echod.address_of("echo udp://");
    echod.signal(Signal::TERM);
    echod.wait_for_log("a second signal stops");
    let client = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    client.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    for _ in 0..20 {
        client.send_to(b"not too late", address).expect("send");
        let (count, _) = client.recv_from(&mut [0; 64]).expect("an answer");
        assert_eq!(count, 12);
    }
    echod.signal(Signal::TERM);
    assert_orderly(&echod.wait_for_exit());
}

/// Connections that the kernel completed before the first turn of the loop, and a drain that was
/// requested before it too.
#[test]
fn a_drain_serves_all_that_waits_to_be_accepted() {
    const CLIENTS: usize = 500;
    let server = Server::bind(Config {
        workers: NonZeroUsize::new(3).unwrap(),
        ..config()
    })
    .expect("a free port");
    let address = addresses(&server)[0];
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(address)).collect();
    server.handle().drain();
    let server = Running::run(server);
    for client in &mut clients {
        client.echo(b"I was here before");
    }
    drop(clients);
    let metrics = server.join();
    assert_eq!(metrics.accepted, CLIENTS as u64);
    assert_eq!(metrics.closed(CloseReason::DrainTimeout), 0);
}

/// Connects never stop while the listeners close. Each that succeeds is served.
#[test]
fn no_connect_that_succeeds_is_lost_when_the_listeners_close() {
    const ROUNDS: usize = 10;
    const THREADS: usize = 4;
    for _ in 0..ROUNDS {
        let server = Running::start(Config {
            workers: NonZeroUsize::new(3).unwrap(),
            drain_timeout: Duration::from_secs(600),
            ..config_on(OWN_ADDRESS)
        });
        let served = AtomicUsize::new(0);
        in_parallel(THREADS + 1, |index| {
            if index == THREADS {
                wait_until("connects", || served.load(Ordering::Relaxed) > 100);
                server.handle.drain();
            } else {
                connect_until_refused(server.address(), &served);
            }
        });
        let metrics = server.join();
        assert!(metrics.accepted as usize >= served.into_inner());
        assert_eq!(metrics.closed(CloseReason::DrainTimeout), 0);
    }
}

/// While half-closed connections wait for their peers, the loop sleeps.
#[test]
fn a_drain_timeout_of_next_to_nothing_does_not_spin() {
    for drain_timeout in [Duration::ZERO, Duration::from_millis(10)] {
        let server = Running::start(Config {
            drain_timeout,
            ..config()
        });
        let mut client = server.connect();
        client.echo(b"here to stay");
        let before = server.metrics().loop_iterations;
        server.handle.drain();
        client.expect_end();
        let metrics = server.join();
        let turns = metrics.loop_iterations - before;
        assert!(turns < 100, "{turns} turns for one connection to end");
        assert_eq!(metrics.closed(CloseReason::DrainTimeout), 1);
    }
}

/// Endless streams over TCP and over a Unix socket, and endless connects, while the signal comes:
/// every stream and every established connection finishes.
#[test]
fn busy_connections_finish_and_a_storm_of_connects_is_served_or_refused() {
    const STREAMS: usize = 200;
    const THREADS: usize = 4;
    const STORM: usize = 3;
    let directory = Directory::new();
    let path = directory.join("echo");
    let unix = format!("--echo=unix:{}", path.display());
    let echod = Echod::start(&[OWN_ENDPOINT, &unix, "--workers=2", "--drain-timeout=10m"]);
    let address = echod.address();
    let (moved, served) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (all_open, signalled) = (Barrier::new(THREADS + 1), AtomicBool::new(false));
    let process = Mutex::new(Some(echod));
    in_parallel(THREADS + STORM + 1, |index| {
        if index < THREADS {
            let mut streams: Vec<_> = (0..STREAMS / THREADS)
                .map(|number| match number % 4 {
                    0 => Box::new(UnixStream::connect(&path).expect("connect")) as Box<dyn Busy>,
                    _ => Box::new(TcpStream::connect(address).expect("connect")),
                })
                .map(|stream| Stream::new(stream, index as u64))
                .collect();
            all_open.wait();
            // Each continues for a while after the signal and then ends.
            wait_until("the ends of the streams", || {
                let is_over = signalled.load(Ordering::Relaxed);
                streams.retain_mut(|stream| !stream.go_on(is_over, &moved));
                streams.is_empty()
            });
        } else if index < THREADS + STORM {
            connect_until_refused(address, &served);
        } else {
            all_open.wait();
            let before = moved.load(Ordering::Relaxed);
            wait_until("traffic", || {
                moved.load(Ordering::Relaxed) > before + (4 << 20)
            });
            wait_until("connects", || served.load(Ordering::Relaxed) > 50);
            let echod = process.lock().expect("no panic").take();
            let echod = echod.expect("it runs");
            echod.signal(Signal::TERM);
            wait_until_refused(address);
            wait_until("a file that is gone", || !path.exists());
            signalled.store(true, Ordering::Relaxed);
            let exit = echod.wait_for_exit();
            assert_eq!(exit.code, Some(0), "{exit:#?}");
        }
    });
}

/// Data under way at the end of the drain timeout is lost, but the echo so far is correct; a reset
/// tells those that lost something.
#[test]
fn without_a_drain_timeout_busy_connections_end_with_a_correct_part() {
    const STREAMS: usize = 200;
    const THREADS: usize = 4;
    let directory = Directory::new();
    let path = directory.join("echo");
    let unix = format!("--echo=unix:{}", path.display());
    let echod = Echod::start(&["--echo=tcp://127.0.0.1:0", &unix, "--drain-timeout=0"]);
    let address = echod.address();
    let (moved, all_open) = (AtomicUsize::new(0), Barrier::new(THREADS + 1));
    let process = Mutex::new(Some(echod));
    in_parallel(THREADS + 1, |index| {
        if index < THREADS {
            let mut streams: Vec<_> = (0..STREAMS / THREADS)
                .map(|number| match number % 4 {
                    0 => Box::new(UnixStream::connect(&path).expect("connect")) as Box<dyn Busy>,
                    _ => Box::new(TcpStream::connect(address).expect("connect")),
                })
                .map(|stream| Stream::new(stream, index as u64))
                .collect();
            all_open.wait();
            wait_until("the ends of the streams", || {
                streams.retain_mut(|stream| !stream.go_on_until_ended(&moved));
                streams.is_empty()
            });
        } else {
            all_open.wait();
            let before = moved.load(Ordering::Relaxed);
            wait_until("traffic", || {
                moved.load(Ordering::Relaxed) > before + (4 << 20)
            });
            let echod = process.lock().expect("no panic").take();
            let echod = echod.expect("it runs");
            echod.signal(Signal::TERM);
            let exit = echod.wait_for_exit();
            assert_eq!(exit.code, Some(0), "{exit:#?}");
        }
    });
}

/// A stream socket without waiting.
trait Busy: Read + Write + Send {
    fn prepare(&self);
    fn half_close(&self);
}

impl Busy for TcpStream {
    fn prepare(&self) {
        self.set_nonblocking(true).expect("O_NONBLOCK");
    }

    fn half_close(&self) {
        self.shutdown(Shutdown::Write).expect("half-close");
    }
}

impl Busy for UnixStream {
    fn prepare(&self) {
        self.set_nonblocking(true).expect("O_NONBLOCK");
    }

    fn half_close(&self) {
        self.shutdown(Shutdown::Write).expect("half-close");
    }
}

/// One of many connections of a thread, with a pattern on its way.
struct Stream {
    socket: Box<dyn Busy>,
    pattern: Pattern,
    sent: u64,
    received: u64,
    sending: bool,
}

impl Stream {
    fn new(socket: Box<dyn Busy>, number: u64) -> Self {
        socket.prepare();
        Self {
            socket,
            pattern: Pattern(number),
            sent: 0,
            received: 0,
            sending: true,
        }
    }

    /// Sends and receives a little, and returns whether all bytes and the end came back.
    #[track_caller]
    fn go_on(&mut self, is_over: bool, moved: &AtomicUsize) -> bool {
        /// Bytes that each sends after the signal.
        const MORE: u64 = 10_000;
        if self.sending {
            self.send().expect("send");
            if is_over {
                let mut rest = vec![0; MORE as usize];
                self.pattern.fill(self.sent, &mut rest);
                // Bytes that do not fit are never sent; a part is enough.
                if let Ok(count) = self.socket.write(&rest) {
                    self.sent += count as u64;
                }
                self.socket.half_close();
                self.sending = false;
            }
        }
        match self.receive(moved) {
            Some(result) => {
                result.expect("the end of the stream");
                assert_eq!(self.received, self.sent, "bytes that came back");
                true
            }
            None => false,
        }
    }

    /// The same until the server ends it.
    #[track_caller]
    fn go_on_until_ended(&mut self, moved: &AtomicUsize) -> bool {
        if self.sending {
            // After its end the server may have closed the connection.
            self.sending = self.send().is_ok();
        }
        match self.receive(moved) {
            Some(Ok(())) => true,
            // Something was cut off.
            Some(Err(error)) if error.kind() == ErrorKind::ConnectionReset => true,
            Some(Err(error)) => panic!("{error} instead of the end of the stream"),
            None => false,
        }
    }

    fn send(&mut self) -> io::Result<()> {
        /// The most bytes under way, so that the buffers hold them and the end never gets stuck
        /// behind them.
        const ON_ITS_WAY: u64 = 16 << 10;
        if self.sent - self.received > ON_ITS_WAY {
            return Ok(());
        }
        let mut piece = [0; 4096];
        self.pattern.fill(self.sent, &mut piece);
        match self.socket.write(&piece) {
            Ok(count) => self.sent += count as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Checks received bytes; `None` before the end.
    #[track_caller]
    fn receive(&mut self, moved: &AtomicUsize) -> Option<io::Result<()>> {
        let mut piece = [0; 16 << 10];
        match self.socket.read(&mut piece) {
            Ok(0) => Some(Ok(())),
            Ok(count) => {
                self.pattern.check(self.received, &piece[..count]);
                self.received += count as u64;
                moved.fetch_add(count, Ordering::Relaxed);
                None
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error)),
        }
    }
}
