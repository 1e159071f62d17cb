//! From a connect to an established connection, and what is exchanged before the handshake or the first
//! message.

use std::io;

use echomark::net::clock::monotonic_ns;
use mio::event::Event;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use super::opening::Progress;
use super::transport::{Kind, Transport};
use super::{Connect, Connection, Dialer, Ended, State, is_hung_up};

impl Connection {
    /// Starts to connect. A Unix or UDP socket is connected at once.
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
        let transport = match dialer.dial(self.id.target) {
            Ok(transport) => transport,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.state = State::Waiting { began };
                return Ok(Connect::Pending);
            }
            Err(error) => return Err(Ended::NotConnected(error)),
        };
        // From here on, the kernel may report a hang-up.
        self.drained_by_short_read = transport.drained_by_short_read();
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(self.id.key);
        transport
            .register(registry, token, interest)
            .map_err(Ended::NotConnected)?;
        if transport.kind() == Kind::Tcp {
            self.state = State::Connecting {
                transport,
                began,
                is_established: false,
            };
            Ok(Connect::Pending)
        } else {
            self.introduce(transport, began, monotonic_ns(), dialer)
        }
    }

    /// Begins the stream of an established connection, and opens it if nothing is to be exchanged.
    fn introduce(
        &mut self,
        transport: Transport,
        began: u64,
        now: u64,
        dialer: &mut Dialer,
    ) -> Result<Connect, Ended> {
        let over_tls = dialer.has_tls(self.id.target);
        let Some(exchange) = dialer.openings.begin(&transport, over_tls) else {
            return self.secure(transport, [began, now], dialer);
        };
        self.state = State::Introducing {
            transport,
            began,
            established: now,
            exchange,
        };
        self.go_on_introducing(dialer)
    }

    fn go_on_introducing(&mut self, dialer: &Dialer) -> Result<Connect, Ended> {
        let state = std::mem::replace(&mut self.state, State::Down { retry_at: 0 });
        let State::Introducing {
            transport,
            began,
            established,
            mut exchange,
        } = state
        else {
            self.state = state;
            return Ok(Connect::Pending);
        };
        match exchange.go_on(&transport)? {
            Progress::Pending => {
                self.state = State::Introducing {
                    transport,
                    began,
                    established,
                    exchange,
                };
                Ok(Connect::Pending)
            }
            Progress::Done(greeting) => {
                self.greeting = greeting;
                self.secure(transport, [began, established], dialer)
            }
        }
    }

    /// Continues a connect. Unless an event said that it is complete, it is so if there is no error and
    /// the socket has a peer (connect(2), EINPROGRESS).
    pub(crate) fn finish_connect(
        &mut self,
        dialer: &mut Dialer,
        registry: &Registry,
    ) -> Result<Connect, Ended> {
        let (socket, began, is_established) = match &self.state {
            State::Waiting { began } => return self.connect_since(*began, dialer, registry),
            State::Introducing { .. } => return self.go_on_introducing(dialer),
            State::Securing(_) => return self.go_on_securing(),
            State::Connecting {
                transport,
                began,
                is_established,
            } => (SockRef::from(transport), *began, *is_established),
            _ => return Ok(Connect::Pending),
        };
        let now = monotonic_ns();
        if !is_established {
            if let Some(error) = socket.take_error().unwrap_or_else(Some) {
                return Err(Ended::NotConnected(error));
            }
            match socket.peer_addr() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    return Ok(Connect::Pending);
                }
                Err(error) => return Err(Ended::NotConnected(error)),
            }
        }
        // If no socket listens, a port that the kernel chose may be the target's: simultaneous open
        // (RFC 9293, section 3.5) connects the socket to itself.
        if let Some(own) = dialer.may_be_own(self.id.target)
            && socket.local_addr().is_ok_and(|local| local == own)
        {
            return Err(Ended::NotConnected(io::ErrorKind::ConnectionRefused.into()));
        }
        match std::mem::replace(&mut self.state, State::Down { retry_at: 0 }) {
            State::Connecting { transport, .. } => self.introduce(transport, began, now, dialer),
            state => {
                self.state = state;
                Ok(Connect::Pending)
            }
        }
    }

    /// Notes what an event says of a connect. A socket that is still connecting is not writable, and one
    /// whose connect failed has an error and is hung up (tcp_poll in the kernel).
    pub(super) fn note_connecting(&mut self, event: &Event) {
        self.drained_by_short_read &= !is_hung_up(event);
        if let State::Connecting { is_established, .. } = &mut self.state {
            *is_established = event.is_writable() && !event.is_error() && !event.is_write_closed();
        }
    }
}
