//! The admin port: `/metrics`, `/livez`, `/readyz` and `/info` over HTTP, on a thread of its own.
//!
//! `http` is the protocol, `host` the names that a request may give, `metrics` the content of a scrape,
//! `exposition` its formats, all pure; [`Status`] collects the values from a running server;
//! `connection` is one client, `table` decides which one a new client replaces; this file is the
//! thread with its sockets. The thread reads the workers' counters and never makes a worker wait.
//!
//! The port is meant for loopback but is safe in public: any client costs a bounded amount of memory
//! and time, and the next client is answered. The kernel holds back clients that send nothing, a
//! request that is there is answered in the turn that accepts it, and when all places are taken, a
//! new client takes that of a client with its response, or of the address with the most clients.
//!
//! # `/readyz`
//! 200 while the server accepts clients, 503 as soon as a drain or a stop is requested. `/livez` is
//! 200 as long as the thread answers.
//!
//! # `/info`
//! A JSON object with these keys:
//! - `version`, `kernel` (release), `pid`, `started_at` (RFC 3339), `uptime_s`, `draining`
//! - `workers`: their number; `per_worker`: for each worker `connections_active`,
//!   `connections_accepted`, `loop_iterations`, `loop_events`, `loop_full_batches`, `cpu_seconds`
//! - `balance`: the configured distribution of connections over the workers
//! - `endpoints`: for each endpoint its `service`, `endpoint` as bound, effective `balance`, and the
//!   `faults` in force as they are written, with their seed, or null
//! - `configuration`: the resolved configuration in force; on an address off loopback, access lists
//!   are numbers of prefixes
//! - `sandbox`: what confines the process
//! - `counters`: every metric under its name without `echod_`; a metric with a label is an object
//!   keyed by the label's values

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use tracing::{error, warn};

mod connection;
mod exposition;
mod host;
mod http;
mod metrics;
mod process;
mod settings;
mod status;
mod table;

pub use host::HostNames;
pub use http::{MAX_HEAD_LEN, Pages, Parse, Readiness, respond};
pub use settings::SettingsStatus;
pub use status::{About, Status};

use crate::listen::{self, Listener, Owner};
use crate::net::cidr::{DEFAULT_IPV6_PREFIX, SourcePrefix};
use crate::net::endpoint::{AdminAddress, Endpoint};
use crate::net::errno::AcceptError;
use crate::net::stream::Socket;
use crate::net::unix::{self, SocketFile};
use crate::net::{sys, tcp};
use connection::Connection;
use table::MAX_CONNECTIONS;

/// Connections accepted in a turn, a fraction of [`MAX_CONNECTIONS`]: each can be answered before
/// later ones replace it.
const MAX_ACCEPTS_PER_TURN: usize = 16;
/// Connections that wait in the kernel, which takes fewer if net.core.somaxconn is lower.
const MAX_WAITING: u32 = 4096;
/// The permissions of a Unix socket's file unless others are asked for: /info may tell more than
/// other users should know.
const DEFAULT_MODE: u32 = 0o600;
/// The pause in accepting after descriptors or memory ran out.
const RETRY: Duration = Duration::from_millis(100);
/// How long the end waits for the responses to clients that had connected before: as long as one
/// connection may take.
const MAX_FINISH: Duration = Duration::from_secs(5);
/// How long a closing listener waits for handshakes under way, and for the first bytes of those that
/// are complete.
const HANDSHAKE: Duration = Duration::from_millis(200);
/// The most bytes that one read takes.
const MAX_READ: usize = 16 << 10;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
/// The token of the connection with key 0.
const FIRST_CONNECTION: usize = 2;

/// Why the admin port could not be opened.
#[derive(Debug)]
pub struct AdminError {
    /// As configured.
    pub address: AdminAddress,
    /// The error of the resolver, bind(2) or listen(2).
    pub source: io::Error,
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, source } = self;
        write!(f, "cannot listen on {} (admin): {source}", address.url())
    }
}

impl std::error::Error for AdminError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A bound admin port: clients can connect, and are answered once it is started.
#[derive(Debug)]
pub struct Admin {
    listener: Listener,
    /// The listener, for a successor.
    to_pass: OwnedFd,
    /// As bound.
    address: AdminAddress,
    file: Option<SocketFile>,
    poll: Poll,
    waker: Waker,
}

impl Admin {
    /// Binds the path, with these permissions, or the first address that `address` resolves to.
    ///
    /// # Errors
    /// [`AdminError`] names the address.
    pub fn bind(address: &AdminAddress, mode: Option<u32>) -> Result<Self, AdminError> {
        Self::listen(address, mode).map_err(|source| AdminError {
            address: address.clone(),
            source,
        })
    }

