//! Servers that answer at self-chosen times and record them: the truth for checking results. What an
//! echod can do on order (delays of a distribution, standstills, losses by a share) it does: `ordered`.
//! Here is what it can't: a limited rate, delays by connection or by time, records of each arrival.
//!
//! One thread polls all of a server's sockets and never sleeps, so it knows the arrival time of
//! each message within microseconds. It records the real times, including its own lateness. It
//! yields its CPU between two polls, for the sake of other tests.

pub(crate) mod datagrams;
pub(crate) mod ordered;
pub(crate) mod streams;

use std::any::type_name;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use echomark::net::endpoint::Endpoint;
use loadgen::RunResult;
use loadgen::plan::Target;
use loadgen::result::Latency;

use crate::support::tools::{name_of, say};

/// Bytes of every message to these servers.
pub(crate) const SIZE: usize = 64;
/// Attempts for an undisturbed run.
const ATTEMPTS: usize = 3;
/// A figure may differ from the truth by this much, or by one percent if that is more.
const TOLERANCE: Duration = Duration::from_micros(20);
/// Above this share of time without a CPU, a run counts as disturbed.
pub(crate) const MAX_ABSENT: f64 = 0.01;
/// Maximum time between two polls of the sockets, unless the server had no CPU.
const MAX_LOOK: Duration = Duration::from_micros(50);
/// Buffer for messages that arrive while a server has no CPU.
const DATAGRAM_BUFFER: usize = 4 << 20;

/// A message as its server sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Its number in order of arrival.
    pub(crate) number: u64,
    /// The number of its connection, in the order in which they were accepted; 0 over UDP.
    pub(crate) connection: usize,
    /// Since the first message arrived.
    pub(crate) at: Duration,
}

/// The server's answer to a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    pub(crate) connection: usize,
    /// Since the first message arrived.
    pub(crate) arrived: Duration,
    /// From its arrival until the answer was about to be written: the client can't measure less.
    pub(crate) took: Duration,
}

/// The records of a server.
#[derive(Default)]
pub(crate) struct Report {
    /// In the order of the answers.
    pub(crate) served: Vec<Served>,
    /// Total time of polls that took too long,
    absent: Duration,
    /// and of all polls since the first message.
    present: Duration,
}

/// A server that delays each answer.
pub(crate) struct Known {
    endpoint: Endpoint,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<Report>>,
}

impl Known {
    /// Over TCP. `delay` is the time from a message's arrival to its answer. Each connection is
    /// answered in order of arrival.
    pub(crate) fn tcp(delay: impl FnMut(Arrival) -> Duration + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Connections {
            listener,
            streams: Vec::new(),
        };
        Self::start(Endpoint::Tcp(address.into()), connections, delay)
    }

    /// The same over UDP, where answers may overtake each other.
    pub(crate) fn udp(delay: impl FnMut(Arrival) -> Duration + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        socket2::SockRef::from(&socket)
            .set_recv_buffer_size(DATAGRAM_BUFFER)
            .unwrap();
        let address = socket.local_addr().unwrap();
        Self::start(Endpoint::Udp(address.into()), Datagrams { socket }, delay)
    }

