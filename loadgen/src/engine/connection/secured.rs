//! Connections with TLS.
//!
//! A plain one comes across nothing of this: what is done for an open connection begins with the question
//! whether its state is [`State::Open`], and only where it is not, this one follows.

use mio::event::Event;

use super::tls::Securing;
use super::transport::Transport;
use super::{Connect, Connection, Dialer, Ended, State};

impl Connection {
    /// Goes on with a connection whose header, if there is one, was sent: begins the handshake, or
    /// without TLS the messages. `times` are when it began to connect, and when it was established.
    pub(super) fn secure(
        &mut self,
        transport: Transport,
        times: [u64; 2],
        dialer: &Dialer,
    ) -> Result<Connect, Ended> {
        let tls = dialer.tls.as_ref();
        let Some(begun) = tls.and_then(|tls| tls.begin(self.id.target)) else {
            return Ok(self.open(transport, times));
        };
        let securing = Securing::new(
            begun.map_err(Ended::NotConnected)?,
            transport,
            times,
            !self.drained_by_short_read,
            dialer.openings.awaits_greeting(),
        );
        self.state = State::Securing(Box::new(securing));
        self.go_on_securing()
    }

    /// Goes on with the handshake, and opens the connection once all is exchanged.
    pub(super) fn go_on_securing(&mut self) -> Result<Connect, Ended> {
        let State::Securing(securing) = &mut self.state else {
            return Ok(Connect::Pending);
        };
        let Some(handshake) = securing.go_on()? else {
            return Ok(Connect::Pending);
        };
        match std::mem::replace(&mut self.state, State::Down { retry_at: 0 }) {
            State::Securing(securing) => {
                let ready = securing.finish();
                self.greeting = ready.greeting;
                self.state = State::Secured(Box::new(ready.secured));
                self.begin_messages(ready.established);
                Ok(Connect::Secured {
                    took: ready.established.saturating_sub(ready.began),
                    handshake,
                })
            }
            state => {
                self.state = state;
                Ok(Connect::Pending)
            }
        }
    }

    /// Adds readiness of a connection that is not plain and open.
    #[cold]
    #[inline(never)]
    pub(super) fn note_elsewhere(&mut self, event: &Event) {
        match &mut self.state {
            State::Secured(secured) => {
                secured.note(event);
                // Whatever happened, a read tries to send what waits, too.
                self.readable = true;
                self.writable = true;
            }
            State::Securing(securing) => securing.note(event),
            State::Down { .. }
            | State::Waiting { .. }
            | State::Connecting { .. }
            | State::Introducing { .. }
            | State::Open { .. } => self.note_connecting(event),
        }
    }

    /// As [`Connection::read`], of a connection that is not plain and open.
    #[cold]
    #[inline(never)]
    pub(super) fn read_secured(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Ended> {
        let State::Secured(secured) = &mut self.state else {
            return Ok(None);
        };
        let read = secured.read(buffer)?;
        self.readable = read.is_some() && !secured.has_read_all();
        self.has_heard |= read.is_some();
        Ok(read)
    }

    /// As [`Connection::write`], of a connection that is not plain and open.
    #[cold]
    #[inline(never)]
    pub(super) fn write_secured(&mut self, bytes: &[u8]) -> Result<Option<usize>, Ended> {
        let State::Secured(secured) = &mut self.state else {
            return Ok(None);
        };
        let written = secured.write(bytes)?;
        self.writable = written.is_some();
        Ok(written)
    }
}