    fn listen(address: &AdminAddress, mode: Option<u32>) -> io::Result<Self> {
        match address {
            AdminAddress::Tcp(address) => {
                // A resolver that succeeds returns an address at least.
                let address = address.resolve()?[0];
                Self::on_tcp(std::net::TcpListener::bind(address)?)
            }
            AdminAddress::Unix(path) => {
                let mode = mode.unwrap_or(DEFAULT_MODE);
                let (listener, file) = unix::listen(path, MAX_WAITING, Some(mode))?;
                Self::on_unix(listener, path, file)
            }
        }
    }

    /// Takes over the listener of a predecessor.
    ///
    /// # Errors
    /// When it is not a listening stream socket, its file is gone, or there is no descriptor for an
    /// epoll instance.
    pub fn adopt(listener: OwnedFd) -> io::Result<Self> {
        match listen::endpoint_of(&listener)? {
            Endpoint::Unix(path) => {
                let file = SocketFile::at(&path)?;
                Self::on_unix(listener.into(), &path, file)
            }
            Endpoint::Tcp(_) | Endpoint::Tls(_) | Endpoint::Udp(_) => Self::on_tcp(listener.into()),
        }
    }

    fn on_tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        tcp::set_backlog(&listener, MAX_WAITING)?;
        // A client that sends nothing takes no place of one that does.
        tcp::defer_accept(&listener)?;
        let to_pass = listener.as_fd().try_clone_to_owned()?;
        let address = AdminAddress::Tcp(listener.local_addr()?.into());
        Self::on(Listener::tcp(listener, Owner::Us), to_pass, address, None)
    }

    fn on_unix(listener: UnixListener, path: &Path, file: SocketFile) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let to_pass = listener.as_fd().try_clone_to_owned()?;
        let address = AdminAddress::Unix(path.to_owned());
        let listener = Listener::unix(listener, Owner::UsWithFile(file.clone()));
        Self::on(listener, to_pass, address, Some(file))
    }

    fn on(
        mut listener: Listener,
        to_pass: OwnedFd,
        address: AdminAddress,
        file: Option<SocketFile>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry();
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Waker::new(registry, WAKER)?;
        Ok(Self {
            listener,
            to_pass,
            address,
            file,
            poll,
            waker,
        })
    }

    /// Another descriptor of the listener, for a successor.
    ///
    /// # Errors
    /// What dup(2) reports.
    pub fn listener_to_pass(&self) -> io::Result<OwnedFd> {
        self.to_pass.try_clone()
    }

    /// The address as bound, with the port that the kernel chose.
    pub fn address(&self) -> &AdminAddress {
        &self.address
    }

    /// The file of a Unix socket. It stays when the admin port ends: a successor may serve on it.
    pub fn file(&self) -> Option<&SocketFile> {
        self.file.as_ref()
    }

    /// Answers with `pages` on a thread of its own until [`Running`] is dropped.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(self, pages: Status) -> io::Result<Running> {
        let stop = Arc::new(AtomicU8::new(SERVING));
        let server = AdminLoop {
            poll: self.poll,
            listener: Some(self.listener),
            is_acceptable: true,
            paused_until: None,
            has_failed: false,
            connections: Slab::with_capacity(MAX_CONNECTIONS),
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

/// The end of an admin port's listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Another process has the socket and keeps it.
    Left = 1,
    /// It is closed.
    Closed = 2,
}

/// No end yet.
const SERVING: u8 = 0;

/// A running admin port. Dropping it ends its thread and waits for the end, which comes once the
/// clients that have connected are answered, within a bound.
#[derive(Debug)]
#[must_use = "the admin port ends when this is dropped"]
pub struct Running {
    /// [`SERVING`] or an [`End`].
    stop: Arc<AtomicU8>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Ends the thread as dropping does, without waiting for it.
    pub fn stop(&self, end: End) {
        // The first decision stands.
        let (release, relaxed) = (Ordering::Release, Ordering::Relaxed);
        let _ = self
            .stop
            .compare_exchange(SERVING, end as u8, release, relaxed);
        // Writing to an eventfd fails only if its counter is full, and then it wakes the thread
        // too.
        let _ = self.waker.wake();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop(End::Closed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the admin port panicked");
        }
    }
}

/// The state of an admin port's thread.
struct AdminLoop {
    poll: Poll,
    /// `None` once closed.
    listener: Option<Listener>,
    /// Whether there may be more to accept: set by an event, cleared only by EAGAIN.
    is_acceptable: bool,
    /// When accepting resumes after a lack of descriptors or memory.
    paused_until: Option<Instant>,
    /// The last accept failed for that reason, which is logged once.
    has_failed: bool,
    connections: Slab<Connection>,
    /// The read buffer of every connection in turn.
    buffer: Box<[u8]>,
    pages: Status,
    /// [`SERVING`] or an [`End`].
    stop: Arc<AtomicU8>,
}

