//! Servers that answer at times of their own choosing and keep account of it: the truth that a
//! result is held against.
//!
//! One thread polls all of a server's sockets and never sleeps, so that it knows when a message was
//! there to within microseconds. What it records is the time that it really took, its own lateness
//! included. It gives its processor away between two looks, for the sake of other tests.

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

/// Bytes of every message to these servers.
pub(crate) const SIZE: usize = 64;
/// Runs to wait for one that nothing disturbed.
const ATTEMPTS: usize = 2;
/// A figure may be off its truth by this much, or by a hundredth if that is more.
const TOLERANCE: Duration = Duration::from_micros(20);
/// A share of the time without a processor above which a run is disturbed.
const MAX_ABSENT: f64 = 0.01;
/// From one look of a server at its sockets to the next it takes no longer than this, unless it had
/// no processor.
const MAX_LOOK: Duration = Duration::from_micros(50);
/// Room for what arrives while a server has no processor.
const DATAGRAM_BUFFER: usize = 4 << 20;

/// A message as its server sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Its number among all that arrived.
    pub(crate) number: u64,
    /// The number of its connection, in the order in which they were accepted; 0 over UDP.
    pub(crate) connection: usize,
    /// Since the first message arrived.
    pub(crate) at: Duration,
}

/// What a server did about a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    pub(crate) connection: usize,
    /// Since the first message arrived.
    pub(crate) arrived: Duration,
    /// From its arrival until the answer was about to be written.
    pub(crate) took: Duration,
}

/// What a server did.
#[derive(Default)]
pub(crate) struct Report {
    /// In the order of the answers.
    pub(crate) served: Vec<Served>,
    /// Looks that took long, together,
    absent: Duration,
    /// and from the first message on, all of them.
    present: Duration,
}

/// A server that holds each answer back for a time.
pub(crate) struct Known {
    endpoint: Endpoint,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<Report>>,
}

impl Known {
    /// Over TCP. `delay` says how long after its arrival a message is to be answered; on each
    /// connection in the order of arrival.
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

    /// Ends the server and returns what it did.
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
    /// Where an answer goes.
    type Peer: Copy + Send;

    /// Hands every message that is there to `take`, with its peer and the number of its connection.
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
        // A client that has closed does not miss it.
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

/// An answer that is held back.
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
            report.served.push(Served {
                connection: answer.connection,
                arrived: answer.arrived - begin.unwrap_or(answer.arrived),
                took: answer.arrived.elapsed(),
            });
            transport.answer(answer.peer, &answer.message);
        }
        thread::yield_now();
    }
    report
}

impl Report {
    /// The share of the time in which the server was kept from looking, so that it does not know
    /// when messages arrived, and was late with answers.
    pub(crate) fn absence(&self) -> f64 {
        self.absent.as_secs_f64() / self.present.as_secs_f64().max(1e-9)
    }
}

/// The truth of a latency: what the server took for each message, which the client can't beat.
pub(crate) struct Truth {
    sorted: Vec<u64>,
}

impl Truth {
    pub(crate) fn of(report: &Report) -> Self {
        let mut sorted: Vec<u64> = report
            .served
            .iter()
            .map(|served| served.took.as_nanos() as u64)
            .collect();
        sorted.sort_unstable();
        Self { sorted }
    }

    /// The value that the fraction `quantile` of the messages does not exceed.
    pub(crate) fn quantile(&self, quantile: f64) -> u64 {
        let rank = (quantile * self.sorted.len() as f64).ceil() as usize;
        self.sorted[rank.max(1) - 1]
    }

    fn mean(&self) -> f64 {
        self.sorted.iter().sum::<u64>() as f64 / self.sorted.len() as f64
    }

    /// Holds a latency of as many messages against the truth. It can't be less. How much more it may
    /// be depends on the share of the time that `absence` says: it met at most that share of the
    /// messages on their way there, and that share on their way back. If all of these were measured
    /// as infinite, the quantile q would be the truth's at q and these shares.
    #[track_caller]
    pub(crate) fn check(&self, what: &str, latency: &Latency, quantiles: &[f64], absence: f64) {
        assert_eq!(latency.count(), self.sorted.len() as u64);
        for &quantile in quantiles {
            let measured = latency.quantile(quantile).unwrap() as f64;
            let truth = self.quantile(quantile) as f64;
            let bound = quantile + 2.0 * absence;
            let most = if bound < 1.0 {
                tolerated(self.quantile(bound) as f64)
            } else {
                f64::INFINITY
            };
            let text = format!(
                "{what} p{}: measured {measured} ns, in truth {truth} ns, at most {most}",
                quantile * 100.0
            );
            show(&text);
            // The histogram keeps three digits.
            assert!(measured >= truth * 0.999, "{text}");
            assert!(measured <= most, "{text}");
        }
        let (measured, truth) = (latency.mean(), self.mean());
        show(&format!(
            "{what} mean: measured {measured} ns, in truth {truth} ns"
        ));
        assert!(measured >= truth * 0.999, "{measured} {truth}");
        assert!(
            absence > 0.0 || measured <= tolerated(truth),
            "{measured} {truth}"
        );
    }
}

/// Shows a figure to who runs the tests with `--nocapture`.
#[expect(clippy::print_stdout, reason = "this is what it is for")]
pub(crate) fn show(text: &str) {
    println!("{text}");
}

/// The most that may be measured where so many nanoseconds are the truth.
pub(crate) fn tolerated(truth: f64) -> f64 {
    truth + (truth * 0.01).max(TOLERANCE.as_nanos() as f64)
}

/// The share of the time that a thread of the client was ready and had no processor, as far as the
/// client says.
pub(crate) fn absence(result: &RunResult) -> f64 {
    let threads = result.client.threads.iter();
    let worst = threads
        .map(|thread| thread.run_delay_ratio.unwrap_or(1.0))
        .fold(0.0, f64::max);
    worst + result.client.steal_ratio.unwrap_or(0.0)
}

/// Whether the client of a run was disturbed. Whatever does that only adds to latencies.
pub(crate) fn is_disturbed(result: &RunResult) -> bool {
    absence(result) > MAX_ABSENT
}

/// The same of the client and the server.
pub(crate) fn are_disturbed(result: &RunResult, report: &Report) -> bool {
    let (client, server) = (absence(result), report.absence());
    show(&format!("absent: client {client:.4}, server {server:.4}"));
    client + server > MAX_ABSENT
}

/// Makes a measurement until one was not disturbed. It says whether it was.
pub(crate) fn until_undisturbed(mut measure: impl FnMut() -> bool) {
    /// Several at a time would disturb each other.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..ATTEMPTS {
        if !measure() {
            return;
        }
        show("disturbed");
    }
}
