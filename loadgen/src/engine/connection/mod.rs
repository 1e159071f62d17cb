//! One connection of the client: connect, use, close, reconnect. A connected UDP socket counts as a
//! connection too. Workloads decide how it is used.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use mio::event::Event;
use rustix::io::Errno;
use socket2::SockRef;

use crate::engine::sys::{self, TcpInfo};

mod connecting;
mod dialer;
mod ended;
mod opening;
mod secured;
mod tls;
mod transfer;
mod transport;

pub(crate) use dialer::{Address, Dialer};
pub(crate) use ended::{ConnectError, Ended, Unserved};
pub(crate) use tls::Handshake;

use opening::Exchange;
use tls::{Secured, Securing};
use transport::{Kind, Transport};

/// The backoff before a reconnect after a connection without an answer. Doubled each time, up to one
/// second.
const FIRST_BACKOFF_NS: u64 = 10_000_000;
const LAST_BACKOFF_NS: u64 = 1_000_000_000;

/// The flow of the run that a connection belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowId {
    /// Its number among the thread's flows.
    pub(crate) key: usize,
    /// Its number in the whole run.
    pub(crate) number: usize,
    /// The index of its target.
    pub(crate) target: usize,
}

/// The progress of a connect.
#[derive(Debug)]
pub(crate) enum Connect {
    Pending,
    /// It is established, after this many nanoseconds.
    Done(u64),
    /// It is established after `took` nanoseconds, and then came the handshake.
    Secured {
        took: u64,
        handshake: Handshake,
    },
}

impl Connect {
    /// How long it took to establish the connection, if it is.
    pub(crate) fn took(&self) -> Option<u64> {
        match *self {
            Self::Pending => None,
            Self::Done(took) | Self::Secured { took, .. } => Some(took),
        }
    }

    /// Why it has failed, if it took as long as the timeout, with the TLS handshake if there was one.
    pub(crate) fn overdue(&self, timeout_ns: u64) -> Option<io::Error> {
        match *self {
            Self::Pending => None,
            Self::Done(took) | Self::Secured { took, .. } if took >= timeout_ns => {
                Some(io::ErrorKind::TimedOut.into())
            }
            Self::Secured { took, handshake } if took + handshake.took >= timeout_ns => {
                Some(tls::timeout())
            }
            Self::Done(_) | Self::Secured { .. } => None,
        }
    }
}

/// A flow's connection, through all reconnects.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: FlowId,
    state: State,
    /// The number of earlier connections.
    pub(crate) incarnation: u32,
    /// Whether it is open and a read may find something,
    readable: bool,
    /// and whether it is open and a write may find room.
    writable: bool,
    /// Whether a short read has drained the socket. Not after a hang-up was reported: the end of
    /// the stream may hide behind the bytes, and no further event reports it (epoll(7)).
    drained_by_short_read: bool,
    /// Whether a byte was received on this connection,
    has_heard: bool,
    /// and whether it answered a message.
    has_answered: bool,
    /// Consecutive connections that failed or ended without an answer, or consecutive refused
    /// datagrams.
    pub(crate) barren: u32,
    /// Whether the last connection was established and ended before it received anything.
    pub(crate) was_closed_at_once: bool,
    /// Why the last connection was not served.
    unserved: Unserved,
    /// Refused datagrams that were not reported yet.
    refused: u64,
    /// Retransmitted segments at the last sample of this connection.
    pub(crate) seen_retransmits: u32,
    /// When the connection was established.
    pub(crate) opened_at: u64,
    /// The server's greeting, until it is taken.
    greeting: Option<Box<str>>,
}

