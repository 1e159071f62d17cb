//! The admin port: `/metrics`, `/livez`, `/readyz` and `/info` over HTTP, on a thread of its own.
//!
//! [`http`] is the protocol and [`metrics`] what a scrape finds, both pure; [`Status`] collects it
//! from a running server; this file is the thread with its sockets. The thread reads what workers
//! count and never makes one wait. It is meant for loopback and as careful as if it were public:
//! whatever a client sends or leaves unsent, it costs a bounded amount of memory and time, and the
//! next client is answered.
//!
//! # `/readyz`
//! 200 while clients are welcome, 503 from the moment a drain or a stop was asked for. `/livez` is
//! 200 as long as anything answers.
//!
//! # `/info`
//! A JSON object with these keys:
//! - `version`, `kernel` (release), `pid`, `started_at` (RFC 3339), `uptime_s`, `draining`
//! - `workers`: how many; `per_worker`: for each of them `connections_active`,
//!   `connections_accepted`, `loop_iterations`, `loop_events`, `loop_full_batches`, `cpu_seconds`
//! - `balance`: how connections are spread over the workers, as configured
//! - `endpoints`: `service`, `endpoint` as bound, and `balance` in use, of each
//! - `configuration`: the resolved configuration in force
//! - `counters`: every metric under its name without `echod_`; those with a label are an object of
//!   the label's values

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use tracing::{error, warn};

mod exposition;
mod http;
mod metrics;
mod process;
mod status;

pub use status::{About, Status};

use crate::error::Error;
use crate::net::endpoint::HostPort;
use crate::net::errno::AcceptError;
use http::{MAX_HEAD_LEN, Pages, Parse};

/// Connections open at a time. One more takes the place of the oldest, so that clients which say
/// nothing can't keep others out.
const MAX_CONNECTIONS: usize = 64;
/// Connections accepted in a turn, a fraction of [`MAX_CONNECTIONS`]: each has its chance to be answered
/// before later ones can take its place.
const MAX_ACCEPTS_PER_TURN: usize = 16;
/// How long a connection may take from being accepted to the end of its response.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a client that was told of its deadline may take to read that.
const TIMEOUT_RESPONSE_DEADLINE: Duration = Duration::from_secs(1);
/// The most bytes that are read and thrown away behind a request. Closing with more unread resets
/// the connection, which may cost the client its response.
const MAX_DISCARDED: usize = 1 << 20;
/// How long accepting pauses when descriptors or memory ran out.
const RETRY: Duration = Duration::from_millis(100);
/// The most bytes that one read takes.
const MAX_READ: usize = 16 << 10;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
/// The token of the connection with key 0.
const FIRST_CONN: usize = 2;

/// An admin port that is bound: clients can connect, and are answered once it is started.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    local_addr: SocketAddr,
    poll: Poll,
    waker: Waker,
}

impl Admin {
    /// Binds the first address that `address` resolves to.
    ///
    /// # Errors
    /// [`Error::Admin`] names the address.
    pub fn bind(address: &HostPort) -> Result<Self, Error> {
        Self::listen(address).map_err(|source| Error::Admin {
            address: address.clone(),
            source,
        })
    }

    fn listen(address: &HostPort) -> io::Result<Self> {
        // A resolver that succeeds returns an address at least.
        let address = address.resolve()?[0];
        Self::on(std::net::TcpListener::bind(address)?)
    }

    /// Goes on with the listener of a predecessor.
    ///
    /// # Errors
    /// When it is no TCP listener, or there is no descriptor to watch it with.
    pub fn adopt(listener: OwnedFd) -> io::Result<Self> {
        Self::on(listener.into())
    }

    /// Another descriptor of the listener, for a successor.
    ///
    /// # Errors
    /// What dup(2) reports.
    pub fn listener_to_pass(&self) -> io::Result<OwnedFd> {
        self.listener.as_fd().try_clone_to_owned()
    }

