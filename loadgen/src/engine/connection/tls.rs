//! TLS of connections: a session beside each socket, and the handshake before the first message.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;

use echomark::net::clock::monotonic_ns;
use echomark::net::readiness::Readiness;
use echomark::net::stream::{Socket, Stream};
use echomark::tls::{Agreed, Buffers, ClientSession, Connector, Failure, Refusal, TlsStream};
use mio::event::Event;

use super::ended::Ended;
use super::opening::MAX_GREETING;
use super::transport::Transport;

/// What a thread has for its targets with TLS.
#[derive(Debug)]
pub(super) struct Tls {
    /// One for each target that has TLS.
    connectors: Box<[Option<Connector>]>,
    buffers: Rc<RefCell<Buffers>>,
}

impl Tls {
    /// For these targets. `None` if none of them has TLS.
    pub(super) fn new(connectors: Box<[Option<Connector>]>) -> Option<Self> {
        let has_tls = connectors.iter().any(Option::is_some);
        has_tls.then(|| Self {
            connectors,
            buffers: Rc::default(),
        })
    }

    /// Whether a target has TLS.
    pub(super) fn has(&self, target: usize) -> bool {
        self.connectors[target].is_some()
    }

    /// What a connection to a target keeps beside its socket; `None` if the target has no TLS.
    pub(super) fn begin(&self, target: usize) -> Option<io::Result<Begun>> {
        let session = self.connectors[target].as_ref()?.begin();
        let begun = session.map_err(io::Error::other).map(|session| Begun {
            session,
            buffers: Rc::clone(&self.buffers),
        });
        Some(begun)
    }
}

/// A connection with TLS before it has its socket.
pub(super) struct Begun {
    session: ClientSession,
    buffers: Rc<RefCell<Buffers>>,
}

/// A complete handshake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handshake {
    /// From the established connection to the end of the handshake, in nanoseconds.
    pub(crate) took: u64,
    pub(crate) agreed: Agreed,
}

/// A connection with TLS. Its end is announced by close_notify, whatever the reason is.
#[derive(Debug)]
pub(super) struct Secured {
    pub(super) socket: Socket,
    session: ClientSession,
    /// The thread's, lent to its connections in turn.
    buffers: Rc<RefCell<Buffers>>,
    is_reset: bool,
}

impl Secured {
    /// Adds what the kernel reported.
    pub(super) fn note(&mut self, event: &Event) {
        self.session.note(Readiness::from(event));
    }

    /// Goes on with the handshake, and returns what it agreed on once it is complete.
    ///
    /// # Errors
    /// Why there is none, with a [`Refusal`] if it is not the socket's.
    fn shake_hands(&mut self) -> io::Result<Option<Agreed>> {
        // Each round takes some of what the server sent, or leaves the loop.
        loop {
            let shaken = TlsStream {
                socket: &mut self.socket,
                session: &mut self.session,
                buffers: &mut self.buffers.borrow_mut(),
            }
            .handshake();
            let Err(error) = shaken else {
                return Ok(self.session.agreed());
            };
            match (error.kind(), self.session.failure()) {
                (ErrorKind::WouldBlock, _) => return Ok(None),
                (ErrorKind::Interrupted, _) => {}
                (_, Some(failure)) => {
                    let refusal = Refusal::from(failure);
                    return Err(io::Error::new(ErrorKind::InvalidData, refusal));
                }
                (_, None) => return Err(error),
            }
        }
    }