    fn start<W: Transport>(
        endpoint: Endpoint,
        mut transport: W,
        mut delay: impl FnMut(Arrival) -> Duration + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || serve(&mut transport, &mut delay, &stop))
        };
        Self {
            endpoint,
            stop,
            thread: Some(thread),
        }
    }

    pub(crate) fn target(&self) -> Target {
        Target::Servers {
            targets: vec![self.endpoint.clone()],
        }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    /// Ends the server and returns its records.
    pub(crate) fn finish(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The sockets of a server.
trait Transport: Send + 'static {
    /// The destination of an answer.
    type Peer: Copy + Send;

    /// Passes every received message to `take`, with its peer and the number of its connection.
    fn receive(&mut self, take: &mut dyn FnMut(Self::Peer, usize, [u8; SIZE]));

    fn answer(&mut self, peer: Self::Peer, message: &[u8; SIZE]);
}

struct Connections {
    listener: TcpListener,
    streams: Vec<(TcpStream, Vec<u8>)>,
}

impl Transport for Connections {
    type Peer = usize;

    fn receive(&mut self, take: &mut dyn FnMut(usize, usize, [u8; SIZE])) {
        if let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).unwrap();
            stream.set_nodelay(true).unwrap();
            self.streams.push((stream, Vec::new()));
        }
        let mut buffer = [0; 16 << 10];
        for (index, (stream, rest)) in self.streams.iter_mut().enumerate() {
            let Ok(count) = stream.read(&mut buffer) else {
                continue;
            };
            rest.extend_from_slice(&buffer[..count]);
            let whole = rest.len() / SIZE * SIZE;
            for message in rest.drain(..whole).as_slice().chunks_exact(SIZE) {
                take(index, index, message.try_into().unwrap());
            }
        }
    }

    fn answer(&mut self, peer: usize, message: &[u8; SIZE]) {
        // A client that has closed does not need it.
        let _ = self.streams[peer].0.write(message);
    }
}

struct Datagrams {
    socket: UdpSocket,
}

impl Transport for Datagrams {
    type Peer = SocketAddr;

    fn receive(&mut self, take: &mut dyn FnMut(SocketAddr, usize, [u8; SIZE])) {
        let mut buffer = [0; SIZE];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((SIZE, peer)) => take(peer, 0, buffer),
                Ok((count, _)) => panic!("a datagram of {count} bytes"),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The client of an earlier answer is gone.
                Err(_) => {}
            }
        }
    }

    fn answer(&mut self, peer: SocketAddr, message: &[u8; SIZE]) {
        let _ = self.socket.send_to(message, peer);
    }
}

/// A delayed answer.
struct Held<P> {
    connection: usize,
    arrived: Instant,
    peer: P,
    message: [u8; SIZE],
}

fn serve<W: Transport>(
    transport: &mut W,
    delay: &mut dyn FnMut(Arrival) -> Duration,
    stop: &AtomicBool,
) -> Report {
    let mut report = Report::default();
    let mut held: Vec<Option<Held<W::Peer>>> = Vec::new();
    let mut due: BinaryHeap<Reverse<(Instant, usize)>> = BinaryHeap::new();
    let mut begin: Option<Instant> = None;
    let mut looked = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let look = looked.elapsed();
        looked += look;
        if begin.is_some() {
            report.present += look;
            report.absent += if look > MAX_LOOK {
                look
            } else {
                Duration::ZERO
            };
        }
        transport.receive(&mut |peer, connection, message| {
            let arrived = Instant::now();
            let begin = *begin.get_or_insert(arrived);
            let number = held.len();
            let wait = delay(Arrival {
                number: number as u64,
                connection,
                at: arrived - begin,
            });
            due.push(Reverse((arrived + wait, number)));
            held.push(Some(Held {
                connection,
                arrived,
                peer,
                message,
            }));
        });
        while let Some(Reverse((time, number))) = due.peek().copied()
            && time <= Instant::now()
        {
            due.pop();
            let Some(answer) = held[number].take() else {
                continue;
            };
            let took = answer.arrived.elapsed();
            transport.answer(answer.peer, &answer.message);
            report.served.push(Served {
                connection: answer.connection,
                arrived: answer.arrived - begin.unwrap_or(answer.arrived),
                took,
            });
        }
        thread::yield_now();
    }
    report
}

impl Report {
    /// The share of time in which the server was kept from polling. Then it does not know arrival
    /// times, and answers late.
    pub(crate) fn absence(&self) -> f64 {
        self.absent.as_secs_f64() / self.present.as_secs_f64().max(1e-9)
    }
}

/// The true latency: the delay of each message, which is a lower bound, and with it what a round trip
/// takes without a delay, which is an upper bound of what the client may blame on the server.
pub(crate) struct Truth {
    sorted: Vec<u64>,
    sorted_at_most: Vec<u64>,
}