    fn on(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let local_addr = listener.local_addr()?;
        let mut listener = TcpListener::from_std(listener);
        let poll = Poll::new()?;
        let registry = poll.registry();
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Waker::new(registry, WAKER)?;
        Ok(Self {
            listener,
            local_addr,
            poll,
            waker,
        })
    }

    /// The address as bound, with the port that the kernel chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Answers with `pages` on a thread of its own, from now on until [`Running`] is dropped.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(self, pages: Status) -> io::Result<Running> {
        let stop = Arc::new(AtomicBool::new(false));
        let server = Loop {
            poll: self.poll,
            listener: self.listener,
            more: true,
            paused_until: None,
            troubled: false,
            conns: Slab::with_capacity(MAX_CONNECTIONS),
            buffer: vec![0; MAX_READ].into_boxed_slice(),
            pages,
            stop: Arc::clone(&stop),
        };
        let thread = thread::Builder::new()
            .name("echod-admin".to_owned())
            .spawn(move || {
                if let Err(error) = server.run() {
                    error!(%error, "the admin port failed");
                }
            })?;
        Ok(Running {
            stop,
            waker: self.waker,
            thread: Some(thread),
        })
    }
}

/// An admin port that answers. Dropping it ends its thread and waits for that, which is at once.
#[derive(Debug)]
#[must_use = "the admin port ends when this is dropped"]
pub struct Running {
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Writing to an eventfd fails only if its counter is full, and then it wakes as well.
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the admin port panicked");
        }
    }
}

/// The thread of an admin port with everything it owns.
struct Loop {
    poll: Poll,
    listener: TcpListener,
    /// Whether there may be more to accept: set by an event, cleared by EAGAIN alone.
    more: bool,
    /// When accepting goes on after a lack of descriptors or memory.
    paused_until: Option<Instant>,
    /// The last accept failed for such a lack: it is logged once.
    troubled: bool,
    conns: Slab<Conn>,
    /// Read into by every connection in turn.
    buffer: Box<[u8]>,
    pages: Status,
    stop: Arc<AtomicBool>,
}

