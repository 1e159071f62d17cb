//! One connection of the client: made, used, and made anew when it ends. A UDP socket that is bound
//! to its peer counts as one too. What is done with it is a workload's.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;

use echomark::net::cidr::Cidr;
use echomark::net::sys::{self, TcpInfo, monotonic_ns};
use echomark::net::tuning::{self, Tuning};
use echomark::net::unix;
use echomark::stream::{Socket, Stream};
use mio::event::{Event, Source};
use mio::net::{TcpStream, UdpSocket, UnixStream};
use mio::{Interest, Registry, Token};

/// How long a flow waits before it connects anew after a connection on which nothing ever came;
/// doubled for each that follows, up to the second.
const FIRST_BACKOFF_NS: u64 = 10_000_000;
const LAST_BACKOFF_NS: u64 = 1_000_000_000;

/// Where a target is, its name looked up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Unix(PathBuf),
}

/// Which of the run's flows a link belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    /// Its number among the thread's flows.
    pub(crate) key: usize,
    /// Its number in the whole run.
    pub(crate) number: usize,
    /// Which target it belongs to.
    pub(crate) target: usize,
}

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It never stood.
    NotConnected(io::Error),
    /// The server ended it in good order.
    ByPeer,
    /// It was reset or broke.
    Broken,
    /// The server sent more than it had received.
    Excess,
    /// An answer did not come within the timeout.
    TimedOut,
    /// We had done with it.
    ByUs,
    /// We had done with it, and the server did not close it within the timeout.
    Unclosed,
}

/// How far a connection is that is being made.
#[derive(Debug)]
pub(crate) enum Connect {
    Pending,
    /// It stands; connecting took so many nanoseconds.
    Done(u64),
}

/// Makes a thread's sockets.
#[derive(Debug)]
pub(crate) struct Dialer {
    /// One address for each target.
    addresses: Arc<[Address]>,
    tuning: Tuning,
    sources: Vec<Cidr>,
    /// Number of the next source address, and how far apart this thread's are.
    next_source: u128,
    stride: u128,
}

impl Dialer {
    /// Sockets to `addresses`, from the addresses of `sources` in turn; this is the `index`-th of
    /// `threads` threads that share them.
    pub(crate) fn new(
        addresses: Arc<[Address]>,
        tuning: Tuning,
        sources: Vec<Cidr>,
        index: usize,
        threads: usize,
    ) -> Self {
        Self {
            addresses,
            tuning,
            sources,
            next_source: index as u128,
            stride: threads as u128,
        }
    }

    fn dial(&mut self, target: usize) -> io::Result<Wire> {
        let source = self.take_source();
        match &self.addresses[target] {
            Address::Tcp(address) => {
                let stream = tuning::connect_from(*address, source, &self.tuning)?;
                Ok(Wire::Stream(Socket::Tcp(TcpStream::from_std(stream))))
            }
            Address::Udp(address) => {
                let socket = tuning::connect_datagram(*address, source, &self.tuning)?;
                Ok(Wire::Datagram(UdpSocket::from_std(socket)))
            }
            Address::Unix(path) => {
                let stream = unix::connect_nonblocking(path)?;
                Ok(Wire::Stream(Socket::Unix(UnixStream::from_std(stream))))
            }
        }
    }

    fn take_source(&mut self) -> Option<std::net::IpAddr> {
        let total: u128 = self.sources.iter().map(Cidr::host_count).sum();
        if total == 0 {
            return None;
        }
        let mut number = self.next_source % total;
        self.next_source = (self.next_source + self.stride) % total;
        for source in &self.sources {
            match number.checked_sub(source.host_count()) {
                Some(rest) => number = rest,
                None => return source.host(number),
            }
        }
        None
    }
}

/// A socket of the client.
#[derive(Debug)]
enum Wire {
    Stream(Socket),
    Datagram(UdpSocket),
}

/// A connection's life, again and again.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) seat: Seat,
    state: State,
    /// How many connections it had before this one.
    pub(crate) incarnation: u32,
    readable: bool,
    writable: bool,
    /// A hang-up was reported: only reading tells what it was.
    hangup: bool,
    /// Whether anything came on this connection.
    has_heard: bool,
    /// Connections in a row that failed or ended before anything came on them; datagrams in a row
    /// that nobody took.
    pub(crate) barren: u32,
    /// Whether the last connection stood and ended before anything came.
    pub(crate) was_closed_at_once: bool,
    /// Datagrams that nobody took, as far as they were not reported yet.
    refused: u64,
    /// Retransmitted segments that the last sample of this connection told of.
    pub(crate) seen_retransmits: u32,
    /// When the connection stood.
    pub(crate) opened_at: u64,
}

#[derive(Debug)]
enum State {
    Down {
        retry_at: u64,
    },
    /// The listener has no room yet (unix(7)); tried again until the timeout.
    Waiting {
        began: u64,
    },
    Connecting {
        wire: Wire,
        began: u64,
    },
    Open {
        wire: Wire,
    },
}