impl AdminLoop {
    /// Answers requests until told to stop.
    ///
    /// # Errors
    /// Only what epoll_wait(2) reports besides EINTR, which would be a defect.
    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(MAX_CONNECTIONS + FIRST_CONNECTION);
        while self.stop.load(Ordering::Relaxed) == SERVING {
            let timeout = self.timeout(Instant::now());
            self.turn(&mut events, timeout)?;
        }
        self.finish(&mut events)
    }

    fn turn(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            Ok(()) => {}
            // A signal interrupted the wait. The batch may still hold the previous events.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            Err(error) => return Err(error),
        }
        let now = Instant::now();
        self.dispatch(events);
        self.expire(now);
        self.accept(now);
        Ok(())
    }

    /// Accepts the clients that have connected, closes the listener, and answers all clients.
    fn finish(&mut self, events: &mut Events) -> io::Result<()> {
        let begin = Instant::now();
        let end = begin + MAX_FINISH;
        let mut close_at = begin;
        if self.stop.load(Ordering::Acquire) == End::Closed as u8 {
            if let Some(listener) = &mut self.listener
                && let Err(error) = listener.refuse_new()
            {
                warn!(%error, "clients that connect while the admin port closes may be reset");
            }
            close_at += HANDSHAKE;
        }
        loop {
            let now = Instant::now();
            let is_time = now >= close_at;
            // The last look at the queue.
            self.is_acceptable |= is_time && self.listener.is_some();
            let next = if is_time { end } else { close_at.min(end) };
            let timeout = next.saturating_duration_since(now);
            let timeout = self.timeout(now).map_or(timeout, |it| it.min(timeout));
            self.turn(events, Some(timeout))?;
            if is_time && !self.is_acceptable {
                self.close_listener();
            }
            if now >= end || self.listener.is_none() && self.connections.is_empty() {
                return Ok(());
            }
        }
    }

    fn close_listener(&mut self) {
        if let Some(mut listener) = self.listener.take() {
            // A successor may have the same socket, which would stay in this epoll instance
            // (epoll(7), question 6). It was registered, so this can't fail.
            let _ = self.poll.registry().deregister(&mut listener);
        }
        self.is_acceptable = false;
    }

    /// Accepting comes after the batch, so that no stale event reaches a connection on a reused
    /// slab key.
    fn dispatch(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                LISTENER => self.is_acceptable = true,
                WAKER => {}
                Token(token) => self.drive(token - FIRST_CONNECTION),
            }
        }
    }

    /// Ends connections that took too long.
    fn expire(&mut self, now: Instant) {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        for key in 0..self.connections.capacity() {
            match self.connections.get_mut(key) {
                Some(connection) if connection.deadline <= now => {
                    if connection.expire(now).is_break() {
                        self.connections.remove(key);
                    } else {
                        self.drive(key);
                    }
                }
                _ => {}
            }
        }
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..MAX_ACCEPTS_PER_TURN {
            if !self.is_acceptable || self.paused_until.is_some() {
                return;
            }
            let Some(listener) = &self.listener else {
                self.is_acceptable = false;
                return;
            };
            match listener.accept() {
                Ok((stream, peer)) => {
                    self.has_failed = false;
                    self.insert(stream, peer, now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_acceptable = false
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if AcceptError::from(&error).is_of_one_connection() => {}
                Err(error) => {
                    if !std::mem::replace(&mut self.has_failed, true) {
                        warn!(%error, "the admin port cannot accept; trying again until it works");
                    }
                    self.paused_until = Some(now + RETRY);
                }
            }
        }
    }

    fn insert(&mut self, mut stream: Socket, peer: Option<IpAddr>, now: Instant) {
        if self.connections.len() == MAX_CONNECTIONS
            && let Some(key) = table::to_give_up(&self.connections)
        {
            self.connections.remove(key);
        }
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        let registered = self.poll.registry().register(
            &mut stream,
            Token(key + FIRST_CONNECTION),
            Interest::READABLE | Interest::WRITABLE,
        );
        // Without events the connection can't be answered; dropping it closes it.
        if registered.is_ok() {
            let source = peer.map(|peer| SourcePrefix::new(peer, DEFAULT_IPV6_PREFIX));
            entry.insert(Connection::new(stream, source, now));
            self.drive(key);
        }
    }

    fn drive(&mut self, key: usize) {
        // An answer is made by allocations that can't fail in order. Without a reserve for them, its
        // client reads an end without one.
        if !sys::refill_reserve() {
            self.connections.try_remove(key);
            return;
        }
        if let Some(connection) = self.connections.get_mut(key)
            && connection.drive(&mut self.buffer, &self.pages).is_break()
        {
            self.connections.remove(key);
        }
    }

    fn timeout(&self, now: Instant) -> Option<Duration> {
        if self.is_acceptable && self.paused_until.is_none() {
            return Some(Duration::ZERO);
        }
        let deadlines = self.connections.iter().map(|(_, it)| it.deadline);
        let next = deadlines.chain(self.paused_until).min()?;
        Some(next.saturating_duration_since(now))
    }
}