impl Loop {
    /// Answers until asked to stop.
    ///
    /// # Errors
    /// Only what epoll_wait(2) reports besides EINTR, which would be a defect.
    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(MAX_CONNECTIONS + FIRST_CONN);
        while !self.stop.load(Ordering::Relaxed) {
            match self.poll.poll(&mut events, self.timeout(Instant::now())) {
                Ok(()) => {}
                // A signal was handled on this thread. The batch may still be the last one.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
                Err(error) => return Err(error),
            }
            let now = Instant::now();
            self.dispatch(&events);
            self.expire(now);
            self.accept(now);
        }
        Ok(())
    }

    /// Accepting comes after the batch, so that none of its events can reach a connection that took
    /// over a slab key.
    fn dispatch(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                LISTENER => self.more = true,
                WAKER => {}
                Token(token) => self.drive(token - FIRST_CONN),
            }
        }
    }

    /// Ends what took too long.
    fn expire(&mut self, now: Instant) {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        for key in 0..self.conns.capacity() {
            let Some(conn) = self.conns.get_mut(key).filter(|conn| conn.deadline <= now) else {
                continue;
            };
            if conn.say_timeout(now) {
                self.drive(key);
            } else {
                self.conns.remove(key);
            }
        }
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..MAX_ACCEPTS_PER_TURN {
            if !self.more || self.paused_until.is_some() {
                return;
            }
            match self.listener.accept() {
                Ok((stream, _)) => {
                    self.troubled = false;
                    self.insert(stream, now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.more = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if AcceptError::from(&error).is_of_one_connection() => {}
                Err(error) => {
                    if !std::mem::replace(&mut self.troubled, true) {
                        warn!(%error, "the admin port cannot accept; trying again until it works");
                    }
                    self.paused_until = Some(now + RETRY);
                }
            }
        }
    }

    fn insert(&mut self, mut stream: TcpStream, now: Instant) {
        if self.conns.len() == MAX_CONNECTIONS
            && let Some((oldest, _)) = self.conns.iter().min_by_key(|(_, conn)| conn.accepted_at)
        {
            self.conns.remove(oldest);
        }
        let entry = self.conns.vacant_entry();
        let key = entry.key();
        let registered = self.poll.registry().register(
            &mut stream,
            Token(key + FIRST_CONN),
            Interest::READABLE | Interest::WRITABLE,
        );
        // Without its events a connection can't be answered; dropping it closes it.
        if registered.is_ok() {
            entry.insert(Conn::new(stream, now));
            self.drive(key);
        }
    }

    fn drive(&mut self, key: usize) {
        if let Some(conn) = self.conns.get_mut(key)
            && conn.drive(&mut self.buffer, &self.pages) == Next::Close
        {
            self.conns.remove(key);
        }
    }

    fn timeout(&self, now: Instant) -> Option<Duration> {
        if self.more && self.paused_until.is_none() {
            return Some(Duration::ZERO);
        }
        let deadlines = self.conns.iter().map(|(_, conn)| conn.deadline);
        let next = deadlines.chain(self.paused_until).min()?;
        Some(next.saturating_duration_since(now))
    }
}

/// One connection: a request, a response, its end.
#[derive(Debug)]
struct Conn {
    stream: TcpStream,
    accepted_at: Instant,
    deadline: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    /// So much of the head came, less than [`MAX_HEAD_LEN`].
    Reading(Vec<u8>),
    /// So much of the response was written.
    Writing { response: Vec<u8>, written: usize },
    /// Our side is ended and the peer's not; so many bytes were thrown away since.
    Lingering { discarded: usize },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Next {
    Wait,
    Close,
}

impl Conn {
    fn new(stream: TcpStream, now: Instant) -> Self {
        Self {
            stream,
            accepted_at: now,
            deadline: now + DEADLINE,
            state: State::Reading(Vec::new()),
        }
    }

    /// Goes as far as the socket lets it.
    fn drive(&mut self, buffer: &mut [u8], pages: &impl Pages) -> Next {
        // Each round reads or writes something, a bounded number of bytes in all, or leaves.
        loop {
            match self.step(buffer, pages) {
                Ok(Next::Wait) => {}
                Ok(Next::Close) => return Next::Close,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Next::Wait,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Next::Close,
            }
        }
    }

    /// One call of the socket and what follows from it.
    fn step(&mut self, buffer: &mut [u8], pages: &impl Pages) -> io::Result<Next> {
        match &mut self.state {
            State::Reading(head) => {
                let room = buffer.len().min(MAX_HEAD_LEN - head.len());
                let count = self.stream.read(&mut buffer[..room])?;
                if count == 0 && head.is_empty() {
                    return Ok(Next::Close);
                }
                head.extend_from_slice(&buffer[..count]);
                match http::respond(head, pages) {
                    Parse::Response(response) => self.write(response),
                    // The client ended its side before its request was whole.
                    Parse::Incomplete if count == 0 => self.write(http::bad_request()),
                    Parse::Incomplete => {}
                }
            }
            State::Writing { response, written } => {
                *written += self.stream.write(&response[*written..])?;
                if *written == response.len() {
                    self.stream.shutdown(Shutdown::Write)?;
                    self.state = State::Lingering { discarded: 0 };
                }
            }
            State::Lingering { discarded } => {
                let count = self.stream.read(buffer)?;
                *discarded += count;
                if count == 0 || *discarded > MAX_DISCARDED {
                    return Ok(Next::Close);
                }
            }
        }
        Ok(Next::Wait)
    }

    fn write(&mut self, response: Vec<u8>) {
        self.state = State::Writing {
            response,
            written: 0,
        };
    }

    /// Tells a client that began a request and did not end it; false if there is nothing to tell.
    fn say_timeout(&mut self, now: Instant) -> bool {
        match &self.state {
            State::Reading(head) if !head.is_empty() => {
                self.write(http::request_timeout());
                self.deadline = now + TIMEOUT_RESPONSE_DEADLINE;
                true
            }
            State::Reading(_) | State::Writing { .. } | State::Lingering { .. } => false,
        }
    }
}