impl Link {
    pub(crate) fn new(seat: Seat) -> Self {
        Self {
            seat,
            state: State::Down { retry_at: 0 },
            incarnation: 0,
            readable: false,
            writable: false,
            hangup: false,
            has_heard: false,
            barren: 0,
            was_closed_at_once: false,
            refused: 0,
            seen_retransmits: 0,
            opened_at: 0,
        }
    }

    /// Starts to connect. A Unix or UDP socket stands at once.
    pub(crate) fn connect(
        &mut self,
        dialer: &mut Dialer,
        registry: &Registry,
    ) -> Result<Connect, Ended> {
        let began = monotonic_ns();
        self.connect_since(began, dialer, registry)
    }

    fn connect_since(
        &mut self,
        began: u64,
        dialer: &mut Dialer,
        registry: &Registry,
    ) -> Result<Connect, Ended> {
        let mut wire = match dialer.dial(self.seat.target) {
            Ok(wire) => wire,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.state = State::Waiting { began };
                return Ok(Connect::Pending);
            }
            Err(error) => return Err(Ended::NotConnected(error)),
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(self.seat.key);
        let is_pending = match &mut wire {
            Wire::Stream(socket) => {
                socket
                    .register(registry, token, interest)
                    .map_err(Ended::NotConnected)?;
                matches!(socket, Socket::Tcp(_))
            }
            Wire::Datagram(socket) => {
                socket
                    .register(registry, token, interest)
                    .map_err(Ended::NotConnected)?;
                false
            }
        };
        if is_pending {
            self.state = State::Connecting { wire, began };
            Ok(Connect::Pending)
        } else {
            Ok(self.open(wire, began, monotonic_ns()))
        }
    }

