//! What a connection with TLS has beside its socket, and what a worker lends to all of them.
//!
//! What a session keeps for its peer costs memory of the budget for backlogs. A worker lets a session
//! receive only while it holds what one session may come to keep at most; what the session does keep
//! then, it takes from that, and gives it back once it keeps nothing. So an idle connection holds none
//! of it, and the sum stays within the budget. If nothing is left for the next session, the one whose
//! records have waited the longest is closed, because all others would have to wait: what it sends can't
//! stay in the kernel as the bytes of a plain connection can, which are written before they are taken.

use std::io;
use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;

use super::context::Context;
use super::kernel::Kernel;
use crate::conn::Next;
use crate::conn::faulty::Faulty;
use crate::memory::allocation::{OutOfMemory, try_box, try_copy};
use crate::memory::{Budget, cost};
use crate::metrics::{Handshake, HandshakeError, WorkerMetrics};
use crate::net::readiness::Readiness;
use crate::net::stream::Stream;
use crate::service::Service;
use crate::tls::{AskedName, Buffers, Failure, OnEnd, Session, TlsStream, Version};

type ServerSession = Session<UnbufferedServerConnection>;

/// A connection's TLS.
#[derive(Debug)]
pub(super) struct Secured {
    pub(super) session: ServerSession,
    /// For the line of a whoami, until it is sent.
    pub(super) greeting: Option<Box<[Greeting; 1]>>,
    /// When the handshake has to be complete; `None` afterwards, or without a limit.
    handshake_end_ms: Option<u64>,
    /// Bytes of the budget that it holds.
    pub(super) held: usize,
    /// The turn of the loop in which that last changed.
    pub(super) changed_in_turn: u64,
}

/// What the line of a whoami tells beside what the session knows.
#[derive(Debug)]
pub(super) struct Greeting {
    /// The PROXY header, or nothing.
    pub(super) header: Vec<u8>,
    pub(super) name: AskedName,
}

/// What a worker lends to its connections with TLS.
#[derive(Debug)]
pub(super) struct Lent {
    /// `None` until there is a connection with TLS.
    buffers: Option<Buffers>,
    budget: Arc<Budget>,
    /// Bytes taken from the budget, and not held by a session.
    in_hand: usize,
}

impl Lent {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self {
            buffers: None,
            budget: Arc::clone(budget),
            in_hand: 0,
        }
    }

    /// Gets it at the start, so that backlogs of plain connections can't take all.
    pub(super) fn reserve(&mut self) {
        self.prepare();
    }

    /// Tries to get what one more session may come to keep, and returns whether it is there.
    pub(super) fn prepare(&mut self) -> bool {
        let needed = cost(ServerSession::max_waiting_bytes());
        if self.in_hand < needed && self.budget.try_take(needed - self.in_hand) {
            self.in_hand = needed;
        }
        self.in_hand >= needed
    }

    /// Settles the account of a session that may keep more or less than before.
    pub(super) fn settle(&mut self, secured: &mut Secured, turn: u64) {
        let kept = match secured.session.waiting_bytes() {
            0 => 0,
            bytes => cost(bytes),
        };
        if kept != secured.held {
            secured.changed_in_turn = turn;
        }
        self.in_hand = (self.in_hand + secured.held).saturating_sub(kept);
        secured.held = kept;
        let needed = cost(ServerSession::max_waiting_bytes());
        if self.in_hand > 2 * needed {
            self.budget.give_back(self.in_hand - needed);
            self.in_hand = needed;
        }
    }

    #[cfg(test)]
    pub(super) fn in_hand(&self) -> usize {
        self.in_hand
    }

    /// Takes back what a session held that is gone.
    pub(super) fn release(&self, secured: &Secured) {
        self.budget.give_back(secured.held);
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.budget.give_back(self.in_hand);
    }
}

impl Secured {
    /// Begins the handshake behind a PROXY header: what the kernel reported until then counts on.
    pub(super) fn begin(&mut self, reported: Readiness, limit_ms: Option<u64>, now_ms: u64) {
        self.session.note(reported);
        self.handshake_end_ms = limit_ms.map(|after| now_ms.saturating_add(after));
    }

