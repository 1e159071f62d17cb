//! One connection of the client: made, used, and made anew when it ends. A UDP socket that is bound
//! to its peer counts as one too. What is done with it is a workload's.

use std::io::{self, IoSlice, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};

use echomark::net::clock::monotonic_ns;
use echomark::net::stream::{Socket, Stream};
use echomark::net::{errno, socket};
use mio::event::{Event, Source};
use mio::{Interest, Registry, Token};

use crate::engine::sys::{self, TcpInfo};

mod dialer;
mod transport;

pub(crate) use dialer::{Address, Dialer};

use transport::Transport;

/// How long a flow waits before it connects anew after a connection on which nothing ever came;
/// doubled for each that follows, up to the second.
const FIRST_BACKOFF_NS: u64 = 10_000_000;
const LAST_BACKOFF_NS: u64 = 1_000_000_000;

/// Which of the run's flows a connection belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowId {
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

/// A connection's life, again and again.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: FlowId,
    state: State,
    /// How many connections it had before this one.
    pub(crate) incarnation: u32,
    readable: bool,
    writable: bool,
    /// Whether a read that returned fewer bytes than asked for has drained the socket. Not after a
    /// hang-up was reported: the end hides behind the bytes then, and no event will tell of it (epoll(7)).
    drained_by_short_read: bool,
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
        transport: Transport,
        began: u64,
    },
    Open {
        transport: Transport,
    },
}

impl Connection {
    pub(crate) fn new(id: FlowId) -> Self {
        Self {
            id,
            state: State::Down { retry_at: 0 },
            incarnation: 0,
            readable: false,
            writable: false,
            drained_by_short_read: false,
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
        let mut transport = match dialer.dial(self.id.target) {
            Ok(transport) => transport,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.state = State::Waiting { began };
                return Ok(Connect::Pending);
            }
            Err(error) => return Err(Ended::NotConnected(error)),
        };
        // From here on, a hang-up may be reported.
        self.drained_by_short_read = transport.drained_by_short_read();
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(self.id.key);
        let is_pending = match &mut transport {
            Transport::Stream(socket) => {
                socket
                    .register(registry, token, interest)
                    .map_err(Ended::NotConnected)?;
                matches!(socket, Socket::Tcp(_))
            }
            Transport::Datagram(socket) => {
                socket
                    .register(registry, token, interest)
                    .map_err(Ended::NotConnected)?;
                false
            }
        };
        if is_pending {
            self.state = State::Connecting { transport, began };
            Ok(Connect::Pending)
        } else {
            Ok(self.open(transport, began, monotonic_ns()))
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
                transport: Transport::Stream(Socket::Tcp(stream)),
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
            State::Connecting { transport, .. } => Ok(self.open(transport, began, now)),
            state => {
                self.state = state;
                Ok(Connect::Pending)
            }
        }
    }

    fn open(&mut self, transport: Transport, began: u64, now: u64) -> Connect {
        self.state = State::Open { transport };
        self.readable = true;
        self.writable = true;
        self.has_heard = false;
        self.seen_retransmits = 0;
        self.opened_at = now;
        Connect::Done(now.saturating_sub(began))
    }

    /// Adds what the kernel reported to what is known.
    #[inline]
    pub(crate) fn note(&mut self, event: &Event) {
        self.readable |= event.is_readable();
        self.writable |= event.is_writable();
        // A socket whose writing side alone is closed has an error (epoll_ctl(2)).
        if event.is_read_closed() || event.is_error() {
            self.readable = true;
            self.writable = true;
            self.drained_by_short_read = false;
        }
    }