    /// Goes on with a connect that is under way: it is through when there is no error and a peer
    /// (connect(2), EINPROGRESS).
    pub(crate) fn finish_connect(
        &mut self,
        dialer: &mut Dialer,
        registry: &Registry,
    ) -> Result<Connect, Ended> {
        let (stream, began) = match &self.state {
            State::Waiting { began } => return self.connect_since(*began, dialer, registry),
            State::Connecting {
                wire: Wire::Stream(Socket::Tcp(stream)),
                began,
            } => (stream, *began),
            _ => return Ok(Connect::Pending),
        };
        let now = monotonic_ns();
        if let Some(error) = stream.take_error().unwrap_or_else(Some) {
            return Err(Ended::NotConnected(error));
        }
        match stream.peer_addr() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                return Ok(Connect::Pending);
            }
            Err(error) => return Err(Ended::NotConnected(error)),
        }
        match std::mem::replace(&mut self.state, State::Down { retry_at: 0 }) {
            State::Connecting { wire, .. } => Ok(self.open(wire, began, now)),
            state => {
                self.state = state;
                Ok(Connect::Pending)
            }
        }
    }

    fn open(&mut self, wire: Wire, began: u64, now: u64) -> Connect {
        self.state = State::Open { wire };
        self.readable = true;
        self.writable = true;
        self.hangup = false;
        self.has_heard = false;
        self.seen_retransmits = 0;
        self.opened_at = now;
        Connect::Done(now.saturating_sub(began))
    }

    /// Adds what the kernel reported to what is known.
    pub(crate) fn note(&mut self, event: &Event) {
        let hangup = event.is_read_closed() || event.is_write_closed() || event.is_error();
        self.readable |= event.is_readable() || hangup;
        self.writable |= event.is_writable() || hangup;
        self.hangup |= hangup;
    }

    /// Reads into `buffer` if there may be something; `None` if there is nothing for now.
    ///
    /// # Errors
    /// Why the connection ended. A refused datagram is no end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Ended> {
        while self.readable {
            let State::Open { wire } = &mut self.state else {
                return Ok(None);
            };
            let (result, is_drained_by_short_read) = match wire {
                Wire::Stream(socket) => {
                    let drains = socket.drained_by_short_read();
                    (socket.read(buffer), drains)
                }
                Wire::Datagram(socket) => (socket.recv(buffer), false),
            };
            match result {
                Ok(0) if matches!(wire, Wire::Stream(_)) => return Err(Ended::ByPeer),
                Ok(count) => {
                    self.has_heard = true;
                    self.barren = 0;
                    // A short read drained the socket, unless an end hides behind it (epoll(7)).
                    if count < buffer.len() && is_drained_by_short_read && !self.hangup {
                        self.readable = false;
                    }
                    return Ok(Some(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.note_refused(&error)?,
            }
        }
        Ok(None)
    }

    /// Writes what `pieces` hold, as much of it as the socket takes; `None` if it takes nothing for
    /// now.
    ///
    /// # Errors
    /// Why the connection ended.
    #[inline]
    pub(crate) fn write(&mut self, pieces: &[IoSlice<'_>]) -> Result<Option<usize>, Ended> {
        while self.writable {
            let State::Open { wire } = &mut self.state else {
                return Ok(None);
            };
            let result = match (wire, pieces) {
                (Wire::Stream(socket), [piece]) => socket.write(piece),
                (Wire::Stream(socket), pieces) => socket.write_vectored(pieces),
                (Wire::Datagram(socket), pieces) => {
                    socket.send(pieces.first().map_or(&[], |piece| piece))
                }
            };
            match result {
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A queue on the way is full; there will be no event when it no longer is.
                Err(error) if sys::is_lack_of_memory(&error) => return Ok(None),
                Err(error) => self.note_refused(&error)?,
            }
        }
        Ok(None)
    }

    /// An error of an earlier datagram, which says nothing of the next (udp(7)); of a connection it
    /// is the end.
    fn note_refused(&mut self, error: &io::Error) -> Result<(), Ended> {
        if self.is_datagram() && (sys::is_disconnect(error) || is_refused(error)) {
            self.barren = self.barren.saturating_add(1);
            self.refused += 1;
            Ok(())
        } else {
            Err(Ended::Broken)
        }
    }

    /// Tells the peer that no more bytes come.
    pub(crate) fn shutdown_write(&mut self) {
        if let State::Open {
            wire: Wire::Stream(socket),
        } = &mut self.state
        {
            // It fails only where the peer is gone already, which the next read tells.
            let _ = socket.shutdown_write();
        }
    }

    /// Makes the coming close a reset.
    pub(crate) fn reset_on_close(&self) {
        if let Some(socket) = self.socket() {
            // Without the option it is an orderly close, which is only slower.
            let _ = tuning::reset_on_close(&socket);
        }
    }

    /// Closes the connection and notes when the next one may be made.
    pub(crate) fn close(&mut self, ended: &Ended, now: u64) {
        self.incarnation = self.incarnation.wrapping_add(1);
        let is_barren = !self.has_heard && !matches!(ended, Ended::ByUs);
        let backoff = if is_barren {
            self.barren = self.barren.saturating_add(1);
            FIRST_BACKOFF_NS
                .saturating_mul(1 << (self.barren - 1).min(16))
                .min(LAST_BACKOFF_NS)
        } else {
            0
        };
        self.was_closed_at_once = is_barren && matches!(ended, Ended::ByPeer | Ended::Broken);
        self.has_heard = false;
        self.state = State::Down {
            retry_at: now + backoff,
        };
    }

    /// What TCP says of the connection; `None` where there is none.
    pub(crate) fn tcp_info(&self) -> Option<TcpInfo> {
        match &self.state {
            State::Open {
                wire: Wire::Stream(Socket::Tcp(stream)),
            } => sys::tcp_info(stream).ok(),
            _ => None,
        }
    }

    /// Bytes that were written and that the peer has not taken (see [`sys::outgoing_queue`]).
    pub(crate) fn outgoing(&self) -> Option<u64> {
        sys::outgoing_queue(&self.socket()?).ok()
    }

    /// The socket of an open connection.
    pub(crate) fn socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Open {
                wire: Wire::Stream(Socket::Tcp(stream)),
            } => Some(stream.as_fd()),
            State::Open {
                wire: Wire::Stream(Socket::Unix(stream)),
            } => Some(stream.as_fd()),
            State::Open {
                wire: Wire::Datagram(socket),
            } => Some(socket.as_fd()),
            State::Down { .. } | State::Waiting { .. } | State::Connecting { .. } => None,
        }
    }

    /// The client's port, where there is one.
    pub(crate) fn local_port(&self) -> Option<u16> {
        let address = match &self.state {
            State::Open {
                wire: Wire::Stream(Socket::Tcp(stream)),
            } => stream.local_addr().ok()?,
            State::Open {
                wire: Wire::Datagram(socket),
            } => socket.local_addr().ok()?,
            _ => return None,
        };
        Some(address.port())
    }

    /// Whether it is time to connect anew.
    pub(crate) fn wants_to_connect(&self, now: u64) -> bool {
        matches!(self.state, State::Down { retry_at } if retry_at <= now)
    }

    /// Whether the connect takes longer than `timeout_ns`.
    pub(crate) fn is_connect_overdue(&self, now: u64, timeout_ns: u64) -> bool {
        match self.state {
            State::Connecting { began, .. } | State::Waiting { began } => {
                began.saturating_add(timeout_ns) <= now
            }
            State::Down { .. } | State::Open { .. } => false,
        }
    }

    pub(crate) fn is_connecting(&self) -> bool {
        matches!(self.state, State::Connecting { .. } | State::Waiting { .. })
    }

    /// Whether connecting has to be tried again, as no event will come.
    pub(crate) fn is_waiting_for_room(&self) -> bool {
        matches!(self.state, State::Waiting { .. })
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Whether a message queued now could be written at once, as far as is known.
    pub(crate) fn can_write(&self) -> bool {
        self.is_open() && self.writable
    }

    /// Datagrams that nobody took since the last time of asking.
    pub(crate) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// Whether datagrams were refused lately.
    pub(crate) fn is_refused_datagrams(&self) -> bool {
        self.is_datagram() && self.barren > 0
    }

    fn is_datagram(&self) -> bool {
        matches!(
            self.state,
            State::Open {
                wire: Wire::Datagram(_)
            }
        )
    }

    /// Whether there may be more to read.
    pub(crate) fn may_read(&self) -> bool {
        self.readable
    }
}

fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}