    /// Keeps a PROXY header for the line of a whoami.
    pub(super) fn keep_header(&mut self, header: &[u8]) -> Result<(), OutOfMemory> {
        if let Some([greeting]) = self.greeting.as_deref_mut() {
            greeting.header = try_copy(header)?;
        }
        Ok(())
    }

    /// The time at which a handshake that is not complete has to end.
    pub(super) fn handshake_end_ms(&self) -> Option<u64> {
        self.handshake_end_ms
            .filter(|_| self.session.is_handshaking())
    }
}

/// The TLS of a connection that was accepted.
///
/// # Errors
/// What rustls reports, and that there is no certificate; both would be a defect.
pub(super) fn secure<K: Kernel>(
    service: Service,
    faults: Option<&Faulty>,
    cx: &mut Context<K>,
) -> io::Result<Secured> {
    let on_end = match service {
        // Answers may be held back when the input ends.
        Service::Echo if faults.is_some() => OnEnd::GoOn,
        Service::Echo | Service::Discard | Service::Whoami => OnEnd::Answer,
        Service::Chargen => OnEnd::GoOn,
    };
    let tls = cx.rules.tls.as_ref();
    let tls = tls.ok_or_else(|| io::Error::other("there is no certificate"))?;
    let (session, greeting) = if service == Service::Whoami {
        let accepted = tls.accept_with_name(on_end).map_err(io::Error::other)?;
        let (session, name) = accepted;
        let header = Vec::new();
        (session, Some(try_box(Greeting { header, name })?))
    } else {
        (tls.accept(on_end).map_err(io::Error::other)?, None)
    };
    let handshake_ms = cx.rules.handshake_ms;
    let now_ms = cx.now_ms();
    Ok(Secured {
        session,
        greeting,
        handshake_end_ms: handshake_ms.map(|after| now_ms.saturating_add(after)),
        held: 0,
        changed_in_turn: 0,
    })
}

impl Secured {
    /// The stream over a socket.
    pub(super) fn over<'a, S: Stream>(
        &'a mut self,
        socket: &'a mut S,
        lent: &'a mut Lent,
    ) -> TlsStream<'a, S, UnbufferedServerConnection> {
        TlsStream {
            socket,
            session: &mut self.session,
            buffers: lent.buffers.get_or_insert_default(),
        }
    }
}

/// Counts a handshake that is complete or has failed.
pub(super) fn count_handshake(session: &ServerSession, next: Next, metrics: &WorkerMetrics) {
    if let Some(kind) = completed(session) {
        metrics.tls_handshakes(kind).add(1);
    } else if let Next::Close(_) = next {
        metrics.tls_handshake_errors(error_of(session)).add(1);
    }
}

fn completed(session: &ServerSession) -> Option<Handshake> {
    let agreed = session.agreed()?;
    Some(match (agreed.version, agreed.is_resumed) {
        (Version::Tls12, false) => Handshake::Full12,
        (Version::Tls12, true) => Handshake::Resumed12,
        (Version::Tls13, false) => Handshake::Full13,
        (Version::Tls13, true) => Handshake::Resumed13,
    })
}

fn error_of(session: &ServerSession) -> HandshakeError {
    use rustls::Error;

    match session.failure() {
        Some(Failure::NoData) => HandshakeError::NoData,
        // Reset by the peer, as some checks of a port end.
        None if !session.has_received() => HandshakeError::NoData,
        Some(Failure::Closed | Failure::Truncated) | None => HandshakeError::Closed,
        Some(Failure::Tls(error)) => match error {
            Error::InvalidMessage(_) => HandshakeError::NotTls,
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => {
                HandshakeError::Incompatible
            }
            Error::InvalidCertificate(_) | Error::NoCertificatesPresented => {
                HandshakeError::Certificate
            }
            Error::AlertReceived(_) => HandshakeError::Alert,
            _ => HandshakeError::Protocol,
        },
    }
}