#[derive(Debug)]
enum State {
    Down {
        retry_at: u64,
    },
    /// The listener's backlog is full (unix(7)). The connect is tried again until the timeout.
    Waiting {
        began: u64,
    },
    Connecting {
        transport: Transport,
        began: u64,
        /// Whether an event said so.
        is_established: bool,
    },
    /// Established, but the begin of the stream is still exchanged.
    Introducing {
        transport: Transport,
        began: u64,
        established: u64,
        exchange: Exchange,
    },
    /// Established, and the TLS handshake or the greeting behind it is under way.
    Securing(Box<Securing>),
    Open {
        transport: Transport,
    },
    /// Open, with TLS.
    Secured(Box<Secured>),
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
            has_answered: false,
            barren: 0,
            was_closed_at_once: false,
            unserved: Unserved::Silent,
            refused: 0,
            seen_retransmits: 0,
            opened_at: 0,
            greeting: None,
        }
    }

    /// The server's greeting, once.
    pub(crate) fn take_greeting(&mut self) -> Option<Box<str>> {
        self.greeting.take()
    }

    fn open(&mut self, transport: Transport, [began, established]: [u64; 2]) -> Connect {
        self.state = State::Open { transport };
        self.begin_messages(established);
        Connect::Done(established.saturating_sub(began))
    }

    /// An open connection has neither read nor answered anything.
    fn begin_messages(&mut self, established: u64) {
        self.readable = true;
        self.writable = true;
        self.has_heard = false;
        self.has_answered = false;
        self.seen_retransmits = 0;
        self.opened_at = established;
    }

    /// Notes that a message was answered.
    #[inline]
    pub(crate) fn note_answer(&mut self) {
        self.has_answered = true;
        self.barren = 0;
    }

    /// Adds the readiness that the kernel reported.
    #[inline]
    pub(crate) fn note(&mut self, event: &Event) {
        let State::Open { .. } = self.state else {
            return self.note_elsewhere(event);
        };
        self.readable |= event.is_readable();
        self.writable |= event.is_writable();
        if is_hung_up(event) {
            self.readable = true;
            self.writable = true;
            self.drained_by_short_read = false;
        }
    }

    /// Half-closes: tells the peer that no more bytes follow.
    pub(crate) fn shutdown_write(&mut self) {
        match &mut self.state {
            State::Open { transport } => {
                // It fails only if the peer is gone, which the next read reports.
                let _ = transport.shutdown_write();
            }
            State::Secured(secured) => secured.end_output(),
            _ => {}
        }
    }

    /// Makes the next close a reset.
    pub(crate) fn reset_on_close(&mut self) {
        if let State::Secured(secured) = &mut self.state {
            secured.reset_on_close();
        }
        if let Some(socket) = self.socket() {
            // If setting the option fails, the close is orderly, which is only slower.
            let _ = sys::reset_on_close(&socket);
        }
    }

    /// Closes the connection and notes the earliest time of the next one.
    pub(crate) fn close(&mut self, ended: &Ended, now: u64) {
        self.incarnation = self.incarnation.wrapping_add(1);
        self.unserved = Unserved::after(ended);
        let is_barren = match ended {
            Ended::ByUs => false,
            // It is no echo server, and would do the same again at once.
            Ended::Excess => true,
            _ => !self.has_answered,
        };
        let backoff = if is_barren {
            self.barren = self.barren.saturating_add(1);
            FIRST_BACKOFF_NS
                .saturating_mul(1 << (self.barren - 1).min(16))
                .min(LAST_BACKOFF_NS)
        } else {
            0
        };
        self.was_closed_at_once = !self.has_heard
            && matches!(
                ended,
                Ended::ByPeer | Ended::Broken | Ended::Truncated | Ended::Refused(_)
            );
        self.has_heard = false;
        self.has_answered = false;
        self.readable = false;
        self.writable = false;
        self.state = State::Down {
            retry_at: now + backoff,
        };
    }

    /// The TCP_INFO of the connection; `None` for other sockets.
    pub(crate) fn tcp_info(&self) -> Option<TcpInfo> {
        match &self.state {
            State::Open { transport } if transport.kind() == Kind::Tcp => {
                sys::tcp_info(transport).ok()
            }
            State::Secured(secured) => sys::tcp_info(&secured.socket).ok(),
            _ => None,
        }
    }

    /// Bytes that were written and that the peer has not acknowledged (see
    /// [`sys::outgoing_queue`]).
    pub(crate) fn outgoing(&self) -> Option<u64> {
        let queued = sys::outgoing_queue(&self.socket()?).ok()?;
        Some(match &self.state {
            // Of records, which are a little longer than what is in them.
            State::Secured(secured) => queued + secured.unsent_bytes() as u64,
            _ => queued,
        })
    }

    /// The socket of an open connection.
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Open { transport } => Some(transport.as_fd()),
            State::Secured(secured) => Some(secured.socket.as_fd()),
            State::Down { .. }
            | State::Waiting { .. }
            | State::Connecting { .. }
            | State::Introducing { .. }
            | State::Securing(_) => None,
        }
    }

    /// Whether anything was received on this connection.
    pub(crate) fn has_heard(&self) -> bool {
        self.has_heard
    }

    /// Why the last connections were not served; [`Unserved::Silent`] if none ended so far.
    pub(crate) fn unserved(&self) -> Unserved {
        if self.is_refused_datagrams() {
            Unserved::NotConnected(ConnectError::System(Errno::CONNREFUSED.raw_os_error()))
        } else {
            self.unserved
        }
    }

    /// The CPU that last processed its incoming packets, if the kernel reports it.
    pub(crate) fn incoming_cpu(&self) -> Option<usize> {
        let socket = self.socket()?;
        SockRef::from(&socket).cpu_affinity().ok()
    }

    /// The client's port, if there is one.
    pub(crate) fn local_port(&self) -> Option<u16> {
        let address = SockRef::from(&self.socket()?).local_addr().ok()?;
        Some(address.as_socket()?.port())
    }

    /// Whether it is time to reconnect.
    pub(crate) fn wants_to_connect(&self, now: u64) -> bool {
        matches!(self.state, State::Down { retry_at } if retry_at <= now)
    }

    /// When the connect began, if it is not complete.
    pub(crate) fn connecting_since(&self) -> Option<u64> {
        match self.state {
            State::Connecting { began, .. }
            | State::Waiting { began }
            | State::Introducing { began, .. } => Some(began),
            State::Securing(ref securing) => Some(securing.began),
            State::Down { .. } | State::Open { .. } | State::Secured(_) => None,
        }
    }

    /// The error of a connect that takes too long.
    pub(crate) fn connect_timeout(&self) -> io::Error {
        match &self.state {
            State::Securing(securing) => securing.timeout(),
            _ => io::ErrorKind::TimedOut.into(),
        }
    }

    pub(crate) fn is_connecting(&self) -> bool {
        matches!(
            self.state,
            State::Connecting { .. }
                | State::Waiting { .. }
                | State::Introducing { .. }
                | State::Securing(_)
        )
    }

    /// Whether the connect has to be tried again, because no event will report progress.
    pub(crate) fn is_waiting_for_room(&self) -> bool {
        matches!(self.state, State::Waiting { .. })
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. } | State::Secured(_))
    }

    /// Whether a message queued now could be written at once, as far as is known.
    pub(crate) fn can_write(&self) -> bool {
        self.writable
    }

    /// Takes the number of datagrams refused since the last call.
    pub(crate) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// Whether datagrams were refused lately.
    pub(crate) fn is_refused_datagrams(&self) -> bool {
        self.is_datagram() && self.barren > 0
    }

    fn is_datagram(&self) -> bool {
        matches!(&self.state, State::Open { transport } if transport.kind() == Kind::Udp)
    }

    /// Whether there may be more to read.
    pub(crate) fn may_read(&self) -> bool {
        self.readable
    }
}

/// A socket whose writing side alone is closed has an error (epoll_ctl(2)).
fn is_hung_up(event: &Event) -> bool {
    event.is_read_closed() || event.is_error()
}

#[cfg(test)]
mod tests;