impl Truth {
    /// Compares a latency with the truth. It can't be less, nor more than the upper bound by much.
    /// On a busy machine both sides are late: `absence` is the share of time without a CPU, so at most
    /// that share of the messages was affected on the way there, and the same share on the way back. If
    /// all of these were measured as infinite, the measured quantile q would be the true quantile at q
    /// plus these shares.
    ///
    /// A percentile is the upper end of its bucket: the sample lies between the bucket's ends.
    #[track_caller]
    pub(crate) fn check(&self, what: &str, latency: &Latency, quantiles: &[f64], absence: f64) {
        assert_eq!(latency.count(), self.sorted.len() as u64);
        for &quantile in quantiles {
            let measured = latency.quantile(quantile).unwrap() as f64;
            let least = latency.histogram().lowest_equivalent(measured as u64) as f64;
            let truth = quantile_of(&self.sorted, quantile) as f64;
            let bound = quantile + 2.0 * absence;
            let most = if bound < 1.0 {
                tolerated(quantile_of(&self.sorted_at_most, bound) as f64)
            } else {
                f64::INFINITY
            };
            let text = format!(
                "{what} p{}: measured {measured} ns, in truth {truth} ns, at most {most}",
                quantile * 100.0
            );
            show(&text);
            assert!(measured >= truth, "{text}");
            assert!(least <= most, "{text}");
        }
        let (measured, truth) = (latency.mean(), mean_of(&self.sorted));
        let most = tolerated(mean_of(&self.sorted_at_most));
        show(&format!(
            "{what} mean: measured {measured} ns, in truth {truth} ns"
        ));
        // The histogram keeps three digits.
        assert!(measured >= truth * 0.999, "{measured} {truth}");
        assert!(absence > 0.0 || measured <= most, "{measured} {most}");
    }
}

fn quantile_of(sorted: &[u64], quantile: f64) -> u64 {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted[rank.max(1) - 1]
}

fn mean_of(times: &[u64]) -> f64 {
    times.iter().sum::<u64>() as f64 / times.len() as f64
}

/// Prints a figure, for `--nocapture`.
#[expect(clippy::print_stdout, reason = "this is what it is for")]
pub(crate) fn show(text: &str) {
    println!("{text}");
}

/// The maximum measured value for a true number of nanoseconds.
pub(crate) fn tolerated(truth: f64) -> f64 {
    truth + (truth * 0.01).max(TOLERANCE.as_nanos() as f64)
}

/// The share of time that a client thread was ready without a CPU, by the client's own figures.
pub(crate) fn absence(result: &RunResult) -> f64 {
    let threads = result.client.threads.iter();
    let worst = threads
        .map(|thread| thread.run_delay_ratio.unwrap_or(1.0))
        .fold(0.0, f64::max);
    worst + result.client.steal_ratio.unwrap_or(0.0)
}

/// Whether the client of a run was disturbed. Disturbances only increase latencies.
pub(crate) fn is_disturbed(result: &RunResult) -> bool {
    absence(result) > MAX_ABSENT
}

/// Whether the client or the server was disturbed.
pub(crate) fn are_disturbed(result: &RunResult, report: &Report) -> bool {
    let (client, server) = (absence(result), report.absence());
    show(&format!("absent: client {client:.4}, server {server:.4}"));
    client + server > MAX_ABSENT
}

/// Repeats a measurement until it was not disturbed. The measurement returns whether it was. If each
/// was, only what holds on a busy machine too was judged, and the test says so.
pub(crate) fn until_undisturbed<F: FnMut() -> bool>(mut measure: F) {
    /// Concurrent measurements would disturb each other.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..ATTEMPTS {
        if !measure() {
            return;
        }
        show("disturbed");
    }
    let test = name_of(type_name::<F>());
    say(&format!(
        "disturbed: {test} was judged within the bounds of a busy machine only"
    ));
}