    /// Reads into `buffer` if there may be something; `None` if there is nothing for now.
    ///
    /// # Errors
    /// Why the connection ended. A refused datagram is no end.
    #[inline(always)]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Ended> {
        while self.readable {
            let State::Open { transport } = &self.state else {
                return Ok(None);
            };
            match socket::receive(transport, buffer) {
                Ok(0) if matches!(transport, Transport::Stream(_)) => return Err(Ended::ByPeer),
                Ok(count) => {
                    self.has_heard = true;
                    self.barren = 0;
                    if count < buffer.len() && self.drained_by_short_read {
                        self.readable = false;
                    }
                    return Ok(Some(count));
                }
                Err(error) => self.note_read_error(&error)?,
            }
        }
        Ok(None)
    }

    #[cold]
    fn note_read_error(&mut self, error: &io::Error) -> Result<(), Ended> {
        match error.kind() {
            io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(())
            }
            io::ErrorKind::Interrupted => Ok(()),
            _ => self.note_refused(error),
        }
    }

    /// Writes `bytes`, as many of them as the socket takes; `None` if it takes nothing for now.
    ///
    /// # Errors
    /// Why the connection ended.
    #[inline]
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<Option<usize>, Ended> {
        while self.writable {
            let State::Open { transport } = &self.state else {
                return Ok(None);
            };
            match socket::send(transport, bytes) {
                Ok(count) => return Ok(Some(count)),
                Err(error) => {
                    if self.note_write_error(&error)?.is_break() {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(None)
    }

    /// The same, of bytes in several pieces; of a stream.
    ///
    /// # Errors
    /// Why the connection ended.
    pub(crate) fn write_vectored(
        &mut self,
        pieces: &[IoSlice<'_>],
    ) -> Result<Option<usize>, Ended> {
        while self.writable {
            let State::Open {
                transport: Transport::Stream(socket),
            } = &mut self.state
            else {
                return Ok(None);
            };
            match socket.write_vectored(pieces) {
                Ok(count) => return Ok(Some(count)),
                Err(error) => {
                    if self.note_write_error(&error)?.is_break() {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(None)
    }

    /// Says whether to go on trying.
    #[cold]
    fn note_write_error(&mut self, error: &io::Error) -> Result<ControlFlow<()>, Ended> {
        match error.kind() {
            io::ErrorKind::WouldBlock => {
                self.writable = false;
                Ok(ControlFlow::Break(()))
            }
            io::ErrorKind::Interrupted => Ok(ControlFlow::Continue(())),
            // A queue on the way is full; there will be no event when it no longer is.
            _ if errno::is_lack_of_memory(error) => Ok(ControlFlow::Break(())),
            _ => {
                self.note_refused(error)?;
                Ok(ControlFlow::Continue(()))
            }
        }
    }

    /// An error of an earlier datagram, which says nothing of the next (udp(7)); of a connection it
    /// is the end.
    fn note_refused(&mut self, error: &io::Error) -> Result<(), Ended> {
        if self.is_datagram() && (errno::is_disconnect(error) || is_refused(error)) {
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
            transport: Transport::Stream(socket),
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
            let _ = sys::reset_on_close(&socket);
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
                transport: Transport::Stream(Socket::Tcp(stream)),
            } => sys::tcp_info(stream).ok(),
            _ => None,
        }
    }

    /// Bytes that were written and that the peer has not taken (see [`sys::outgoing_queue`]).
    pub(crate) fn outgoing(&self) -> Option<u64> {
        sys::outgoing_queue(&self.socket()?).ok()
    }

    /// The socket of an open connection.
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Open { transport } => Some(transport.as_fd()),
            State::Down { .. } | State::Waiting { .. } | State::Connecting { .. } => None,
        }
    }

    /// The CPU that last processed its incoming packets, where the kernel tells.
    pub(crate) fn incoming_cpu(&self) -> Option<usize> {
        let socket = self.socket()?;
        socket2::SockRef::from(&socket).cpu_affinity().ok()
    }

    /// The client's port, where there is one.
    pub(crate) fn local_port(&self) -> Option<u16> {
        let address = match &self.state {
            State::Open {
                transport: Transport::Stream(Socket::Tcp(stream)),
            } => stream.local_addr().ok()?,
            State::Open {
                transport: Transport::Datagram(socket),
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
                transport: Transport::Datagram(_)
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

#[cfg(test)]
mod tests;