    /// Reads plaintext; `None` if there is none now.
    ///
    /// # Errors
    /// Why the connection ended.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Ended> {
        // Each round takes some of what the server sent, or leaves the loop.
        loop {
            let read = TlsStream {
                socket: &mut self.socket,
                session: &mut self.session,
                buffers: &mut self.buffers.borrow_mut(),
            }
            .read(buffer);
            match read {
                Ok(0) => return Err(Ended::ByPeer),
                Ok(count) => return Ok(Some(count)),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(None),
                    ErrorKind::Interrupted => {}
                    _ => return Err(self.ended()),
                },
            }
        }
    }

    /// Encrypts as many of the bytes as the socket has room for; `None` if it has none now.
    ///
    /// # Errors
    /// Why the connection ended.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<Option<usize>, Ended> {
        // Each round takes some of what the server sent, or leaves the loop.
        loop {
            let written = TlsStream {
                socket: &mut self.socket,
                session: &mut self.session,
                buffers: &mut self.buffers.borrow_mut(),
            }
            .write(bytes);
            match written {
                Ok(count) => return Ok(Some(count)),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(None),
                    ErrorKind::Interrupted => {}
                    _ => return Err(self.ended()),
                },
            }
        }
    }

    /// Whether only an event can bring more to read.
    pub(super) fn has_read_all(&mut self) -> bool {
        TlsStream {
            socket: &mut self.socket,
            session: &mut self.session,
            buffers: &mut self.buffers.borrow_mut(),
        }
        .drained_by_short_read()
    }

    /// Tells the server that no more follows: close_notify, and a half-close.
    pub(super) fn end_output(&mut self) {
        // It fails only if the peer is gone, which the next read reports.
        let _ = TlsStream {
            socket: &mut self.socket,
            session: &mut self.session,
            buffers: &mut self.buffers.borrow_mut(),
        }
        .end_output();
    }

    /// Bytes of records that the socket has not taken.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.session.unsent_bytes()
    }

    /// Makes its end a reset, without close_notify.
    pub(super) fn reset_on_close(&mut self) {
        self.is_reset = true;
    }

    /// Why it ended, after an error.
    fn ended(&self) -> Ended {
        match self.session.failure() {
            None => Ended::Broken,
            Some(Failure::Truncated) => Ended::Truncated,
            Some(failure) => Ended::Refused(Refusal::from(failure)),
        }
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        if !self.is_reset {
            self.end_output();
        }
    }
}

/// The error of a handshake that takes too long.
pub(super) fn timeout() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, Refusal::Silent)
}

/// A connection between its establishment and its first message.
#[derive(Debug)]
pub(super) struct Securing {
    secured: Secured,
    pub(super) began: u64,
    established: u64,
    handshake: Option<Handshake>,
    /// What came of the greeting, if one is awaited.
    greeting: Option<Vec<u8>>,
}

/// A connection whose first message may be sent.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) secured: Secured,
    pub(super) began: u64,
    pub(super) established: u64,
    pub(super) greeting: Option<Box<str>>,
}

impl Securing {
    /// A connection of which nothing was exchanged so far, but for a PROXY header. Of what the kernel
    /// reported, nothing is known here but whether there was a hang-up.
    pub(super) fn new(
        begun: Begun,
        transport: Transport,
        [began, established]: [u64; 2],
        is_hung_up: bool,
        awaits_greeting: bool,
    ) -> Self {
        let Begun {
            mut session,
            buffers,
        } = begun;
        session.note(Readiness::READABLE);
        if is_hung_up {
            session.note(Readiness::HANGUP);
        }
        Self {
            secured: Secured {
                socket: transport.into(),
                session,
                buffers,
                is_reset: false,
            },
            began,
            established,
            handshake: None,
            greeting: awaits_greeting.then(Vec::new),
        }
    }

    /// Adds what the kernel reported.
    pub(super) fn note(&mut self, event: &Event) {
        self.secured.note(event);
    }

    /// The connection, after all that was to be exchanged.
    pub(super) fn finish(self) -> Ready {
        let greeting = self.greeting.map(|line| {
            let line = String::from_utf8_lossy(&line);
            line.trim_end().into()
        });
        Ready {
            secured: self.secured,
            began: self.began,
            established: self.established,
            greeting,
        }
    }

    /// The error if all this takes too long.
    pub(super) fn timeout(&self) -> io::Error {
        match self.handshake {
            None => timeout(),
            Some(_) => ErrorKind::TimedOut.into(),
        }
    }

    /// Goes on, and returns the handshake once nothing is left to exchange.
    pub(super) fn go_on(&mut self) -> Result<Option<Handshake>, Ended> {
        if self.handshake.is_none() {
            let agreed = self.secured.shake_hands().map_err(Ended::NotConnected)?;
            self.handshake = agreed.map(|agreed| Handshake {
                took: monotonic_ns().saturating_sub(self.established),
                agreed,
            });
        }
        let is_done = self.handshake.is_some() && self.read_greeting()?;
        Ok(self.handshake.filter(|_| is_done))
    }

    /// Reads the first line, and nothing of what is behind it. Returns whether it is there, or not awaited.
    fn read_greeting(&mut self) -> Result<bool, Ended> {
        let Some(line) = &mut self.greeting else {
            return Ok(true);
        };
        let mut byte = [0];
        while line.len() < MAX_GREETING {
            match self.secured.read(&mut byte)? {
                None => return Ok(false),
                Some(_) if byte == [b'\n'] => return Ok(true),
                Some(_) => line.push(byte[0]),
            }
        }
        Err(Ended::Excess)
    }
}
